"""The HTTP side of the exchange: REST with its weights and bans, and the host of the archives."""

from collections.abc import Mapping
from math import inf
from urllib.parse import parse_qs, urlsplit

import attrs

from kline_trio.simulator.archive import ArchiveShelf
from kline_trio.simulator.exchange_info import exchange_info
from kline_trio.simulator.faults import RestFault, WrongTime
from kline_trio.simulator.incident_log import Incident
from kline_trio.simulator.market import Market
from kline_trio.simulator.playback import ReplayedCandles
from kline_trio.simulator.rest import (
    WEIGHT_LIMITS,
    Request,
    Response,
    error_response,
    json_response,
    refusal,
    weight_pool,
)
from kline_trio.simulator.rest_klines import Candles, KlineError, kline_rows, weight_of
from kline_trio.simulator.timeline import ONBOARD_MS

__all__ = ["HttpSide"]

_PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
_PATIENCE = 1.2
"""From this share of a minute's weight on, 429 turns into a ban."""
_FAR_MS = 1 << 52
_BAN_S = 120.0
"""The shortest ban."""


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
        scripts = {name: market.script for name, market in markets.items()}
        self._shelf = ArchiveShelf(scripts, self._published)

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; the used weight of the pool is in the headers.

        A client that exceeds the limit gets 429; if it goes on, it gets 418 for two minutes
        (Binance docs, rest-api.md, "IP Limits").
        """
        if request.target.startswith("/data/"):
            # The archive's host is another one, and nothing weighs there.
            return self._shelf.answer(request.target, request.now_ms)
        pool, minute = weight_pool(request.trade_type), int(request.now_s // 60)
        if request.now_s < self._banned_until_s.get(pool, -inf):
            return refusal(418, request.now_ms)
        response, weight = self._answer(request)
        began, used = self._used.get(pool, (minute, 0))
        used = weight + (used if began == minute else 0)
        self._used[pool] = minute, used
        most = WEIGHT_LIMITS[pool]
        if used > most * _PATIENCE:
            self._banned_until_s[pool] = request.now_s + _BAN_S
            return refusal(418, request.now_ms)
        if used > most:
            response = refusal(429, request.now_ms)
        weighed = ("x-mbx-used-weight-1m", str(used))
        return attrs.evolve(response, headers=(*response.headers, weighed))

    def _answer(self, request: Request) -> tuple[Response, int]:
        """Return the answer as the scripted faults leave it, and what the request weighs."""
        market = self._markets[request.trade_type]
        fault = market.script.in_force(RestFault, request.now_ms)
        if fault is not None:
            market.log.add(Incident.of(fault))
            if fault.status != 200:
                return refusal(fault.status, request.now_ms), 1
        told_ms = request.now_ms
        wrong_time = market.script.in_force(WrongTime, request.now_ms)
        if wrong_time is not None:
            market.log.add(Incident.of(wrong_time))
            told_ms += wrong_time.ahead_ms
        answer, weight = self._endpoint(market, request, told_ms)
        if fault is not None:
            answer = attrs.evolve(answer, body=answer.body[: len(answer.body) // 2])
        return answer, weight

    def _endpoint(self, market: Market, request: Request, told_ms: int) -> tuple[Response, int]:
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
                return json_response({"serverTime": told_ms}), 1
            case "/exchangeInfo":
                weight = 20 if request.trade_type == "spot" else 1
                shown = market.shown(request.now_ms)
                return exchange_info(request, query, shown, told_ms), weight
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
            return lie.told(found)

        try:
            return json_response(kline_rows(market.trade_type, query, candles, now_ms))
        except KlineError as error:
            return error_response(400, error.code, error.message)

    def _published(self, trade_type: str, symbol: str, now_ms: int) -> Candles | None:
        # In days that are over for hours no candle is forming any more.
        return self._candles(self._markets[trade_type], symbol, now_ms, _FAR_MS)

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
