"""Make a store under a temporary name and rename it last, so an existing store is complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kline_trio.errors import ConfigError, StoreInUseError
from kline_trio.storage.disk import disk_errors, make_folders, replace, sync_folder
from kline_trio.storage.held import lock_folder
from kline_trio.storage.paths import INTERNAL


@contextlib.contextmanager
def new_store(into: Path) -> Iterator[Path]:
    """Give an empty, locked folder beside the place, and rename it to the place at the end.

    If the body fails, the folder is removed. One that a crash has left is swept. The lock keeps
    others from sweeping a folder that is in use.

    Raises:
      ConfigError: the place is taken.
      StoreInUseError: another program is making a store there.
      DiskError: the disk refused.
    """
    into = into.absolute()
    with disk_errors(into):
        with contextlib.ExitStack() as lock:
            _refuse_taken(into)
            make_folders(into.parent)
            work = _locked(into, lock)
            try:
                # Again: whoever had the lock before may have finished.
                _refuse_taken(into)
                if any(work.iterdir()) and not (work / INTERNAL).is_dir():
                    raise ConfigError([f"{work} is in the way: move it away"])
                _sweep(work)
                make_folders(work / INTERNAL)
                yield work
                replace(work, into)  # an empty folder there may go
            except BaseException:
                # A disk that fails must not hide why; what is left is swept the next time.
                with contextlib.suppress(OSError):
                    _sweep(work)
                    work.rmdir()
                raise
        sync_folder(into.parent)


def _refuse_taken(into: Path) -> None:
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConfigError([f"{into} is there already: name a folder that is not, or is empty"])
    if into.is_mount():
        raise ConfigError([f"{into} is a disk's root: name a folder on it"])


def _locked(into: Path, lock: contextlib.ExitStack) -> Path:
    """Make and lock the folder to work in."""
    work = into.with_name(f"{into.name}.unfinished")
    while True:
        make_folders(work)
        # Whoever had the lock renames or removes the folder at the end: then there is a new one.
        with contextlib.suppress(FileNotFoundError):
            folder = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            lock.callback(os.close, folder)
            try:
                lock_folder(folder)
            except BlockingIOError:
                text = f"another program is making a store in {into}: wait for its end"
                raise StoreInUseError(text) from None
            if os.path.samestat(os.fstat(folder), work.stat()):
                return work


def _sweep(work: Path) -> None:
    # Ours are empty, or have the internal folder: it is made first, and swept last.
    internal = work / INTERNAL
    if internal.is_dir():
        for path in work.iterdir():
            if path != internal:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(internal)
