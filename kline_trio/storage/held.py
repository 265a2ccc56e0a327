"""The lock and the journal's files, which a recorder holds open, guarded against other programs."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from kline_trio.errors import DamagedError, DiskError, StoreInUseError

_Inode = tuple[int, int]

_OPEN_HERE: set[_Inode] = set()
"""The journals that this process has open. POSIX locks belong to the process, not to a descriptor:
closing any descriptor of such a file drops SQLite's locks (www.sqlite.org/howtocorrupt.html, 2.2),
so no other code of this process may open one."""

_MAGIC = b"SQLite format 3\0"


def journal_parts(journal: Path) -> list[Path]:
    """Return all names that SQLite opens for a journal, its own first."""
    suffixes = ("", "-wal", "-shm", "-journal")
    return [journal.with_name(journal.name + suffix) for suffix in suffixes]


def refuse_special(paths: Iterable[Path]) -> None:
    """Refuse paths of anything but regular files: opening a pipe can block forever.

    Raises:
      DamagedError: something else than a file has one of the paths.
    """
    for path in paths:
        if path.exists() and not path.is_file():
            raise DamagedError(f"{path} is damaged: it is no file")


def is_open_here(journal: Path) -> bool:
    """Return whether this process holds the journal that the path names.

    Raises:
      OSError: the disk refused.
    """
    return _inode(journal.stat()) in _OPEN_HERE


@attrs.define(eq=False)
class StoreLock:
    """The lock of a store: on a file, and on its folder, which outlives a deleted file."""

    path: Path
    _file: int
    _folder: int

    @classmethod
    def take(cls, path: Path) -> "StoreLock":
        """Lock a store by its lock file, until `close`.

        Never unlink the file: two processes could then lock two files. If another program unlinks
        it, the lock on the folder still keeps a second process out.

        Raises:
          StoreInUseError: another process holds the lock.
          DamagedError: the path names something else than a file.
          OSError: the disk refused.
        """
        refuse_special([path])
        with contextlib.ExitStack() as undo:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, folder)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            undo.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock_folder(folder)
            except BlockingIOError:
                holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
                store = path.parent.parent
                text = f"{store} is in use by the recorder with pid {holder}"
                raise StoreInUseError(text) from None
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
            undo.pop_all()
        return cls(path, file, folder)

    def check(self) -> None:
        """Compare the path with the locked file.

        Raises:
          StoreInUseError: the path names another file, or none.
          OSError: the disk refused.
        """
        if not _is_at(self.path, _inode(os.fstat(self._file))):
            raise StoreInUseError(
                f"{self.path} was deleted or replaced while the recorder held it: another recorder"
                " could take the store. This one ends; what it recorded is kept. Start it again"
            )

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)
        os.close(self._folder)


@attrs.define(eq=False)
class JournalFile:
    """The journal's file, watched through a descriptor that is closed after SQLite's."""

    path: Path
    _descriptor: int
    _inode: _Inode
    _times: tuple[int, int] | None = None
    """Modification time in ns and size in bytes after this process's last write."""
    _wal_bytes: int = 0
    """Size of the WAL after this process's last write."""
    _is_shorter: bool = attrs.field(init=False, default=False)
    """Whether the file has become shorter, which SQLite never does without a vacuum."""
    _is_closed: bool = attrs.field(init=False, default=False)
    _beside: dict[Path, _Inode] = attrs.field(init=False, factory=dict)
    """The WAL and the wal-index, which SQLite creates, and removes when it closes the file."""

    @classmethod
    def open(cls, path: Path) -> "JournalFile":
        """Open the file, or create an empty one, which SQLite takes for a new database.

        Call this before SQLite opens the file.

        Raises:
          DamagedError: its path, or one beside it, names something else than a file.
          OSError: the disk refused.
        """
        refuse_special(journal_parts(path))
        # Read-only, and with SQLite's own mode.
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
        inode = _inode(os.fstat(descriptor))
        _OPEN_HERE.add(inode)
        return cls(path, descriptor, inode)

    @property
    def is_taken_away(self) -> bool:
        """Whether a path names another file, or none, although the folder is still there.

        SQLite still reads the whole journal then, but a start would not find it under its name.
        """
        return self.path.parent.is_dir() and bool(self._taken_away())

    @contextlib.contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commit all that the body writes, or nothing; check the files before and after.

        Raises:
          DiskError: as `check`. If the file lost its name during the commit, nothing in it is
            durable, so the commit counts as failed.
          sqlite3.Error: nothing was committed.
        """
        self.check()
        # IMMEDIATE: if another program has the lock, fail here, before any work.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # After some errors, such as a full disk, SQLite has rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self.note()
        self.check()

    def remove_beside(self) -> None:
        """Remove the WAL and the wal-index of a closed file that was taken away.

        SQLite would replay the WAL into the file that has the name now, and damage it.

        Raises:
          OSError: the disk refused.
        """
        for path, inode in self._beside.items():
            if _is_at(path, inode):
                path.unlink()

    def note(self) -> None:
        """Record the files' status after a write of this process."""
        if self._is_closed:
            return
        before, self._times = self._times, _times_of(os.fstat(self._descriptor))
        self._is_shorter |= before is not None and self._times[1] < before[1]
        _, wal, shm, _ = journal_parts(self.path)
        for path in (wal, shm):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                self._beside.setdefault(path, _inode(status))
                if path == wal:
                    self._wal_bytes = status.st_size

    def check(self) -> None:
        """Compare the files with their status after this process's last write.

        Call this while no transaction is open: a transaction may change them.

        Raises:
          DiskError: one was deleted, moved, replaced or written to by another program.
          OSError: the disk refused.
        """
        if self._is_closed:
            # SQLite raises on every use of a closed journal.
            return
        if path := self._taken_away():
            raise DiskError(
                f"{path} was deleted, moved or replaced while the recorder had it open:"
                " nothing more is recorded, since it would not last. Start the recorder again"
            )
        if path := self._written_to():
            raise DiskError(
                f"{path} was written to by another program while the recorder had it open:"
                " nothing more is recorded, since it would not last. Start the recorder again: it"
                " checks the journal, and asks the exchange for what is lost"
            )

    def _taken_away(self) -> Path | None:
        for path, inode in {self.path: self._inode, **self._beside}.items():
            if not _is_at(path, inode):
                return path
        return None

    def _written_to(self) -> Path | None:
        status = os.fstat(self._descriptor)
        is_changed = self._times != _times_of(status) or self._is_shorter
        if is_changed or os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC:
            return self.path
        for path in self._beside:
            if path.name.endswith("-wal") and path.stat().st_size < self._wal_bytes:
                return path
        return None

    def close(self) -> None:
        """Close the descriptor. Close SQLite's connection first."""
        self._is_closed = True
        _OPEN_HERE.discard(self._inode)
        os.close(self._descriptor)


def lock_folder(folder: int) -> None:
    """Lock a folder; do nothing if its file system has no such locks.

    Raises:
      BlockingIOError: another descriptor has the lock.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def _is_at(path: Path, inode: _Inode) -> bool:
    try:
        return _inode(path.stat()) == inode
    except (FileNotFoundError, NotADirectoryError):
        return False


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def _times_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
