"""The answer of exchangeInfo: limits, and each symbol that is listed, as each market shows it.

Sources: Binance spot docs, rest-api.md ("General endpoints", "LIMITS"); USD-M and COIN-M docs,
"Exchange Information"; key sets of recorded exchangeInfo answers.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from kline_trio.simulator.frames import decimal_text
from kline_trio.simulator.rest import (
    WEIGHT_LIMITS,
    Request,
    Response,
    error_response,
    json_response,
    weight_pool,
)
from kline_trio.simulator.symbols import Listing
from kline_trio.simulator.timeline import State, contract_type

__all__ = ["exchange_info"]


def exchange_info(
    request: Request,
    query: Mapping[str, list[str]],
    shown: Iterable[tuple[Listing, State]],
    told_ms: int,
) -> Response:
    """Return the answer; on spot it may be asked for chosen symbols.

    Args:
        request: What is asked.
        query: The parameters.
        shown: What is listed in the market now, and how it stands.
        told_ms: The time that the answer tells.
    """
    spot = request.trade_type == "spot"
    if spot and ("symbol" in query or "symbols" in query):
        by_symbol = {one[0].symbol: one for one in shown}
        try:
            wanted = query.get("symbol") or msgspec.json.decode(query["symbols"][0], type=list[str])
            shown = [by_symbol[symbol] for symbol in wanted]
        except (KeyError, msgspec.DecodeError):
            return error_response(400, -1121, "Invalid symbol.")
    info: dict[str, Any] = {"timezone": "UTC", "serverTime": told_ms}
    if request.trade_type == "usdt_futures":
        info["futuresType"] = "U_MARGINED"
    info["rateLimits"] = _RATE_LIMITS[weight_pool(request.trade_type)]
    info["exchangeFilters"] = []
    if request.trade_type == "usdt_futures":
        info["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    info["symbols"] = [
        _symbol(*one, contract_type(*one, request.now_ms) if not spot else "") for one in shown
    ]
    return json_response(info)


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
