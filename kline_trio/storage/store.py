"""The store as the recorder holds it: one folder, one writer, every error of the disk named."""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import attrs
import pyarrow as pa

from kline_trio.candle import ReceivedCandle, Series, Source
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
from kline_trio.storage.disk_space import DiskSpace
from kline_trio.storage.file_list import FileEntry, Totals
from kline_trio.storage.files import set_aside, status_of
from kline_trio.storage.held import StoreLock
from kline_trio.storage.holes import Holdings
from kline_trio.storage.journal import Journal
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.layout_check import settle_layout
from kline_trio.storage.ledger import FetchResult, Gap, Reason, Revision, SeriesAccount
from kline_trio.storage.parquet import Changes, FileMerge, perform, rewrite_file, split_by_file
from kline_trio.storage.paths import journal_path, lock_path, scratch
from kline_trio.storage.salvage import close_journal, open_journal
from kline_trio.storage.waiting import PendingCandle, PendingSeries
from kline_trio.storage.written import Standing, WrittenFiles

__all__ = ["Store"]

logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class Store:
    """A folder of candles, held by this process alone until `close`.

    All but `write`, `fill_in`, `changed_files`, `look_through` and `write_coverage` share the
    journal's connection: one of them at a time, from any thread. Those may run beside them, in
    another thread, one at a time.
    """

    path: Path
    """Absolute."""
    layout: Layout
    _journal: Journal
    _lock: StoreLock
    _written: WrittenFiles = attrs.field(init=False, factory=WrittenFiles)

    @classmethod
    def open(cls, path: Path, layout: Layout | None) -> "Store":
        """Makes the folder if there is none, takes the lock, and looks the journal through.

        What can be read of a damaged journal goes on in a new one; the damaged one is kept.

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

    def accept(self, received: Sequence[ReceivedCandle], origin: Source = Source.STREAM) -> None:
        """Commits the candles: when it returns, they survive whatever happens to this process.

        Raises:
          DiskError: none of them was accepted.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.accept(received, origin)

    def refill(self, refills: Iterable[FetchResult]) -> None:
        """Commits candles that were absent; they replace nothing.

        Raises:
          DiskError: none of them was accepted.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.refill(refills)

    def settle(
        self,
        found: Iterable[Gap],
        accounts: Mapping[Series, SeriesAccount],
        revisions: Iterable[Revision] = (),
        answers: Iterable[FetchResult] = (),
    ) -> None:
        """Takes down what is absent, up to where each series is accounted for, and revisions.

        Args:
          found: new absences.
          accounts: what changes of them.
          revisions: two values of one candle.
          answers: what becomes of absences that are there already.

        Raises:
          DiskError: nothing was taken down.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.settle(found, accounts, revisions, answers)

    def reopen(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """What of these was closed as delisted is asked for anew; gives what that was.

        Raises:
          DiskError: all is as it was.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.reopen(series)

    def rewind(self, accounts: Mapping[Series, SeriesAccount], now_ms: int) -> None:
        """Set watermarks back that a wrong time had led away; see `Journal.rewind`.

        Raises:
          DiskError: all is as it was.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.rewind(accounts, now_ms)

    def accounts(self) -> dict[Series, SeriesAccount]:
        """Up to where each series is accounted for.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.accounts()

    def queue(self, most: int, after: Gap | None = None) -> list[Gap]:
        """Return pending absences of all series, the newest first.

        Args:
          most: how many rows at most.
          after: the last row of the read before; None: from the newest row on.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.queue(most, after)

    def touching(self, series: Series, span: Span) -> list[Gap]:
        """Return the series' absences, of every state, that reach into a span, by time.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.touching(series, span)

    def asked_for(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """What of these series is absent and still asked for.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.asked_for(series)

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
        with disk_errors(journal_path(self.path)):
            return log_lost(self._journal.adopt(changed))

    def ledger_changes(self) -> int:
        """A number that differs after each change of what is absent; 0 while nothing ever was."""
        return self._journal.ledger_changes

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

    def pending(self) -> tuple[PendingSeries, ...]:
        """What waits for a merge, by series.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.pending()

    def take(self, series: Series) -> tuple[PendingCandle, ...]:
        """The series' waiting candles by open time, for `plan_merges`.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.take(series)

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
        with disk_errors(journal_path(self.path)):
            standing = self._written.standing(merged)
            # Of a file that vanished before the next one was made the journal is the only copy.
            there = () if standing is Standing.VOID else taken
            lost = self._journal.forget(merged, there, is_newest=standing is Standing.NEWEST)
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
        for path, piece in split_by_file(new, series, self.layout):
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
        with disk_errors(journal_path(self.path)):
            standings = [self._written.standing(one) for one in merged]
            newest = [standing is Standing.NEWEST for standing in standings]
            # Of a file that vanished before the next one was made nothing is filled.
            there = () if Standing.VOID in standings else filled
            files = zip(merged, newest, strict=True)
            lost = self._journal.keep_filled(series, files, there, lacking)
        for one in merged:
            self._written.kept(one)
        return log_lost(lost)

    def files(self, among: Collection[Series] | None = None) -> tuple[FileEntry, ...]:
        """What merges wrote, by path: of all series, or of some.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.files(among)

    def listed(self, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, FileEntry]:
        """Return the manifest's entries of these paths, where there are any.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.listed(paths)

    def newest_files(self) -> dict[Series, FileEntry]:
        """Return of each series the file with the newest candles.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.newest_files()

    def totals(self) -> Totals:
        """What all files are together.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.totals()

    def room(self) -> DiskSpace:
        """Return the space on the disk, and how much of it a row takes.

        Raises:
          DiskError: the journal could not be read, or the disk does not say.
        """
        with disk_errors(self.path):
            return DiskSpace.beside(self._journal.totals(), free_bytes(self.path))

    def rows(self) -> int:
        """How many accepted candles wait for a merge.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.rows()

    def compare(self, look: Holdings) -> int | None:
        """Writes gap rows for what a look found missing, and sets stored pending rows to filled.

        Returns:
          how many candles the gap rows have; None: look again, the files have changed since.

        Raises:
          DiskError: nothing was changed.
        """
        found = look.missing(), look.stored_pending(), look.listed
        with disk_errors(journal_path(self.path)):
            return self._journal.compare(look.series, *found)

    def beat(self, pid: int | None, exchange_ms: Mapping[str, int], local_ms: int) -> None:
        """Keeps the recorder's pid, None at its end, and what time it is by each market's clock.

        Raises:
          DiskError: nothing was kept.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.beat(pid, exchange_ms, local_ms)

    def check_held(self) -> None:
        """Compare what this process holds open with what is on the disk under its names.

        Raises:
          StoreInUseError: the lock's file was deleted or replaced.
          DiskError: the journal's files were, or another program wrote to them.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.file.check()
            self._lock.check()

    def close(self) -> None:
        """Closes the journal, written anew if it was taken away, and lets go of the lock.

        Raises:
          DiskError: the disk refused, or another program has changed what the store held open.
        """
        with disk_errors(journal_path(self.path)), contextlib.ExitStack() as last:
            last.callback(self._lock.close)
            last.callback(close_journal, self._journal, self.path)
            self.check_held()
