"""Durable writes: the only module that renames and syncs, and what disk errors mean."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pyarrow as pa

from kline_trio.errors import DamagedError, DiskError, DiskFullError

__all__ = [
    "WANTS",
    "arrow_wants",
    "check_descriptors",
    "copy_durably",
    "disk_errors",
    "free_bytes",
    "is_damage",
    "link",
    "make_folders",
    "move_durably",
    "refuse_network_disk",
    "replace",
    "replace_durably",
    "sweep",
    "sync_file",
    "sync_folder",
]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
WANTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors for which the disk is not to blame; the command line says what is missing."""
_SQLITE_FILES = 4
"""Database, WAL, wal-index and a folder: what SQLite opens for a transaction."""
_NO_LINKS = frozenset(
    {
        errno.EPERM,  # vfat and exFAT; files of others, under fs.protected_hardlinks
        errno.EACCES,  # Android
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,  # of FUSE
        errno.EMLINK,
        errno.EXDEV,
    }
)
"""What link(2) says where a file can only be copied."""
_PROBE_BYTES = 1 << 20
_NETWORK_SOURCE = re.compile(r"[a-z0-9+.-]+://|[^/:\s]+:/", re.IGNORECASE)
"""`https://host/folder`, or `host:/folder`."""
_NETWORK_DISKS = frozenset(
    """
    nfs nfs4 cifs smb smb2 smb3 smbfs ncpfs afs afpfs coda ftp webdav davfs davfs2
    9p v9fs drvfs vboxsf vmhgfs vmhgfs-fuse prl_fs prl_fsd osxfs grpcfuse fakeowner
    ceph ceph-fuse lustre glusterfs beegfs fhgfs gpfs mmfs pvfs2 orangefs panfs wekafs mfs
    moosefs lizardfs seaweedfs ocfs2 gfs2 juicefs hdfs hdfs-fuse fuse_dfs cvmfs cvmfs2
    sshfs s3fs s3ql goofys mount-s3 mountpoint-s3 gcsfuse blobfuse blobfuse2 rclone curlftpfs
    smbnetfs fusesmb gvfsd-fuse google-drive-ocamlfuse onedriver
    """.split()  # noqa: SIM905 - a page of quotation marks
)
"""Kinds of file systems, with `fuse.` or without. By those of the second line a virtual machine
sees the disks of its host, as WSL sees Windows'."""

_NO_THREAD = re.compile("Failed to launch worker thread|Resource temporarily unavailable")
_NO_MEMORY = re.compile("bad_alloc|malloc of size|out of memory", re.IGNORECASE)
"""Arrow has neither types nor numbers for these errors, so their texts must do."""

_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS only, where fsync stops at the drive's own memory."""


def sync_file(file: IO[bytes]) -> None:
    """Return when the file's bytes would survive a power cut."""
    file.flush()
    _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in the folder would survive a power cut."""
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
    """Make the folder and those above it, if missing, so that they survive a power cut.

    Raises:
      OSError: one cannot be made, or a file stands in its place.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def replace(old: Path, new: Path) -> None:
    """Rename a file, or a folder onto an empty one, in place of what has the new name.

    The new name survives a power cut only after `sync_folder`.
    """
    os.replace(old, new)  # noqa: PTH105 - the word that design and tests look for


def replace_durably(old: Path, new: Path) -> None:
    """Rename a file, in place of what has the new name; the new name survives a power cut."""
    replace(old, new)
    sync_folder(new.parent)


def move_durably(old: Path, new: Path) -> None:
    """Move the file to another folder, so that it survives a power cut.

    The new name is made before the old one is removed, so the file always has a name. Where the
    file system has no hard links, or the folders are on two of them, the new file is a copy. A
    folder that stands in a file's place is renamed, since it can have one name only.
    """
    make_folders(new.parent)
    is_renamed = old.is_dir() and not old.is_symlink()
    if is_renamed:
        replace(old, new)
    elif not link(old, new):
        try:
            copy_durably(old, new)
        except FileExistsError:
            raise
        except OSError as error:
            # No room for two, or a sector that cannot be read.
            try:
                replace(old, new)
            except OSError:
                raise error from None
            is_renamed = True
    sync_folder(new.parent)
    if not is_renamed:
        old.unlink()
    sync_folder(old.parent)


def sweep(folder: Path) -> None:
    """Remove everything in the folder of temporary files.

    Raises:
      OSError: the disk refused.
    """
    for left_over in folder.iterdir():
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over)
        else:
            left_over.unlink()


def link(old: Path, new: Path) -> bool:
    """Give the file another name; False where the file system, or its owner, allows none.

    Raises:
      OSError: there is no such file, the name is taken, or the disk refused.
    """
    try:
        new.hardlink_to(old)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def copy_durably(old: Path, new: Path) -> None:
    """Copy the file; under the new name, it is whole at every moment.

    Raises:
      OSError: there is no such file, the name is taken, or the disk refused; no copy is left.
    """
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    temporary = new.with_name(f".{new.name}.tmp")
    try:
        shutil.copyfile(old, temporary)
        with contextlib.suppress(OSError):  # vfat has neither modes nor owners
            shutil.copystat(old, temporary)
        with temporary.open("rb") as file:
            sync_file(file)
        replace(temporary, new)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def free_bytes(folder: Path) -> int:
    """How many bytes the folder's file system has left for us."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def refuse_network_disk(folder: Path) -> None:
    """Refuses a folder on NFS, CIFS and the like: locks and the WAL cannot be trusted there.

    So it is with the disks of a machine that this one only runs on, as `/mnt/c` under WSL.

    (www.sqlite.org/wal.html: "WAL does not work over a network filesystem".)

    Raises:
      DiskError: it is on one.
    """
    real = folder.resolve()
    mounted = {
        partition.mountpoint: partition
        # Of two that are mounted on the same point, the later one is seen.
        for partition in psutil.disk_partitions(all=True)
    }
    for place in (real, *real.parents):
        found = mounted.get(str(place))
        if found is not None:
            kind = found.fstype.lower()
            # davfs2 and some others only show in what they mount, as https://host/folder.
            if kind.removeprefix("fuse.") in _NETWORK_DISKS or (
                kind.startswith("fuse") and _NETWORK_SOURCE.match(found.device)
            ):
                raise DiskError(
                    f"{folder} is on a network file system ({found.fstype}), where a store can be"
                    " torn: keep it on a local disk, and copy snapshots of it over the network"
                )
            return


@contextlib.contextmanager
def arrow_wants() -> Iterator[None]:
    """Turn Arrow's errors for want of threads and memory into those that Python raises for it."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        if _NO_THREAD.search(str(error)):
            # The words of `threading`, by which the command line knows it.
            raise RuntimeError("can't start new thread") from error
        if _NO_MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system raise into a DiskError that names the path.

    It is a DiskFullError where the disk is full or read-only, a DamagedError where SQLite finds
    its file damaged. Misuse of SQLite, as of a closed journal, is a bug and goes through as it is;
    so does want of descriptors and memory, which is not the disk's.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except OSError as error:
        if error.errno in WANTS:
            raise
        kind = DiskFullError if error.errno in _NO_ROOM else DiskError
        raise kind(f"{error.filename or path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
            check_descriptors(path)
        raise _kind(error, path.parent)(f"{path}: {error}") from error


def check_descriptors(path: Path) -> None:
    """Raise what SQLite does not tell apart from other reasons: it had no descriptor left.

    Raises:
      OSError: the system gives fewer than SQLite needs; it names the path.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_SQLITE_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


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
        return DiskFullError
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
        return DiskFullError
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
