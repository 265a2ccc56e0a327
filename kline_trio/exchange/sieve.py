"""The sieve: leaves the candles that are still forming out of a WebSocket's bytes.

It can also take the closed candles out, so that they are decoded without trio-websocket.

At least 98 of 100 frames repeat a candle that is still forming. To assemble, decode and queue a
frame costs trio-websocket some 25 µs; to leave it out here costs 0.3 to 0.7 µs. Only a frame that
is positively a forming candle is left out: a whole, unfragmented text frame whose payload holds
`"x"` exactly once, there reads `"x":false`, and escapes nothing. Every other byte passes as it
came. So the real parser judges a new spelling or a breach of the protocol, and merely costs more.

A saturated connection brings eight hundred frames a read. To walk them one by one costs 0.7 µs
each. To compare all bytes of the read in NumPy costs a third of that, and some forty microseconds
a read on top. So large reads are searched for batches of forming candles; small ones are walked.
"""

import re
import struct
from collections.abc import Callable, Mapping

import attrs
import numpy as np

_LONGEST_JUDGED = 4096
"""Bytes: no forming candle has a longer payload. At most this, and a header, is held back."""
_LONGEST_HEAD = 16_384
"""Bytes: h11 gives up on a longer HTTP head without an end."""
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
_KEY_WORD, _KEY_BITS = int.from_bytes(_KEY, "little"), 0xFFFFFF
_FORMING_BEGIN, _FORMING_LAST = int.from_bytes(_FORMING[:8], "little"), _FORMING[-1]
_ENVELOPE = b'{"stream":"'
_SWITCHING_PROTOCOLS = 101


@attrs.frozen
class FrameBatch:
    """Frames that follow each other, each with a candle that is still forming."""

    begins: list[int]
    """The offset of each frame; there is at least one."""
    end: int
    """The offset behind the last frame."""


def forming_batches(data: bytes, longest: int) -> dict[int, FrameBatch]:
    """Map each batch's start offset to the batch, so that the walk can jump to its end.

    The sieve's rule for a single frame leaves out every frame of a batch. A batch does not hold all
    frames that the rule leaves out: it has no short frames, and no frame that no long one follows.

    Args:
      data: frames, from any offset on; without a backslash.
      longest: the most bytes of payload that are judged.
    """
    size = len(data) - 8
    if size <= 0:
        return {}
    octets = np.frombuffer(data, np.uint8)
    shorts = np.ndarray((size + 7,), ">u2", data, strides=(1,))
    words = np.ndarray((size + 1,), "<u8", data, strides=(1,))

    # All that looks like a header. If the first of a batch is a header, the others are headers too.
    begins = np.flatnonzero(octets[:size] == _WHOLE_TEXT)
    begins = begins[shorts[begins] == _LONG_TEXT]
    lengths = shorts[begins[:-1] + 2].astype(np.intp)
    goes = (lengths + 4 == np.diff(begins)) & (lengths >= 126) & (lengths <= longest)

    keys = np.flatnonzero(octets[1:size] == _LETTER)
    text = words[keys]
    is_key = text & _KEY_BITS == _KEY_WORD
    keys, text = keys[is_key], text[is_key]
    forming = (text == _FORMING_BEGIN) & (octets[keys + 8] == _FORMING_LAST)

    # A key that begins before the next header also ends before it: none holds a header's first
    # byte. But a header's last byte, of a length, can be a quotation mark, and no key begins there.
    first = np.searchsorted(keys, begins)
    goes &= np.diff(first) == 1
    own = first[:-1][goes]
    goes[goes] = forming[own] & (keys[own] >= begins[:-1][goes] + 4)

    turns = np.flatnonzero(np.diff(goes, prepend=False, append=False)).tolist()
    places = begins.tolist()
    return {
        places[begin]: FrameBatch(places[begin:after], places[after])
        for begin, after in zip(turns[::2], turns[1::2], strict=True)
    }


@attrs.define(eq=False)
class CandleFilter:
    """Leaves out the frames of forming candles, and takes out those of closed ones if it should."""

    takes_closed: bool = False
    """Whether to take closed candles out into `taken`: by the rule for forming ones, but with
    `true`. To pass a frame through trio-websocket costs several times what decoding it costs."""
    taken: list[bytes] = attrs.field(factory=list, init=False)
    """The payloads that were taken out of the newest read, in order."""
    dropped: int = attrs.field(default=0, init=False)
    """Forming candles left out."""
    closed: int = attrs.field(default=0, init=False)
    """Closed candles taken out."""
    unseen: set[bytes] = attrs.field(factory=set, init=False)
    """Stream names that no frame had yet. The name of each frame left out is discarded from it."""
    _newest: tuple[bytes, int, int] = attrs.field(default=(b"", 0, 0), init=False)

    @property
    def newest_dropped(self) -> bytes:
        """The payload of the newest forming candle left out; empty before the first."""
        data, start, end = self._newest
        return data[start:end]

    def leave_out(
        self, data: bytes, position: int, batches: Mapping[int, FrameBatch], *, escapes: bool
    ) -> int:
        """Return the offset of the next frame that passes, from the frame at `position` on.

        `batches` are those of `forming_batches`; `escapes` says whether the data hold a backslash.
        """
        while True:
            if batch := batches.get(position):
                self._drop_batch(data, batch)
                position = batch.end
            begin = position if escapes else self._walk(data, position)
            position = self._judge(data, begin)
            if position == begin:
                return position

    def _drop_batch(self, data: bytes, batch: FrameBatch) -> None:
        self.dropped += len(batch.begins)
        self._newest = data, batch.begins[-1] + 4, batch.end
        if self.unseen:
            for begin in batch.begins:
                # The name ends long before the batch: a candle has more quotation marks.
                self._hear(data, begin + 4, batch.end)

    def _walk(self, data: bytes, position: int) -> int:
        # Walks over forming candles, as far as one follows another; no backslash is in `data`.
        # `letter` is the offset of the next x: that of the key, or one in a symbol's name, and then
        # the key is searched for. So most frames cost one search, for a byte, which is memchr.
        # Tried on 64 KiB reads of real frames: the header byte by byte +10 %, by re +50 %; two
        # searches within each frame +15 %; to split a read at its keys before the walk +50 %.
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
        # The whole rule, for any single frame: steps over it if it is left out or taken.
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

    def _hear(self, data: bytes, start: int, end: int) -> None:
        if data.startswith(_ENVELOPE, start, end):
            start += len(_ENVELOPE)
            self.unseen.discard(data[start : data.find(b'"', start, end)])


@attrs.define(eq=False)
class ResponseHead:
    """The head of the server's answer to the handshake."""

    status: int = attrs.field(default=0, init=False)
    """The HTTP status; 0 before the head is complete."""
    begin: bytes = attrs.field(default=b"", init=False)
    """The first bytes of the answer, to name a server that does not speak HTTP."""
    retry_after: bytes = attrs.field(default=b"", init=False)
    """The digits of `Retry-After`, if the head has it in seconds."""
    _text: bytes | None = attrs.field(default=b"", init=False)

    @property
    def upgraded(self) -> bool:
        """Whether the head of a 101 response is complete."""
        return self.status == _SWITCHING_PROTOCOLS

    def feed(self, data: bytes) -> int | None:
        """Read the head. Return its end in the data when the head of a 101 is complete."""
        if self._text is None:
            return None
        end_before, text = -len(self._text), self._text + data
        self.begin = text[:_SHOWN_BYTES]
        end = _HEAD_END.search(text)
        if end is None:
            self._text = text if len(text) <= _LONGEST_HEAD else None
            return None
        self._text = None
        if match := _STATUS.match(text):
            self.status = int(match[1])
        if match := _RETRY_AFTER.search(text, 0, end.end()):
            self.retry_after = match[1]
        return end.end() + end_before if self.upgraded else None


@attrs.define(eq=False)
class Sieve:
    """Walks the bytes that one connection receives, frame by frame; pure, without clock or I/O.

    What is left out depends on the bytes alone, never on how they were split into reads.
    """

    candles: CandleFilter = attrs.field(factory=CandleFilter)
    """What is left out."""
    batches_from_bytes: int = 24_576
    """Reads of this size or more are searched for batches; to walk a smaller read is faster."""
    head: ResponseHead = attrs.field(factory=ResponseHead, init=False)
    alive: bool = attrs.field(default=False, init=False)
    """Whether a data frame, kept or left out, ended in the newest feed. Pings do not count."""
    kept: int = attrs.field(default=0, init=False)
    """Data frames passed on to their end: text, binary and continuation."""
    received_bytes: int = attrs.field(default=0, init=False)

    _walking: bool = attrs.field(default=False, init=False)
    _held: bytes = attrs.field(default=b"", init=False)  # the begin of a frame not yet judged
    _left: int = attrs.field(default=0, init=False)  # bytes to come of a frame that passes
    _is_data: bool = attrs.field(default=False, init=False)  # of the frame stepped over last
    _fragmented: bool = attrs.field(default=False, init=False)

    @property
    def is_amid(self) -> bool:
        """Whether the newest bytes are the begin of a frame that is yet to be judged."""
        return bool(self._held)

    @property
    def frames(self) -> int:
        """All data frames so far, kept or left out."""
        return self.kept + self.candles.dropped + self.candles.closed

    def feed(self, data: bytes) -> bytes:
        """Take received bytes and return those to pass on: often none, or `data` itself."""
        self.alive = False
        self.candles.taken = []
        self.received_bytes += len(data)
        if self._walking:
            return self._sift(data)
        end = self.head.feed(data)
        if end is None:
            return data
        self._walking = True
        return data[:end] + self._sift(data[end:])

    def _sift(self, data: bytes) -> bytes:
        if self._held:
            # Not quadratic in the length of a read: the held bytes are never longer than a candle.
            data = self._held + data
            self._held = b""
        before = self.frames
        size, escapes = len(data), _ESCAPE in data
        batches: Mapping[int, FrameBatch] = {}
        if size >= self.batches_from_bytes and not escapes:
            batches = forming_batches(data, _LONGEST_JUDGED)
        pieces: list[bytes] = []
        keep_from, position = 0, self._left
        if 0 < position <= size:
            self.kept += self._is_data
        while position < size:
            begin = position
            if not self._fragmented:
                position = self.candles.leave_out(data, begin, batches, escapes=escapes)
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

    def _step(self, data: bytes, position: int) -> int:
        # Walks over any single frame that passes. Returns its end, which may not be received yet;
        # or the same position, if more of the frame must come before it can be judged.
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
