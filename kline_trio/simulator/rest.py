"""REST answers: requests, refusals, weights, and the rows of the klines endpoint.

Sources: Binance spot docs, rest-api.md ("General endpoints", "LIMITS", "Kline/Candlestick data")
and errors.md; USD-M and COIN-M docs, "Kline/Candlestick Data"; bodies of errors and refusals seen
in the field.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import attrs
import msgspec

from kline_trio.simulator.calendar import intervals_of, next_open_ms, open_ms
from kline_trio.simulator.frames import Kline

_JSON = ("content-type", "application/json;charset=UTF-8")
_TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    414: "Request-URI Too Large",
    503: "Service Unavailable",
}
WEIGHT_LIMITS = {"spot": 6_000, "futures": 2_400}
"""For each pool, in a minute, from one address."""
_USE_STREAMS = "Please use WebSocket Streams for live updates to avoid bans."
"""As in a ban of 2026-08; in 2022 it said "Please use the websocket"."""
_RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you "
    "received this message in error."
)
_LONGEST_SPAN_MS = 200 * 86_400_000
"""The most time that a COIN-M answer spans."""
_MOST = {"spot": 1_000, "usdt_futures": 1_500, "coin_futures": 1_500}
_DEFAULT_LIMIT = 500
_CandleAt = Callable[[str, int], Kline | None]
"""The candle of an interval and an open time as it stands now; None where there is none."""


@attrs.frozen(kw_only=True)
class Request:
    """One HTTP request, and the moments at which it is answered."""

    method: str = "GET"
    target: str
    """Path and query."""
    trade_type: str
    now_ms: int
    """Exchange time."""
    now_s: float = 0.0
    """Local time, which weights are counted by."""


@attrs.frozen(kw_only=True)
class Response:
    """One HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def weight_pool(trade_type: str) -> str:
    """Return which used-weight budget a market draws on: futures share one since 2026-06-30."""
    return "spot" if trade_type == "spot" else "futures"


def refusal(status: int, now_ms: int) -> Response:
    """Return a refusal as the real exchange words it; 5xx and 403 are pages, not JSON."""
    if status in (418, 429):
        message = "Too many requests queued."
        if status == 418:
            until_ms = now_ms + 120_000
            message = (
                f"Way too much request weight used; IP banned until {until_ms}. {_USE_STREAMS}"
            )
        response = error_response(status, -1003, message)
        return attrs.evolve(response, headers=(_JSON, ("retry-after", "120")))
    if status == 451:
        return error_response(status, 0, _RESTRICTED)
    title = _TITLES.get(status, "Error")
    body = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n</html>\r\n".encode()
    return Response(status=status, headers=(("content-type", "text/html"),), body=body)


def json_response(value: object, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(status=status, headers=(_JSON,), body=msgspec.json.encode(value))


def error_response(status: int, code: int, message: str) -> Response:
    """Return an error in JSON."""
    return json_response({"code": code, "msg": message}, status)


@attrs.frozen
class Candles:
    """The candles of one symbol as they stand now."""

    at: _CandleAt
    first_ms: int
    """No candle ends before it."""


@attrs.frozen
class KlineError(Exception):
    """A request that is answered with status 400."""

    code: int
    message: str


def weight_of(trade_type: str, query: Mapping[str, list[str]]) -> int:
    """Return the weight of a request: constant on spot, by its limit on futures."""
    if trade_type == "spot":
        return 2
    text = query.get("limit", [""])[0]
    limit = int(text) if text.isdecimal() else _DEFAULT_LIMIT
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1_000 else 10


def kline_rows(
    trade_type: str,
    query: Mapping[str, list[str]],
    candles: Callable[[str], Candles | None],
    now_ms: int,
) -> list[list[object]]:
    """Return the rows of an answer, oldest first.

    Args:
        trade_type: The market.
        query: The parameters.
        candles: The candles of a symbol, None for one that is not listed.
        now_ms: Exchange time; the candle that it falls into is the last row there can be.

    Raises:
        KlineError: The request is wrong.
    """
    symbol, interval = _text(query, "symbol"), _text(query, "interval")
    of_symbol = candles(symbol)
    if of_symbol is None:
        raise KlineError(-1121, "Invalid symbol.")
    if interval not in intervals_of(trade_type):
        raise KlineError(-1120, "Invalid interval.")
    start, end = _number(query, "startTime"), _number(query, "endTime")
    limit = _number(query, "limit")
    limit = _DEFAULT_LIMIT if limit is None else min(limit, _MOST[trade_type])
    if limit < 1:
        raise KlineError(-1130, "Data sent for parameter 'limit' is not valid.")
    if start is not None and end is not None and start > end:
        if trade_type == "spot":
            return []
        raise KlineError(-1023, "Start time is greater than end time.")
    counts_back = start is None
    if trade_type == "coin_futures":
        start, end = _coin_window(start, end, now_ms)
        counts_back = True
    # the first candle is the one that holds the first moment
    first_ms = max(open_ms(interval, of_symbol.first_ms), start or 0)
    last_ms = min(now_ms, now_ms if end is None else end)
    walk = _backward if counts_back else candles_forward
    found = list(islice(walk(interval, of_symbol.at, first_ms, last_ms), limit))
    return [kline_row(kline) for kline in (reversed(found) if counts_back else found)]


def _coin_window(start: int | None, end: int | None, now_ms: int) -> tuple[int, int]:
    if start is None:
        end = now_ms if end is None else end
        return max(0, end - _LONGEST_SPAN_MS), end
    latest = min(now_ms, start + _LONGEST_SPAN_MS)
    end = latest if end is None else end
    # A longer span keeps its end: what is lost is the early part.
    return max(start, end - _LONGEST_SPAN_MS), end


def candles_forward(interval: str, at: _CandleAt, first_ms: int, last_ms: int) -> Iterator[Kline]:
    """Give the candles that open from ``first_ms`` to ``last_ms``, both inclusive."""
    opened_ms = open_ms(interval, first_ms)
    if opened_ms < first_ms:
        opened_ms = next_open_ms(interval, opened_ms)
    while opened_ms <= last_ms:
        kline = at(interval, opened_ms)
        if kline is not None:
            yield kline
        opened_ms = next_open_ms(interval, opened_ms)


def _backward(interval: str, at: _CandleAt, first_ms: int, last_ms: int) -> Iterator[Kline]:
    opened_ms = open_ms(interval, last_ms)
    while opened_ms >= first_ms:
        kline = at(interval, opened_ms)
        if kline is not None:
            yield kline
        opened_ms = open_ms(interval, opened_ms - 1)


def kline_row(kline: Kline, unit: int = 1) -> list[object]:
    """Return a candle as a row of REST or, with the unit of its times, of an archive."""
    opened, closes = kline.open_time_ms * unit, (kline.close_time_ms + 1) * unit - 1
    prices = [kline.open, kline.high, kline.low, kline.close, kline.volume]
    taker = [kline.taker_buy_volume, kline.taker_buy_quote_volume]
    return [opened, *prices, closes, kline.quote_volume, kline.trade_num, *taker, "0"]


def _text(query: Mapping[str, list[str]], name: str) -> str:
    if not query.get(name):
        raise KlineError(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        )
    return query[name][0]


def _number(query: Mapping[str, list[str]], name: str) -> int | None:
    if name not in query:
        return None
    text = query[name][0]
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise KlineError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return int(text)
