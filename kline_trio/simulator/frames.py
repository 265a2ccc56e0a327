"""The exact JSON text of what the three markets send: kline events, envelopes, replies.

Keys, their order and the spacing are those of recorded and quoted real frames.  The envelope is
described in the Binance spot docs, web-socket-streams.md, and in the USD-M and COIN-M
"WebSocket Market Streams" pages.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
import msgspec


class Event(NamedTuple):
    """One event that is due on a connection."""

    due_ms: int
    stream: str
    """Empty for a text that is no frame."""
    text: str
    """The bare event, without the combined envelope."""
    closes_ms: int | None = None
    """Open time of the candle that the event closes, None for any other event."""


@attrs.frozen
class Kline:
    """One candle as frames carry it; every decimal is the text of the frame."""

    symbol: str
    interval: str
    open_time_ms: int
    close_time_ms: int
    """Open time of the next candle less one millisecond."""
    first_trade_id: int
    """-1 without trades."""
    last_trade_id: int
    """-1 without trades."""
    open: str
    close: str
    high: str
    low: str
    volume: str
    """Base asset; on COIN-M the number of contracts."""
    trade_num: int
    quote_volume: str
    """Quote asset; on COIN-M base coin."""
    taker_buy_volume: str
    taker_buy_quote_volume: str


def decimal_text(units: int, decimals: int) -> str:
    """Return ``units`` times ten to the minus ``decimals`` as plain decimal text.

    Args:
        units: Not negative.
        decimals: Digits behind the point; with 0 there is no point.
    """
    if not decimals:
        return str(units)
    text = str(units).zfill(decimals + 1)
    return f"{text[:-decimals]}.{text[-decimals:]}"


def kline_event(kline: Kline, event_time_ms: int, *, closed: bool, blanks: bool) -> str:
    """Return the bare kline event, as it goes out on a raw ``/ws`` connection.

    Args:
        kline: The candle, closed or still forming.
        event_time_ms: ``E``, exchange time.
        closed: ``x``.
        blanks: A blank after each comma inside ``k``, as in USD-M frames quoted in 2026.
    """
    b = " " if blanks else ""
    x = "true" if closed else "false"
    return (
        f'{{"e":"kline","E":{event_time_ms},"s":"{kline.symbol}","k":{{'
        f'"t":{kline.open_time_ms},{b}"T":{kline.close_time_ms},{b}"s":"{kline.symbol}",{b}'
        f'"i":"{kline.interval}",{b}"f":{kline.first_trade_id},{b}"L":{kline.last_trade_id},{b}'
        f'"o":"{kline.open}",{b}"c":"{kline.close}",{b}"h":"{kline.high}",{b}'
        f'"l":"{kline.low}",{b}"v":"{kline.volume}",{b}"n":{kline.trade_num},{b}"x":{x},{b}'
        f'"q":"{kline.quote_volume}",{b}"V":"{kline.taker_buy_volume}",{b}'
        f'"Q":"{kline.taker_buy_quote_volume}",{b}"B":"0"}}}}'
    )


def combined(stream: str, event: str) -> str:
    """Wrap an event as a ``/stream`` connection carries it."""
    return f'{{"stream":"{stream}","data":{event}}}'


def kline_of(k: Mapping[str, Any]) -> Kline:
    """Return the candle of a kline event.

    Args:
        k: The event's ``k``; its keys come in the order of the fields of `Kline`.
    """
    return Kline(*(k[key] for key in "sitTfLochlvnqVQ"))


def without_trades(kline: Kline, price: str, zero: Callable[[str], str]) -> Kline:
    """Return a candle as if nothing had been traded in it.

    Args:
        kline: The candle.
        price: Its open, high, low and close.
        zero: Maps the text of a volume to the text of a volume of zero.
    """
    return attrs.evolve(
        kline,
        first_trade_id=-1,
        last_trade_id=-1,
        open=price,
        close=price,
        high=price,
        low=price,
        volume=zero(kline.volume),
        trade_num=0,
        quote_volume=zero(kline.quote_volume),
        taker_buy_volume=zero(kline.taker_buy_volume),
        taker_buy_quote_volume=zero(kline.taker_buy_quote_volume),
    )


def result_reply(result: object, request_id: int | str | None) -> str:
    """Return the reply to an accepted request; replies are never wrapped.

    Source: Binance spot docs, web-socket-streams.md ("Live Subscribing/Unsubscribing").
    """
    return msgspec.json.encode({"result": result, "id": request_id}).decode()


def error_reply(code: int, message: str, request_id: int | str | None) -> str:
    """Return the nested error reply that real connections give.

    The docs print it flat; frames seen in the field are nested (for example
    github.com/ctubio/Krypto-trading-bot issue 1121).
    """
    error = {"code": code, "msg": message}
    return msgspec.json.encode({"error": error, "id": request_id}).decode()
