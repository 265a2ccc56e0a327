"""What must hold of every input, whatever it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import attrs
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from kline_trio.candle import Series
from kline_trio.errors import ProtocolError
from kline_trio.exchange.protocol import (
    CandleClosed,
    CandleForming,
    ErrorReply,
    Event,
    OtherEvent,
    ServerShutdown,
    SubscriptionReply,
    decode,
)
from kline_trio.exchange.sieve import Sieve
from tests.fuzzing.frames import STREAMS
from tests.fuzzing.reference import ClosedCandle, Walk, head_end, read_text, walk

__all__ = ["LawBrokenError", "Laws", "Subject", "Tally"]

_EVENTS = (
    CandleClosed,
    CandleForming,
    ErrorReply,
    OtherEvent,
    ServerShutdown,
    SubscriptionReply,
)
_MOST_HELD = 4_096 + 10


class LawBrokenError(AssertionError):
    """An input of which something came that must not."""


@attrs.frozen
class Subject:
    """What is tried: the package's own code, or a broken copy of it."""

    sieve: Callable[..., Sieve] = Sieve
    decode: Callable[[str | bytes, Mapping[str, Series]], Event] = decode


@dataclass
class Tally:
    """How often what has been met, to know that the dice were not blind."""

    inputs: int = 0
    bytes: int = 0
    forming: int = 0
    """Frames that were left out, as they should."""
    kept: int = 0
    closed: int = 0
    refused: int = 0
    """Texts that are no event."""
    breaches: int = 0
    closes: int = 0
    heard: int = 0
    """Streams that wsproto read twice, sieved and not."""

    def add(self, other: "Tally") -> None:
        """Count another's inputs too."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass
class Laws:
    """Tries inputs, and raises `LawBrokenError` if something comes of one that must not."""

    subject: Subject = field(default_factory=Subject)
    known: Sequence[bytes] = ()
    """Payloads that occur again and again: they are read once."""
    tally: Tally = field(default_factory=Tally)
    _readings: dict[str | bytes, ClosedCandle | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for payload in self.known:
            for text in (payload, payload.decode()):
                self._readings[text] = self._read(text)

    def check_text(self, payload: bytes) -> None:
        """A message alone, as text and, if it is none, as bytes."""
        self.tally.inputs += 1
        self.tally.bytes += len(payload)
        try:
            self._read(payload.decode())
        except UnicodeDecodeError:
            self._read(payload)

    def check_stream(self, data: bytes, reads: Sequence[int], *, by_wsproto: bool) -> None:
        """All that a server sends, in these reads."""
        tally = self.tally
        tally.inputs += 1
        tally.bytes += len(data)
        sieve = self.subject.sieve()
        feed, passed, begin = sieve.feed, [], 0
        for end in reads:
            passed.append(feed(data[begin:end]))
            begin = end
            if len(sieve._held) > _MOST_HELD:
                raise LawBrokenError("more is held than a candle can have")
        frames_at = head_end(data, reads)
        _require(sieve.head.upgraded == (frames_at is not None), "the head is read otherwise")
        if frames_at is None:
            _require(b"".join(passed) == data, "something is missing before the upgrade")
            return
        seen = walk(data, frames_at)
        tally.forming += len(seen.dropped)
        tally.kept += len(seen.data_ends) - len(seen.dropped)
        tally.breaches += seen.why not in ("more to come", "close")
        tally.closes += seen.why == "close"
        self._check_bytes(data, seen, seen.dropped, b"".join(passed))
        self._check_taking(data, seen, reads)
        _check_report(sieve, data, seen, reads)
        for text, forming in seen.messages:
            closed = self._reading(text)
            _require(not (forming and closed), "a frame was left out that closes a candle")
        if by_wsproto:
            tally.heard += 1
            self._check_by_wsproto(data[frames_at:], frames_at, passed)

    def _check_taking(self, data: bytes, seen: Walk, reads: Sequence[int]) -> None:
        # Every other input as a large read is searched, whatever its size.
        sieve = self.subject.sieve(batches_from_bytes=10**9 if len(data) % 2 else 0)
        sieve.candles.takes_closed = True
        sieve.candles.unseen = {name.encode() for name in STREAMS}
        passed, taken, begin = [], [], 0
        for end in reads:
            passed.append(sieve.feed(data[begin:end]))
            taken += sieve.candles.taken
            begin = end
        expected = [data[payload_at:end] for _, payload_at, end in seen.closed]
        _require(taken == expected, "other closed candles are taken")
        counts = (sieve.candles.closed, sieve.candles.dropped, sieve.frames)
        wanted = (len(taken), len(seen.dropped), len(seen.data_ends))
        _require(counts == wanted, "with closed candles taken, frames are counted otherwise")
        _require(
            sieve.candles.newest_dropped == _newest(data, seen), "of a run, another is the newest"
        )
        left_out = sorted(seen.dropped + seen.closed)
        heard = {_name(data[payload_at:end]) for _, payload_at, end in left_out}
        unheard = {name.encode() for name in STREAMS} - heard
        _require(sieve.candles.unseen == unheard, "other streams are heard of")
        self._check_bytes(data, seen, left_out, b"".join(passed))

    def _check_bytes(
        self, data: bytes, seen: Walk, left_out: Sequence[tuple[int, int, int]], passed: bytes
    ) -> None:
        begin, kept = 0, []
        for frame_at, _, end in left_out:
            kept.append(data[begin:frame_at])
            begin = end
        kept.append(data[begin:])
        expected = b"".join(kept)
        if passed != expected:
            tail = data[seen.tail :] if seen.why == "more to come" else b""
            _require(passed + tail == expected, "not just those candles are missing")
            _require(len(tail) <= _MOST_HELD, "a long frame is held back")

    def _check_by_wsproto(self, data: bytes, head: int, passed: Sequence[bytes]) -> None:
        unsieved, torn = _messages([data])
        expected = [closed for text in unsieved if (closed := self._reading(text))]
        sieved, _ = _messages(_without_head(passed, head))
        given = []
        for text in sieved:
            try:
                event = self.subject.decode(text, STREAMS)
            except ProtocolError:
                continue
            if isinstance(event, CandleClosed):
                given.append(_as_read(event))
        if torn:  # in what was left out, bytes that are no UTF-8 go unnoticed
            given = given[: len(expected)]
        _require(given == expected, "behind the sieve other candles are heard")

    def _reading(self, text: str | bytes) -> ClosedCandle | None:
        if text in self._readings:
            return self._readings[text]
        return self._read(text)

    def _read(self, text: str | bytes) -> ClosedCandle | None:
        """What json says of it, after seeing that `decode` says no more, and no less."""
        reading = read_text(text, STREAMS)
        event: Event | None = None
        try:
            event = self.subject.decode(text, STREAMS)
        except ProtocolError as error:
            self.tally.refused += 1
            _require(len(str(error)) < 300, "an endless reason")
        _require(event is None or isinstance(event, _EVENTS), "neither event nor error")
        closed = None
        if isinstance(event, CandleClosed):
            self.tally.closed += 1
            closed = _as_read(event)
            _require(closed == reading.closed, "a candle that the frame does not tell of")
        _require(
            not reading.plain or closed == reading.closed, "a plain closed candle is not taken"
        )
        return closed


def _as_read(event: CandleClosed) -> ClosedCandle:
    c = event.candle
    prices = (c.open, c.high, c.low, c.close, c.volume, c.quote_volume)
    takers = (c.taker_buy_base_asset_volume, c.taker_buy_quote_asset_volume)
    numbers = (*prices, *takers)
    return event.series, event.event_time_ms, c.open_time_ms, c.trade_num, numbers


def _check_report(sieve: Sieve, data: bytes, seen: Walk, reads: Sequence[int]) -> None:
    ends = seen.data_ends
    _require(
        (sieve.candles.dropped, sieve.frames) == (len(seen.dropped), len(ends)),
        "frames are counted otherwise",
    )
    _require(sieve.candles.newest_dropped == _newest(data, seen), "another frame is the newest")
    last_read_from = reads[-2] if len(reads) > 1 else 0
    _require(sieve.alive == bool(ends and ends[-1] > last_read_from), "no life, or too much")


def _name(payload: bytes) -> bytes:
    """What a frame that is left out says first of itself, if it says it as the exchange does."""
    before, envelope, after = payload.partition(b'{"stream":"')
    name, quote, _ = after.partition(b'"')
    return name if envelope and quote and not before else b""


def _newest(data: bytes, seen: Walk) -> bytes:
    return data[seen.dropped[-1][1] : seen.dropped[-1][2]] if seen.dropped else b""


def _without_head(passed: Sequence[bytes], head: int) -> list[bytes]:
    chunks = []
    for chunk in passed:
        chunks.append(chunk[head:])
        head = max(0, head - len(chunk))
    return chunks


def _messages(chunks: Sequence[bytes]) -> tuple[list[str | bytes], bool]:
    """What wsproto makes of the chunks, and whether it gave up at what is no UTF-8."""
    client = Connection(ConnectionType.CLIENT)
    whole: list[str | bytes] = []
    texts: list[str] = []
    binary: list[bytes] = []
    for chunk in chunks:
        if not chunk:
            continue
        client.receive_data(chunk)
        for event in client.events():
            if isinstance(event, TextMessage):
                texts.append(event.data)
                if event.message_finished:
                    whole.append("".join(texts))
                    texts.clear()
            elif isinstance(event, BytesMessage):
                binary.append(bytes(event.data))
                if event.message_finished:
                    whole.append(b"".join(binary))
                    binary.clear()
            elif isinstance(event, CloseConnection):
                return whole, event.code == 1007
    return whole, False


def _require(holds: object, words: str) -> None:
    if not holds:
        raise LawBrokenError(words)
