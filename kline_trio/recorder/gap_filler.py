"""Fills gaps: workers choose them from the ledger, newest first, and ask REST or the archive.

The ledger is the queue. A gap is a pending row of it, and every transition of a row is a
transaction of the journal. In memory are only three things, which a restart may forget: which
series a worker is asking for, what the archive is fetching, and when to ask for a gap again.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series, Source
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import ArchiveSource
from kline_trio.recorder.rest_source import Outcome, RestSource
from kline_trio.recorder.rests import Rests
from kline_trio.recorder.retries import Retries
from kline_trio.recorder.room import with_room
from kline_trio.recorder.seams import Storage
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.ledger import Absence, Reason

__all__ = ["WORKERS", "Bell", "GapFiller", "Pool"]

logger = logging.getLogger(__name__)

WORKERS = 4
"""For each pool: the exchange answers slowly, and there is no hurry that more would serve."""

_ROWS_AT_ONCE = 100
"""So many rows of the queue are read by one job: some 0.5 ms, which a commit may have to wait."""
_REFUSED_REST_SECONDS = 300.0
_DONE_SECONDS = 1.0
"""How often the whole queue is read to see whether anything is left."""
_FORMING_SECONDS = 1.0
"""How often a gap is looked at whose candles have not closed yet."""
_LOOK_SECONDS = 60.0
"""How often the queue is looked at without news, in case a row moved between two reads of it."""


@attrs.define(eq=False)
class Bell:
    """An event that happens again and again."""

    event: trio.Event = attrs.field(init=False, factory=trio.Event)
    """The next time that it happens."""

    def ring(self) -> None:
        """Wake all that wait now."""
        self.event.set()
        self.event = trio.Event()


@attrs.define(eq=False)
class Pool:
    """Markets that share a rate limit and workers, and the rows that were read for them."""

    trade_types: frozenset[str]
    one_reads: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    """The workers of a pool wait for the same rows."""
    ready: list[Absence] = attrs.field(init=False, factory=list)
    """Rows of the queue that could be asked for when they were read, newest first."""
    until: float = attrs.field(init=False, default=-math.inf)
    """When another row can be asked for, on our own clock, if nothing happens before."""
    news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """When the ledger has newer rows than those that were read."""
    is_outdated: bool = attrs.field(init=False, default=True)
    """Whether a series was asked for since the queue was read."""


@attrs.define(eq=False)
class GapFiller:
    """Fills the gaps of the recorded series."""

    storage: Storage
    series: SeriesSet
    rest: RestSource
    archive: ArchiveSource
    committed: Callable[[Sequence[ReceivedCandle]], None]
    """Told of candles that are durable."""
    undelivered: Callable[[Series, int], None]
    """Told the open time of a candle that no stream brought though there were trades in it."""
    now: Callable[[], datetime]
    """The wall clock, for labels."""
    gaps_named: Bell
    """Rings when the ledger has new pending rows."""
    until_ms: int = MAX_TIME_MS
    """What opens later is not asked for."""

    refilled: int = attrs.field(init=False, default=0)
    """How many candles REST has filled in."""
    answered_at: float = attrs.field(init=False, factory=trio.current_time)
    """When an answer came last, on our own clock; at first, when this began."""
    problem: str | None = attrs.field(init=False, default=None)
    """Why the last request had no answer; None if it had one."""
    _asking: set[Series] = attrs.field(init=False, factory=set)
    _rests: Rests = attrs.field(init=False, factory=Rests)
    _retries: Retries = attrs.field(init=False, factory=Retries)
    _refused: set[Series] = attrs.field(init=False, factory=set)

    @property
    def filled(self) -> int:
        """How many candles were filled in, from all sources."""
        return self.refilled + self.archive.rows

    async def work(self, pool: Pool) -> None:
        """Ask REST for gaps of a pool's markets, until cancelled.

        Raises:
          DiskError: the store could not be written; want of space is waited for.
        """
        while True:
            gaps = await self._next(pool)
            series = gaps[0].series
            self._asking.add(series)
            try:
                await self._ask(series, gaps)
            finally:
                self._asking.discard(series)
                pool.is_outdated = True

    async def plan_archive(self) -> None:
        """Give long and old gaps to the archive, until cancelled.

        Raises:
          DiskError: the store could not be written; want of space is waited for.
        """
        while True:
            await self.archive.wait_for_work()
            news = self.gaps_named.event
            gap = await self._first_of_queue(self._archive_share)
            if gap is None:
                look_at = trio.current_time() + _LOOK_SECONDS
                with trio.move_on_at(max(look_at, self.archive.resting_until)):
                    await news.wait()
                continue
            try:
                outcome = await self.rest.before_the_first(gap.series, [gap])
            except UnavailableError:
                outcome = Outcome(())
            if outcome.refills:
                await self._commit(gap.series, outcome)
            elif span := self._archive_share(gap):
                self.archive.take(gap.series, span, self._now_ms(gap.series))

    async def pending(self) -> int:
        """Return how many candles are still asked for, but for those that are still forming."""
        count, last = 0, None
        while rows := await self._read_rows(last):
            last = rows[-1]
            count += sum(
                gap.series.interval.count(span) for gap in rows for span in self._closed(gap)
            )
        return count

    def next_attempt_at(self, now: float) -> float:
        """Return when a gap that the exchange did not have is asked for again, on our own clock."""
        return self._retries.next_at(now)

    async def until_done(self) -> None:
        """Wait until nothing is left to ask for."""
        while True:
            if not await self.pending() and self.archive.is_done:
                return
            await trio.sleep(_DONE_SECONDS)

    # Which gap is next.

    async def _next(self, pool: Pool) -> list[Absence]:
        """Wait for the newest gap of a pool that may be asked for now.

        Return it with others of its series, by time. They may have been filled since they were
        read: then the answer changes nothing.
        """
        while True:
            async with pool.one_reads:
                news = self.gaps_named.event
                await trio.sleep_until(self._rests.until_all(pool.trade_types))
                is_due = pool.is_outdated or pool.until <= trio.current_time()
                if pool.news.is_set() or (is_due and not pool.ready):
                    pool.news, pool.is_outdated = news, False
                    pool.ready, pool.until = await self._read_queue(pool.trade_types)
                now = trio.current_time()
                # A market may have failed since they were read.
                ready = [one for one in pool.ready if self._rests.until(one.series) <= now]
                pool.ready = ready
                if ready:
                    series = ready[0].series
                    pool.ready = [one for one in ready if one.series != series]
                    return [one for one in reversed(ready) if one.series == series]
            with trio.move_on_at(min(pool.until, trio.current_time() + _LOOK_SECONDS)):
                await news.wait()

    async def _read_queue(self, trade_types: frozenset[str]) -> tuple[list[Absence], float]:
        """Read the queue up to rows that may be asked for; return them, or when to look again."""
        until, last = math.inf, None
        while rows := await self._read_rows(last):
            last = rows[-1]
            times = [self._ready_at(gap, trade_types) for gap in rows]
            now = trio.current_time()
            if ready := [gap for gap, at in zip(rows, times, strict=True) if at <= now]:
                # There may be more behind them, for workers that find these taken.
                return ready, now
            until = min([until, *times])
        return [], until

    async def _read_rows(self, after: Absence | None) -> list[Absence]:
        store = self.storage.store
        return await self.storage.commit_door.run(store.queue, _ROWS_AT_ONCE, after)

    async def _first_of_queue(self, share: Callable[[Absence], Span | None]) -> Absence | None:
        last = None
        while rows := await self._read_rows(last):
            last = rows[-1]
            for gap in rows:
                if share(gap) is not None:
                    return gap
        return None

    def _ready_at(self, gap: Absence, trade_types: Collection[str]) -> float:
        """Return when something of a gap may be asked of REST; infinity: not before news."""
        series, now = gap.series, trio.current_time()
        if series.trade_type not in trade_types or series in self._asking:
            return math.inf
        resting_until = self._rests.until(series)
        if resting_until > now:
            return resting_until if series in self.series else math.inf
        spans = self._of_rest(gap)
        if spans:
            return min(self._retries.ready_at(series, span, now) for span in spans)
        if self._closed(gap) or series not in self.series or gap.span.from_ms >= self.until_ms:
            # The archive fetches it, and rings when that is over; or nobody is to ask for it.
            return math.inf
        return now + _FORMING_SECONDS

    def _of_rest(self, gap: Absence) -> list[Span]:
        """Return what of a gap is to be asked of REST, whether now or later."""
        share = self._archive_share(gap)
        taken = [*self.archive.spans_of(gap.series), *([share] if share else [])]
        return [piece for span in self._closed(gap) for piece in span.without(sorted(taken))]

    def _archive_share(self, gap: Absence) -> Span | None:
        """Return what of a gap the archive is to be asked for."""
        # What REST was asked for already, it is asked for again.
        if gap.asked or gap.reason is Reason.ARCHIVE_LACKS:
            return None
        taken = sorted(self.archive.spans_of(gap.series))
        for span in self._closed(gap):
            for piece in span.without(taken):
                share = self.archive.share(gap.series, piece, self._now_ms(gap.series))
                if share is not None:
                    return share
        return None

    def _closed(self, gap: Absence) -> tuple[Span, ...]:
        """Return the candles of a recorded series' gap that have closed, and are wanted.

        A gap can still be forming if its symbol trades again. No answer proves that such a candle
        does not come to be.
        """
        if gap.series not in self.series:
            return ()
        end_ms = gap.series.interval.open_time_ms(self._now_ms(gap.series))
        until_ms = min(end_ms, self.until_ms)
        return gap.span.common_with(Span(0, until_ms)) if until_ms > 0 else ()

    def _now_ms(self, series: Series) -> int:
        return self.rest.markets[series.trade_type].clock.now_ms or 0

    # Asking.

    async def _ask(self, series: Series, rows: Sequence[Absence]) -> None:
        now = trio.current_time()
        gaps = [
            attrs.evolve(row, span=piece)
            for row in rows
            for span in self._of_rest(row)
            for piece in self._retries.ready(series, span, now)
        ]
        if not gaps:
            return
        try:
            outcome = await self.rest.ask(series, gaps)
        except UnavailableError as error:
            self.problem = f"{series}: {error}"
            if not isinstance(error, RefusedError) or error.code is None:
                self._failed(series, error)
                return
            if series not in self._refused:
                self._refused.add(series)
                logger.warning("%s: the exchange refuses to answer: %s", series, error)
            outcome = self.rest.refused(gaps)
        else:
            self._rests.succeeded(series)
            self.problem = None
        self.answered_at = trio.current_time()
        await self._commit(series, outcome)

    async def _commit(self, series: Series, outcome: Outcome) -> None:
        await with_room(self.storage.commit_door, self.storage.store.refill, outcome.refills)
        now = trio.current_time()
        for span, seconds in outcome.wait_seconds.items():
            self._retries.put_off(series, span, now + seconds)
        candles = outcome.candles
        if candles:
            label = self.now()
            self.refilled += len(candles)
            self.committed([ReceivedCandle(series, one, label, Source.REST) for one in candles])
            logger.info("Refilled %s candles of %s over REST", f"{len(candles):,}", series)
        if outcome.undelivered_ms is not None:
            self.undelivered(series, outcome.undelivered_ms)

    def _failed(self, series: Series, error: UnavailableError) -> None:
        """Let the series rest, and its market; say so when that begins, not each time."""
        now = trio.current_time()
        if isinstance(error, RefusedError):
            begins = self._rests.market_failed(series.trade_type, now, _REFUSED_REST_SECONDS)
        else:
            begins = self._rests.failed(series, now)
        if begins:
            logger.warning("%s: REST gives no candles: %s; trying again", series, error)
