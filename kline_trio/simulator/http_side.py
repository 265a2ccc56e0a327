"""The HTTP side of the exchange: REST with its weights and bans, and the host of the archives."""

from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path

import attrs

from kline_trio.simulator import rest
from kline_trio.simulator.archive import ArchiveShelf
from kline_trio.simulator.faults import RestFault
from kline_trio.simulator.lies import WrongFirst, WrongRows, WrongTime
from kline_trio.simulator.market import Market
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.replayed_candles import ReplayedCandles
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.rest_klines import Candles

__all__ = ["HttpSide"]

_PATIENCE = 1.2
"""How much of a minute's weight may be asked for until 429 turns into a ban."""
_FAR_MS = 1 << 52
_BAN_S = 120.0
"""The shortest ban."""


class HttpSide:
    """Answers requests, and remembers what each address has asked for; there is one address.

    Args:
        markets: By trade type.
        record: Where faults that strike are noted.
        first_ms: No symbol has a candle before it.
        truth: The candles of real data, where there is any.
        is_replay: Whether symbols have no candles but those.
        archive_files: Real zip files that the archive has.
    """

    def __init__(
        self,
        *,
        markets: Mapping[str, Market],
        record: Record,
        first_ms: int,
        truth: ReplayedCandles | None,
        is_replay: bool,
        archive_files: Iterable[Path],
    ) -> None:
        self._markets = markets
        self._record = record
        self._first_ms = first_ms
        self._truth = truth
        self._is_replay = is_replay
        self._used: dict[str, tuple[int, int]] = {}
        self._banned_until_s: dict[str, float] = {}
        scripts = {name: market.script for name, market in markets.items()}
        self._shelf = ArchiveShelf(scripts, self._published, ArchiveShelf.real_files(archive_files))

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; the used weight of the pool is in the headers.

        Who uses more than there is gets 429, and who goes on all the same 418 for two minutes
        (Binance docs, rest-api.md, "IP Limits").
        """
        if request.target.startswith("/data/"):
            # The archive's host is another one, and nothing weighs there.
            return self._shelf.answer(request.target, request.now_ms)
        pool, minute = rest.weight_pool(request.trade_type), int(request.now_s // 60)
        if request.now_s < self._banned_until_s.get(pool, -inf):
            return rest.refusal(418, request.now_ms)
        response, weight = self._answer(request)
        began, used = self._used.get(pool, (minute, 0))
        used = weight + (used if began == minute else 0)
        self._used[pool] = minute, used
        most = rest.WEIGHT_LIMITS[pool]
        if used > most * _PATIENCE:
            self._banned_until_s[pool] = request.now_s + _BAN_S
            return rest.refusal(418, request.now_ms)
        if used > most:
            response = rest.refusal(429, request.now_ms)
        return rest.with_weight(response, used)

    def _answer(self, request: Request) -> tuple[Response, int]:
        market = self._markets[request.trade_type]
        fault = market.script.rest_fault(request.now_ms)
        if fault is not None:
            self._note(fault)
            if fault.status != 200:
                return rest.refusal(fault.status, request.now_ms), 1
        wrong_time = market.script.wrong_time(request.now_ms)
        if wrong_time is not None:
            self._note(wrong_time)
            request = attrs.evolve(request, told_ahead_ms=wrong_time.ahead_ms)
        answer, weight = rest.answer(
            request,
            market.shown(request.now_ms),
            lambda symbol: self._told(market, symbol, request),
        )
        return (rest.broken_off(answer) if fault else answer), weight

    def _told(self, market: Market, symbol: str, request: Request) -> Candles | None:
        candles = self._candles(market, symbol, request.now_ms, request.now_ms)
        lie = market.script.wrong_rows(request.now_ms, request.limit)
        if lie is None or candles is None:
            return candles
        self._note(lie)
        return lie.told(candles)

    def _note(self, fault: RestFault | WrongTime | WrongRows | WrongFirst) -> None:
        self._record.add(
            Happened(
                fault=type(fault).__name__,
                trade_type=fault.trade_type,
                from_ms=fault.from_ms,
                until_ms=fault.until_ms,
            )
        )

    def _published(self, trade_type: str, symbol: str, now_ms: int) -> Candles | None:
        # Of days that are over for hours nothing is forming any more.
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
        career = market.career(symbol)
        return Candles(
            lambda interval, open_ms: market.candle(symbol, interval, open_ms, until_ms),
            self._first_ms if career is None else max(self._first_ms, career.begins_ms),
        )
