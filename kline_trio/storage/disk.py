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

from kline_trio.errors import DamagedError, DiskError, DiskFullError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
RESOURCE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
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
"""Errors of link(2) after which a file can still be copied."""
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


def refuse_network_disk(folder: Path) -> None:
    """Refuse a folder on NFS, CIFS and the like, where locks and the WAL cannot be trusted.

    The disks of a virtual machine's host count as such, as `/mnt/c` under WSL.

    (www.sqlite.org/wal.html: "WAL does not work over a network filesystem".)

    Raises:
      DiskError: it is on one.
    """
    real = folder.resolve()
    # If two are mounted on the same point, the later one is visible.
    mounted = {one.mountpoint: one for one in psutil.disk_partitions(all=True)}
    found = next(filter(None, (mounted.get(str(one)) for one in (real, *real.parents))), None)
    if found is None:
        return
    kind = found.fstype.lower()
    # davfs2 and some others can be told only by what they mount, as https://host/folder.
    if kind.removeprefix("fuse.") in _NETWORK_DISKS or (
        kind.startswith("fuse") and _NETWORK_SOURCE.match(found.device)
    ):
        raise DiskError(
            f"{folder} is on a network file system ({found.fstype}), where a store can be"
            " torn: keep it on a local disk, and copy snapshots of it over the network"
        )


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and the system into a DiskError that names the path.

    Misuse of SQLite, as of a closed journal, is a bug and passes; so do `RESOURCE_ERRORS`.

    Raises:
      DiskFullError: the disk is full or read-only.
      DamagedError: SQLite found its file damaged.
      DiskError: any other error of the disk.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except OSError as error:
        if error.errno in RESOURCE_ERRORS:
            raise
        kind = DiskFullError if error.errno in _NO_ROOM else DiskError
        raise kind(f"{error.filename or path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
            check_descriptors(path)
        raise _kind(error, path.parent)(f"{path}: {error}") from error


def check_descriptors(path: Path) -> None:
    """Find out whether SQLite had too few descriptors, which its own error does not say.

    Raises:
      OSError: the system gives fewer descriptors than SQLite needs; it names the path.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_SQLITE_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether SQLite found its file damaged, rather than a disk that refuses."""
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
    """Return whether a file can be written in the folder now.

    SQLite has the same code for a full quota, a read-only file system and a broken disk.
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
