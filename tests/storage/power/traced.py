"""A program behind the shim: does a scenario's work once, and the shim writes down its calls.

`python -m tests.storage.power.traced SCENARIO MUTANT FOLDER BASE CALL`: the store is made in
FOLDER and, as it is before the work, copied to BASE; the CALL-th call fails, if that is not 0.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kline_trio.errors import DiskError
from kline_trio.storage import disk, parquet
from kline_trio.storage import store as storage
from kline_trio.storage.journal import pending, schema
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.parquet import FileMerge
from kline_trio.storage.store import Store
from tests.storage.faults.scenario import SCENARIOS, Batch
from tests.storage.faults.shim import FAIL_ONCE, Shim

__all__ = ["MUTANTS"]

_Mark = Callable[[str], None]


def _no_file_fsync() -> None:
    parquet.sync_file = lambda file: file.flush()  # type: ignore[attr-defined]


def _no_folder_fsync() -> None:
    for module in (disk, parquet, storage):
        module.sync_folder = lambda _: None  # type: ignore[attr-defined]


def _synchronous_normal() -> None:
    schema._SETTINGS = schema._SETTINGS.replace("FULL", "NORMAL")


def _forget_before_rename() -> None:
    whole: Any = Store.write

    def write(self: Store, merge: FileMerge, known: FileEntry | None = None) -> FileEntry:
        entry = FileEntry(merge.path, merge.series, 0, 0, 0)
        self.journal.written.add(entry, None)
        self.journal.forget(entry, merge.pending)
        merged: FileEntry = whole(self, merge, known)
        return merged

    Store.write = write  # type: ignore[method-assign]


def _forget_by_key() -> None:
    pending._REMOVE = (
        "DELETE FROM candle WHERE series_id = ? AND open_time_ms = ? AND ? IS NOT NULL"
    )


def _acknowledge_before_commit() -> None:
    """What is done about it is in `main`."""


MUTANTS: dict[str, Callable[[], None]] = {
    "no file fsync": _no_file_fsync,
    "no folder fsync": _no_folder_fsync,
    "synchronous=NORMAL": _synchronous_normal,
    "forget before rename": _forget_before_rename,
    "forget by key instead of sequence": _forget_by_key,
    "acknowledge before commit": _acknowledge_before_commit,
}
"""The store with one of its precautions left out."""


def main(name: str, mutant: str, folder: Path, base: Path, call: int) -> None:
    """Does it."""
    [scenario] = [one for one in SCENARIOS if one.name == name]
    scenario.prepare(folder)
    shutil.copytree(folder, base)
    trace = os.open(os.environ["KT_SHIM_TRACE"], os.O_WRONLY | os.O_APPEND)
    early = mutant == "acknowledge before commit"

    def accept(store: Store, batch: Batch) -> None:
        if early:
            os.write(trace, b"mark\tacknowledged\n")
        store.journal.accept(batch)
        if not early:
            os.write(trace, b"mark\tacknowledged\n")

    if mutant != "none":
        MUTANTS[mutant]()
    os.write(trace, b"mark\tstart\n")
    Shim().disarm()
    if call:
        Shim().arm(FAIL_ONCE, call, errno.EIO)
    try:
        scenario.work(folder, accept)
    except DiskError:
        os.write(trace, b"mark\tfailed\n")
    # As after a crash: nothing is closed or flushed that the store did not.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(Path, sys.argv[3:5]), int(sys.argv[5]))  # type: ignore[call-arg,arg-type]
