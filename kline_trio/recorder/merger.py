"""From the journal into Parquet: when to merge each series, and its merge in three jobs."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.errors import DiskFullError
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import Storage
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.parquet import FileMerge, plan_merges

SHARE = 1 / 64
"""New rows wait until they are this share of their file: each row is then rewritten at most 64
times while its file doubles, however long that takes."""


@attrs.frozen
class MergeRule:
    """When to merge a series: often while its file is short, and never later than the cap."""

    merge_seconds: float
    """How long the first new row of an existing file waits at least."""
    max_merge_seconds: float
    """How long it waits at most."""

    def due_after_seconds(self, new_rows: int, file_rows: int) -> float:
        """Return how long after the first new row's acceptance a merge is due, if no more come.

        Args:
          new_rows: how many rows wait.
          file_rows: how many rows their file has; 0 if there is no file yet.
        """
        if not file_rows:
            # Users see a file of a new series at once.
            return 0.0
        if new_rows >= SHARE * file_rows:
            return self.merge_seconds
        return max(self.merge_seconds, self.max_merge_seconds)


@attrs.define
class _Waiting:
    """The rows of one series that wait for a merge."""

    since: float
    """When the first of them was accepted."""
    rows: int = 0
    not_before: float = -math.inf
    """When to try again, after the disk was full."""
    due_at: float = math.inf
    """When the merge is due; an entry of the agenda for another time is stale."""


@attrs.define(eq=False)
class Merger:
    """Merges each series when `rule` says that it is due."""

    storage: Storage
    rule: MergeRule

    merges: int = attrs.field(init=False, default=0)
    merge_seconds: float = attrs.field(init=False, default=0.0)
    """How long the last merge of a file took."""
    _newest_file: dict[Series, FileEntry] = attrs.field(init=False, factory=dict)
    """By series, the file with the newest candles, whichever file was merged last."""
    _disk_log: DiskFullLog = attrs.field(init=False, factory=DiskFullLog)
    _waiting: dict[Series, _Waiting] = attrs.field(init=False, factory=dict)
    _agenda: list[tuple[float, Series]] = attrs.field(init=False, factory=list)
    """Heap of (due time, series). An entry is stale if its series is due at another time now. With
    thousands of series, a scan of all of them at each commit would cost a tenth of a core."""
    _is_finishing: bool = attrs.field(init=False, default=False)
    _finish_by: float = attrs.field(init=False, default=math.inf)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def accepted(self, received: Iterable[ReceivedCandle]) -> None:
        """Plan merges of candles that are in the journal now."""
        now = trio.current_time()
        for series, rows in Counter(item.series for item in received).items():
            self._waiting.setdefault(series, _Waiting(now)).rows += rows
            self._plan(series)

    def finish(self, within_seconds: float) -> None:
        """Let `run` end: merge all that waits, but begin no merge after `within_seconds`."""
        self._is_finishing, self._finish_by = True, trio.current_time() + within_seconds
        for series in self._waiting:
            self._plan(series)
        self._news.set()

    @property
    def disk_problem(self) -> str | None:
        """Why the last merge could not be written; None if it could."""
        return self._disk_log.problem

    async def run(self) -> None:
        """Merge each series when it is due, until `finish`; also rows that an earlier run left.

        If cancelled, the next start repeats at most the merge at hand.

        Raises:
          DiskError: a file or the journal could not be read or written.
        """
        commit_door, journal = self.storage.commit_door, self.storage.store.journal
        self._newest_file |= await commit_door.run(journal.newest_files)
        for series in await commit_door.run(journal.pending):
            self._waiting.setdefault(series, _Waiting(-math.inf))
        for series in self._waiting:
            self._plan(series)
        while (self._waiting or not self._is_finishing) and self._may_begin():
            self._news = trio.Event()
            due = self._due()
            for series in due:
                if self._may_begin():
                    await self._merge(series, self._waiting.pop(series))
            if not due:
                next_due_at = self._agenda[0][0] if self._agenda else math.inf
                with trio.move_on_at(min(next_due_at, self._finish_by)):
                    await self._news.wait()

    def _may_begin(self) -> bool:
        return trio.current_time() < self._finish_by

    def _plan(self, series: Series) -> None:
        """Push a series to the agenda if its due time has changed, and wake `run`."""
        waiting, file = self._waiting[series], self._newest_file.get(series)
        patience = self.rule.due_after_seconds(waiting.rows, file.rows if file else 0)
        due_at = -math.inf if self._is_finishing else waiting.since + patience
        due_at = max(due_at, waiting.not_before)
        if due_at != waiting.due_at:
            waiting.due_at = due_at
            heapq.heappush(self._agenda, (due_at, series))
            self._news.set()

    def _due(self) -> list[Series]:
        """Pop the series that are due, those with the smallest files first."""
        due, now = set[Series](), trio.current_time()
        while self._agenda and self._agenda[0][0] <= now:
            due_at, series = heapq.heappop(self._agenda)
            waiting = self._waiting.get(series)
            if waiting and waiting.due_at == due_at:
                due.add(series)
        # Small files first: `finish` then cuts off as few merges as possible.
        sizes = {one: self._newest_file[one].size_bytes for one in due & self._newest_file.keys()}
        return sorted(due, key=lambda one: (sizes.get(one, 0), one))

    async def _merge(self, series: Series, waiting: _Waiting) -> None:
        # Three jobs, so that candles are accepted while the file is written. A revision accepted
        # meanwhile has another sequence number, so it is not forgotten.
        store, commit_door = self.storage.store, self.storage.commit_door
        try:
            for merge, known in await commit_door.run(self._planned, series):
                began = trio.current_time()
                merged = await self.storage.merge_door.run(store.write, merge, known)
                gaps = await commit_door.run(store.journal.forget, merged, merge.pending)
                self.merges += 1
                self.merge_seconds = trio.current_time() - began
                newest = self._newest_file.get(series)
                if newest is None or merged.path >= newest.path:
                    self._newest_file[series] = merged
                if gaps:
                    self.storage.gaps_named.ring()
            self._disk_log.written("; merges go on")
        except DiskFullError as error:
            self._disk_log.full(error, "what is accepted waits in the journal")
            again = self._waiting.setdefault(series, _Waiting(waiting.since))
            again.since = waiting.since
            again.rows += waiting.rows
            again.not_before = trio.current_time() + RETRY_SECONDS
        if series in self._waiting:
            # Its file has grown, or the merge is to be tried again.
            self._plan(series)

    def _planned(self, series: Series) -> list[tuple[FileMerge, FileEntry | None]]:
        """Return the pending merges of a series, each with its file's entry in the manifest."""
        store = self.storage.store
        merges = plan_merges(store.layout, series, store.journal.take(series))
        listed = store.journal.listed(merge.path for merge in merges)
        return [(merge, listed.get(merge.path)) for merge in merges]
