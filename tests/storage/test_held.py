"""Files that another program takes away, or writes to, while a store is open."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kline_trio.errors import DamagedError, DiskError, StoreInUseError
from kline_trio.reading.candles import read
from kline_trio.storage import held
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import (
    INTERNAL,
    coverage_path,
    journal_path,
    lock_path,
    recovered_path,
    scratch,
)
from kline_trio.storage.reports import write_coverage
from kline_trio.storage.status import status
from tests.storage.support import (
    BTC,
    LAYOUTS,
    child_environment,
    merge_all,
    minutes,
    open_store,
    write_minutes,
)

_LOCKER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0x40000000 + 2)
    except OSError:
        print("locked")
    else:
        print("free")
"""
"""Asks for the first byte of what SQLite's readers share (www.sqlite.org/src/file/src/os.h)."""


def _beside(journal: Path, suffix: str) -> Path:
    return journal.with_name(journal.name + suffix)


def _unlink(journal: Path) -> None:
    journal.unlink()


def _move(journal: Path) -> None:
    journal.rename(journal.parents[2] / "elsewhere.sqlite")


def _replace(journal: Path) -> None:
    other = journal.with_name("other")
    sqlite3.connect(other).execute("CREATE TABLE mine (n)").connection.close()
    other.rename(journal)


def _unlink_wal(journal: Path) -> None:
    _beside(journal, "-wal").unlink()


def _unlink_shm(journal: Path) -> None:
    _beside(journal, "-shm").unlink()


def _unlink_all(journal: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _beside(journal, suffix).unlink()


def _make_a_folder(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


TAKEN_AWAY = [_unlink, _move, _replace, _unlink_wal, _unlink_shm, _unlink_all, _make_a_folder]


def _truncate(journal: Path) -> None:
    journal.write_bytes(b"")


def _overwrite(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.write(b"this is no database" * 500)


def _overwrite_in_its_own_time(journal: Path) -> None:
    status = journal.stat()
    content = journal.read_bytes()
    journal.write_bytes(bytes(len(content)))
    os.utime(journal, ns=(status.st_atime_ns, status.st_mtime_ns))


def _append(journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(b"more")


def _put_a_copy_back(journal: Path) -> None:
    """As `cp` does, which writes into the file that is there."""
    content = journal.read_bytes()
    journal.write_bytes(content)


def _truncate_wal(journal: Path) -> None:
    _beside(journal, "-wal").write_bytes(b"")


WRITTEN_TO = [
    _truncate, _overwrite, _overwrite_in_its_own_time, _append, _put_a_copy_back, _truncate_wal
]  # fmt: skip


@pytest.mark.parametrize("change", [*TAKEN_AWAY, *WRITTEN_TO])
def test_nothing_is_accepted_into_a_journal_that_is_not_ours_any_more(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    store = write_minutes(tmp_path, 2, 3)
    store.check_held()
    change(journal_path(tmp_path))
    with pytest.raises(DiskError, match=r"journal.sqlite\S* was .* the recorder had it open"):
        store.journal.accept(minutes(5, 6))
    with pytest.raises(DiskError, match="Start the recorder again"):
        store.check_held()
    with pytest.raises(DiskError):
        store.close()
    open_store(tmp_path).close()


def test_what_is_taken_away_during_a_commit_is_not_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_minutes(tmp_path, 0, 3)
    note = held.JournalFile.note

    def unlink_then_note(self: held.JournalFile) -> None:
        journal_path(tmp_path).unlink(missing_ok=True)
        note(self)

    monkeypatch.setattr(held.JournalFile, "note", unlink_then_note)
    with pytest.raises(DiskError, match="deleted"):
        store.journal.accept(minutes(3, 4))
    monkeypatch.undo()
    with pytest.raises(DiskError):
        store.close()
    # Whether it was accepted is not known to the caller; to store it is right in any case.
    assert len(read(tmp_path, *_btc())) == 4


@pytest.mark.parametrize("change", TAKEN_AWAY)
def test_a_journal_that_was_taken_away_is_written_anew_at_the_end(
    change: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_minutes(tmp_path, 2, 3)
    change(journal_path(tmp_path))
    with pytest.raises(DiskError):
        store.close()
    assert "all that it held was written anew" in caplog.text
    assert len(read(tmp_path, *_btc())) == 5
    again = open_store(tmp_path)
    assert again.journal.rows() == 3
    assert len(again.journal.files()) == 1
    merge_all(again)
    again.close()
    assert len(read(tmp_path, *_btc())) == 5
    if change is _replace:
        [kept] = (tmp_path / INTERNAL / "quarantine").rglob("journal.sqlite")
        with sqlite3.connect(kept) as other:
            assert other.execute("SELECT * FROM mine").fetchall() == []
        other.close()


def test_a_store_that_is_moved_as_a_whole_keeps_all_of_it(tmp_path: Path) -> None:
    store = write_minutes(tmp_path / "here", 2, 3)
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(DiskError, match="moved"):
        store.journal.accept(minutes(5, 6))
    with pytest.raises(DiskError):
        store.close()
    assert not (tmp_path / "here").exists()
    assert len(read(tmp_path / "there", *_btc())) == 5


def _unlink_lock(lock: Path) -> None:
    lock.unlink()


def _replace_lock(lock: Path) -> None:
    shutil.copyfile(lock, lock.with_name("other"))
    lock.with_name("other").rename(lock)


@pytest.mark.parametrize("change", [_unlink_lock, _replace_lock])
def test_a_lock_that_is_taken_away_lets_nobody_in_and_ends_its_holder(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    store = write_minutes(tmp_path, 2, 3)
    change(lock_path(tmp_path))
    with pytest.raises(StoreInUseError, match="in use"):
        open_store(tmp_path)
    with pytest.raises(StoreInUseError, match="lock was deleted or replaced"):
        store.check_held()
    with pytest.raises(StoreInUseError):
        store.close()
    open_store(tmp_path).close()
    assert len(read(tmp_path, *_btc())) == 5


def test_a_file_system_that_locks_no_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def refusing(descriptor: int, how: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(95, "Operation not supported")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", refusing)
    store = open_store(tmp_path)
    with pytest.raises(StoreInUseError):
        open_store(tmp_path)
    store.close()


def test_a_store_that_works_finds_nothing_changed(tmp_path: Path) -> None:
    """Also while others read it, and over many checkpoints."""
    store = open_store(tmp_path)
    for first in range(0, 6_000, 500):
        store.journal.accept(minutes(first, first + 500))
        store.check_held()
        with journal_view(tmp_path) as view:
            assert view.newest_ms()
        _read_elsewhere(tmp_path)
        merge_all(store)
        write_coverage(tmp_path)
        store.check_held()
    store.close()


def _read_elsewhere(path: Path) -> None:
    journal = sqlite3.connect(f"file:{journal_path(path)}?mode=ro", uri=True)
    assert journal.execute("SELECT count(*) FROM candle").fetchone() != (0,)
    journal.close()


def _is_locked(journal: Path) -> bool:
    command = [sys.executable, "-c", _LOCKER, str(journal)]
    said = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=True, timeout=30
    )
    return said.stdout == "locked\n"


def test_no_code_of_this_process_drops_the_locks_of_sqlite(tmp_path: Path) -> None:
    """Whatever closes another descriptor of the journal's file does."""
    store = write_minutes(tmp_path, 2, 3)
    journal = journal_path(tmp_path)
    assert _is_locked(journal)
    store.check_held()
    read(tmp_path, *_btc())
    # To a reader the recorder looks dead, and there is no wal-index.
    lock_path(tmp_path).write_text("999999999\n")
    read(tmp_path, *_btc())
    assert _is_locked(journal)
    _beside(journal, "-shm").unlink()
    with pytest.raises(DiskError, match="lacks the files"):
        read(tmp_path, *_btc())
    assert _is_locked(journal)
    with pytest.raises(DiskError):
        store.close()
    assert len(read(tmp_path, *_btc())) == 5


def test_what_stands_in_the_place_of_files_is_set_aside(tmp_path: Path) -> None:
    write_minutes(tmp_path, 2, 0).close()
    journal_path(tmp_path).unlink()
    journal_path(tmp_path).mkdir()
    (scratch(tmp_path) / "folder" / "below").mkdir(parents=True)
    coverage_path(tmp_path).unlink(missing_ok=True)
    coverage_path(tmp_path).mkdir()
    store = open_store(tmp_path)
    assert write_coverage(store.path) == 0
    store.close()
    aside = sorted(path.name for path in (tmp_path / INTERNAL / "quarantine").glob("*/*"))
    assert aside == ["coverage.parquet", "journal.sqlite"]
    assert list(scratch(tmp_path).iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_candle_file_s_place_can_be_taken_by_what_is_no_file(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """It is set aside: neither waited for without end nor a reason to stop."""
    store = write_minutes(tmp_path, 2, 3)
    [file] = store.journal.files()
    (tmp_path / file.path).unlink()
    make(tmp_path / file.path)
    store.journal.adopt(store.changed_files(store.journal.files()))
    make(tmp_path / file.path)
    merge_all(store)
    store.close()
    assert len(read(tmp_path, *_btc())) == 3
    assert len(list((tmp_path / INTERNAL / "quarantine").glob(f"*/{file.path}"))) == 2


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [_link_to_itself, Path.touch])
def test_what_lets_no_file_be_made_is_set_aside(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """A link to itself in the place of a file, and of its folder; and a file in the folder's."""
    store = write_minutes(tmp_path, 2, 3, LAYOUTS[2])
    [file] = store.journal.files()
    places = [tmp_path / file.path, tmp_path / file.path.parent, tmp_path / "klines"]
    for nth, place in enumerate(places, 1):
        for again in (False, True):
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            make(place)
            if again:
                store.journal.accept(minutes(5 + nth, 6 + nth))
                merge_all(store)
            else:
                store.journal.adopt(store.changed_files(store.journal.files()))
                assert not os.path.lexists(place)
    store.close()
    assert read(tmp_path, *_btc())["trade_num"].count() == 1
    assert len(list((tmp_path / INTERNAL / "quarantine").iterdir())) == 6


def test_the_folder_of_temporary_files_can_be_removed(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 2, 3)
    shutil.rmtree(scratch(tmp_path))
    merge_all(store)
    shutil.rmtree(scratch(tmp_path))
    write_coverage(store.path)
    store.close()
    assert len(read(tmp_path, *_btc())) == 5


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_what_is_no_file_beside_the_journal_is_named_and_set_aside(
    suffix: str, make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To open a pipe can wait without end: in a reader, and in a recorder that no signal stops."""
    write_minutes(tmp_path, 2, 3).close()
    part = _beside(journal_path(tmp_path), suffix)
    part.unlink(missing_ok=True)
    make(part)
    with pytest.raises(DamagedError, match=f"{part.name} is damaged: it is no file"):
        status(tmp_path)
    open_store(tmp_path).close()
    assert f"{part.name} is damaged: it is no file" in caplog.text
    assert len(read(tmp_path, *_btc())) == (5 if suffix else 2)
    assert [path.name for path in (tmp_path / INTERNAL / "quarantine").glob(f"*/{part.name}")]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_lock_that_is_no_file_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    write_minutes(tmp_path, 2, 3).close()
    lock_path(tmp_path).unlink()
    make(lock_path(tmp_path))
    for job in (open_store, status):
        with pytest.raises(DamagedError, match="lock is damaged: it is no file"):
            job(tmp_path)


def test_a_pipe_takes_no_journal_s_place(tmp_path: Path) -> None:
    """A start took it for the recovered journal, and moved the good one away."""
    write_minutes(tmp_path, 2, 3).close()
    os.mkfifo(recovered_path(tmp_path))
    open_store(tmp_path).close()
    assert len(read(tmp_path, *_btc())) == 5


def _btc() -> tuple[str, str, str]:
    return BTC.trade_type, BTC.symbol, BTC.time_interval


def test_a_reader_that_holds_back_a_checkpoint_is_no_other_program(tmp_path: Path) -> None:
    # A checkpoint then writes the header of a longer file, and leaves pages at its end in the WAL.
    store = write_minutes(tmp_path, 0, 1)
    connection = store.journal._connection
    for first in range(1, 40):
        store.journal.accept(minutes(20 * first, 20 * first + 10))
        with journal_view(tmp_path):
            store.journal.accept(minutes(20 * first + 10, 20 * first + 20))
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            store.journal.file.note()
            store.journal.accept(minutes(0, 1))
    store.close()
