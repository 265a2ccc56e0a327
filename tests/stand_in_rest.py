"""What the stand-in answers over plain HTTP."""

import json
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Response

from tests.stand_in_candles import Market

__all__ = ["answer", "response"]

Query = dict[str, list[str]]


def answer(
    market: Market, path: str, query: Query, symbols: list[str], now_ms: int, mode: str
) -> Response:
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
            return _json({"serverTime": now_ms})
        case "/exchangeInfo":
            return _exchange_info(market, query, symbols, now_ms)
    return response(404, "<html>404 Not found</html>", "text/html")


def _exchange_info(market: Market, query: Query, symbols: list[str], now_ms: int) -> Response:
    """The symbols, in the market's own words."""
    if market.trade_type == "spot":
        asked = query.get("symbol", []) or json.loads(query.get("symbols", ["[]"])[0])
        if set(asked) - set(symbols):
            return _json({"code": -1121, "msg": "Invalid symbol."}, 400)
        symbols = asked or symbols
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    return _json(
        {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [weight | {"limit": 6_000 if market.trade_type == "spot" else 2_400}],
            "exchangeFilters": [],
            "symbols": [_symbol_info(market, symbol) for symbol in symbols],
        }
    )


def _symbol_info(market: Market, symbol: str) -> dict[str, Any]:
    if market.trade_type == "spot":
        return {"symbol": symbol, "status": "TRADING", "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT", "permissions": ["SPOT"]}  # fmt: skip
    base, _, rest = symbol.partition("USD")
    perpetual = not symbol[-6:].isdigit()
    info: dict[str, Any] = {
        "symbol": symbol, "pair": symbol.partition("_")[0],
        "contractType": "PERPETUAL" if perpetual else "CURRENT_QUARTER",
        "deliveryDate": 4_133_404_800_000 if perpetual else 1_688_112_000_000,
        "onboardDate": 1_569_398_400_000, "baseAsset": base,
        "quoteAsset": "USDT" if rest.startswith("T") else "USD",
    }  # fmt: skip
    if market.trade_type == "coin_futures":
        return info | {"contractStatus": "TRADING", "contractSize": 100, "marginAsset": base}
    return info | {"status": "TRADING", "marginAsset": "USDT"}


def response(status: int, body: str, kind: str = "application/json") -> Response:
    content = body.encode()
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(content)),
                       "Connection": "close", "X-MBX-USED-WEIGHT-1M": "1"})  # fmt: skip
    if status in (418, 429):
        headers["Retry-After"] = "1"
    return Response(status, "Scripted", headers, content)


def _json(value: object, status: int = 200) -> Response:
    return response(status, json.dumps(value, ensure_ascii=False))
