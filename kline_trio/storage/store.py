"""The store as the recorder holds it: one folder, one writer, every error of the disk named."""

import contextlib
import itertools
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path, PurePosixPath

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.catalog import held_spans, stored_spans
from kline_trio.storage.changes import Changes
from kline_trio.storage.check import settle_layout
from kline_trio.storage.damage import ChangedFile, changed_files
from kline_trio.storage.disk import (
    disk_errors,
    make_folders,
    refuse_network_disk,
    sweep,
    sync_folder,
)
from kline_trio.storage.files import status_of
from kline_trio.storage.held import StoreLock
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import FileMerge, rewrite_file, split_by_file, write_file
from kline_trio.storage.paths import journal_path, lock_path, scratch
from kline_trio.storage.pruning import PrunedFiles, Pruning, ReadBack
from kline_trio.storage.quarantine import move_to_quarantine
from kline_trio.storage.salvage import close_journal, open_journal
from kline_trio.storage.space import DiskSpace

logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class Store:
    """A folder of candles, held by this process alone until `close`.

    `write`, `fill_in`, `remove_months`, `changed_files` and `look_through` do not use the journal:
    run one of them at a time, in any thread. All other methods, and those of `journal`, share the
    journal's connection: run one of them at a time, also in another thread beside the first five.
    Each method raises DiskError if the disk refuses.
    """

    path: Path
    """Absolute."""
    layout: Layout
    journal: Journal
    _lock: StoreLock

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
        """Return which candles are stored. Files that can only hold older candles stay closed.

        A file that cannot be read is moved to the quarantine. Its entry stays, so that its next
        merge, or the next start, finds the lost candles.

        Args:
          wanted: the series, each with the open time in ms to begin with.
        """
        with disk_errors(self.path):
            return stored_spans(self.path, wanted, self.layout, self._set_aside)

    def changed_files(self, listed: Iterable[FileEntry]) -> list[ChangedFile]:
        """Return the listed files that differ from their entries or are gone, for `Journal.adopt`.

        A file that cannot be read is moved to the quarantine.

        Args:
          listed: entries of the manifest. Each costs a `stat`, so all files of a store may be
            given, also those of retired series.
        """
        with disk_errors(self.path):
            return changed_files(self.path, listed, self._set_aside)

    def _set_aside(self, path: Path, error: DamagedError) -> None:
        aside = move_to_quarantine(path, self.path)
        logger.error("%s; moved to %s, what it held is absent now", error, aside)

    def write(self, merge: FileMerge, known: FileEntry | None = None) -> FileEntry:
        """Write a merge's candles into their file; then `Journal.forget` may remove them.

        A file that is damaged, or is not of this series, is moved to the quarantine, and the
        candles go into a new one. If the file was not as the manifest lists it, the result has the
        spans of the new one, so that `Journal.forget` finds the lost candles. If the disk refuses,
        the file is as it was.

        Args:
          merge: the candles and their file.
          known: the manifest's entry of the file; None: it has none.
        """
        return self._rewrite(merge.changes(), merge.path, known)

    def _rewrite(self, changes: Changes, path: PurePosixPath, known: FileEntry | None) -> FileEntry:
        """Write a file anew; if the present one is damaged, move it away and try once more."""
        target = self.path / path
        job = partial(rewrite_file, changes, path, self.path, scratch(self.path))
        with disk_errors(target):
            try:
                # A file that this process has just written counts like a listed one.
                before = self.journal.written.newest(path, status_of(target))
                may_lack = before is not None and before.held is not None
                merged = job(before or known)
            except DamagedError as error:
                self._set_aside(target, error)
                before, may_lack = None, True
                merged = job(known)
            if may_lack and merged.held is None:
                merged = attrs.evolve(merged, held=held_spans(target, changes.series))
            self.journal.written.add(merged, before)
        return merged

    def fill_in(
        self, new: pa.Table, series: Series, known: Iterable[FileEntry] = ()
    ) -> list[FileEntry]:
        """Write rows that never were in the journal into their files, where they fill gaps.

        They replace no row. Pass the result to `Journal.keep_filled`. If the disk refuses, some of
        the files are as they were: call it again for the rest.

        Args:
          new: by open time, and unique.
          series: whose candles they are.
          known: the manifest's entries of the series, or of these files.
        """
        entries = {entry.path: entry for entry in known}
        merged = []
        for path, piece in split_by_file(new, series, self.layout):
            changes = Changes(series, piece.slice(0, 0), piece)
            merged.append(self._rewrite(changes, path, entries.get(path)))
        return merged

    def write_new(self, series: Series, tables: Iterable[pa.Table]) -> list[FileEntry]:
        """Write all rows of a series that has no files yet, in little memory.

        Pass the result to `Journal.keep_filled`.

        Args:
          series: whose candles they are.
          tables: the rows in order, each once, in tables of any size.
        """
        pieces = (piece for table in tables for piece in split_by_file(table, series, self.layout))
        written = []
        for path, some in itertools.groupby(pieces, key=itemgetter(0)):
            with disk_errors(self.path / path):
                rows = (piece for _, piece in some)
                written.append(write_file(series, path, rows, self.path, scratch(self.path)))
        return written

    def remove_months(
        self, series: Series, months: Sequence[ReadBack], listed: Iterable[FileEntry]
    ) -> PrunedFiles:
        """Remove months that the lake has from the files. Pass the result to `Journal.list_pruned`.

        What is not as it was read back stays.

        Args:
          series: whose months they are.
          months: what was read back; the journal has them as pruned.
          listed: the manifest's entries of the series.
        """
        with disk_errors(self.path):
            entries = {entry.path: entry for entry in listed}
            job = Pruning(self.path, self.layout, series, months, entries)
            return job.remove(self.journal.written)

    def room(self) -> DiskSpace:
        """Return the space on the disk, and how much of it a row takes."""
        with disk_errors(self.path):
            return DiskSpace.beside(self.journal.totals(), shutil.disk_usage(self.path).free)

    def check_held(self) -> None:
        """Compare the files that this process holds open with those at their paths.

        Raises:
          StoreInUseError: the lock's file was deleted or replaced.
          DiskError: the journal's files were, or another program wrote to them.
        """
        with disk_errors(journal_path(self.path)):
            self.journal.file.check()
            self._lock.check()

    def close(self) -> None:
        """Close the journal, and release the lock. A journal that was taken away is written anew.

        Raises:
          DiskError: the disk refused, or another program has changed the open files.
        """
        with disk_errors(journal_path(self.path)), contextlib.ExitStack() as last:
            last.callback(self._lock.close)
            last.callback(close_journal, self.journal, self.path)
            self.check_held()
