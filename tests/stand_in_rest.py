"""What the stand-in answers over plain HTTP."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Response

from tests.stand_in_candles import Market, Row

__all__ = ["RowsFrom", "answer", "response"]

Query = dict[str, list[str]]

RowsFrom = Callable[[str, str, int], Iterable[Row]]
"""The candles of a symbol and an interval that open at a time or later, in order."""

Lie = Callable[[str], int]
"""By how many milliseconds it lies about this just now: about the time of day, the times of rows,
how long ago the first candle was, or the date of a contract; 0 if it tells the truth."""

TWO_HUNDRED_DAYS_MS = 17_280_000_000
ONBOARD_MS = 1_569_398_400_000


def answer(
    market: Market, path: str, query: Query, symbols: list[str], now_ms: int, mode: str,
    rows_from: RowsFrom, given: Callable[[str, str, Row], None], lie_ms: Lie,
) -> Response:  # fmt: skip
    """The answer of a market's REST interface, or what stands in its place."""
    if mode == "garbage":
        return response(200, "<html>\x00 not JSON", "text/html")
    if mode != "ok":
        body = '{"code":-1003,"msg":"Too many requests."}' if mode == "429" else "<html>"
        return response(int(mode), body)
    match path.removeprefix(market.rest):
        case "/ping":
            return _json({})
        case "/time":
            return _json({"serverTime": now_ms + lie_ms("time")})
        case "/exchangeInfo":
            return _exchange_info(market, query, symbols, now_ms, lie_ms)
        case "/klines":
            return _klines(market, query, symbols, now_ms, rows_from, given, lie_ms)
    return response(404, "<html>404 Not found</html>", "text/html")


def _klines(
    market: Market, query: Query, symbols: list[str], now_ms: int,
    rows_from: RowsFrom, given: Callable[[str, str, Row], None], lie_ms: Lie,
) -> Response:  # fmt: skip
    """A page of candles, the forming one last; COIN-M counts from its end."""
    asked = {name: values[0] for name, values in query.items()}
    if "symbol" not in asked or "interval" not in asked:
        return _json({"code": -1102, "msg": "Mandatory parameter was not sent."}, 400)
    symbol, interval = asked["symbol"], asked["interval"]
    if symbol not in symbols:
        return _json({"code": -1121, "msg": "Invalid symbol."}, 400)
    if interval not in market.intervals:
        return _json({"code": -1120, "msg": "Invalid interval."}, 400)
    most = 1_000 if market.trade_type == "spot" else 1_500
    limit = min(int(asked.get("limit", 500)), most)
    end = min(int(asked.get("endTime", now_ms)), now_ms)
    start = int(asked.get("startTime", 0))
    if market.trade_type == "coin_futures":
        if "startTime" in asked and "endTime" not in asked:
            end = min(end, start + TWO_HUNDRED_DAYS_MS)
        start = max(start, end - TWO_HUNDRED_DAYS_MS)
    if limit == 1 and "startTime" in asked and lie_ms("first"):
        start = max(start, now_ms - lie_ms("first"))
    rows = list(_window(rows_from(symbol, interval, start), start, end))
    newest = "startTime" not in asked or market.trade_type == "coin_futures"
    rows = rows[-limit:] if newest else rows[:limit]
    if ahead_ms := lie_ms("rows"):
        return _json([_cells(replace(one, t=one.t + ahead_ms, T=one.T + ahead_ms)) for one in rows])
    for row in rows:
        if now_ms > row.T:
            given(symbol, interval, row)
    return _json([_cells(row if now_ms > row.T else replace(row, c=row.o)) for row in rows])


def _window(rows: Iterable[Row], start: int, end: int) -> Iterator[Row]:
    return (row for row in takewhile(lambda row: row.t <= end, rows) if row.t >= start)


def _cells(row: Row) -> tuple[Any, ...]:
    return (row.t, row.o, row.h, row.l, row.c, row.v, row.T, row.q, row.n, row.V, row.Q, "0")


def _exchange_info(
    market: Market, query: Query, symbols: list[str], now_ms: int, lie_ms: Lie
) -> Response:
    """The symbols, in the market's own words."""
    if market.trade_type == "spot":
        asked = query.get("symbol", []) or json.loads(query.get("symbols", ["[]"])[0])
        if set(asked) - set(symbols):
            return _json({"code": -1121, "msg": "Invalid symbol."}, 400)
        symbols = asked or symbols
    late_ms = lie_ms("date")
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    return _json(
        {
            "timezone": "UTC",
            "serverTime": now_ms + lie_ms("time"),
            "rateLimits": [weight | {"limit": 6_000 if market.trade_type == "spot" else 2_400}],
            "exchangeFilters": [],
            "symbols": [
                _symbol_info(market, symbol, now_ms + late_ms if late_ms else ONBOARD_MS)
                for symbol in symbols
            ],
        }
    )


def _symbol_info(market: Market, symbol: str, onboard_ms: int) -> dict[str, Any]:
    if market.trade_type == "spot":
        return {"symbol": symbol, "status": "TRADING", "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT", "permissions": ["SPOT"]}  # fmt: skip
    base, _, rest = symbol.partition("USD")
    perpetual = not symbol[-6:].isdigit()
    info: dict[str, Any] = {
        "symbol": symbol, "pair": symbol.partition("_")[0],
        "contractType": "PERPETUAL" if perpetual else "CURRENT_QUARTER",
        "deliveryDate": 4_133_404_800_000 if perpetual else 1_688_112_000_000,
        "onboardDate": onboard_ms, "baseAsset": base,
        "quoteAsset": "USDT" if rest.startswith("T") else "USD",
    }  # fmt: skip
    if market.trade_type == "coin_futures":
        return info | {"contractStatus": "TRADING", "contractSize": 100, "marginAsset": base}
    return info | {"status": "TRADING", "marginAsset": "USDT"}


def response(status: int, body: str | bytes, kind: str = "application/json") -> Response:
    content = body.encode() if isinstance(body, str) else body
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(content)),
                       "Connection": "close", "X-MBX-USED-WEIGHT-1M": "1"})  # fmt: skip
    if status in (418, 429):
        headers["Retry-After"] = "1"
    return Response(status, "Scripted", headers, content)


def _json(value: object, status: int = 200) -> Response:
    return response(status, json.dumps(value, ensure_ascii=False))
