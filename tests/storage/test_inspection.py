"""A store from outside: who holds it, beside writers and on odd disks; nothing is changed."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kline_trio.errors import DiskError
from kline_trio.storage import inspection
from kline_trio.storage.inspection import inspect_store, lock_holder
from kline_trio.storage.layout import DEFAULT_LAYOUT
from kline_trio.storage.store import Store
from tests.storage.support import everything_under, write_minutes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = write_minutes(tmp_path / "data", 1_500, 5)
    yield store
    store.close()


def test_what_a_store_says_of_itself(store: Store, tmp_path: Path) -> None:
    store.journal.beat(os.getpid(), {"spot": 5}, 7)
    before = everything_under(tmp_path)
    report = inspect_store(store.path)
    assert everything_under(tmp_path) == before
    assert (report.holder, report.recorder, report.heard_ms) == (os.getpid(), os.getpid(), 7)
    assert (report.layout, report.problem) == (DEFAULT_LAYOUT, "")
    assert (report.totals.files, report.totals.rows) == (1, 1_500)
    assert report.space.bytes_a_row == report.totals.size_bytes / 1_500


def test_a_store_that_is_not_there_and_one_without_a_journal(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new" / "data"):
        report = inspect_store(folder)
        assert (report.exists, report.disk.existing) == (False, tmp_path)
        assert report.disk.is_folder
        assert report.disk.free_bytes > 0
        assert report.disk.kind
    assert everything_under(tmp_path) == {}


def test_a_link_to_nowhere_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "none")
    with pytest.raises(DiskError, match="No such file or directory"):
        inspect_store(tmp_path / "data")


def test_who_holds_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process of the past nor one that only has the pid."""
    store = write_minutes(tmp_path, 1, 1)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert lock_holder(store.path) == os.getpid()
    store.close()
    assert lock_holder(store.path) is None, "it lives, and does not hold the lock"
    # Where the system lists no locks, the pid must do.
    monkeypatch.setattr(inspection, "_LOCKS", store.path / "none")
    assert lock_holder(store.path) == os.getpid()
    lock = store.path / ".kline_trio" / "lock"
    for text in (f"{dead.pid}\n", "-1", "0", "", "nonsense", "9" * 5_000):
        lock.write_text(text)
        assert lock_holder(store.path) is None
    lock.unlink()
    assert lock_holder(store.path) is None
    os.mkfifo(lock)
    assert lock_holder(store.path) is None, "and no writer of a pipe is waited for"


def test_no_lock_is_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep out a recorder that starts just now."""
    taken: list[Any] = []
    monkeypatch.setattr(fcntl, "flock", lambda *_: taken.append(1))
    inspect_store(store.path)
    assert taken == []
