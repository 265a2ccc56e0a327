"""The store as the recorder holds it: one folder, one writer, every error of the disk named."""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.errors import StoreInUseError
from kline_trio.storage.disk import disk_errors, make_folders, sync_folder
from kline_trio.storage.journal import Journal, PendingCandle, PendingSeries
from kline_trio.storage.layout import Layout
from kline_trio.storage.parquet import FileMerge, MergedFile, perform
from kline_trio.storage.places import journal_path, lock_path, scratch

__all__ = ["Store"]


@attrs.define(eq=False)
class Store:
    """A folder of candles, held by this process alone until `close`.

    `accept`, `pending`, `take`, `forget`, `rows` and `close` share the journal's connection: one
    of them at a time, from any thread. `write` may run beside them, in another thread.
    """

    path: Path
    """Absolute."""
    layout: Layout
    _journal: Journal
    _lock: int

    @classmethod
    def open(cls, path: Path, layout: Layout) -> "Store":
        """Makes the folder if there is none, takes the lock, and looks the journal through.

        Raises:
          StoreInUseError: another process holds it.
          DiskError: the folder cannot be made or written, or the journal is damaged.
          ConfigError: a newer kline_trio wrote it.
        """
        path = path.absolute()
        with disk_errors(path), contextlib.ExitStack() as undo:
            make_folders(scratch(path))
            lock = _lock(lock_path(path))
            undo.callback(os.close, lock)
            # Only now: another writer's temporaries are not ours to sweep.
            for left_over in scratch(path).iterdir():
                left_over.unlink()
            with disk_errors(journal_path(path)):
                journal = Journal.open(journal_path(path))
            sync_folder(journal_path(path).parent)
            undo.pop_all()
        return cls(path, layout, journal, lock)

    def accept(self, received: Sequence[ReceivedCandle]) -> None:
        """Commits the candles: when it returns, they survive whatever happens to this process.

        Raises:
          DiskError: none of them was accepted.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.accept(received)

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

    def write(self, merge: FileMerge) -> MergedFile:
        """Brings the merge's candles into their file; after it they may be forgotten.

        Raises:
          DiskError: the file is as it was.
        """
        with disk_errors(self.path / merge.path):
            return perform(merge, self.path, scratch(self.path))

    def forget(self, series: Series, taken: Iterable[PendingCandle]) -> None:
        """Removes exactly these from the journal; what was revised since `take` stays.

        Raises:
          DiskError: the journal is as it was.
        """
        with disk_errors(journal_path(self.path)):
            self._journal.forget(series, taken)

    def rows(self) -> int:
        """How many accepted candles wait for a merge.

        Raises:
          DiskError: the journal could not be read.
        """
        with disk_errors(journal_path(self.path)):
            return self._journal.rows()

    def close(self) -> None:
        """Closes the journal and lets go of the lock."""
        with disk_errors(journal_path(self.path)):
            try:
                self._journal.close()
            finally:
                os.close(self._lock)


def _lock(path: Path) -> int:
    """Locks the file, which is never unlinked: two processes could then lock two files."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        folder = path.parent.parent
        raise StoreInUseError(f"{folder} is in use by the recorder with pid {holder}") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
