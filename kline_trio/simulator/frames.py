"""The exact JSON text of what the three markets send: kline events, envelopes, replies.

Keys, their order and the spacing are those of recorded and quoted real frames.  The envelope is
described in the Binance spot docs, web-socket-streams.md, and in the USD-M and COIN-M
"WebSocket Market Streams" pages.
"""

from collections.abc import Mapping

import attrs
import msgspec

__all__ = [
    "Kline",
    "combined",
    "contract_info",
    "decimal_text",
    "error_reply",
    "kline_event",
    "result_reply",
    "server_shutdown",
]


@attrs.frozen(kw_only=True)
class Kline:
    """One candle as the exchange words it; every decimal is the text that the frame carries."""

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


_BRACKETS = (
    {"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50},
    {"bs": 2, "bnf": 5000, "bnc": 25000, "mmr": 0.025, "cf": 75, "mi": 11, "ma": 20},
)
"""Those of the docs' example, "Contract Info Stream"."""


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


def server_shutdown(event_time_ms: int, *, is_combined: bool) -> str:
    """Return the notice that the server goes away; on spot since 2026-05.

    Source: Binance spot docs, CHANGELOG.md (2026-05-06) and web-socket-streams.md.
    """
    event = f'{{"e":"serverShutdown","E":{event_time_ms}}}'
    return combined("!serverShutdown", event) if is_combined else event


def contract_info(event_time_ms: int, contract: Mapping[str, object], *, has_brackets: bool) -> str:
    """Return an event of ``!contractInfo``.

    The docs have ``bks`` only "when bracket gets updated"; logged events have it empty otherwise
    (github.com/nvcuong123/monitorMarket, doc/binance/contractInfo.js, 2023-10).

    Args:
        event_time_ms: ``E``.
        contract: ``s``, ``ps``, ``ct``, ``dt``, ``ot``, ``cs`` and ``st``.
        has_brackets: Whether it tells of leverage brackets too.
    """
    event: dict[str, object] = {"e": "contractInfo", "E": event_time_ms, **contract}
    # st, since 2026-06-30, comes last as in a test of github.com/ccxt/go-binance
    product = event.pop("st")
    event |= {"bks": list(_BRACKETS) if has_brackets else [], "st": product}
    return msgspec.json.encode(event).decode()


def result_reply(result: object, request_id: int | str | None) -> str:
    """Return the reply to a request that was taken; replies are never wrapped.

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
