"""What every durable write needs of the operating system."""

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from kline_trio.errors import DamagedError, DiskError, NoRoomError

__all__ = [
    "disk_errors",
    "free_bytes",
    "is_damage",
    "make_folders",
    "move_durably",
    "refuse_network_disk",
    "sweep",
    "sync_file",
    "sync_folder",
]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_PROBE_BYTES = 1 << 20
_NETWORK_DISKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afpfs", "webdav", "fuse.sshfs"}
)

_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS only, where fsync stops at the drive's own memory."""


def sync_file(file: IO[bytes]) -> None:
    """Returns when the file's bytes would survive a power cut."""
    file.flush()
    _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns when the names in the folder would survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if _FULL_FSYNC is not None:
        fcntl.fcntl(descriptor, _FULL_FSYNC)
    else:
        os.fsync(descriptor)


def make_folders(folder: Path) -> None:
    """Makes the folder and those above it, where missing, to survive a power cut.

    Raises:
      OSError: one cannot be made, or a file stands in its place.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def move_durably(old: Path, new: Path) -> None:
    """Moves the file to another folder of the same file system, to survive a power cut.

    The new name is made before the old one is unmade: at no moment is there neither. A folder, as
    may stand in a file's place, can have one name only, and is renamed.
    """
    make_folders(new.parent)
    if old.is_dir() and not old.is_symlink():
        old.rename(new)
        sync_folder(new.parent)
        sync_folder(old.parent)
        return
    new.hardlink_to(old)
    sync_folder(new.parent)
    old.unlink()
    sync_folder(old.parent)


def sweep(folder: Path) -> None:
    """Removes all that is in the folder of temporary files, whatever it is.

    Raises:
      OSError: the disk refused.
    """
    for left_over in folder.iterdir():
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over)
        else:
            left_over.unlink()


def free_bytes(folder: Path) -> int:
    """How many bytes the folder's file system has left for us."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def refuse_network_disk(folder: Path) -> None:
    """Refuses a folder on NFS, CIFS and the like: locks and the WAL cannot be trusted there.

    (www.sqlite.org/wal.html: "WAL does not work over a network filesystem".)

    Raises:
      DiskError: it is on one.
    """
    real = folder.resolve()
    kinds = {
        partition.mountpoint: partition.fstype
        # Of two that are mounted on the same point, the later one is seen.
        for partition in psutil.disk_partitions(all=True)
    }
    for place in (real, *real.parents):
        kind = kinds.get(str(place))
        if kind is not None:
            if kind.lower() in _NETWORK_DISKS:
                raise DiskError(
                    f"{folder} is on a network file system ({kind}), where a store can be torn:"
                    " keep it on a local disk, and copy snapshots of it over the network"
                )
            return


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system raise into a DiskError that names the path.

    It is a NoRoomError where the disk is full or read-only, a DamagedError where SQLite finds
    its file damaged. Misuse of SQLite, as of a closed journal, is a bug and goes through as it is.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except OSError as error:
        kind = NoRoomError if error.errno in _NO_ROOM else DiskError
        raise kind(f"{error.filename or path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise _kind(error, path.parent)(f"{path}: {error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite found its file damaged, and not the disk refusing to read or write it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return (
        code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
    )


def _kind(error: sqlite3.Error, folder: Path) -> type[DiskError]:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return NoRoomError
    if is_damage(error):
        return DamagedError
    # A failed sync is not among them: the system may have thrown away what it was to write.
    may_be_room = (
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    )
    by_class = code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    if (code in may_be_room or by_class) and not _has_room(folder):
        return NoRoomError
    return DiskError


def _has_room(folder: Path) -> bool:
    """Whether a file can be written there now.

    SQLite calls a full quota and a read-only file system by the same name as a broken disk.
    """
    probe = folder / "probe.tmp"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            sync_file(file)
    except OSError as error:
        return error.errno not in _NO_ROOM
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True
