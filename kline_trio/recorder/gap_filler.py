"""Fill gaps: workers take them from the queue and ask REST, or hand them to the archive."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.recorder.archive_source import FETCHERS
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.gap_queue import QueueReader, Sources, read_queue
from kline_trio.recorder.grouped_log import GroupedLog, first_names
from kline_trio.recorder.rest_source import Outcome
from kline_trio.storage.ledger import Gap, Reason

__all__ = ["GapFiller"]

logger = logging.getLogger(__name__)

_WORKERS = 4
"""For each rate limit: the exchange answers slowly, and more workers would serve no hurry."""
_REFUSED_REST_SECONDS = 300.0
_DONE_SECONDS = 1.0
"""How often to read the whole queue to see whether anything is left."""
_FLUSH_SECONDS = 1.0
"""How often to look at grouped log lines."""


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
        logger.debug("%s: %s candles refilled over REST", series, f"{count:,}")
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
    sources: Sources
    committed: Callable[[Sequence[ReceivedCandle]], None]
    """Called with candles that are durable."""
    undelivered: Callable[[Series, int], None]
    """Called with the open time of a candle with trades that no stream brought."""
    now: Callable[[], datetime]
    """The wall clock, for labels."""
    progress: _RestProgress = attrs.field(init=False, factory=_RestProgress)

    @property
    def filled(self) -> int:
        """How many candles were filled in, from all sources."""
        return self.progress.refilled + self.sources.archive.progress.rows

    def jobs(self, workers: int = _WORKERS) -> list[Callable[[], Awaitable[None]]]:
        """Return the jobs that fill gaps until they are cancelled; those that ask REST come first.

        Each raises DiskError if the store could not be written, and waits while the disk is full.

        Args:
          workers: how many jobs ask REST for the markets that share a rate limit.
        """
        sources = self.sources
        readers = [
            QueueReader(
                self.storage, partial(sources.ask_at, pool), partial(sources.resting_until, pool)
            )
            for pool in sorted({rest.market.pool for rest in sources.rest.markets.values()})
        ]
        rest = [partial(self._work, reader) for reader in readers for _ in range(workers)]
        return [*rest, self._plan_archive, *[sources.archive.work] * FETCHERS, self._flush_logs]

    async def pending(self) -> int:
        """Return how many closed candles are still to be asked for."""
        count, last = 0, None
        while rows := await read_queue(self.storage, last):
            last = rows[-1]
            count += sum(
                gap.series.interval.count(one) for gap in rows for one in self.sources.closed(gap)
            )
        return count

    async def until_done(self) -> None:
        """Wait until nothing is left to ask for."""
        while True:
            if not await self.pending() and self.sources.archive.is_done:
                return
            await trio.sleep(_DONE_SECONDS)

    async def _work(self, reader: QueueReader) -> None:
        """Ask REST for the gaps that a reader gives."""
        while True:
            gaps = await reader.next_gaps()
            series = gaps[0].series
            self.sources.asking.add(series)
            try:
                await self._ask(series, gaps)
            finally:
                self.sources.asking.discard(series)
                reader.read_again()

    async def _plan_archive(self) -> None:
        """Hand long and old gaps to the archive."""
        archive, rest = self.sources.archive, self.sources.rest
        while True:
            await archive.wait_for_work()
            *_, gap = await QueueReader(self.storage, self.sources.fetch_at).next_gaps()
            # Quiet rows are the archive's only where they are to be taken.
            is_last_resort = gap.reason in (Reason.ARCHIVE_ALONE, Reason.ARCHIVE_QUIET)
            outcome = Outcome(())
            if not is_last_resort:
                with suppress(UnavailableError):
                    outcome = await rest.before_the_first(gap.series, [gap])
            if outcome.refills:
                await self._commit(gap.series, outcome)
            elif share := self.sources.split(gap)[0]:
                now_ms = self.sources.now_ms(gap.series)
                archive.take(gap.series, share, now_ms, is_last_resort=is_last_resort)

    async def _ask(self, series: Series, rows: Sequence[Gap]) -> None:
        """Ask REST for what may be asked of the rows now, and commit the outcome."""
        sources, progress, now = self.sources, self.progress, trio.current_time()
        gaps = [
            attrs.evolve(row, span=piece)
            for row in rows
            for span in sources.split(row)[1]
            for piece in sources.backoff.ready(series, span, now)
        ]
        if not gaps:
            return
        try:
            outcome = await sources.rest.ask(series, gaps)
        except UnavailableError as error:
            progress.problem = f"{series}: {error}"
            if not isinstance(error, RefusedError) or error.code is None:
                self._failed(series, error)
                return
            progress.refused(series, error)
            outcome = sources.rest.refused(gaps)
        else:
            sources.backoff.succeeded(series)
            progress.problem = None
        progress.answered_at = trio.current_time()
        await self._commit(series, outcome)

    async def _commit(self, series: Series, outcome: Outcome) -> None:
        await retry_while_full(
            self.storage.commit_door.run, self.storage.store.refill, outcome.refills
        )
        self.sources.backoff.put_off(series, outcome.wait_seconds, trio.current_time())
        for refill in outcome.refills:
            if self.sources.archive.halts.answered(refill):
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
        now, backoff = trio.current_time(), self.sources.backoff
        if isinstance(error, RefusedError):
            begins = backoff.market_failed(series.trade_type, now, _REFUSED_REST_SECONDS)
        else:
            begins = backoff.failed(series, now)
        if begins:
            self.progress.failures.add(str(series), str(error))

    async def _flush_logs(self) -> None:
        """Write grouped log lines when they are due, until cancelled."""
        progress = self.progress
        faults = self.sources.archive.host.faults
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
    candles = f"{sum(counts.values()):,}"
    of = next(iter(counts)) if len(counts) == 1 else f"{len(counts):,} series"
    logger.info("Refilled %s candles of %s over REST", candles, of)


def _log_failures(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: REST gives no candles: %s; trying again", first_names(series), error)


def _log_refusals(series: Mapping[str, int], error: str) -> None:
    logger.warning("%s: the exchange refuses to answer: %s", first_names(series), error)
