"""Frame text to event, and requests to frame text: pure, no socket and no clock.

Facts are from Binance's spot "web-socket-streams.md" and the USDS-M and COIN-M "WebSocket Market
Streams" pages; the key set of a kline event is the same on the three markets.
"""

from collections.abc import Iterable, Mapping

import attrs
import msgspec

from kline_trio.candle import Candle, Series
from kline_trio.errors import ProtocolError

__all__ = [
    "CandleClosed",
    "CandleForming",
    "ErrorReply",
    "Event",
    "OtherEvent",
    "ServerShutdown",
    "SubscriptionReply",
    "decode",
    "stream_name",
    "subscribe_request",
    "unsubscribe_request",
]

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
    """A request was taken. That proves nothing: unknown streams are acknowledged too."""

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
class OtherEvent:
    """An event that a recorder of candles has no use for."""

    kind: str


Event = CandleClosed | CandleForming | SubscriptionReply | ErrorReply | ServerShutdown | OtherEvent


def stream_name(series: Series) -> str:
    """What the exchange calls the stream of a series.

    Only ASCII letters of the symbol change case, and none of the interval: `kline_1M` is a month.
    """
    return f"{series.symbol.translate(_TO_LOWER)}@kline_{series.time_interval}"


def subscribe_request(names: Iterable[str], request_id: int) -> str:
    """The text of a SUBSCRIBE request."""
    return _request("SUBSCRIBE", names, request_id)


def unsubscribe_request(names: Iterable[str], request_id: int) -> str:
    """The text of an UNSUBSCRIBE request."""
    return _request("UNSUBSCRIBE", names, request_id)


def _request(method: str, names: Iterable[str], request_id: int) -> str:
    request = {"method": method, "params": list(names), "id": request_id}
    return msgspec.json.encode(request).decode()


class _Kline(msgspec.Struct):
    t: int
    s: str
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741 - the exchange's name
    v: str
    n: int
    x: bool
    q: str
    V: str
    Q: str


class _Fault(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Frame(msgspec.Struct):
    """Every key that tells one kind of frame from another; what is unknown is passed over."""

    stream: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    e: str | None = None
    E: int | None = None
    s: str | None = None
    k: _Kline | None = None
    id: int | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Fault | None = None
    code: int | None = None
    msg: str | None = None


_FRAME = msgspec.json.Decoder(_Frame)


def decode(text: str | bytes, streams: Mapping[str, Series]) -> Event:
    """The event that a frame tells of.

    Args:
      text: one whole message.
      streams: the series that were asked for, by stream name.

    Raises:
      ProtocolError: the frame is none that the exchange should send, or one of a stream that was
        not asked for, or its numbers cannot be true.
    """
    frame = _decode_frame(text)
    name = None
    if frame.data is not msgspec.UNSET:
        name, frame = frame.stream, _decode_frame(frame.data)
    if frame.e == "kline":
        return _kline_event(frame, name, streams)
    if frame.e == "serverShutdown":
        return ServerShutdown()
    if name is not None or frame.e is not None:
        return OtherEvent(frame.e or "")  # spot's bookTicker names no event
    return _reply(frame)


def _decode_frame(text: str | bytes | msgspec.Raw) -> _Frame:
    try:
        return _FRAME.decode(text)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a frame of another shape: {error}") from None
    # A lone surrogate in a `str` is no JSON either, and shows as UnicodeError; a thousand brackets
    # show as RecursionError.
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ProtocolError("a frame that is not JSON") from None


def _kline_event(frame: _Frame, name: str | None, streams: Mapping[str, Series]) -> Event:
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
        return CandleClosed(series, frame.E, candle)
    return CandleForming(series, frame.E)


def _reply(frame: _Frame) -> Event:
    # Documented flat, seen nested (Krypto-trading-bot#1121): both are taken.
    if frame.error is not None:
        return ErrorReply(frame.id, frame.error.code, frame.error.msg)
    if frame.code is not None:
        return ErrorReply(frame.id, frame.code, frame.msg or "")
    if frame.result is not msgspec.UNSET:
        return SubscriptionReply(frame.id)
    return OtherEvent("")
