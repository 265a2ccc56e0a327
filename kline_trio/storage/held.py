"""The files that a recorder holds open: noticed at once if another program takes them away."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from kline_trio.errors import DamagedError, DiskError, StoreInUseError

__all__ = [
    "JournalFile",
    "StoreLock",
    "is_open_here",
    "journal_parts",
    "lock_folder",
    "refuse_special",
]

_Inode = tuple[int, int]

_OPEN_HERE: set[_Inode] = set()
"""The journals that this process has open. POSIX locks are the process's, not the descriptor's: to
close any descriptor of such a file drops the locks of SQLite (www.sqlite.org/howtocorrupt.html,
2.2), so no other code of this process may open one."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"


def journal_parts(journal: Path) -> list[Path]:
    """Return all names that SQLite opens for a journal, its own first."""
    suffixes = ("", "-wal", "-shm", "-journal")
    return [journal.with_name(journal.name + suffix) for suffix in suffixes]


def refuse_special(paths: Iterable[Path]) -> None:
    """Refuse what is no file under the name of one: to open a pipe can wait without end.

    Raises:
      DamagedError: something else than a file has one of the names.
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
    """The lock of a store: on its file, and on the folder, which outlives a deleted file."""

    path: Path
    _file: int
    _folder: int

    @classmethod
    def take(cls, path: Path) -> "StoreLock":
        """Locks the store that this file is of, until `close`.

        The file is never unlinked: two processes could then lock two files. If somebody else
        unlinks it, the lock on the folder still keeps a second process out.

        Raises:
          StoreInUseError: another process holds it.
          DamagedError: something that is no file stands in its place.
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

    def fileno(self) -> int:
        """Return the descriptor of the lock's file."""
        return self._file

    def check(self) -> None:
        """Compare the path with the file that is locked.

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
        """Lets go of the store."""
        os.close(self._file)
        os.close(self._folder)


@attrs.define(eq=False)
class JournalFile:
    """The journal's file, seen through one descriptor, which is closed after SQLite's."""

    path: Path
    _descriptor: int
    _inode: _Inode
    _times: tuple[int, int] | None = None
    """Modification time and size after our own last write."""
    _wal_bytes: int = 0
    """The size of the WAL then."""
    _is_closed: bool = attrs.field(init=False, default=False)
    _beside: dict[Path, _Inode] = attrs.field(init=False, factory=dict)
    """What SQLite has made beside the file, and removes when it closes it."""

    @classmethod
    def open(cls, path: Path) -> "JournalFile":
        """Opens the file, or makes an empty one, which is to SQLite as good as none.

        Call this before SQLite opens the file.

        Raises:
          DamagedError: something that is no file stands in its place, or beside it.
          OSError: the disk refused.
        """
        refuse_special(journal_parts(path))
        # Read-only, and with the mode that SQLite itself would use.
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
        inode = _inode(os.fstat(descriptor))
        _OPEN_HERE.add(inode)
        return cls(path, descriptor, inode)

    @property
    def is_taken_away(self) -> bool:
        """Whether a path names another file, or none, though the folder is still there.

        What SQLite shows is whole then, and is on the disk under no name that a start would find.
        """
        return self.path.parent.is_dir() and bool(self._taken_away())

    @contextlib.contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commits what the body does, or nothing; and looks at the files before and after.

        Raises:
          DiskError: as `check`. After the commit, what went into a file without a name is not
            durable, and must not be spoken of.
          sqlite3.Error: nothing was committed.
        """
        self.check()
        # IMMEDIATE: a lock that cannot be had fails here, before any work.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # After some errors, as a full disk, SQLite has rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self.note()
        self.check()

    def remove_beside(self) -> None:
        """Remove what SQLite has left beside a file that was taken away, and closed.

        Played into the file that stands in its place, the WAL would spoil that one.

        Raises:
          OSError: the disk refused.
        """
        for path, inode in self._beside.items():
            if _is_at(path, inode):
                path.unlink()

    def note(self) -> None:
        """Note how the files are after a write of our own."""
        if self._is_closed:
            return
        self._times = _times_of(os.fstat(self._descriptor))
        for suffix in ("-wal", "-shm"):
            path = self.path.with_name(self.path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                self._beside.setdefault(path, _inode(status))
                if suffix == "-wal":
                    self._wal_bytes = status.st_size

    def check(self) -> None:
        """Compare the files with what this process made of them.

        Call this while no transaction is open, since a transaction may change them.

        Raises:
          DiskError: one was deleted, moved, replaced or written to by another program.
          OSError: the disk refused.
        """
        if self._is_closed:
            # SQLite says of a closed journal what there is to say.
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
        header = os.pread(self._descriptor, _HEADER_BYTES, 0)
        if self._times != _times_of(status) or not _is_whole(header, status.st_size):
            return self.path
        for path in self._beside:
            if path.name.endswith("-wal") and path.stat().st_size < self._wal_bytes:
                return path
        return None

    def close(self) -> None:
        """Closes the descriptor; SQLite's must be closed before."""
        self._is_closed = True
        _OPEN_HERE.discard(self._inode)
        os.close(self._descriptor)


def lock_folder(folder: int) -> None:
    """Locks a folder where its file system can; elsewhere nothing happens.

    Raises:
      BlockingIOError: another descriptor has the lock.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def _is_whole(header: bytes, size_bytes: int) -> bool:
    """Whether a journal can begin like this; all of it may still be in the WAL."""
    if not size_bytes:
        return False
    page_bytes = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return header.startswith(_MAGIC) and size_bytes >= pages * page_bytes


def _is_at(path: Path, inode: _Inode) -> bool:
    try:
        return _inode(path.stat()) == inode
    except (FileNotFoundError, NotADirectoryError):
        return False


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def _times_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
