"""Fill gaps: workers take them from the queue and ask REST, or hand them to the archive."""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series, Source
from kline_trio.counting import counted
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import FETCHERS, ArchiveSource
from kline_trio.recorder.backoff import Backoff
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.gap_queue import QueueReader, read_queue
from kline_trio.recorder.grouped_log import GroupedLog, first_names
from kline_trio.recorder.rest_source import Outcome, RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.journal.ledger import Gap, Reason

logger = logging.getLogger(__name__)

_WORKERS = 4
"""For each rate limit: the exchange answers slowly, and more workers would serve no hurry."""
_REFUSED_PAUSE_SECONDS = 300.0
_DONE_SECONDS = 1.0
"""How often to read the whole queue to see whether anything is left."""
_FORMING_SECONDS = 1.0
"""How often to look at a gap whose candles have not closed yet."""
_FLUSH_SECONDS = 1.0
"""How often to look at grouped log lines."""
_ALL: Mapping[str, int] = {}
_ARCHIVES = (Reason.ARCHIVE_ALONE, Reason.ARCHIVE_QUIET)
"""Gaps for which the archive has quiet rows: a single candle of them is worth a file."""


@attrs.define(eq=False)
class _RestProgress:
    """What REST has answered so far, and the grouped log lines about it."""

    refilled: int = 0
    """How many candles REST has filled in."""
    answered_at: float = attrs.field(factory=trio.current_time)
    """The local seconds of the last answer; at first, of the beginning."""
    problem: str | None = None
    """Why the last request had no answer; None if it had one."""
    refills: GroupedLog = attrs.field(init=False, factory=lambda: GroupedLog(_log_refills))
    failures: GroupedLog = attrs.field(init=False, factory=lambda: GroupedLog(_log_failures))
    refusals: GroupedLog = attrs.field(init=False, factory=lambda: GroupedLog(_log_refusals))
    _refused: set[Series] = attrs.field(init=False, factory=set)

    def filled(self, series: Series, count: int) -> None:
        """Count and log candles that REST has filled in."""
        self.refilled += count
        logger.debug("%s: %s refilled over REST", series, counted(count, "candle"))
        self.refills.add(str(series), count=count)

    def refused(self, series: Series, error: RefusedError) -> None:
        """Log the first refusal of a series."""
        if series not in self._refused:
            self._refused.add(series)
            self.refusals.add(str(series), str(error))


@attrs.define(eq=False)
class GapFiller:
    """Fills the gaps of the recorded series."""

    storage: Storage
    series: SeriesSet
    rest: RestSource
    archive: ArchiveSource
    committed: Callable[[Sequence[ReceivedCandle]], None]
    """Called with candles that are durable."""
    undelivered: Callable[[Series, int], None]
    """Called with the open time of a candle with trades that no stream brought."""
    now: Callable[[], datetime]
    """The wall clock, for labels."""
    until_ms: int = MAX_TIME_MS
    """Candles that open later are not requested."""

    backoff: Backoff = attrs.field(init=False, factory=Backoff)
    """When REST may be asked again."""
    progress: _RestProgress = attrs.field(init=False, factory=_RestProgress)

    @property
    def filled(self) -> int:
        """How many candles were filled in, from all sources."""
        return self.progress.refilled + self.archive.progress.rows

    def jobs(self, workers: int = _WORKERS) -> list[Callable[[], Awaitable[None]]]:
        """Return the jobs that fill gaps until they are cancelled; those that ask REST come first.

        Each raises DiskError if the store could not be written, and waits while the disk is full.
        So many `workers` ask REST for the markets that share a rate limit.
        """
        readers = [
            QueueReader(
                self.storage, partial(self._ask_at, pool), partial(self._paused_until, pool)
            )
            for pool in sorted({rest.market.pool for rest in self.rest.markets.values()})
        ]
        rest = [partial(self._work, reader) for reader in readers for _ in range(workers)]
        return [*rest, self._plan_archive, *[self.archive.work] * FETCHERS, self._flush_logs]

    async def pending(self, before_ms: Mapping[str, int] = _ALL) -> int:
        """Return how many closed candles are still to be asked for.

        Args:
          before_ms: count only candles that open before these times, by trade type.
        """
        count, last = 0, None
        while rows := await read_queue(self.storage, last):
            last = rows[-1]
            for gap in rows:
                wanted = Span(0, before_ms.get(gap.series.trade_type, MAX_TIME_MS))
                pieces = [one for span in self._closed(gap) for one in span.common_with(wanted)]
                count += sum(map(gap.series.interval.count, pieces))
        return count

    async def until_done(self) -> None:
        """Wait until nothing is left to ask for."""
        while True:
            if not await self.pending() and self.archive.is_done:
                return
            await trio.sleep(_DONE_SECONDS)

    # Which source fills which part of a gap.

    def _now_ms(self, series: Series) -> int:
        return self.rest.markets[series.trade_type].clock.now_ms or 0

    def _closed(self, gap: Gap) -> tuple[Span, ...]:
        """Return the candles of a gap that have closed, if its series is recorded.

        A gap can still be forming if its symbol trades again. No answer proves the absence of a
        candle that forms.
        """
        if gap.series not in self.series:
            return ()
        end_ms = gap.series.interval.open_time_ms(self._now_ms(gap.series))
        until_ms = min(end_ms, self.until_ms)
        return gap.span.common_with(Span(0, until_ms)) if until_ms > 0 else ()

    def _split(self, gap: Gap) -> tuple[Span | None, list[Span]]:
        """Return the span of a gap to fetch from the archive, and those to ask REST for."""
        fetching = sorted(self.archive.spans_of(gap.series))
        spans = [piece for span in self._closed(gap) for piece in span.without(fetching)]
        is_archives, now_ms = gap.reason in _ARCHIVES, self._now_ms(gap.series)
        for span in spans:
            if self._may_fetch(gap, span) and (
                share := self.archive.share(gap.series, span, now_ms, is_last_resort=is_archives)
            ):
                for_rest = () if is_archives else spans
                return share, [piece for one in for_rest for piece in one.without([share])]
        return None, [span for span in spans if self._may_ask(gap, span)]

    def _may_fetch(self, gap: Gap, span: Span) -> bool:
        """Return whether to prefer the archive for a span."""
        if gap.reason is Reason.ARCHIVE_QUIET:
            # Its quiet rows are right if the whole market halted.
            return self.archive.halts.has(gap.series, span)
        # If REST was asked once, REST is asked again.
        is_new = not gap.asked and gap.reason is not Reason.ARCHIVE_LACKS
        return is_new or gap.reason is Reason.ARCHIVE_ALONE

    def _may_ask(self, gap: Gap, span: Span) -> bool:
        """Return whether to ask REST for a span that the archive is not to fetch."""
        if gap.reason is Reason.ARCHIVE_ALONE:
            return self.archive.has_none(gap.series, span, self._now_ms(gap.series))
        if gap.reason is not Reason.ARCHIVE_QUIET:
            return True
        # If the whole market is quiet, the busiest symbol is asked for first, if it can be.
        now = trio.current_time()
        first = self.archive.halts.to_ask_first(gap.series, span, now)
        return first is None or first not in self.series or self.backoff.paused_until(first) > now

    def _ask_at(self, pool: str, gap: Gap) -> float:
        """Return when REST may be asked for a part of a gap; infinity: not before news.

        Gaps of markets with another rate limit than `pool` are for other workers.
        """
        series, now = gap.series, trio.current_time()
        if self.rest.markets[series.trade_type].market.pool != pool or series not in self.series:
            return math.inf
        paused_until = self.backoff.paused_until(series)
        if paused_until > now:
            return paused_until
        if spans := self._split(gap)[1]:
            return min(self.backoff.ready_at(series, span, now) for span in spans)
        # If the archive fetches all of the gap, its end is news.
        is_forming = not self._closed(gap) and gap.span.from_ms < self.until_ms
        return now + _FORMING_SECONDS if is_forming else math.inf

    def _paused_until(self, pool: str) -> float:
        """Return when the first of a pool's markets may be asked again."""
        markets = (rest.market for rest in self.rest.markets.values())
        names = [one.trade_type for one in markets if one.pool == pool]
        return min(map(self.backoff.paused_until, names))

    # Asking.

    async def _plan_archive(self) -> None:
        """Hand long and old gaps to the archive."""
        while True:
            await self.archive.wait_for_work()
            reader = QueueReader(
                self.storage, lambda gap: -math.inf if self._split(gap)[0] else math.inf
            )
            *_, gap = await reader.take()
            # Quiet rows are the archive's only where they are to be taken.
            is_last_resort = gap.reason in _ARCHIVES
            outcome = Outcome(())
            if not is_last_resort:
                with suppress(UnavailableError):
                    outcome = await self.rest.before_the_first(gap.series, [gap])
            if outcome.refills:
                await self._commit(gap.series, outcome)
            elif share := self._split(gap)[0]:
                now_ms = self._now_ms(gap.series)
                self.archive.take(gap.series, share, now_ms, is_last_resort=is_last_resort)

    async def _work(self, reader: QueueReader) -> None:
        """Ask REST for the gaps that a reader gives."""
        while True:
            gaps = await reader.take()
            try:
                await self._ask(gaps[0].series, gaps)
            finally:
                reader.release(gaps[0].series)

    async def _ask(self, series: Series, rows: Sequence[Gap]) -> None:
        """Ask REST for what may be asked of the rows now, and commit the outcome."""
        progress, now = self.progress, trio.current_time()
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
            progress.problem = f"{series}: {error}"
            if not isinstance(error, RefusedError) or error.code is None:
                self._failed(series, error)
                return
            progress.refused(series, error)
            outcome = self.rest.refused(gaps)
        else:
            self.backoff.succeeded(series)
            progress.problem = None
        progress.answered_at = trio.current_time()
        await self._commit(series, outcome)

    async def _commit(self, series: Series, outcome: Outcome) -> None:
        await retry_while_full(
            self.storage.commit_door.run, self.storage.store.journal.refill, outcome.refills
        )
        self.backoff.put_off(series, outcome.wait_seconds, trio.current_time())
        for refill in outcome.refills:
            if self.archive.halts.answered(refill):
                # Other symbols may have waited for this answer.
                self.storage.gaps_named.ring()
        candles = outcome.candles
        if candles:
            label = self.now()
            self.committed([ReceivedCandle(series, one, label, Source.REST) for one in candles])
            self.progress.filled(series, len(candles))
        if outcome.undelivered_ms is not None:
            self.undelivered(series, outcome.undelivered_ms)

    def _failed(self, series: Series, error: UnavailableError) -> None:
        """Let the series rest, and its market; log when that begins, not each time."""
        now, backoff = trio.current_time(), self.backoff
        if isinstance(error, RefusedError):
            begins = backoff.market_failed(series.trade_type, now, _REFUSED_PAUSE_SECONDS)
        else:
            begins = backoff.failed(series, now)
        if begins:
            self.progress.failures.add(str(series), str(error))

    async def _flush_logs(self) -> None:
        """Write grouped log lines when they are due, until cancelled."""
        progress = self.progress
        faults = self.archive.host.faults
        logs = (progress.refills, progress.failures, progress.refusals, faults)
        try:
            while True:
                await trio.sleep(_FLUSH_SECONDS)
                for one in logs:
                    one.flush()
        finally:
            for one in logs:
                one.close()


def _log_refills(counts: Mapping[str, int], _: str) -> None:
    candles = counted(sum(counts.values()), "candle")
    of = next(iter(counts)) if len(counts) == 1 else f"{len(counts):,} series"
    logger.info("Refilled %s of %s over REST", candles, of)


def _log_failures(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: REST gives no candles: %s; trying again", first_names(series), error)


def _log_refusals(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: the exchange refuses to answer: %s", first_names(series), error)
