"""The store as the recorder holds it: one folder, one writer, every error of the disk named."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.catalog import changed_files, held_spans, stored_spans
from kline_trio.storage.coverage import write_coverage
from kline_trio.storage.damage import ChangedFile, log_lost
from kline_trio.storage.disk import (
    disk_errors,
    free_bytes,
    make_folders,
    refuse_network_disk,
    sweep,
    sync_folder,
)
from kline_trio.storage.files import set_aside, status_of
from kline_trio.storage.held import StoreLock
from kline_trio.storage.holes import Holdings
from kline_trio.storage.journal.ledger import Reason
from kline_trio.storage.journal.manifest import FileEntry, Standing, Totals, WrittenFiles
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.layout_check import settle_layout
from kline_trio.storage.parquet import Changes, FileMerge, by_file, perform, rewrite_file
from kline_trio.storage.paths import journal_path, lock_path, scratch
from kline_trio.storage.salvage import close_journal, open_journal

__all__ = ["DiskSpace", "Store"]

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86_400.0
_MONTH_SECONDS = 2_629_746.0
_BYTES_A_ROW = 48.0
"""While there is no file; rows of real files take 25 to 50."""
_FEW_ROWS = 1_000
"""Files with fewer rows are mostly footers, and say little about the bytes of a row."""


@attrs.frozen
class DiskSpace:
    """The space on a store's disk, and what candles take of it."""

    free_bytes: int
    bytes_a_row: float

    @classmethod
    def beside(cls, totals: Totals, free_bytes: int) -> "DiskSpace":
        """Return the room beside a store's files: new rows take as many bytes as those in files.

        Args:
          totals: of all files.
          free_bytes: what the file system has left.
        """
        is_enough = totals.rows >= _FEW_ROWS * totals.files > 0
        return cls(free_bytes, totals.size_bytes / totals.rows if is_enough else _BYTES_A_ROW)

    def days_left(self, series: Iterable[Series]) -> float:
        """Return how many days the room lasts for candles of these series; infinity for none."""
        rows_a_second = sum(
            1_000 / one.interval.duration_ms if one.interval.duration_ms else 1 / _MONTH_SECONDS
            for one in series
        )
        if not rows_a_second:
            return math.inf
        return self.free_bytes / (rows_a_second * self.bytes_a_row * _DAY_SECONDS)


@attrs.define(eq=False)
class Store:
    """A folder of candles, held by this process alone until `close`.

    `write`, `fill_in`, `changed_files`, `look_through` and `write_coverage` do not use the journal:
    run one of them at a time, in any thread. All other methods, and those of `journal`, share the
    journal's connection: run one of them at a time, also in another thread beside the first five.
    Each method raises DiskError if the disk refuses.
    """

    path: Path
    """Absolute."""
    layout: Layout
    journal: Journal
    _lock: StoreLock
    _written: WrittenFiles = attrs.field(init=False, factory=WrittenFiles)

    @classmethod
    def open(cls, path: Path, layout: Layout | None) -> "Store":
        """Create the folder if there is none, take the lock, and check the journal.

        The readable rows of a damaged journal go into a new one; the damaged one is kept.

        Args:
          path: the folder.
          layout: how files are named; None: as the store remembers.

        Raises:
          StoreInUseError: another process holds it.
          DiskError: the folder cannot be made or written, or is on a network file system.
          ConfigError: a newer kline_trio wrote it, or its files are laid out in another way.
        """
        with disk_errors(path), contextlib.ExitStack() as undo:
            path = path.absolute()
            make_folders(path)
            refuse_network_disk(path)
            make_folders(scratch(path))
            lock = StoreLock.take(lock_path(path))
            undo.callback(lock.close)
            # Only now: another writer's temporaries are not ours to sweep.
            sweep(scratch(path))
            journal = open_journal(path)
            undo.callback(journal.close)
            sync_folder(journal_path(path).parent)
            if layout is None:
                layout = Layout(journal.layout() or DEFAULT_LAYOUT)
            else:
                settle_layout(path, layout, journal)
            undo.pop_all()
        return cls(path, layout, journal, lock)

    def look_through(self, wanted: Mapping[Series, int]) -> dict[Series, list[Span]]:
        """Which candles are stored; files that can only hold older ones stay closed.

        A file that cannot be read is moved to the quarantine; its entry stays, so that the next
        merge of it, or the next start, names what is lost. It may run beside what uses the journal,
        as `write` does, and not beside that.

        Args:
          wanted: of which series, and from which open time on.

        Raises:
          DiskError: the disk refuses.
        """
        with disk_errors(self.path):
            return stored_spans(self.path, wanted, self.layout, self._set_aside)

    def changed_files(self, listed: Iterable[FileEntry]) -> list[ChangedFile]:
        """Return the listed files that differ from their entries or are gone, for `adopt`.

        A file that cannot be read is moved to the quarantine. It may run beside what uses the
        journal, as `write` does, and not beside that.

        Args:
          listed: entries of the manifest, as `files` gives them. Each costs a `stat`, so all files
            of a store may be given, also those of retired series.

        Raises:
          DiskError: the disk refuses.
        """
        with disk_errors(self.path):
            return changed_files(self.path, listed, self._set_aside)

    def adopt(self, changed: Iterable[ChangedFile]) -> int:
        """Keep in one transaction what these files are now; what they have lost becomes gaps.

        Returns:
          how many candles became gaps.

        Raises:
          DiskError: nothing was kept.
        """
        return log_lost(self.journal.adopt(changed))

    def write_coverage(self) -> int:
        """Puts the ledger into its file; it may run beside what uses the journal, as `write` does.

        Returns:
          how many rows that was.

        Raises:
          DiskError: the file is as it was.
        """
        with disk_errors(self.path):
            return write_coverage(self.path)

    def _set_aside(self, path: Path, error: DamagedError) -> None:
        aside = set_aside(path, self.path)
        logger.error("%s; moved to %s, what it held is absent now", error, aside)

    def write(self, merge: FileMerge, known: FileEntry | None = None) -> FileEntry:
        """Brings the merge's candles into their file; after it they may be forgotten.

        A file that is damaged, or is not of this series, is moved to the quarantine, and the
        candles go into a new one. Where the file was not as the manifest lists it, the result says
        what the new one holds, so that `forget` finds what is lost.

        Args:
          merge: what to bring where.
          known: the manifest's entry of the file; None: it has none.

        Raises:
          DiskError: the file is as it was.
        """
        job = partial(perform, merge, self.path, scratch(self.path))
        return self._replaced(merge.path, merge.series, known, job)

    def _replaced(
        self,
        path: PurePosixPath,
        series: Series,
        known: FileEntry | None,
        job: Callable[[FileEntry | None], FileEntry],
    ) -> FileEntry:
        """Does a merge of a file; once more without the file that is there, if that is damaged."""
        target = self.path / path
        with disk_errors(target):
            try:
                # What we wrote ourselves a moment ago is known as well as what the manifest lists.
                before = self._written.newest(path, status_of(target))
                may_lack = before is not None and before.held is not None
                merged = job(before or known)
            except DamagedError as error:
                self._set_aside(target, error)
                before, may_lack = None, True
                merged = job(known)
            if may_lack and merged.held is None:
                merged = attrs.evolve(merged, held=held_spans(target, series))
            self._written.add(merged, before)
        return merged

    def forget(self, merged: FileEntry, taken: Iterable[PendingCandle]) -> int:
        """Removes exactly these from the journal; what was revised since `take` stays.

        Returns:
          how many candles became gaps, since the file has lost them.

        Raises:
          DiskError: the journal is as it was.
        """
        standing = self._written.standing(merged)
        # If the file vanished before the next one was made, the journal has the only copy.
        there = () if standing is Standing.VOID else taken
        lost = self.journal.forget(merged, there, is_newest=standing is Standing.NEWEST)
        self._written.kept(merged)
        return log_lost(lost)

    def take_in(self, new: pa.Table, path: PurePosixPath, series: Series) -> FileEntry:
        """Brings rows that never were in the journal into a file; they win over what it holds.

        Args:
          new: by open time, unique, not empty, and all of this file.
          path: relative to the store's folder.
          series: whose candles they are.

        Raises:
          DamagedError: the file that is there cannot be read.
          DiskError: the file is as it was, or is new and the journal does not know it yet.
        """
        with disk_errors(self.path / path):
            news = Changes(new, new.slice(0, 0))
            merged = rewrite_file(news, path, series, self.path, scratch(self.path))
            self._written.add(merged, None)
        self.forget(merged, ())
        return merged

    def fill_in(
        self, new: pa.Table, series: Series, known: Iterable[FileEntry] = ()
    ) -> list[FileEntry]:
        """Brings rows that never were in the journal into their files, where they fill gaps.

        What the files hold wins. It may run beside what uses the journal, as `write` does; the
        journal is told by `keep_filled`.

        Args:
          new: by open time, and unique.
          series: whose candles they are.
          known: the manifest's entries of the series, or of these files.

        Raises:
          DiskError: some of the files are as they were. Done again, it does the rest.
        """
        entries = {entry.path: entry for entry in known}
        merged = []
        for path, piece in by_file(new, series, self.layout):
            news = Changes(piece.slice(0, 0), piece)
            job = partial(rewrite_file, news, path, series, self.path, scratch(self.path))
            merged.append(self._replaced(path, series, entries.get(path), job))
        return merged

    def keep_filled(
        self,
        series: Series,
        merged: Sequence[FileEntry],
        filled: Iterable[Span],
        lacking: Iterable[tuple[Span, Reason]],
    ) -> int:
        """Keeps what `fill_in` made, and that the archive filled these spans and lacks those.

        Returns:
          how many candles became gaps, since their files have lost them.

        Raises:
          DiskError: nothing was kept.
        """
        standings = [self._written.standing(one) for one in merged]
        newest = [standing is Standing.NEWEST for standing in standings]
        # If a file vanished before the next one was made, nothing is filled.
        there = () if Standing.VOID in standings else filled
        files = zip(merged, newest, strict=True)
        lost = self.journal.keep_filled(series, files, there, lacking)
        for one in merged:
            self._written.kept(one)
        return log_lost(lost)

    def room(self) -> DiskSpace:
        """Return the space on the disk, and how much of it a row takes.

        Raises:
          DiskError: the journal could not be read, or the disk does not say.
        """
        with disk_errors(self.path):
            return DiskSpace.beside(self.journal.totals(), free_bytes(self.path))

    def compare(self, look: Holdings) -> int | None:
        """Writes gap rows for what a look found missing, and sets stored pending rows to filled.

        Returns:
          how many candles the gap rows have; None: look again, the files have changed since.

        Raises:
          DiskError: nothing was changed.
        """
        found = look.missing(), look.stored_pending(), look.listed
        return self.journal.compare(look.series, *found)

    def check_held(self) -> None:
        """Compare what this process holds open with what is on the disk under its names.

        Raises:
          StoreInUseError: the lock's file was deleted or replaced.
          DiskError: the journal's files were, or another program wrote to them.
        """
        with disk_errors(journal_path(self.path)):
            self.journal.file.check()
            self._lock.check()

    def close(self) -> None:
        """Closes the journal, written anew if it was taken away, and lets go of the lock.

        Raises:
          DiskError: the disk refused, or another program has changed what the store held open.
        """
        with disk_errors(journal_path(self.path)), contextlib.ExitStack() as last:
            last.callback(self._lock.close)
            last.callback(close_journal, self.journal, self.path)
            self.check_held()
