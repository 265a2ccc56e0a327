"""Choose the next gap from the ledger, newest first, and the source to request it from.

The ledger is the queue: a gap is a pending row, and every transition of a row is a transaction of
the journal. Memory holds three things, which a restart may forget: the series that a worker asks
for, the spans that the archive fetches, and when to ask for a gap again.
"""

import math
from collections.abc import Callable

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import LEAST_CANDLES, ArchiveSource
from kline_trio.recorder.backoff import Backoff
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.rest_source import RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.ledger import Gap, Reason

__all__ = ["QueueReader", "Sources", "read_queue"]

_ROWS_AT_ONCE = 100
"""One job reads this many rows of the queue: some 0.5 ms, for which a commit may have to wait."""
_FORMING_SECONDS = 1.0
"""How often to look at a gap whose candles have not closed yet."""
_LOOK_SECONDS = 60.0
"""How often to read the queue without news, in case a row moved between two reads."""


async def read_queue(storage: Storage, after: Gap | None) -> list[Gap]:
    """Return the next rows of the queue, newest first: those after a row, or the first ones."""
    return await storage.commit_door.run(storage.store.queue, _ROWS_AT_ONCE, after)


@attrs.define(eq=False)
class Sources:
    """The sources of candles, and the parts of a gap to request from each."""

    series: SeriesSet
    rest: RestSource
    archive: ArchiveSource
    until_ms: int = MAX_TIME_MS
    """Candles that open later are not requested."""
    backoff: Backoff = attrs.field(init=False, factory=Backoff)
    """When REST may be asked again."""
    asking: set[Series] = attrs.field(init=False, factory=set)
    """The series that a worker asks REST for."""

    def now_ms(self, series: Series) -> int:
        """Return the exchange's time on a series' market; 0 if it is not known."""
        return self.rest.markets[series.trade_type].clock.now_ms or 0

    def closed(self, gap: Gap) -> tuple[Span, ...]:
        """Return the candles of a gap that have closed, if its series is recorded.

        A gap can still be forming if its symbol trades again. No answer proves the absence of a
        candle that forms.
        """
        if gap.series not in self.series:
            return ()
        end_ms = gap.series.interval.open_time_ms(self.now_ms(gap.series))
        until_ms = min(end_ms, self.until_ms)
        return gap.span.common_with(Span(0, until_ms)) if until_ms > 0 else ()

    def split(self, gap: Gap) -> tuple[Span | None, list[Span]]:
        """Return the span of a gap to fetch from the archive, and the spans to ask REST for.

        Both are now or later: neither says that the source may be asked at this moment.
        """
        fetching = sorted(self.archive.spans_of(gap.series))
        spans = [piece for span in self.closed(gap) for piece in span.without(fetching)]
        is_archives = gap.reason in (Reason.ARCHIVE_ALONE, Reason.ARCHIVE_QUIET)
        least, now_ms = 1 if is_archives else LEAST_CANDLES, self.now_ms(gap.series)
        for span in spans:
            if self._may_fetch(gap, span) and (
                share := self.archive.share(gap.series, span, now_ms, least)
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
            return self.archive.has_none(gap.series, span, self.now_ms(gap.series))
        if gap.reason is not Reason.ARCHIVE_QUIET:
            return True
        # If the whole market is quiet, the busiest symbol is asked for first.
        now = trio.current_time()
        busiest = self.archive.halts.to_ask_first(gap.series, span, now)
        return (
            busiest is None
            or busiest not in self.series
            or self.backoff.resting_until(busiest) > now
        )

    def fetch_at(self, gap: Gap) -> float:
        """Return when the archive may fetch a part of a gap: minus infinity, or infinity."""
        return -math.inf if self.split(gap)[0] else math.inf

    def ask_at(self, pool: str, gap: Gap) -> float:
        """Return when REST may be asked for a part of a gap; infinity: not before news.

        Args:
          pool: the rate limit that the gap's market must have.
          gap: a pending row.
        """
        series, now = gap.series, trio.current_time()
        is_of_pool = self.rest.markets[series.trade_type].market.pool == pool
        if not is_of_pool or series in self.asking or series not in self.series:
            return math.inf
        resting_until = self.backoff.resting_until(series)
        if resting_until > now:
            return resting_until
        if spans := self.split(gap)[1]:
            return min(self.backoff.ready_at(series, span, now) for span in spans)
        # If the archive fetches all of the gap, its end is news.
        is_forming = not self.closed(gap) and gap.span.from_ms < self.until_ms
        return now + _FORMING_SECONDS if is_forming else math.inf

    def resting_until(self, pool: str) -> float:
        """Return when the first of a pool's markets may be asked again."""
        markets = (rest.market for rest in self.rest.markets.values())
        names = [one.trade_type for one in markets if one.pool == pool]
        return min(map(self.backoff.resting_until, names))


@attrs.define(eq=False)
class QueueReader:
    """Reads the queue once for all workers that take gaps from it by the same rule.

    All times are local seconds.
    """

    storage: Storage
    ready_at: Callable[[Gap], float]
    """Returns when a worker may take a part of a row; infinity: not before news."""
    resting_until: Callable[[], float] = lambda: -math.inf
    """Returns until when no row can be taken, so that the queue need not be read."""
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    """One worker at a time reads."""
    _ready: list[Gap] = attrs.field(init=False, factory=list)
    """The rows that a worker could take when they were read, newest first."""
    _read_at: float = attrs.field(init=False, default=-math.inf)
    """When to read the queue again without news."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the ledger has rows that are newer than the last read."""

    def read_again(self) -> None:
        """Let the next worker read the queue at once, since a series was released."""
        self._read_at = -math.inf

    async def next_gaps(self) -> list[Gap]:
        """Wait for the newest row that a worker may take now.

        Return it with others of its series, by time. The gaps may have been filled since the
        read: then an answer changes nothing.
        """
        while True:
            async with self._lock:
                is_due = not self._ready and self._read_at <= trio.current_time()
                if is_due or self._news.is_set():
                    # During a ban, which takes minutes, the queue is not read.
                    await trio.sleep_until(self.resting_until())
                    await self._read()
                if ready := self._ready:
                    series = ready[0].series
                    self._ready = [one for one in ready if one.series != series]
                    return [one for one in reversed(ready) if one.series == series]
                news, read_at = self._news, self._read_at
            with trio.move_on_at(read_at):
                await news.wait()

    async def _read(self) -> None:
        """Read the queue up to the first rows that a worker may take now."""
        self._news, self._ready = self.storage.gaps_named.event, []
        self._read_at, last = trio.current_time() + _LOOK_SECONDS, None
        while not self._ready and (rows := await read_queue(self.storage, last)):
            last = rows[-1]
            times = [self.ready_at(gap) for gap in rows]
            # After them: each of them has looked at the clock for itself.
            now = trio.current_time()
            self._ready = [gap for gap, at in zip(rows, times, strict=True) if at <= now]
            # There may be more behind those that are ready, for workers that find them taken; and a
            # series that was released while others were read is looked at again at once.
            self._read_at = min([self._read_at, *times])
