"""The sieve: leaves the candles that are still forming out of a WebSocket's bytes.

It can take the closed ones out too, to be decoded without a way through trio-websocket.

At least 98 of 100 frames repeat a candle that is still forming. To assemble, decode and queue one
costs trio-websocket some 25 µs, and to see here that it can go costs 0.3 to 0.7. Only what is
positively a forming candle is left out: a whole, unfragmented text frame whose payload holds `"x"`
exactly once, there reads `"x":false`, and escapes nothing. Every other byte passes as it came, so
that a spelling never seen before, or a breach of the protocol, is judged by the real parser, and is
merely slower.
"""

import re
import struct
from collections.abc import Callable, Mapping

import attrs

from kline_trio.exchange.frame_batch import FrameBatch, forming_batches

__all__ = ["Sieve"]

_LONGEST_JUDGED = 4096
"""No forming candle has a longer payload; so much, and a header, is the most that is held back."""

_LONGEST_HEAD = 16_384
"""h11 gives up on an HTTP head that is longer and still without its end."""

_SHOWN_BYTES = 60

_HEAD_END = re.compile(rb"\n\r?\n")  # what h11, which reads the same head, takes for its end
_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})[ \r\n]")
_RETRY_AFTER = re.compile(rb"\r?\nretry-after:[ \t]*([0-9]+)[ \t]*\r?\n", re.IGNORECASE)

_two_shorts: Callable[[bytes, int], tuple[int, int]] = struct.Struct(">HH").unpack_from
_SHORT_TEXT, _LONG_TEXT = 0x8100, 0x817E  # whole and unmasked; a length of one or of two bytes
_WHOLE_TEXT = 0x81
_CONTINUATION, _CLOSE, _FIRST_CONTROL = 0, 8, 8
_OPCODES = frozenset((0, 1, 2, 8, 9, 10))

_KEY, _FORMING, _CLOSED = b'"x"', b'"x":false', b'"x":true'
_LETTER, _ESCAPE = ord("x"), b"\\"
_ENVELOPE = b'{"stream":"'

_NO_RUNS: Mapping[int, FrameBatch] = {}


@attrs.define(eq=False)
class Sieve:
    """What one connection receives, walked frame by frame; pure, without clock or I/O.

    What is left out depends on the bytes alone, never on how they were split into reads.
    """

    takes_closed: bool = False
    """Whether closed candles are taken out too, into `taken`: by the rule for forming ones, but
    with `true`. What trio-websocket does with a frame costs several times what decoding it does."""

    runs_from_bytes: int = 24_576
    """Reads so large are searched for runs as a whole; smaller ones are walked in less time."""

    taken: list[bytes] = attrs.field(factory=list, init=False)
    """The payloads that the newest feed took out, in order."""

    upgraded: bool = attrs.field(default=False, init=False)
    """Whether the head of a 101 response has been complete."""

    status: int = attrs.field(default=0, init=False)
    """The status of the HTTP response; 0 before its head is complete."""

    begin: bytes = attrs.field(default=b"", init=False)
    """The first bytes of the answer, by which to name a server that does not speak HTTP."""

    retry_after: bytes = attrs.field(default=b"", init=False)
    """What the head says of `Retry-After`, if it says it in seconds."""

    alive: bool = attrs.field(default=False, init=False)
    """Whether a data frame, kept or dropped, ended in the newest feed. Pings are not life."""

    kept: int = attrs.field(default=0, init=False)
    """Data frames passed on to their end: text, binary and continuation."""

    dropped: int = attrs.field(default=0, init=False)
    """Forming candles left out."""

    closed: int = attrs.field(default=0, init=False)
    """Closed candles taken out."""

    unseen: set[bytes] = attrs.field(factory=set, init=False)
    """Streams not heard of yet; the stream name of each frame left out is discarded from it."""

    _walking: bool = attrs.field(default=False, init=False)
    _head: bytes | None = attrs.field(default=b"", init=False)
    _held: bytes = attrs.field(default=b"", init=False)  # the begin of a frame not yet judged
    _left: int = attrs.field(default=0, init=False)  # bytes to come of a frame that passes
    _is_data: bool = attrs.field(default=False, init=False)  # of the frame stepped over last
    _fragmented: bool = attrs.field(default=False, init=False)
    _newest: tuple[bytes, int, int] = attrs.field(default=(b"", 0, 0), init=False)

    @property
    def is_amid(self) -> bool:
        """Whether what came last was the begin of a frame that is yet to be judged."""
        return bool(self._held)

    @property
    def frames(self) -> int:
        """All data frames so far, whatever became of them."""
        return self.kept + self.dropped + self.closed

    @property
    def newest_dropped(self) -> bytes:
        """The payload of the newest forming candle left out; empty before the first."""
        data, start, end = self._newest
        return data[start:end]

    def feed(self, data: bytes) -> bytes:
        """Take what was received, give what is to be passed on: often nothing, or `data` itself."""
        self.alive = False
        self.taken = []
        if self._walking:
            return self._sift(data)
        return data if self._head is None else self._read_head(data)

    def _read_head(self, data: bytes) -> bytes:
        assert self._head is not None
        cut, head = -len(self._head), self._head + data
        self.begin = head[:_SHOWN_BYTES]
        end = _HEAD_END.search(head)
        if end is None:
            self._head = head if len(head) <= _LONGEST_HEAD else None
            return data
        self._head = None
        if match := _STATUS.match(head):
            self.status = int(match[1])
        if match := _RETRY_AFTER.search(head, 0, end.end()):
            self.retry_after = match[1]
        if self.status != 101:
            return data
        self.upgraded = self._walking = True
        cut += end.end()
        return data[:cut] + self._sift(data[cut:])

    def _sift(self, data: bytes) -> bytes:
        if self._held:
            # Not quadratic in the length of a read: what is held is never longer than a candle.
            data = self._held + data
            self._held = b""
        before = self.frames
        size, escapes = len(data), _ESCAPE in data
        runs = _NO_RUNS
        if size >= self.runs_from_bytes and not escapes:
            runs = forming_batches(data, _LONGEST_JUDGED)
        pieces: list[bytes] = []
        keep_from, position = 0, self._left
        if 0 < position <= size:
            self.kept += self._is_data
        while position < size:
            begin = position
            if not self._fragmented:
                position = self._leave_out(data, begin, runs, escapes=escapes)
                if keep_from < begin < position:
                    pieces.append(data[keep_from:begin])
                if begin < position:
                    keep_from = begin = position
            position = self._step(data, begin)
            if position == begin:
                break
            if position <= size:
                self.kept += self._is_data
        self._left = max(0, position - size)
        if position < size:
            self._held = data[position:]
        if keep_from < position:
            pieces.append(data[keep_from:position])  # the whole of `data`, uncopied, if all is kept
        self.alive = self.frames > before
        return b"".join(pieces)

    def _leave_out(
        self, data: bytes, position: int, runs: Mapping[int, FrameBatch], *, escapes: bool
    ) -> int:
        # Answers where the next frame begins that stays; `escapes`: a backslash may be in one.
        while True:
            if run := runs.get(position):
                self._drop_run(data, run)
                position = run.end
            begin = position if escapes else self._walk(data, position)
            position = self._judge(data, begin)
            if position == begin:
                return position

    def _drop_run(self, data: bytes, run: FrameBatch) -> None:
        self.dropped += len(run.begins)
        self._newest = data, run.begins[-1] + 4, run.end
        if self.unseen:
            for begin in run.begins:
                # Its name ends long before the run does: a forming candle has more marks than that.
                self._hear(data, begin + 4, run.end)

    def _walk(self, data: bytes, position: int) -> int:
        # Walks over forming candles, as far as one follows another; no backslash is in `data`.
        # `letter` is where the next x is: that of the key, or one in a symbol's name, and then the
        # key is looked for. So most frames cost one search, for a byte, which is memchr. Tried on
        # 64 KiB reads of real frames: the header byte by byte +10 %, by re +50 %; two searches
        # within each frame +15 %; to split a read at its keys before the walk +50 %.
        find, startswith, unseen, last = data.find, data.startswith, self.unseen, len(data) - 4
        dropped, newest, letter = 0, position, 0
        while position <= last:
            head, length = _two_shorts(data, position)
            start = position + 4
            end = start + length
            if head != _LONG_TEXT or not 126 <= length <= _LONGEST_JUDGED:
                break
            # A length can be a quotation mark: then the first letter of the payload makes no key.
            if letter == start or not startswith(_FORMING, letter - 1, end):
                letter = find(_KEY, start, end) + 1
                if not startswith(_FORMING, letter - 1, end):
                    break
            letter = find(_LETTER, letter + 8)
            if letter < end:
                break
            if unseen:
                self._hear(data, start, end)
            dropped += 1
            newest, position = position, end
        if dropped:
            self._newest = data, newest + 4, position
            self.dropped += dropped
        return position

    def _judge(self, data: bytes, position: int) -> int:
        # The whole rule, for any one frame: steps over it if it is left out or taken.
        if position + 4 > len(data):
            return position
        head, length = _two_shorts(data, position)
        if head == _LONG_TEXT and 126 <= length <= _LONGEST_JUDGED:
            start = position + 4
        elif _SHORT_TEXT <= head < _LONG_TEXT:
            start, length = position + 2, head - _SHORT_TEXT
        else:
            return position
        end = start + length
        if end > len(data):
            return position
        payload = data[start:end]
        key = payload.find(_KEY)
        forming = payload.startswith(_FORMING, key)
        if (
            not (forming or (self.takes_closed and payload.startswith(_CLOSED, key)))
            or payload.find(_KEY, key + 1) >= 0
            or _ESCAPE in payload
        ):
            return position
        if forming:
            self.dropped += 1
            self._newest = data, start, end
        else:
            self.taken.append(payload)
            self.closed += 1
        if self.unseen:
            self._hear(data, start, end)
        return end

    def _step(self, data: bytes, position: int) -> int:
        # Walks over any one frame that passes, and answers its end, which may be yet to come;
        # or stays where it is, if more of the frame must come before anything can be said.
        frame = data[position : position + 10]
        if len(frame) < 2:
            return position
        first, length = frame[0], frame[1]
        fin, opcode = first & 0x80, first & 0x0F
        control = opcode >= _FIRST_CONTROL
        start = 2 if length < 126 else 4 if length == 126 else 10
        if (
            length & 0x80  # a mask, from a server
            or first & 0x70  # a reserved bit, and no extension was offered
            or opcode not in _OPCODES
            or (control and (length > 125 or not fin))
            or (not control and (opcode == _CONTINUATION) != self._fragmented)
        ):
            return self._let_all_pass(data)
        if len(frame) < start:
            return position
        if start > 2:
            length = int.from_bytes(frame[2:start], "big")
            if length < (126 if start == 4 else 65_536):
                return self._let_all_pass(data)
        end = position + start + length
        if first == _WHOLE_TEXT and length <= _LONGEST_JUDGED and end > len(data):
            return position
        if opcode == _CLOSE:
            return self._let_all_pass(data)
        self._is_data = not control
        if not control:
            self._fragmented = not fin
        return end

    def _let_all_pass(self, data: bytes) -> int:
        # After a CLOSE, and after a breach of the protocol, wsproto reads no further frame.
        self._walking = self._is_data = False
        return len(data)

    def _hear(self, data: bytes, start: int, end: int) -> None:
        if data.startswith(_ENVELOPE, start, end):
            start += len(_ENVELOPE)
            self.unseen.discard(data[start : data.find(b'"', start, end)])
