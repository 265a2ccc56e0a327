"""Read the ledger as a queue of gaps, newest first.

A gap is a pending row of the ledger, and every transition of a row is a transaction of the journal.
Memory holds only which rows are ready and which series are taken; a restart may forget both.
"""

import math
from collections.abc import Callable

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.recorder.environment import Storage
from kline_trio.storage.journal.ledger import Gap

_ROWS_AT_ONCE = 100
"""One job reads as many rows of the queue: some 0.5 ms, for which a commit may have to wait."""
_LOOK_SECONDS = 60.0
"""How often to read the queue without news, in case a row moved between two reads."""


async def read_queue(storage: Storage, after: Gap | None) -> list[Gap]:
    """Return the next rows of the queue, newest first: those after a row, or the first ones."""
    return await storage.commit_door.run(storage.store.journal.queue, _ROWS_AT_ONCE, after)


@attrs.define(eq=False)
class QueueReader:
    """Reads the queue once for all workers that take gaps from it by the same rule.

    All times are local seconds.
    """

    storage: Storage
    ready_at: Callable[[Gap], float]
    """Returns when a worker may take a part of a gap; infinity: not before news."""
    paused_until: Callable[[], float] = lambda: -math.inf
    """Returns until when no gap can be taken, so that the queue need not be read."""
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    """One worker at a time reads."""
    _ready: list[Gap] = attrs.field(init=False, factory=list)
    """The rows that a worker could take when they were read, newest first."""
    _taken: set[Series] = attrs.field(init=False, factory=set)
    """The series that workers have, each one worker."""
    _read_at: float = attrs.field(init=False, default=-math.inf)
    """When to read the queue again without news."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the ledger has rows that are newer than the last read."""

    async def take(self) -> list[Gap]:
        """Wait for the newest gap that a worker may take now.

        Return it with others of its series, by time; the series is taken until `release`. The gaps
        may have been filled since the read: then an answer changes nothing.
        """
        while True:
            async with self._lock:
                is_due = not self._ready and self._read_at <= trio.current_time()
                if is_due or self._news.is_set():
                    # During a ban, which takes minutes, the queue is not read.
                    await trio.sleep_until(self.paused_until())
                    await self._read()
                if ready := self._ready:
                    series = ready[0].series
                    self._taken.add(series)
                    self._ready = [one for one in ready if one.series != series]
                    return [one for one in reversed(ready) if one.series == series]
                news, read_at = self._news, self._read_at
            with trio.move_on_at(read_at):
                await news.wait()

    def release(self, series: Series) -> None:
        """Let workers take a series again, and the next one read the queue at once."""
        self._taken.discard(series)
        self._read_at = -math.inf

    async def _read(self) -> None:
        """Read the queue up to the first rows that a worker may take now."""
        self._news, self._ready = self.storage.gaps_named.event, []
        self._read_at, last = trio.current_time() + _LOOK_SECONDS, None
        while not self._ready and (rows := await read_queue(self.storage, last)):
            last = rows[-1]
            times = [math.inf if one.series in self._taken else self.ready_at(one) for one in rows]
            # After them: each of them has looked at the clock for itself.
            now = trio.current_time()
            self._ready = [gap for gap, at in zip(rows, times, strict=True) if at <= now]
            # There may be more rows behind the ready ones, for workers that find those taken. And
            # the next read comes at once if a series was released during this one.
            self._read_at = min([self._read_at, *times])
