"""From frame text to event, and from request to frame text: pure, no socket and no clock.

Facts are from Binance's spot "web-socket-streams.md" and the USDS-M and COIN-M "WebSocket Market
Streams" pages; the key set of a kline event is the same on the three markets.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeVar

import attrs
import msgspec

from kline_trio.candle import MAX_TIME_MS, Candle, Series, StreamedKline
from kline_trio.errors import ProtocolError

CONTRACT_INFO = "!contractInfo"
"""The stream of futures hosts that reports contracts listed, settled or changed; on the USD-M host
it is on the path of the klines. Spot has none ("Contract Info Stream")."""

_LATE_MS = 60_000
"""Accept a candle until this time after its close, or one interval if that is longer. Closes have
come 30 s late (nautilus_trader#1705)."""

_TO_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@attrs.frozen
class CandleForming:
    """A candle that is not closed yet."""

    series: Series
    event_time_ms: int


@attrs.frozen
class CandleClosed:
    """A candle that will not change any more."""

    series: Series
    event_time_ms: int
    candle: Candle


@attrs.frozen
class SubscriptionReply:
    """A request was accepted. That proves nothing: unknown streams are acknowledged too."""

    id: int | str | None


@attrs.frozen
class ErrorReply:
    """A request was refused."""

    id: int | str | None
    code: int
    message: str


@attrs.frozen
class ServerShutdown:
    """The server will close this connection soon, without saying when."""


@attrs.frozen
class ContractChanged:
    """Something about a contract changed: its listing, its end, or only its brackets.

    Since 2026-06-30 each of the two futures hosts reports the contracts of both products.
    """

    trade_type: str | None
    """The product; None if the event names none, or a new one."""


@attrs.frozen
class OtherEvent:
    """An event that a recorder of candles has no use for."""


Event = (
    CandleClosed
    | CandleForming
    | SubscriptionReply
    | ErrorReply
    | ServerShutdown
    | ContractChanged
    | OtherEvent
)


def stream_name(series: Series) -> str:
    """Return the name of a series' stream.

    Only ASCII letters of the symbol change case, and none of the interval: `kline_1M` is a month.
    """
    return f"{series.symbol.translate(_TO_LOWER)}@kline_{series.time_interval}"


def request_text(method: str, names: Iterable[str], request_id: int) -> str:
    """Return the text of a SUBSCRIBE or UNSUBSCRIBE request."""
    request = {"method": method, "params": list(names), "id": request_id}
    return msgspec.json.encode(request).decode()


class Fault(msgspec.Struct):
    """The body of an error, of WebSocket and REST alike."""

    code: int = 0
    msg: str = ""


class _Frame(msgspec.Struct):
    """Every key that distinguishes kinds of frames; unknown keys are skipped."""

    stream: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    e: str | None = None
    E: int | None = None
    s: str | None = None
    k: StreamedKline | None = None
    id: int | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Fault | None = None
    code: int | None = None
    msg: str | None = None


class _KlineEvent(msgspec.Struct):
    e: Literal["kline"]
    E: int
    s: str
    k: StreamedKline


class _KlineFrame(msgspec.Struct):
    """The shape of nearly every frame: decoded in one pass. Any other is read as a `_Frame`."""

    stream: str
    data: _KlineEvent


_TimeMs = Annotated[int, msgspec.Meta(ge=0, lt=MAX_TIME_MS)]


class _ContractInfo(msgspec.Struct):
    """The keys of a contractInfo event; its pair and its brackets are skipped."""

    E: _TimeMs
    s: Annotated[str, msgspec.Meta(min_length=1)]
    cs: str
    ct: str = ""
    ot: _TimeMs | None = None
    dt: _TimeMs | None = None
    st: int | None = None


_PRODUCTS = {1: "usdt_futures", 2: "coin_futures"}
"""By `st` (derivatives change log, 2026-06-30)."""

_KLINE_FRAME = msgspec.json.Decoder(_KlineFrame)
_FRAME = msgspec.json.Decoder(_Frame)
_CONTRACT_INFO = msgspec.json.Decoder(_ContractInfo)
_Shape = TypeVar("_Shape")


def decode(text: str | bytes, streams: Mapping[str, Series]) -> Event:
    """Return the event in a frame.

    Args:
      text: one whole message.
      streams: the requested series, by stream name.

    Raises:
      ProtocolError: the exchange should not send this frame, or its stream was not requested, or
        its numbers cannot be true.
    """
    try:
        usual = _KLINE_FRAME.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _event(text, streams)
    return _kline_event(usual.data, usual.stream, streams)


def _event(text: str | bytes, streams: Mapping[str, Series]) -> Event:
    """Return the event of any other frame; raise the reason why a frame is refused."""
    frame = _decoded(_FRAME, text)
    name = None
    body: str | bytes | msgspec.Raw = text
    if frame.data is not msgspec.UNSET:
        body = frame.data
        name, frame = frame.stream, _decoded(_FRAME, body)
    if frame.e == "kline":
        return _kline_event(frame, name, streams)
    if frame.e == "serverShutdown":
        return ServerShutdown()
    if frame.e == "contractInfo":
        # Read once more: in other events its keys mean other things.
        info = _decoded(_CONTRACT_INFO, body)
        return ContractChanged(None if info.st is None else _PRODUCTS.get(info.st))
    if name is not None or frame.e is not None:
        return OtherEvent()  # spot's bookTicker names no event
    return _reply(frame)


def _decoded(decoder: msgspec.json.Decoder[_Shape], text: str | bytes | msgspec.Raw) -> _Shape:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a frame of another shape: {error}") from None
    # A lone surrogate in a `str` raises UnicodeError; a thousand brackets raise RecursionError.
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ProtocolError("a frame that is not JSON") from None


def _kline_event(
    frame: _KlineEvent | _Frame, name: str | None, streams: Mapping[str, Series]
) -> Event:
    kline = frame.k
    if kline is None or frame.E is None:
        raise ProtocolError("a kline event without its candle or its time")
    spelt = f"{kline.s.translate(_TO_LOWER)}@kline_{kline.i}"
    # Raw streams have no envelope and so no name (a `/ws` host in the configuration).
    if (name is not None and name != spelt) or frame.s not in (None, kline.s):
        raise ProtocolError("a kline event whose stream, symbol and interval disagree")
    series = streams.get(spelt)
    if series is None or series.symbol != kline.s:
        raise ProtocolError("a candle of a stream that was not asked for")
    candle = Candle.from_stream(kline, series.interval)
    if kline.x:
        # It may come before its end, as before an outage, but not before its begin.
        if kline.t > frame.E:
            raise ProtocolError("a candle that closed before it began")
        # Judged by its frame alone: neither the network's delay nor the pace of time matters.
        end_ms = series.interval.end_time_ms(kline.t)
        if end_ms + max(_LATE_MS, end_ms - kline.t) <= frame.E:
            raise ProtocolError("a closed candle that is sent long after its end")
        return CandleClosed(series, frame.E, candle)
    return CandleForming(series, frame.E)


def _reply(frame: _Frame) -> Event:
    # Documented flat, seen nested (Krypto-trading-bot#1121): accept both.
    if frame.error is not None:
        return ErrorReply(frame.id, frame.error.code, frame.error.msg)
    if frame.code is not None:
        return ErrorReply(frame.id, frame.code, frame.msg or "")
    if frame.result is not msgspec.UNSET:
        return SubscriptionReply(frame.id)
    return OtherEvent()
