"""Gathers what the parts of a recorder count into one snapshot."""

import logging
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping

import attrs
import psutil
import trio

from kline_trio import __version__
from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.exchange import connection_events as events
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.environment import Environment, Storage
from kline_trio.recorder.merger import Merger
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.statistics import (
    MarketStatistics,
    ProcessStatistics,
    RestStatistics,
    SeriesStatistics,
    Statistics,
    StoreStatistics,
)
from kline_trio.recorder.tally import Tally
from kline_trio.recorder.writer import Writer
from kline_trio.storage.census import Absences, Census, census
from kline_trio.storage.journal.manifest import Totals
from kline_trio.storage.space import DiskSpace

logger = logging.getLogger(__name__)

_CENSUS_SECONDS = 10.0
_MOST_SHARE = 0.01
"""Of the time that counting may take: a large ledger is counted less often."""
_LOOK_SECONDS = 1.0
_LAGS = 60
"""Of a minute."""
_NOTHING = Census({}, 0, Totals(0, 0, 0), 0)


@attrs.define(eq=False)
class _Since:
    """Since when a value has been the same, by Trio's clock."""

    value: object = attrs.field(init=False, default=None)
    moment: float = attrs.field(init=False, factory=trio.current_time)

    def look(self, value: object) -> None:
        if value != self.value:
            self.value, self.moment = value, trio.current_time()

    @property
    def seconds(self) -> float:
        return trio.current_time() - self.moment


@attrs.define
class _Sums:
    """What the recorded series of a market lack."""

    closed: Counter[str] = attrs.field(factory=Counter)
    """By reason."""
    pending: int = 0


@attrs.define(eq=False)
class Observer:
    """Reads the parts of one recorder. It never steers them."""

    storage: Storage
    environment: Environment
    recording: Recording
    writer: Writer
    merger: Merger
    tally: Tally
    candles_in_channel: Callable[[], int]
    """Returns how many received candles wait for the writer."""
    publisher: Publisher | None = None

    _began_at: float = attrs.field(init=False, factory=trio.current_time)
    _began_wall_time: float = attrs.field(init=False)
    _census: Census = attrs.field(init=False, default=_NOTHING)
    _summed: "tuple[Census, tuple[Series, ...], dict[str, _Sums]] | None" = attrs.field(
        init=False, default=None
    )
    """What each market lacks, by the census and for the series for which it was summed up."""
    _counted_at: float | None = attrs.field(init=False, default=None)
    _late_since: dict[Series, float] = attrs.field(init=False, factory=dict)
    """When a count first found each series late, by Trio's clock."""
    _loop_lags: deque[float] = attrs.field(init=False, factory=lambda: deque(maxlen=_LAGS))
    _began_ms: dict[str, int] = attrs.field(init=False, factory=dict)
    """By market, the exchange's time when it was first known. The clock forgets it after days."""
    _clocks: dict[str, _Since] = attrs.field(init=False, factory=dict)
    """By market: since when its exchange time stands."""
    _full: _Since = attrs.field(init=False, factory=_Since)
    """Since when the disk takes something, or nothing."""

    def __attrs_post_init__(self) -> None:
        self._began_wall_time = self.environment.wall_clock()

    @property
    def _rest_markets(self) -> Mapping[str, RestMarket]:
        return self.recording.universe.markets

    async def run(self) -> None:
        """Look once a second at what only repeated looks can tell, until cancelled."""
        while True:
            due_at = trio.current_time() + _LOOK_SECONDS
            await trio.sleep_until(due_at)
            self._loop_lags.append(max(0.0, trio.current_time() - due_at))
            self._look()

    async def count(self) -> None:
        """Count what the store holds and lacks, again and again, until cancelled.

        A count that fails is left out: the recorder itself meets the same disk.
        """
        while True:
            began = trio.current_time()
            try:
                self._census = await self.environment.on_disk(
                    census, self.storage.store.path, dict(self._began_ms)
                )
                self._counted_at = trio.current_time()
            except KlineTrioError as error:
                logger.debug("the store was not counted: %s", error)
            self.tally.forget(self.recording.series)
            now = trio.current_time()
            self._late_since = {
                one: self._late_since.get(one, now)
                for one, absences in self._census.absences.items()
                if absences.is_late
            }
            took_seconds = now - began
            await trio.sleep(max(_CENSUS_SECONDS, took_seconds / _MOST_SHARE))

    def statistics(self, *, series: bool = False) -> Statistics:
        """Return a snapshot, without I/O.

        Args:
          series: whether to include all series; the late ones are always included.
        """
        self._look()
        recorded = self.recording.series
        names = list(dict.fromkeys(one.trade_type for one in recorded))
        late = sorted(
            (self._series(one) for one in self._late_since if one in self.recording.tracked),
            key=lambda one: (-one.pending_seconds, one.series),
        )
        return Statistics(
            version=__version__,
            wall_time=self.environment.wall_clock(),
            markets=tuple(self._market(name) for name in names),
            rest=tuple(self._rest(names)),
            store=self._store(),
            process=self._process(),
            lake=None if self.publisher is None else self.publisher.statistics(),
            late=tuple(late),
            series=tuple(map(self._series, recorded)) if series else (),
        )

    def _look(self) -> None:
        for name, rest in self._rest_markets.items():
            self._clocks.setdefault(name, _Since()).look(rest.clock.now_ms)
            if name not in self._began_ms and rest.clock.began_ms is not None:
                self._began_ms[name] = rest.clock.began_ms
        self._full.look(self._disk_problem() is not None)

    def _disk_problem(self) -> str | None:
        return self.writer.disk_problem or self.merger.disk_problem

    def _market(self, name: str) -> MarketStatistics:
        series = self.recording.series_on(name)
        now = trio.current_time()
        rest, market_listener = self._rest_markets[name], self.recording.listeners[name]
        listener = market_listener.statistics()
        tally, sums = self.tally.total(name), self._sums().get(name, _Sums())
        closes = self.tally.closes(name)
        is_delivering = any(one.is_delivering for one in listener.connections)
        why = None if listener.last_end is None else listener.last_end.why
        reachability = rest.reachability
        return MarketStatistics(
            trade_type=name,
            series=len(series),
            exchange_ms=rest.clock.now_ms,
            clock_stands_seconds=self._clocks[name].seconds,
            silent_seconds=now - max(self._began_at, market_listener.heard_at),
            listener=listener,
            is_refused=not is_delivering and why is events.CloseReason.REFUSED,
            rest_silent_seconds=max(0.0, now - reachability.failing_since),
            rest_problem=reachability.problem,
            is_halted=self.recording.universe.is_halted(name),
            received=tally.received,
            refilled=dict(tally.refilled),
            absent=dict(sums.closed),
            pending=sums.pending,
            lags=self.tally.lags(name),
            began_ms=self._began_ms.get(name),
            recent_lags=closes.recent_lags(),
            last_close_ms=closes.end_ms,
            last_lag_seconds=closes.lag_seconds,
        )

    def _sums(self) -> "dict[str, _Sums]":
        """Return what each market lacks. Thousands of series are summed up once a census."""
        counted, recorded = self._census, self.recording.series
        known = self._summed
        if known is None or known[0] is not counted or known[1] is not recorded:
            sums: dict[str, _Sums] = {}
            for one in counted.absences.keys() & set(recorded):
                of_market = sums.setdefault(one.trade_type, _Sums())
                of_market.closed.update(counted.absences[one].closed)
                of_market.pending += counted.absences[one].pending
            known = self._summed = (counted, recorded, sums)
        return known[2]

    def _absences(self, series: Series) -> Absences:
        return self._census.absences.get(series, Absences())

    def _series(self, series: Series) -> SeriesStatistics:
        tally, absences = self.tally.of(series), self._absences(series)
        now = trio.current_time()
        return SeriesStatistics(
            series=series,
            state=self.recording.tracked.state_of(series).name.lower().replace("_", " "),
            last_open_ms=tally.last_open_ms,
            received=tally.received,
            refilled=dict(tally.refilled),
            absent=absences.closed,
            pending=absences.pending,
            pending_seconds=now - self._late_since.get(series, now),
            last_hour=tally.last_hour(now),
        )

    def _rest(self, names: list[str]) -> Iterator[RestStatistics]:
        pools = {
            rest.market.pool: rest.pool
            for name, rest in self._rest_markets.items()
            if name in names
        }
        for name, pool in pools.items():
            yield RestStatistics(pool=name, usage=pool.usage())

    def _store(self) -> StoreStatistics:
        counted, writer, merger = self._census, self.writer, self.merger
        space = DiskSpace.beside(counted.files, counted.free_bytes)
        days = space.days_left(self.recording.series) if counted is not _NOTHING else math.inf
        return StoreStatistics(
            path=str(self.storage.store.path),
            counted_seconds=self._counted_seconds,
            journal_rows=counted.journal_rows,
            candles_in_memory=writer.waiting + self.candles_in_channel(),
            commits=writer.commits,
            commit_seconds=writer.commit_seconds,
            committing_seconds=self.storage.commit_door.busy_seconds,
            merges=merger.merges,
            merge_seconds=merger.merge_seconds,
            merging_seconds=self.storage.merge_door.busy_seconds,
            files=counted.files.files,
            file_bytes=counted.files.size_bytes,
            free_bytes=counted.free_bytes,
            days_left=days if math.isfinite(days) else None,
            full_seconds=self._full.seconds if self._full.value else 0.0,
            full_why=self._disk_problem(),
            dropped=writer.dropped,
        )

    @property
    def _counted_seconds(self) -> float | None:
        return None if self._counted_at is None else trio.current_time() - self._counted_at

    def _process(self) -> ProcessStatistics:
        return ProcessStatistics(
            pid=os.getpid(),
            began_at=self._began_wall_time,
            uptime_seconds=trio.current_time() - self._began_at,
            memory_bytes=psutil.Process().memory_info().rss,
            tasks=trio.lowlevel.current_statistics().tasks_living,
            loop_lag_seconds=max(self._loop_lags, default=0.0),
        )
