"""The answers of the HTTP side: ping, time, exchangeInfo, klines, errors.

Sources: Binance spot docs, rest-api.md ("General endpoints", "LIMITS") and errors.md; USD-M and
COIN-M docs, "Exchange Information"; key sets of recorded exchangeInfo answers.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec

from kline_trio.simulator.careers import State, contract_type
from kline_trio.simulator.frames import decimal_text
from kline_trio.simulator.rest_klines import Candles, KlineError, kline_rows, weight_of
from kline_trio.simulator.symbols import Listing

__all__ = ["WEIGHT_LIMITS", "Request", "Response", "answer", "refusal", "weight_pool"]
__all__ += ["broken_off", "with_weight"]

_PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
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

Shown = tuple[Listing, State]
"""A symbol as exchangeInfo has it."""


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
    told_ahead_ms: int = 0
    """How much later the time is that the answer tells."""

    @property
    def told_ms(self) -> int:
        """Exchange time as the answer tells it."""
        return self.now_ms + self.told_ahead_ms

    @property
    def limit(self) -> str:
        """For how many candles it asks, in its own words."""
        return parse_qs(urlsplit(self.target).query).get("limit", [""])[0]


@attrs.frozen(kw_only=True)
class Response:
    """One HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def weight_pool(trade_type: str) -> str:
    """Return which used-weight budget a market draws on: futures share one since 2026-06-30."""
    return "spot" if trade_type == "spot" else "futures"


def answer(
    request: Request,
    shown: Iterable[Shown],
    candles: Callable[[str], Candles | None],
) -> tuple[Response, int]:
    """Answer a request and say what it weighs.

    Args:
        request: What is asked.
        shown: What is listed in the market now, and how it stands.
        candles: The candles of a symbol, None for one that is not listed.
    """
    prefix = _PREFIX[request.trade_type]
    try:
        parts = urlsplit(request.target)
    except ValueError:
        return _not_found(), 1
    if request.method not in ("GET", "HEAD") or not parts.path.startswith(f"{prefix}/"):
        return _not_found(), 1
    match parts.path.removeprefix(prefix):
        case "/ping":
            return _json({}), 1
        case "/time":
            return _json({"serverTime": request.told_ms}), 1
        case "/exchangeInfo":
            weight = 20 if request.trade_type == "spot" else 1
            query = parse_qs(parts.query)
            return _exchange_info(request, query, tuple(shown)), weight
        case "/klines":
            query = parse_qs(parts.query)
            weight = weight_of(request.trade_type, query)
            try:
                rows = kline_rows(request.trade_type, query, candles, request.now_ms)
            except KlineError as error:
                body = _error(error.code, error.message)
                return Response(status=400, headers=(_JSON,), body=body), weight
            return _json(rows), weight
    return _not_found(), 1


def refusal(status: int, now_ms: int) -> Response:
    """Return a refusal as the real exchange words it; 5xx and 403 are pages, not JSON."""
    if status in (418, 429):
        message = "Too many requests queued."
        if status == 418:
            until_ms = now_ms + 120_000
            message = (
                f"Way too much request weight used; IP banned until {until_ms}. {_USE_STREAMS}"
            )
        body = _error(-1003, message)
        return Response(status=status, headers=(_JSON, ("retry-after", "120")), body=body)
    if status == 451:
        return Response(status=status, headers=(_JSON,), body=_error(0, _RESTRICTED))
    return _page(status, _TITLES.get(status, "Error"))


def with_weight(response: Response, used: int) -> Response:
    """Return an answer with the weight that its address has used in this minute."""
    return attrs.evolve(response, headers=(*response.headers, ("x-mbx-used-weight-1m", str(used))))


def _json(value: object, status: int = 200) -> Response:
    return Response(status=status, headers=(_JSON,), body=msgspec.json.encode(value))


def _error(code: int, message: str) -> bytes:
    return msgspec.json.encode({"code": code, "msg": message})


def _page(status: int, title: str) -> Response:
    body = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n</html>\r\n".encode()
    return Response(status=status, headers=(("content-type", "text/html"),), body=body)


def broken_off(response: Response) -> Response:
    """Return an answer of which only the first half comes."""
    return attrs.evolve(response, body=response.body[: len(response.body) // 2])


def _not_found() -> Response:
    return _page(404, _TITLES[404])


def _exchange_info(
    request: Request,
    query: dict[str, list[str]],
    shown: tuple[Shown, ...],
) -> Response:
    spot = request.trade_type == "spot"
    if spot and ("symbol" in query or "symbols" in query):
        by_symbol = {one[0].symbol: one for one in shown}
        try:
            wanted = query.get("symbol") or msgspec.json.decode(query["symbols"][0], type=list[str])
            shown = tuple(by_symbol[symbol] for symbol in wanted)
        except (KeyError, msgspec.DecodeError):
            body = _error(-1121, "Invalid symbol.")
            return Response(status=400, headers=(_JSON,), body=body)
    info: dict[str, Any] = {"timezone": "UTC", "serverTime": request.told_ms}
    if request.trade_type == "usdt_futures":
        info["futuresType"] = "U_MARGINED"
    info["rateLimits"] = _RATE_LIMITS[weight_pool(request.trade_type)]
    info["exchangeFilters"] = []
    if request.trade_type == "usdt_futures":
        info["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    info["symbols"] = [
        _symbol(*one, contract_type(*one, request.now_ms) if not spot else "") for one in shown
    ]
    return _json(info)


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


_RATE_LIMITS = {
    "spot": [
        _limit("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMITS["spot"]),
        _limit("ORDERS", "SECOND", 10, 100),
        _limit("ORDERS", "DAY", 1, 200_000),
        _limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
    ],
    "futures": [
        _limit("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMITS["futures"]),
        _limit("ORDERS", "MINUTE", 1, 1200),
    ],
}


def _filters(listing: Listing, state: State) -> list[dict[str, object]]:
    tick = state.tick_size
    lot = decimal_text(1, listing.lot_decimals)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000", "stepSize": lot},
    ]


@lru_cache(maxsize=8_192)
def _symbol(listing: Listing, state: State, kind: str) -> msgspec.Raw:
    """Return an entry as JSON: answers with thousands of them are asked for again and again."""
    spot = listing.trade_type == "spot"
    entry = _spot_symbol(listing, state) if spot else _future_symbol(listing, state, kind)
    return msgspec.Raw(msgspec.json.encode(entry))


def _spot_symbol(listing: Listing, state: State) -> dict[str, object]:
    return {
        "symbol": listing.symbol,
        "status": state.status,
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(listing, state),
        "permissions": ["SPOT"],
    }


def _future_symbol(listing: Listing, state: State, kind: str) -> dict[str, object]:
    coin = bool(listing.contract_usd)
    contract: dict[str, object] = {
        "symbol": listing.symbol,
        "pair": listing.pair,
        # empty before the first trade: BTCSTUSDT in the answer recorded on 2021-07-22
        "contractType": "" if state.status == "PENDING_TRADING" else kind,
        "deliveryDate": state.delivery_ms,
        "onboardDate": state.onboard_ms,
        "contractStatus" if coin else "status": state.status,
    }
    if coin:
        contract["contractSize"] = listing.contract_usd
    contract |= {
        "baseAsset": listing.base,
        "quoteAsset": listing.quote,
        "marginAsset": listing.base if coin else listing.quote,
        "pricePrecision": listing.price_decimals,
        "quantityPrecision": listing.lot_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": _filters(listing, state),
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
    return contract
