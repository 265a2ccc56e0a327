"""The HTTP side: endpoints, weights and bans of REST, exchangeInfo, and the published archives.

Sources: Binance spot docs, rest-api.md ("General endpoints", "LIMITS"); USD-M and COIN-M docs,
"Exchange Information"; key sets of recorded exchangeInfo answers.  Archives:
github.com/binance/binance-public-data, README.md (paths, headers, microseconds on spot from 2025
on, CHECKSUM files); a recorded body of a 404.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import inf
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import msgspec

from kline_trio.simulator.calendar import intervals_of, open_ms
from kline_trio.simulator.faults import ArchiveFault, Incident, RestFault, WrongTime
from kline_trio.simulator.frames import Kline, decimal_text
from kline_trio.simulator.market import Market
from kline_trio.simulator.replay import ReplayedCandles
from kline_trio.simulator.rest import (
    WEIGHT_LIMITS,
    Candles,
    KlineError,
    Request,
    Response,
    candles_forward,
    error_response,
    json_response,
    kline_row,
    kline_rows,
    refusal,
    weight_of,
    weight_pool,
)
from kline_trio.simulator.symbols import ONBOARD_MS, Listing, State, contract_type

_PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
_BAN_SHARE = 1.2
"""From this share of a minute's weight on, 429 turns into a ban."""
_FAR_MS = 1 << 52
_BAN_S = 120.0
"""The shortest ban."""
_ARCHIVE_PATH = re.compile(
    r"/data/(?P<folder>spot|futures/um|futures/cm)/(?P<kind>daily|monthly)/klines/"
    r"(?P<symbol>[^/]+)/(?P<interval>[^/]+)/(?P<name>[^/]+)\.zip(?P<checksum>\.CHECKSUM)?"
)
_ARCHIVE_TRADE_TYPES = {"spot": "spot", "futures/um": "usdt_futures", "futures/cm": "coin_futures"}
_CSV_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
_MICROSECONDS_FROM_MS = 1_735_689_600_000
"""2025-01-01, for spot."""
_PUBLISHED_AFTER_MS = 6 * 3_600_000
"""Daily files come some hours after the day (binance-public-data issue 181)."""
_NO_DAILY_FILES = ("3d", "1w", "1M")


class HttpSide:
    """Answers requests and counts their weight; all clients count as one address.

    Args:
        markets: By trade type.
        start_ms: Exchange time at the start.
        truth: The candles of real data, where there is any.
        is_replay: Whether symbols have no other candles.
    """

    def __init__(
        self,
        markets: Mapping[str, Market],
        start_ms: int,
        truth: ReplayedCandles | None,
        *,
        is_replay: bool,
    ) -> None:
        self._markets = markets
        self._first_ms = min(ONBOARD_MS, start_ms) if truth is None else truth.first_ms
        self._truth = truth
        self._is_replay = is_replay
        self._used: dict[str, tuple[int, int]] = {}
        self._banned_until_s: dict[str, float] = {}

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; the used weight of the pool is in the headers.

        A client that exceeds the limit gets 429; if it goes on, it gets 418 for two minutes
        (Binance docs, rest-api.md, "IP Limits").
        """
        if request.target.startswith("/data/"):
            # The archives are on another host, which counts no weight.
            return self._archived(request.target, request.now_ms)
        pool, minute = weight_pool(request.trade_type), int(request.now_s // 60)
        if request.now_s < self._banned_until_s.get(pool, -inf):
            return refusal(418, request.now_ms)
        response, weight = self._answer(request)
        began, used = self._used.get(pool, (minute, 0))
        used = weight + (used if began == minute else 0)
        self._used[pool] = minute, used
        most = WEIGHT_LIMITS[pool]
        if used > most * _BAN_SHARE:
            self._banned_until_s[pool] = request.now_s + _BAN_S
            return refusal(418, request.now_ms)
        if used > most:
            response = refusal(429, request.now_ms)
        weighed = ("x-mbx-used-weight-1m", str(used))
        return attrs.evolve(response, headers=(*response.headers, weighed))

    def _answer(self, request: Request) -> tuple[Response, int]:
        """Return the answer with scripted faults applied, and the weight of the request."""
        market = self._markets[request.trade_type]
        fault = market.script.in_force(RestFault, request.now_ms)
        if fault is not None:
            market.log.add(Incident.of(fault))
            if fault.status != 200:
                return refusal(fault.status, request.now_ms), 1
        server_time_ms = request.now_ms
        wrong_time = market.script.in_force(WrongTime, request.now_ms)
        if wrong_time is not None:
            market.log.add(Incident.of(wrong_time))
            server_time_ms += wrong_time.ahead_ms
        answer, weight = self._endpoint(market, request, server_time_ms)
        if fault is not None:
            answer = attrs.evolve(answer, body=answer.body[: len(answer.body) // 2])
        return answer, weight

    def _endpoint(
        self, market: Market, request: Request, server_time_ms: int
    ) -> tuple[Response, int]:
        prefix = _PREFIX[request.trade_type]
        try:
            parts = urlsplit(request.target)
        except ValueError:
            return refusal(404, request.now_ms), 1
        if request.method not in ("GET", "HEAD") or not parts.path.startswith(f"{prefix}/"):
            return refusal(404, request.now_ms), 1
        query = parse_qs(parts.query)
        match parts.path.removeprefix(prefix):
            case "/ping":
                return json_response({}), 1
            case "/time":
                return json_response({"serverTime": server_time_ms}), 1
            case "/exchangeInfo":
                weight = 20 if request.trade_type == "spot" else 1
                return _exchange_info(market, request, query, server_time_ms), weight
            case "/klines":
                answer = self._klines(market, query, request.now_ms)
                return answer, weight_of(request.trade_type, query)
        return refusal(404, request.now_ms), 1

    def _klines(self, market: Market, query: dict[str, list[str]], now_ms: int) -> Response:
        def candles(symbol: str) -> Candles | None:
            found = self._candles(market, symbol, now_ms, now_ms)
            is_one = query.get("limit", [""])[0] == "1"
            lie = market.script.rows_lie(now_ms, is_one=is_one)
            if lie is None or found is None:
                return found
            market.log.add(Incident.of(lie))
            return lie.answered(found)

        try:
            return json_response(kline_rows(market.trade_type, query, candles, now_ms))
        except KlineError as error:
            return error_response(400, error.code, error.message)

    def _candles(self, market: Market, symbol: str, now_ms: int, until_ms: int) -> Candles | None:
        """Return the candles of what is listed now, as they stand at ``until_ms``."""
        if self._truth is not None:
            replayed = self._truth.of(market.trade_type, symbol, until_ms)
            if replayed is not None:
                return replayed
        if not market.is_listed(symbol, now_ms):
            return None
        if self._is_replay:
            return Candles(lambda interval, open_ms: None, self._first_ms)
        return Candles(
            lambda interval, open_ms: market.candle(symbol, interval, open_ms, until_ms),
            max(self._first_ms, market.timelines[symbol].begins_ms),
        )

    def _archived(self, target: str, now_ms: int) -> Response:
        """Answer as the host of the archives: with a zip file, or with its checksum."""
        match = _ARCHIVE_PATH.fullmatch(unquote(target))
        content = self._zip(match, now_ms) if match else None
        if match is None or content is None:
            return _missing(target)
        form = "application/zip"
        if match["checksum"]:
            form = "text/plain"
            content = f"{hashlib.sha256(content).hexdigest()}  {match['name']}.zip\n".encode()
        return Response(status=200, headers=(("content-type", form),), body=content)

    def _zip(self, match: re.Match[str], now_ms: int) -> bytes | None:
        trade_type = _ARCHIVE_TRADE_TYPES[match["folder"]]
        interval = "1M" if match["interval"] == "1mo" else match["interval"]
        prefix = f"{match['symbol']}-{match['interval']}-"
        daily = match["kind"] == "daily"
        if interval not in intervals_of(trade_type) or not match["name"].startswith(prefix):
            return None
        if match["interval"] == "1M" or (daily and interval in _NO_DAILY_FILES):
            return None
        try:
            form = "%Y-%m-%d" if daily else "%Y-%m"
            day = datetime.strptime(match["name"].removeprefix(prefix), form).replace(tzinfo=UTC)
        except ValueError:
            return None
        end = day + timedelta(days=1) if daily else (day + timedelta(days=32)).replace(day=1)
        from_ms, to_ms = round(day.timestamp() * 1_000), round(end.timestamp() * 1_000)
        if now_ms < to_ms + _PUBLISHED_AFTER_MS:
            return None
        market = self._markets[trade_type]
        # In days that are over for hours no candle is forming any more.
        candles = self._candles(market, match["symbol"], now_ms, _FAR_MS)
        if candles is None or to_ms <= candles.first_ms:
            return None
        faults = market.script.archive_faults
        faults = [fault for fault in faults if fault.symbol == match["symbol"]]
        first_ms = max(from_ms, open_ms(interval, candles.first_ms))
        klines = candles_forward(interval, candles.at, first_ms, to_ms - 1)
        unit = 1_000 if trade_type == "spot" and from_ms >= _MICROSECONDS_FROM_MS else 1
        text = _csv(trade_type, klines, faults, unit)
        return _packed(f"{match['name']}.csv", text) if text else None


def _exchange_info(
    market: Market, request: Request, query: Mapping[str, list[str]], server_time_ms: int
) -> Response:
    """Return all symbols that are listed now; on spot a request may choose some."""
    spot = request.trade_type == "spot"
    shown: Iterable[tuple[Listing, State]] = market.shown(request.now_ms)
    if spot and ("symbol" in query or "symbols" in query):
        by_symbol = {one[0].symbol: one for one in shown}
        try:
            wanted = query.get("symbol") or msgspec.json.decode(query["symbols"][0], type=list[str])
            shown = [by_symbol[symbol] for symbol in wanted]
        except (KeyError, msgspec.DecodeError):
            return error_response(400, -1121, "Invalid symbol.")
    info: dict[str, Any] = {"timezone": "UTC", "serverTime": server_time_ms}
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


def _csv(
    trade_type: str, klines: Iterable[Kline], faults: Sequence[ArchiveFault], unit: int
) -> str:
    """Return the file of the candles; empty if the archive has none of them."""
    lines, closed_at = [], ""
    for kline in klines:
        kept: Kline | None = kline
        for fault in faults:
            if kept is not None and fault.from_ms <= kline.open_time_ms < fault.until_ms:
                kept = fault.archived(kept, closed_at)
        if kept is not None:
            closed_at = kept.close
            lines.append(",".join(map(str, kline_row(kept, unit))) + "\n")
    header = "" if trade_type == "spot" or not lines else _CSV_HEADER
    return header + "".join(lines)


def _packed(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date: the same candles are the same bytes.
        archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


def _missing(target: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        "<Message>The specified key does not exist.</Message>"
        f"<Key>{target.lstrip('/')}</Key></Error>"
    )
    return Response(status=404, headers=(("content-type", "application/xml"),), body=body.encode())
