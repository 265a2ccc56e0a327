"""The klines endpoint: each market's paging, its error words, and the forming last row.

Sources: Binance spot docs, rest-api.md ("Kline/Candlestick data") and errors.md; USD-M and COIN-M
docs, "Kline/Candlestick Data"; error bodies as they were observed.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import attrs

from kline_trio.simulator.calendar import intervals_of, next_open_ms, open_ms
from kline_trio.simulator.frames import Kline

__all__ = ["CandleAt", "Candles", "KlineError", "candles_forward", "kline_row", "kline_rows"]
__all__ += ["weight_of"]

_DAY_MS = 86_400_000
_LONGEST_SPAN_MS = 200 * _DAY_MS
"""Of a COIN-M answer."""
_MOST = {"spot": 1_000, "usdt_futures": 1_500, "coin_futures": 1_500}
_DEFAULT_LIMIT = 500

CandleAt = Callable[[str, int], Kline | None]
"""The candle of an interval and an open time as it stands now; None where there is none."""


@attrs.frozen
class Candles:
    """The candles of one symbol as they stand now."""

    at: CandleAt
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


def candles_forward(interval: str, at: CandleAt, first_ms: int, last_ms: int) -> Iterator[Kline]:
    """Give the candles that open from ``first_ms`` to ``last_ms``, both inclusive."""
    opened_ms = open_ms(interval, first_ms)
    if opened_ms < first_ms:
        opened_ms = next_open_ms(interval, opened_ms)
    while opened_ms <= last_ms:
        kline = at(interval, opened_ms)
        if kline is not None:
            yield kline
        opened_ms = next_open_ms(interval, opened_ms)


def _backward(interval: str, at: CandleAt, first_ms: int, last_ms: int) -> Iterator[Kline]:
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
