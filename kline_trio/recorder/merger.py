"""From the journal into Parquet: which series is due, and its merge in three jobs."""

import math
from collections.abc import Iterable
from pathlib import PurePosixPath

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.recorder.seams import Door
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.store import Store

__all__ = ["Merger"]


@attrs.define(eq=False)
class Merger:
    """Merges each series some time after its first waiting candle was accepted."""

    store: Store
    commit_door: Door
    merge_door: Door
    merge_seconds: float

    files: set[PurePosixPath] = attrs.field(init=False, factory=set)
    """The files that were written, relative to the store."""
    _size_bytes: dict[Series, int] = attrs.field(init=False, factory=dict)
    _due: dict[Series, float] = attrs.field(init=False, factory=dict)
    _met: set[Series] = attrs.field(init=False, factory=set)
    _finish_by: float | None = attrs.field(init=False, default=None)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def accepted(self, series: Iterable[Series]) -> None:
        """Candles of these series wait in the journal from now on."""
        now = trio.current_time()
        for one in series:
            # A series' first candle is merged at once, so that its file is there to be looked at.
            wait = self.merge_seconds if one in self._met else 0.0
            self._met.add(one)
            self._due.setdefault(one, now + wait)
        self._news.set()

    def finish(self, within_seconds: float) -> None:
        """No more candles come: merge what waits, begin nothing later than this, and end."""
        self._finish_by = trio.current_time() + within_seconds
        self._news.set()

    async def run(self) -> None:
        """Merge what is due, until `finish`; first what an earlier run left in the journal.

        If cancelled, at most the merge at hand is repeated at the next start.

        Raises:
          DiskError: a file or the journal could not be read or written.
        """
        left_over = await self.commit_door.run(self.store.pending)
        self.accepted(pending.series for pending in left_over)
        while self._finish_by is None or self._due:
            self._news = trio.Event()
            due = self._take_due(trio.current_time())
            for series in due:
                if self._finish_by is not None and trio.current_time() >= self._finish_by:
                    return
                await self._merge(series)
            if not due and self._finish_by is None:
                with trio.move_on_at(min(self._due.values(), default=math.inf)):
                    await self._news.wait()

    def _take_due(self, now_seconds: float) -> list[Series]:
        if self._finish_by is not None:
            now_seconds = math.inf
        due = [series for series, due in self._due.items() if due <= now_seconds]
        for series in due:
            del self._due[series]
        # Cheapest first, so that what the end cuts off is as little as can be.
        return sorted(due, key=lambda series: self._size_bytes.get(series, 0))

    async def _merge(self, series: Series) -> None:
        # Three jobs: new candles are accepted while the file is written, and a revision accepted
        # meanwhile has another sequence number, so it is not forgotten.
        taken = await self.commit_door.run(self.store.take, series)
        for merge in plan_merges(self.store.layout, series, taken):
            merged = await self.merge_door.run(self.store.write, merge)
            await self.commit_door.run(self.store.forget, series, merge.pending)
            self.files.add(merged.path)
            self._size_bytes[series] = merged.size_bytes
