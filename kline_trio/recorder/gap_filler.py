"""Fills gaps: workers choose them from the ledger, newest first, and ask REST or the archive.

The ledger is the queue. A gap is a pending row of it, and every transition of a row is a
transaction of the journal. In memory are only three things, which a restart may forget: which
series a worker is asking for, what the archive is fetching, and when to ask for a gap again.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series, Source
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import FETCHERS, ArchiveSource
from kline_trio.recorder.backoff import Backoff
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.gathering import Gathered, some
from kline_trio.recorder.rest_source import Outcome, RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.journal.ledger import Gap, Reason

__all__ = ["GapFiller"]

logger = logging.getLogger(__name__)

_WORKERS = 4
"""For each pool: the exchange answers slowly, and there is no hurry that more would serve."""
_ROWS_AT_ONCE = 100
"""So many rows of the queue are read by one job: some 0.5 ms, which a commit may have to wait."""
_REFUSED_REST_SECONDS = 300.0
_DONE_SECONDS = 1.0
"""How often the whole queue is read to see whether anything is left."""
_FORMING_SECONDS = 1.0
"""How often a gap is looked at whose candles have not closed yet."""
_SAY_SECONDS = 1.0
"""How often lines that were gathered are looked at."""
_LOOK_SECONDS = 60.0
"""How often the queue is looked at without news, in case a row moved between two reads of it."""


@attrs.define(eq=False)
class _Choice:
    """Rows of the queue, read once for all workers that choose alike."""

    resting_until: Callable[[], float]
    """Return before when no row is for them, whatever the queue has."""
    ready_at: Callable[[Gap], float]
    """Return when a worker may take something of a row; infinity: not before news."""
    one_reads: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    ready: list[Gap] = attrs.field(init=False, factory=list)
    """Those that a worker could take when they were read, newest first."""
    look_at: float = attrs.field(init=False, default=-math.inf)
    """When to read the queue again, on our own clock, if nothing happens before."""
    news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """When the ledger has newer rows than those that were read."""


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
    until_ms: int = MAX_TIME_MS
    """What opens later is not asked for."""

    refilled: int = attrs.field(init=False, default=0)
    """How many candles REST has filled in."""
    answered_at: float = attrs.field(init=False, factory=trio.current_time)
    """When an answer came last, on our own clock; at first, when this began."""
    problem: str | None = attrs.field(init=False, default=None)
    """Why the last request had no answer; None if it had one."""
    backoff: Backoff = attrs.field(init=False, factory=Backoff)
    """When REST may be asked for what again."""
    _asking: set[Series] = attrs.field(init=False, factory=set)
    _refused: set[Series] = attrs.field(init=False, factory=set)
    _refills: Gathered = attrs.field(init=False, factory=lambda: Gathered(_say_refills))
    _failures: Gathered = attrs.field(init=False, factory=lambda: Gathered(_say_failures))
    _refusals: Gathered = attrs.field(init=False, factory=lambda: Gathered(_say_refusals))

    @property
    def filled(self) -> int:
        """How many candles were filled in, from all sources."""
        return self.refilled + self.archive.rows

    def jobs(self, workers: int = _WORKERS) -> list[Callable[[], Awaitable[None]]]:
        """Return the jobs that fill gaps until they are cancelled; those that ask REST come first.

        Each raises DiskError if the store could not be written, and waits for want of space.

        Args:
          workers: how many jobs ask REST for the markets that share a rate limit.
        """
        pools = sorted({rest.market.pool for rest in self.rest.markets.values()})
        choices = [
            _Choice(partial(self._resting_until, pool), partial(self._ready_at, pool))
            for pool in pools
        ]
        rest = [partial(self._work, choice) for choice in choices for _ in range(workers)]
        return [*rest, self._plan_archive, *[self.archive.work] * FETCHERS, self._keep_saying]

    async def pending(self) -> int:
        """Return how many candles are still asked for, but for those that are still forming."""
        count, last = 0, None
        while rows := await self._read_rows(last):
            last = rows[-1]
            count += sum(
                gap.series.interval.count(one) for gap in rows for one in self._closed(gap)
            )
        return count

    async def until_done(self) -> None:
        """Wait until nothing is left to ask for."""
        while True:
            if not await self.pending() and self.archive.is_done:
                return
            await trio.sleep(_DONE_SECONDS)

    # Which gap is next.

    async def _work(self, choice: _Choice) -> None:
        """Ask REST for the gaps of a choice."""
        while True:
            gaps = await self._next(choice)
            series = gaps[0].series
            self._asking.add(series)
            try:
                await self._ask(series, gaps)
            finally:
                self._asking.discard(series)
                choice.look_at = -math.inf

    async def _plan_archive(self) -> None:
        """Give long and old gaps to the archive."""
        while True:
            await self.archive.wait_for_work()
            choice = _Choice(
                lambda: -math.inf, lambda gap: -math.inf if self._split(gap)[0] else math.inf
            )
            *_, gap = await self._next(choice)
            # Of quiet rows the archive has a share only where they are believed.
            is_last_resort = gap.reason in (Reason.ARCHIVE_ALONE, Reason.ARCHIVE_QUIET)
            outcome = Outcome(())
            if not is_last_resort:
                with suppress(UnavailableError):
                    outcome = await self.rest.before_the_first(gap.series, [gap])
            if outcome.refills:
                await self._commit(gap.series, outcome)
            elif share := self._split(gap)[0]:
                now_ms = self._now_ms(gap.series)
                self.archive.take(gap.series, share, now_ms, is_last_resort=is_last_resort)

    async def _next(self, choice: _Choice) -> list[Gap]:
        """Wait for the newest row that a worker may take now.

        Return it with others of its series, by time. They may have been filled since they were
        read: then the answer changes nothing.
        """
        while True:
            async with choice.one_reads:
                is_due = not choice.ready and choice.look_at <= trio.current_time()
                if is_due or choice.news.is_set():
                    # Through a ban, which takes minutes, the queue is not walked in vain.
                    await trio.sleep_until(choice.resting_until())
                    await self._read_queue(choice)
                if ready := choice.ready:
                    series = ready[0].series
                    choice.ready = [one for one in ready if one.series != series]
                    return [one for one in reversed(ready) if one.series == series]
                news, look_at = choice.news, choice.look_at
            with trio.move_on_at(look_at):
                await news.wait()

    async def _read_queue(self, choice: _Choice) -> None:
        """Read the queue up to rows that a worker may take now."""
        choice.news, choice.ready = self.storage.gaps_named.event, []
        choice.look_at, last = trio.current_time() + _LOOK_SECONDS, None
        while not choice.ready and (rows := await self._read_rows(last)):
            last = rows[-1]
            times = [choice.ready_at(gap) for gap in rows]
            # After them: each of them has looked at the clock for itself.
            now = trio.current_time()
            choice.ready = [gap for gap, at in zip(rows, times, strict=True) if at <= now]
            # There may be more behind those that are ready, for workers that find them taken; and a
            # series that was released while others were read is looked at again at once.
            choice.look_at = min([choice.look_at, *times])

    async def _read_rows(self, after: Gap | None) -> list[Gap]:
        store = self.storage.store
        return await self.storage.commit_door.run(store.journal.queue, _ROWS_AT_ONCE, after)

    def _resting_until(self, pool: str) -> float:
        """Return when the first of a pool's markets may be asked again."""
        markets = (rest.market for rest in self.rest.markets.values())
        names = [one.trade_type for one in markets if one.pool == pool]
        return min(map(self.backoff.resting_until, names))

    def _ready_at(self, pool: str, gap: Gap) -> float:
        """Return when something of a gap may be asked of a pool's markets over REST."""
        series, now = gap.series, trio.current_time()
        is_of_pool = self.rest.markets[series.trade_type].market.pool == pool
        if not is_of_pool or series in self._asking or series not in self.series:
            return math.inf
        resting_until = self.backoff.resting_until(series)
        if resting_until > now:
            return resting_until
        if spans := self._split(gap)[1]:
            return min(self.backoff.ready_at(series, span, now) for span in spans)
        # If the archive is to fetch it all, or does, it rings when that is over.
        is_forming = not self._closed(gap) and gap.span.from_ms < self.until_ms
        return now + _FORMING_SECONDS if is_forming else math.inf

    def _split(self, gap: Gap) -> tuple[Span | None, list[Span]]:
        """Return what of a gap to ask the archive for, and what to ask REST for, now or later."""
        taken = sorted(self.archive.spans_of(gap.series))
        open_spans = [piece for span in self._closed(gap) for piece in span.without(taken)]
        if gap.reason is Reason.ARCHIVE_ALONE:
            return self._split_last_resort(gap.series, open_spans)
        if gap.reason is Reason.ARCHIVE_QUIET:
            return self._split_quiet(gap.series, open_spans)
        # What REST was asked for already, it is asked for again.
        if not gap.asked and gap.reason is not Reason.ARCHIVE_LACKS:
            for span in open_spans:
                if share := self.archive.share(gap.series, span, self._now_ms(gap.series)):
                    return share, [piece for one in open_spans for piece in one.without([share])]
        return None, open_spans

    def _split_last_resort(
        self, series: Series, open_spans: list[Span]
    ) -> tuple[Span | None, list[Span]]:
        """Return what to ask the archive for that alone has it; REST only what it has no more."""
        now_ms = self._now_ms(series)
        shares = (self.archive.share(series, span, now_ms, 1) for span in open_spans)
        if share := next(filter(None, shares), None):
            return share, []
        return None, [span for span in open_spans if self.archive.has_none(series, span, now_ms)]

    def _split_quiet(
        self, series: Series, open_spans: list[Span]
    ) -> tuple[Span | None, list[Span]]:
        """Return what the archive may have after all, since its market halted; else REST is asked.

        Of a market that is quiet as a whole, REST is asked for the busiest symbol first.
        """
        halts, spans = self.archive.halts, list[Span]()
        for span in open_spans:
            now_ms = self._now_ms(series)
            share = self.archive.share(series, span, now_ms, 1) if halts.has(series, span) else None
            if share is not None:
                return share, []
            first = halts.to_ask_first(series, span, trio.current_time())
            if first is None or first not in self.series or self._rests(first):
                spans.append(span)
        return None, spans

    def _rests(self, series: Series) -> bool:
        return self.backoff.resting_until(series) > trio.current_time()

    def _closed(self, gap: Gap) -> tuple[Span, ...]:
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

    async def _ask(self, series: Series, rows: Sequence[Gap]) -> None:
        now = trio.current_time()
        gaps = [
            attrs.evolve(row, span=piece)
            for row in rows
            for span in self._split(row)[1]
            for piece in self.backoff.ready(series, span, now)
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
                self._refusals.add(str(series), str(error))
            outcome = self.rest.refused(gaps)
        else:
            self.backoff.succeeded(series)
            self.problem = None
        self.answered_at = trio.current_time()
        await self._commit(series, outcome)

    async def _commit(self, series: Series, outcome: Outcome) -> None:
        await retry_while_full(
            self.storage.commit_door.run, self.storage.store.journal.refill, outcome.refills
        )
        self.backoff.put_off(series, outcome.wait_seconds, trio.current_time())
        for refill in outcome.refills:
            if self.archive.halts.answered(refill):
                # Others may have waited for this answer.
                self.storage.gaps_named.ring()
        candles = outcome.candles
        if candles:
            label = self.now()
            self.refilled += len(candles)
            self.committed([ReceivedCandle(series, one, label, Source.REST) for one in candles])
            logger.debug("%s: %s candles refilled over REST", series, f"{len(candles):,}")
            self._refills.add(str(series), count=len(candles))
        if outcome.undelivered_ms is not None:
            self.undelivered(series, outcome.undelivered_ms)

    def _failed(self, series: Series, error: UnavailableError) -> None:
        """Let the series rest, and its market; say so when that begins, not each time."""
        now = trio.current_time()
        if isinstance(error, RefusedError):
            begins = self.backoff.market_failed(series.trade_type, now, _REFUSED_REST_SECONDS)
        else:
            begins = self.backoff.failed(series, now)
        if begins:
            self._failures.add(str(series), str(error))

    async def _keep_saying(self) -> None:
        """Write the lines that were gathered, until cancelled."""
        gathered = (self._refills, self._failures, self._refusals, self.archive.faults)
        try:
            while True:
                await trio.sleep(_SAY_SECONDS)
                for one in gathered:
                    one.flush()
        finally:
            for one in gathered:
                one.close()


def _say_refills(counts: Mapping[str, int], _: str) -> None:
    candles = f"{sum(counts.values()):,}"
    of = next(iter(counts)) if len(counts) == 1 else f"{len(counts):,} series"
    logger.info("Refilled %s candles of %s over REST", candles, of)


def _say_failures(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: REST gives no candles: %s; trying again", some(series), error)


def _say_refusals(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: the exchange refuses to answer: %s", some(series), error)
