"""From the journal into Parquet: which series is due, and its merge in three jobs."""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.errors import NoRoomError
from kline_trio.recorder.merge_rule import MergeRule
from kline_trio.recorder.room import RETRY_SECONDS, NoRoomWords
from kline_trio.recorder.seams import Door
from kline_trio.storage.file_list import MergedFile
from kline_trio.storage.parquet import FileMerge, plan_merges
from kline_trio.storage.store import Store

__all__ = ["Merger"]


@attrs.define
class _Waiting:
    """What waits of one series since its last merge."""

    since: float
    """When the first of it was accepted."""
    rows: int = 0
    not_before: float = -math.inf
    """When to try again, after the disk had no room."""
    noted_at: float = math.inf
    """When the agenda has it due."""


@attrs.define(eq=False)
class Merger:
    """Merges each series when the rule says so."""

    store: Store
    commit_door: Door
    merge_door: Door
    rule: MergeRule
    gaps_named: Callable[[], None]
    """Called when a merge has found that a file lost candles, and the ledger names them."""

    _newest_file: dict[Series, MergedFile] = attrs.field(init=False, factory=dict)
    """Of each series the file with the newest candles, whatever file was merged last."""
    _words: NoRoomWords = attrs.field(init=False, factory=NoRoomWords)
    _waiting: dict[Series, _Waiting] = attrs.field(init=False, factory=dict)
    _agenda: list[tuple[float, Series]] = attrs.field(init=False, factory=list)
    """A heap: when what waits is due, or was thought to be; what is due earlier than that stands in
    it again. To look at all that waits at each commit would cost thousands of series a tenth of a
    core."""
    _finish_by: float | None = attrs.field(init=False, default=None)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def accepted(self, received: Iterable[ReceivedCandle]) -> None:
        """These candles wait in the journal from now on."""
        now = trio.current_time()
        for series, rows in Counter(item.series for item in received).items():
            self._waiting.setdefault(series, _Waiting(now)).rows += rows
            self._put_down(series)

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
        self._newest_file |= await self.commit_door.run(self.store.newest_files)
        for left_over in await self.commit_door.run(self.store.pending):
            self._waiting.setdefault(left_over.series, _Waiting(-math.inf))
            self._put_down(left_over.series)
        while self._finish_by is None or self._waiting:
            self._news = trio.Event()
            now = trio.current_time()
            due = self._due(now)
            for series in due:
                if self._finish_by is not None and trio.current_time() >= self._finish_by:
                    return
                await self._merge(series, self._waiting.pop(series))
            if not due:
                with trio.move_on_at(self._next_due()):
                    await self._news.wait()
                if self._finish_by is not None and trio.current_time() >= self._finish_by:
                    return

    def _due_at(self, series: Series) -> float:
        waiting = self._waiting[series]
        file = self._newest_file.get(series)
        patience = self.rule.due_after_seconds(waiting.rows, file.rows if file else 0)
        at = -math.inf if self._finish_by is not None else waiting.since + patience
        return max(at, waiting.not_before)

    def _put_down(self, series: Series) -> None:
        """Note when a series is due, and wake up if that is sooner than anything else."""
        waiting, due_at = self._waiting[series], self._due_at(series)
        if due_at >= waiting.noted_at:
            return
        waiting.noted_at = due_at
        if not self._agenda or due_at < self._agenda[0][0]:
            self._news.set()
        heapq.heappush(self._agenda, (due_at, series))

    def _next_due(self) -> float:
        if self._finish_by is not None:
            return min([self._finish_by, *map(self._due_at, self._waiting)])
        return self._agenda[0][0] if self._agenda else math.inf

    def _due(self, now_seconds: float) -> list[Series]:
        found = dict.fromkeys(self._waiting if self._finish_by is not None else (), -math.inf)
        while self._agenda and self._agenda[0][0] <= now_seconds:
            moment, series = heapq.heappop(self._agenda)
            found[series] = moment
        due = []
        for one in found.keys() & self._waiting.keys():
            if self._due_at(one) <= now_seconds:
                due.append(one)
            elif found[one] >= self._waiting[one].noted_at:
                # The disk had no room meanwhile, and nothing else in the agenda is of this one.
                self._waiting[one].noted_at = math.inf
                self._put_down(one)
        # Cheapest first, so that what the end cuts off is as little as can be.
        return sorted(due, key=lambda one: (self._size_bytes(one), one))

    def _size_bytes(self, series: Series) -> int:
        file = self._newest_file.get(series)
        return file.size_bytes if file else 0

    async def _merge(self, series: Series, waiting: _Waiting) -> None:
        # Three jobs: new candles are accepted while the file is written, and a revision accepted
        # meanwhile has another sequence number, so it is not forgotten.
        try:
            for merge, known in await self.commit_door.run(self._planned, series):
                merged = await self.merge_door.run(self.store.write, merge, known)
                gaps = await self.commit_door.run(self.store.forget, merged, merge.pending)
                newest = self._newest_file.get(series)
                if newest is None or merged.path >= newest.path:
                    self._newest_file[series] = merged
                if gaps:
                    self.gaps_named()
            self._words.room("; merges go on")
        except NoRoomError as error:
            self._words.no_room(error, "what is accepted waits in the journal")
            again = self._waiting.setdefault(series, _Waiting(waiting.since))
            again.since = waiting.since
            again.rows += waiting.rows
            again.not_before = trio.current_time() + RETRY_SECONDS
            self._put_down(series)

    def _planned(self, series: Series) -> list[tuple[FileMerge, MergedFile | None]]:
        """What waits of a series, by file, each with the manifest's entry of that file."""
        merges = plan_merges(self.store.layout, series, self.store.take(series))
        listed = self.store.listed(merge.path for merge in merges)
        return [(merge, listed.get(merge.path)) for merge in merges]
