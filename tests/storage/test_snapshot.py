"""A snapshot: whole, at one moment, also beside a recorder."""

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kline_trio.commands.cli import main
from kline_trio.errors import ConfigError, DiskFullError, StoreInUseError
from kline_trio.storage.check import check
from kline_trio.storage.held import lock_folder
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import universe_path
from kline_trio.storage.reader import read
from kline_trio.storage.snapshot import Snapshot, snapshot
from tests.storage.support import (
    LAYOUTS,
    everything_under,
    merge_all,
    minutes,
    open_store,
    write_minutes,
)


def test_a_snapshot_is_the_store_without_its_bytes(tmp_path: Path) -> None:
    """Files are links to the same bytes, the journal is a copy; the store is untouched."""
    write_minutes(tmp_path / "data", 5, 2).close()
    universe_path(tmp_path / "data").write_bytes(b"what the symbols were")
    before = everything_under(tmp_path / "data")
    assert snapshot(tmp_path / "data", tmp_path / "copy") == Snapshot(files=1, waiting=2)
    assert everything_under(tmp_path / "data") == before
    name = "spot_BTCUSDT_1m.pqt"
    assert (tmp_path / "copy" / name).samefile(tmp_path / "data" / name)
    assert universe_path(tmp_path / "copy").samefile(universe_path(tmp_path / "data"))
    read_from = [read(tmp_path / one, "spot", "BTCUSDT", "1m") for one in ("data", "copy")]
    assert read_from[0].equals(read_from[1])
    store = open_store(tmp_path / "copy")
    assert store.journal.rows() == 2
    store.close()


def test_what_comes_later_is_not_in_it(tmp_path: Path) -> None:
    store = write_minutes(tmp_path / "data", 5, 2)
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.journal.accept(minutes(0, 20, value=9.0))
    merge_all(store)
    store.close()
    frame = read(tmp_path / "copy", "spot", "BTCUSDT", "1m")
    assert len(frame) == 7
    assert set(frame["open"]) == {1.0}


@pytest.mark.parametrize("template", LAYOUTS)
def test_beside_a_recorder_nothing_is_missed_and_nothing_is_amiss(
    template: str, tmp_path: Path
) -> None:
    store = write_minutes(tmp_path / "data", 5, 0, template)
    stop = threading.Event()
    accepted = 5

    def work() -> None:
        nonlocal accepted
        while not stop.is_set():
            store.journal.accept(minutes(accepted, accepted + 7))
            accepted += 7
            merge_all(store)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for count in range(25):
            known = accepted
            copy = tmp_path / f"copy{count}"
            snapshot(tmp_path / "data", copy)
            frame = read(copy, "spot", "BTCUSDT", "1m")
            assert len(frame) >= known
            assert len(frame) == (frame.index[-1] - frame.index[0]).total_seconds() / 60 + 1
            assert [file for file in check(copy) if file.faults] == []
    finally:
        stop.set()
        worker.join()
        store.close()
    open_store(copy, template).close()


def test_a_place_that_will_not_do_is_refused(tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for store, into, why in (
        ("data", "full", "is there already"),
        ("data", "data/copy", "inside the store"),
        ("full", "copy", "there is no store"),
    ):
        with pytest.raises(ConfigError, match=why):
            snapshot(tmp_path / store, tmp_path / into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "full"]


def test_one_that_was_cut_off_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kline_trio.storage.snapshot._keep_young_files", fail)
        with pytest.raises(KeyboardInterrupt):
            snapshot(tmp_path / "data", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert snapshot(tmp_path / "data", tmp_path / "copy").files == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_two_into_one_place_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    """The second one swept what the first had linked, and the first one told of success."""
    write_minutes(tmp_path / "data", 5, 2).close()
    told = []

    def second(*_: object) -> None:
        with pytest.raises(StoreInUseError, match="another snapshot, merge or relayout into") as no:
            snapshot(tmp_path / "data", tmp_path / "copy")
        told.append(no.value)

    assert snapshot(tmp_path / "data", tmp_path / "copy", second).files == 1
    assert told
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


@pytest.mark.parametrize("at_end", ["finished", "failed"])
def test_one_that_gets_the_lock_after_another_looks_again(
    at_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's folder got its own name, or is gone: the lock is on something else."""
    write_minutes(tmp_path / "data", 5, 2).close()
    work, into = tmp_path / "copy.unfinished", tmp_path / "copy"
    (work / ".kline_trio").mkdir(parents=True)

    def late(folder: int) -> None:
        end = into if at_end == "finished" else tmp_path / "gone"
        if not end.exists():
            work.rename(end)
        lock_folder(folder)

    monkeypatch.setattr("kline_trio.storage.unite.lock_folder", late)
    if at_end == "finished":
        with pytest.raises(ConfigError, match="is there already"):
            snapshot(tmp_path / "data", into)
        assert sorted(path.name for path in into.iterdir()) == [".kline_trio"]
    else:
        assert snapshot(tmp_path / "data", into).files == 1
    assert not work.exists()


@pytest.mark.parametrize("name", ["foo.parquet", "spot_BTCUSDT_1m.pqt"])
def test_a_damaged_file_goes_along_and_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "data" / name).write_bytes(b"junk")
    assert main(["snapshot", str(tmp_path / "data"), str(tmp_path / "copy")]) == 1
    assert f"{tmp_path / 'data' / name} is damaged" in capsys.readouterr().err
    assert (tmp_path / "copy" / name).read_bytes() == b"junk"


def test_the_command_finds_the_store_by_recorder_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["snapshot", "copy"]) == 0
    assert main(["snapshot", "recorder.toml", "copy2"]) == 0
    assert main(["snapshot", "data", "copy3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "copy3: 1 files, 2 candles in the journal"
    assert main(["snapshot", "data", "copy3"]) == 2


def test_a_file_that_is_replaced_in_the_very_moment_is_linked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a file that a rename has just taken the name from fails with ENOENT on Linux."""
    store = write_minutes(tmp_path / "data", 0, 5)
    merge_all(store)
    store.close()
    whole = Path.hardlink_to
    tries: list[Path] = []

    def replaced(link: Path, target: Path) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise FileNotFoundError(2, "No such file or directory", str(target))
        whole(link, target)

    monkeypatch.setattr(Path, "hardlink_to", replaced)
    assert snapshot(tmp_path / "data", tmp_path / "copy").files == 1
    assert len(tries) == 3


def test_what_is_merged_while_files_are_linked_is_in_the_copy_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is copied before the first file is looked at."""
    store = write_minutes(tmp_path / "data", 5, 2)
    link_to = Path.hardlink_to

    def link_and_merge(link: Path, target: Path) -> None:
        link_to(link, target)
        merge_all(store)

    monkeypatch.setattr(Path, "hardlink_to", link_and_merge)
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.close()
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7


def test_a_file_that_is_newer_than_the_copy_of_the_journal_is_told_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its candles would be damage to a file that the journal knows otherwise."""
    store = write_minutes(tmp_path / "data", 5, 2)
    link_to = Path.hardlink_to

    def merge_and_link(link: Path, target: Path) -> None:
        merge_all(store)
        link_to(link, target)

    monkeypatch.setattr(Path, "hardlink_to", merge_and_link)
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.close()
    assert [file for file in check(tmp_path / "copy") if file.faults] == []
    with journal_view(tmp_path / "copy") as journal:
        assert [file.rows for file in journal.files()] == [7]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the tests'."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=memory, prefix="kline_trio-") as name:
        yield Path(name)


def test_to_another_disk_files_are_copied(
    tmp_path: Path, other_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    universe_path(tmp_path / "data").write_bytes(b"what the symbols were")
    told: list[tuple[int, int]] = []
    made = snapshot(tmp_path / "data", other_disk / "copy", lambda *done: told.append(done))
    assert made == Snapshot(files=1, waiting=2, copied=1)
    assert told == [(1, 1)]
    assert universe_path(other_disk / "copy").read_bytes() == b"what the symbols were"
    assert [file for file in check(other_disk / "copy") if file.faults] == []
    store = open_store(other_disk / "copy")
    merge_all(store)
    store.close()
    assert len(read(other_disk / "copy", "spot", "BTCUSDT", "1m")) == 7
    assert len(read(tmp_path / "data", "spot", "BTCUSDT", "1m")) == 7
    assert main(["snapshot", str(tmp_path / "data"), str(other_disk / "copy2")]) == 0
    assert "copy2: 1 files (1 copied, not linked), 2 candles" in capsys.readouterr().out


def test_beside_a_recorder_a_copy_misses_nothing(tmp_path: Path, other_disk: Path) -> None:
    store = write_minutes(tmp_path / "data", 5, 0)
    stop = threading.Event()

    def work() -> None:
        count = 5
        while not stop.is_set():
            store.journal.accept(minutes(count, count + 7))
            merge_all(store)
            count += 7

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for count in range(5):
            copy = other_disk / f"copy{count}"
            snapshot(tmp_path / "data", copy)
            frame = read(copy, "spot", "BTCUSDT", "1m")
            assert len(frame) == (frame.index[-1] - frame.index[0]).total_seconds() / 60 + 1
            assert [file for file in check(copy) if file.faults] == []
    finally:
        stop.set()
        worker.join()
        store.close()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_files_are_copied(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    write_minutes(tmp_path / "data", 5, 2).close()
    monkeypatch.setattr(os, "link", refuse)
    assert snapshot(tmp_path / "data", tmp_path / "copy").copied == 1
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7


def test_one_that_fails_leaves_nothing_behind(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()

    def full(_: object, new: Path, **__: object) -> None:
        Path(new).write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(DiskFullError):
            snapshot(tmp_path / "data", other_disk / "copy")
    assert list(other_disk.iterdir()) == []
    monkeypatch.setattr(Path, "is_mount", lambda path: path == other_disk)
    with pytest.raises(ConfigError, match="is a disk's root"):
        snapshot(tmp_path / "data", other_disk)
