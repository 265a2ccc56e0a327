"""What every durable write needs of the operating system."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kline_trio.errors import DiskError

__all__ = ["disk_errors", "make_folders", "sync_file", "sync_folder"]

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


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system raise into a DiskError that names the path.

    Misuse of SQLite, as of a closed journal, is a bug and goes through as it is.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except OSError as error:
        raise DiskError(f"{error.filename or path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise DiskError(f"{path}: {error}") from error
