"""Look at a store and its disk from outside: change nothing, take no lock, load no pyarrow."""

import os
import shutil
from pathlib import Path

import attrs
import psutil

from kline_trio.errors import ConfigError, DiskError
from kline_trio.storage.disk import disk_errors, refuse_network_disk
from kline_trio.storage.journal.manifest import Totals
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import journal_path, lock_path
from kline_trio.storage.space import DiskSpace

_LOCKS = Path("/proc/locks")
"""Linux lists all locks here."""


@attrs.frozen(kw_only=True)
class DiskReport:
    """The file system below a store's folder."""

    folder: Path
    """The store's folder, absolute; it need not exist."""
    existing: Path
    """The folder itself, or the nearest one above that exists."""
    kind: str = ""
    """The name of the file system, such as `ext4`; empty if the system does not say."""
    is_network: bool = False
    """Whether a store is refused there: locks and the WAL cannot be trusted."""
    is_folder: bool = True
    """Whether `existing` is a folder."""
    is_writable: bool = True
    """Whether this user may make files in `existing`."""
    free_bytes: int = 0
    """What the file system has left for this user."""


@attrs.frozen(kw_only=True)
class StoreReport:
    """What a store says of its disk, itself and its recorder."""

    disk: DiskReport
    totals: Totals = attrs.field(factory=lambda: Totals(0, 0, 0))
    """Of the files in the manifest."""
    exists: bool = False
    """Whether the store has a journal."""
    holder: int | None = None
    """The pid of the process that holds the store's lock; None: no process does."""
    recorder: int | None = None
    """The pid of the recorder that has not ended in an orderly way; it may be dead."""
    heard_ms: int | None = None
    """The local time of the last recorder's last heartbeat."""
    layout: str | None = None
    """The template of its file names; None: not known."""
    problem: str = ""
    """Why the journal cannot be read."""

    @property
    def space(self) -> DiskSpace:
        """The free space, and how much of it a row takes."""
        return DiskSpace.beside(self.totals, self.disk.free_bytes)


def inspect_store(store_path: Path) -> StoreReport:
    """Return what is known of a store, also while a recorder writes, and if there is none.

    Raises:
      DiskError: the disk refused.
    """
    folder = store_path.absolute()
    with disk_errors(folder):
        report = StoreReport(disk=_inspect_disk(folder))
        if not journal_path(folder).exists():
            return report
        report = attrs.evolve(report, exists=True, holder=lock_holder(folder))
        try:
            with journal_view(folder) as journal:
                files = journal.files()
                rows, size_bytes = (
                    sum(one.rows for one in files),
                    sum(one.size_bytes for one in files),
                )
                return attrs.evolve(
                    report,
                    totals=Totals(len(files), rows, size_bytes),
                    recorder=journal.pid(),
                    heard_ms=journal.exchange_times().get("", (0, None))[1],
                    layout=journal.layout(),
                )
        except (ConfigError, DiskError) as error:
            return attrs.evolve(report, problem=str(error))


def _inspect_disk(folder: Path) -> DiskReport:
    existing = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    report = DiskReport(folder=folder, existing=existing, kind=_kind(folder))
    try:
        refuse_network_disk(folder)
    except DiskError:
        report = attrs.evolve(report, is_network=True)
    return attrs.evolve(
        report,
        is_folder=existing.is_dir(),
        is_writable=os.access(existing, os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(existing).free,
    )


def _kind(folder: Path) -> str:
    real = folder.resolve()
    # If two are mounted on the same point, the later one is visible.
    mounted = {one.mountpoint: one.fstype for one in psutil.disk_partitions(all=True)}
    return next(filter(None, (mounted.get(str(one)) for one in (real, *real.parents))), "")


def lock_holder(store_path: Path) -> int | None:
    """Return the pid of the process that holds the store; None: no process does.

    Do not take the lock: that would keep out a recorder that starts just now. If the system lists
    its locks, look for the store's: after a crash another process may have the pid.
    """
    lock = lock_path(store_path)
    try:
        # To read a pipe would block.
        pid = int(lock.read_text(encoding="utf-8")) if lock.is_file() else 0
        inode = lock.stat().st_ino
    except (OSError, ValueError):
        return None
    if pid <= 0:
        return None
    try:
        locks = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return pid if psutil.pid_exists(pid) else None
    return pid if any("FLOCK" in line and f":{inode} " in line for line in locks) else None
