"""The store as a whole: one writer, nothing lost, every error named."""

import contextlib
import errno
import fcntl
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import attrs
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.errors import ConfigError, DiskError, StoreInUseError
from kline_trio.interval import Span
from kline_trio.reading.candles import read
from kline_trio.storage import disk, quarantine
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.journal.ledger import FetchResult
from kline_trio.storage.journal.manifest import FileEntry, Totals
from kline_trio.storage.parquet import FileMerge, plan_merges
from kline_trio.storage.space import DiskSpace
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    CHINESE,
    LAYOUTS,
    MONTHLY,
    START_MS,
    Rows,
    apply,
    batches,
    child_environment,
    make_candle,
    merge_all,
    merged_file,
    minutes,
    nth_open_time_ms,
    open_store,
    ordered,
    run_python,
    write_minutes,
)

STORES = Path(__file__).parents[1] / "stores"

_STEPS = ["plan", "write", "forget", "reopen", "crash", "merge all"]
_steps = st.one_of(batches(), st.sampled_from(_STEPS))


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(_steps, max_size=12), template=st.sampled_from(LAYOUTS))
def test_a_store_is_a_dict(steps: list[object], template: str) -> None:
    """However acceptances, the three jobs of merges, reopenings and crashes interleave, a reader
    sees at every moment what a dict by series and open time would hold, bit for bit.
    """
    model: dict[Series, Rows] = {}
    planned: list[FileMerge] = []
    written: list[tuple[FileMerge, FileEntry]] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        store = open_store(path, template)
        for step in steps:
            if isinstance(step, list):
                store.journal.accept(step)
                apply(model, step)
            elif step == "plan" and not written:
                # One merge of a file at a time, as behind the merge door.
                planned = [
                    merge
                    for series in store.journal.pending()
                    for merge in plan_merges(store.layout, series, store.journal.take(series))
                ]
            elif step == "write" and planned:
                written.append((planned[0], store.write(planned[0])))
                planned.pop(0)
            elif step == "forget" and written:
                merge, merged = written.pop(0)
                store.journal.forget(merged, merge.pending)
            elif step == "reopen":
                store.close()
                store = open_store(path, template)
                planned, written = [], []
            elif step == "crash":
                # What a kill leaves: the files of this moment, and nobody who closes them.
                left = path.with_name(path.name + "-left")
                shutil.copytree(path, left)
                store.close()
                path = left
                store = open_store(path, template)
                planned, written = [], []
            elif step == "merge all":
                merge_all(store)
                planned, written = [], []
            _check(path, model)
        merge_all(store)
        assert store.journal.rows() == 0
        store.close()
        _check(path, model)


def _check(path: Path, model: dict[Series, Rows]) -> None:
    assert set(last_end_ms(path)) == set(model)
    for series, rows in model.items():
        frame = read(path, series.trade_type, series.symbol, series.time_interval)
        expected = table_of(series, ordered(rows)).to_pandas()
        assert frame.equals(expected)


def test_a_merge_that_finishes_late_does_no_harm(tmp_path: Path) -> None:
    """Written, but not forgotten, is written again: a crash between repeats work, no more."""
    store = write_minutes(tmp_path, 0, 3)
    [merge] = plan_merges(store.layout, BTC, store.journal.take(BTC))
    store.write(merge)
    store.close()
    store = open_store(tmp_path)
    assert store.journal.rows() == 3
    merge_all(store)
    assert store.journal.rows() == 0
    store.close()
    assert len(read(tmp_path, "spot", "BTCUSDT", "1m")) == 3


def test_a_held_store_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    """A second recorder learns the path and the pid, and the first goes on unharmed."""
    store = write_minutes(tmp_path, 1, 1)
    with pytest.raises(StoreInUseError) as caught:
        open_store(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    store.journal.accept(minutes(2, 3))
    merge_all(store)
    store.close()
    open_store(tmp_path).close()
    assert (tmp_path / ".kline_trio" / "lock").exists()


def test_the_refused_sweep_nothing(tmp_path: Path) -> None:
    """Temporary files are swept at the start, but only by whoever holds the store."""
    left_over = tmp_path / ".kline_trio" / "tmp" / "half.tmp"
    store = open_store(tmp_path)
    left_over.write_bytes(b"half")
    with pytest.raises(StoreInUseError):
        open_store(tmp_path)
    assert left_over.exists()
    store.close()
    open_store(tmp_path).close()
    assert not left_over.exists()


def test_programs_that_the_holder_starts_do_not_hold_it(tmp_path: Path) -> None:
    """The lock's descriptor is closed on exec."""
    store = open_store(tmp_path)
    assert fcntl.fcntl(store._lock._file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        store.close()
        open_store(tmp_path).close()
        child.communicate(b"\n")


def test_the_folder_holds_nothing_but_candles(tmp_path: Path) -> None:
    """All else is in .kline_trio."""
    store = write_minutes(tmp_path / "data", 2, 2)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        ".kline_trio",
        "spot_BTCUSDT_1m.pqt",
    }
    store.close()


def _killed_after(code: str, path: Path) -> None:
    """Runs the code until it says so, then kills it as the kernel would."""
    program = (
        f"import sys, time\nfrom tests.storage.support import *\npath = Path(sys.argv[1])\n{code}\n"
    )
    program += "print('done', flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        env=child_environment(),
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        child.send_signal(signal.SIGKILL)
        child.wait(30)


def test_an_accepted_candle_survives_kill(tmp_path: Path) -> None:
    """SIGKILL right after `accept` returned loses nothing: it is readable at once, and is merged
    by the next start.
    """
    _killed_after("store = open_store(path)\nstore.journal.accept(minutes(0, 7, 1.5))", tmp_path)
    expected = table_of(BTC, [item.candle for item in minutes(0, 7, 1.5)]).to_pandas()
    assert read(tmp_path, "spot", "BTCUSDT", "1m").equals(expected)
    store = open_store(tmp_path)
    assert store.journal.rows() == 7
    merge_all(store)
    store.close()
    assert read(tmp_path, "spot", "BTCUSDT", "1m").equals(expected)


def test_a_kill_amid_a_merge_loses_nothing(tmp_path: Path) -> None:
    """The same with a temporary file written and the old file in place."""
    code = (
        "from kline_trio.storage import parquet\n"
        "store = write_minutes(path, 3, 4)\n"
        "parquet._verified = lambda *_: (print('done', flush=True), time.sleep(60))\n"
        "merge_all(store)"
    )
    _killed_after(code, tmp_path)
    scratch = tmp_path / ".kline_trio" / "tmp"
    assert len(list(scratch.iterdir())) == 1
    store = open_store(tmp_path)
    assert list(scratch.iterdir()) == []
    assert store.journal.rows() == 4
    assert len(read(tmp_path, "spot", "BTCUSDT", "1m")) == 7
    store.close()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """The text names the path and says what the system said."""
    path = tmp_path / "data"
    path.write_text("mine")
    with pytest.raises(DiskError, match="data: File exists"):
        open_store(path)
    with pytest.raises(DiskError, match="File exists"):
        open_store(path / "below")
    assert path.read_text() == "mine"


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """As another user than the folder's: refused with the path, and nothing changed."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        code = (
            "import os, sys\n"
            "from tests.storage.support import *\n"
            "os.setuid(65534)\n"
            "try: open_store(Path(sys.argv[1]))\n"
            "except Exception as error: print(type(error).__name__, error, flush=True)\n"
            "os._exit(0)"
        )
        said = run_python(code, name).stdout
        assert said.startswith("DiskError")
        assert f"{name}/.kline_trio: Permission denied" in said
        assert list(Path(name).iterdir()) == []


def _quarantine(path: Path) -> list[str]:
    house = path / ".kline_trio" / "quarantine"
    return sorted(str(found.relative_to(house)) for found in house.rglob("*") if found.is_file())


def test_a_journal_of_noise_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is kept and named, the files stay as they are, and recording goes on."""
    write_minutes(tmp_path, 3, 0).close()
    journal = tmp_path / ".kline_trio" / "journal.sqlite"
    noise = b"this is no database" * 500
    journal.write_bytes(noise)
    store = open_store(tmp_path)
    assert "0 candles were read from it" in caplog.text
    assert _quarantine(tmp_path) == ["0001/journal.sqlite"]
    kept = tmp_path / ".kline_trio" / "quarantine" / "0001" / "journal.sqlite"
    assert kept.read_bytes() == noise
    store.journal.accept(minutes(3, 5))
    merge_all(store)
    store.close()
    assert len(read(tmp_path, "spot", "BTCUSDT", "1m")) == 5
    assert list((tmp_path / ".kline_trio" / "tmp").iterdir()) == []


def test_the_readable_rows_of_a_damaged_journal_are_taken_over(tmp_path: Path) -> None:
    """A page of noise costs the rows on it, and no others."""
    store = write_minutes(tmp_path, 2, 2_000)
    files = store.journal.files()
    store.close()
    journal = tmp_path / ".kline_trio" / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    middle = len(content) // 4_096 // 2 * 4_096
    content[middle : middle + 4_096] = b"\x5a" * 4_096
    journal.write_bytes(content)
    store = open_store(tmp_path)
    assert _quarantine(tmp_path) == ["0001/journal.sqlite"]
    assert 1_800 <= store.journal.rows() < 2_000
    assert store.journal.files() == files
    sent = {item.candle for item in minutes(2, 2_002)}
    assert {item.candle for item in store.journal.take(BTC)} <= sent
    merge_all(store)
    store.close()
    open_store(tmp_path).close()
    assert _quarantine(tmp_path) == ["0001/journal.sqlite"]


def test_what_waited_from_rest_replaces_nothing_after_its_journal_was_damaged(
    tmp_path: Path,
) -> None:
    store = write_minutes(tmp_path, 3, 0)
    there = tuple(make_candle(START_MS + n * 60_000, 9.0) for n in range(2, 5))
    span = Span(START_MS + 2 * 60_000, START_MS + 5 * 60_000)
    store.journal.refill([FetchResult(BTC, span, there, Source.REST)])
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / ".kline_trio/journal.sqlite")) as journal:
        journal.execute("DELETE FROM state")
        journal.commit()
    store = open_store(tmp_path)
    assert _quarantine(tmp_path) == ["0001/journal.sqlite"]
    assert {item.origin for item in store.journal.take(BTC)} == {Source.REST}
    merge_all(store)
    store.close()
    assert list(read(tmp_path, "spot", "BTCUSDT", "1m")["open"]) == [1.0, 1.0, 1.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("UPDATE series SET symbol = 'b.t/c'", 0),
        ("UPDATE candle SET open = x'00ff' WHERE open_time_ms % 120000 = 0", 5),
        ("UPDATE candle SET open_time_ms = open_time_ms + (1 << 62)", 0),
        ("DELETE FROM state", 10),
    ],
)
def test_nonsense_in_the_journal_is_damage_too(damage: str, left: int, tmp_path: Path) -> None:
    """SQLite's own check finds nothing: its pages have no checksums."""
    write_minutes(tmp_path, 0, 10).close()
    with contextlib.closing(sqlite3.connect(tmp_path / ".kline_trio/journal.sqlite")) as journal:
        journal.execute(damage)
        journal.commit()
    store = open_store(tmp_path)
    assert store.journal.rows() == left
    store.journal.accept(minutes(20, 30))
    merge_all(store)
    store.close()
    assert _quarantine(tmp_path) == ["0001/journal.sqlite"]


@pytest.mark.parametrize("step", ["move_durably", "replace", "sync_folder"])
@pytest.mark.parametrize("count", range(3))
def test_taking_a_journal_over_can_be_cut_off_anywhere(
    step: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start goes on where the last one was cut off, and no row is lost by it."""
    write_minutes(tmp_path, 0, 2_000).close()
    journal = tmp_path / ".kline_trio" / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[-4_096:] = b"\x5a" * 4_096
    journal.write_bytes(content)
    where = {"replace": os, "sync_folder": disk}.get(step, quarantine)
    whole, left = getattr(where, step), count

    def cut_off(*arguments: object) -> None:
        nonlocal left
        if not left:
            raise OSError(errno.EIO, "Input/output error")
        left -= 1
        whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(where, step, cut_off)
        with contextlib.suppress(DiskError):
            open_store(tmp_path).close()
    store = open_store(tmp_path)
    assert 1_800 <= store.journal.rows() < 2_000
    store.close()
    assert {Path(name).name for name in _quarantine(tmp_path)} == {"journal.sqlite"}


def test_a_damaged_file_is_set_aside_and_recording_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it is deleted; what it held is absent, what comes is in a new file."""
    store = write_minutes(tmp_path, 5, 2)
    target = tmp_path / "spot_BTCUSDT_1m.pqt"
    content = bytearray(target.read_bytes())
    content[100] ^= 1
    target.write_bytes(content)
    merge_all(store)
    assert store.journal.rows() == 0
    assert [file.rows for file in store.journal.files()] == [2]
    store.close()
    assert len(read(tmp_path, "spot", "BTCUSDT", "1m")) == 2
    assert _quarantine(tmp_path) == ["0001/spot_BTCUSDT_1m.pqt"]
    kept = tmp_path / ".kline_trio" / "quarantine" / "0001" / "spot_BTCUSDT_1m.pqt"
    assert kept.read_bytes() == content
    assert f"moved to {kept}" in caplog.text


def test_another_layout_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A store remembers how its files are named, and the refusal harms nothing."""
    write_minutes(tmp_path, 2, 1).close()
    for _ in range(2):
        with pytest.raises(ConfigError, match="Change the layout back") as caught:
            open_store(tmp_path, LAYOUTS[1])
        assert f"python -m kline_trio relayout {tmp_path} --layout" in str(caught.value)
    open_store(tmp_path).close()


def test_the_layout_of_a_store_without_a_journal_is_told_by_its_files(tmp_path: Path) -> None:
    """Files under other names would be left behind, and their candles written twice."""
    write_minutes(tmp_path, 2, 0, LAYOUTS[1]).close()
    shutil.rmtree(tmp_path / ".kline_trio")
    with pytest.raises(ConfigError, match=r"has a file spot_BTCUSDT_1m\.pqt/2024-01\.parquet"):
        open_store(tmp_path)
    open_store(tmp_path, LAYOUTS[1]).close()


def test_a_network_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kind of the innermost mount that the folder is below."""
    mounts = [("/", "ext4"), (str(tmp_path), "xfs"), (str(tmp_path / "a"), "nfs4")]
    monkeypatch.setattr(
        psutil,
        "disk_partitions",
        lambda **_: [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts],
    )
    with pytest.raises(DiskError, match=r"network file system \(nfs4\)"):
        open_store(tmp_path / "a" / "data")
    open_store(tmp_path / "b").close()


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("9p", "C:\\134"), ("drvfs", "C:"), ("ceph", "10.0.0.1:/"), ("lustre", "mgs@tcp:/fs"),
        ("fuse.glusterfs", "host:vol"), ("davfs", "https://h/dav"), ("fuse", "https://h/dav"),
        ("vboxsf", "share"), ("fuse.s3fs", "s3fs"), ("fuse.rclone", "gdrive:"), ("CIFS", "//h/x"),
        ("fuse.sshfs", "me@host:/home"), ("fuse.strange", "host:/share"), ("fuse.vmhgfs-fuse", ""),
    ],
)  # fmt: skip
def test_every_kind_of_network_disk_is_refused(
    kind: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = SimpleNamespace(mountpoint=str(tmp_path), fstype=kind, device=source)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [mount])
    with pytest.raises(DiskError, match="is on a network file system"):
        open_store(tmp_path / "data")


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("ext4", "/dev/sda1"), ("fuseblk", "/dev/sdb1"), ("fuse.mergerfs", "/a:/b"),
        ("fuse.gocryptfs", "/home/me/secret"), ("overlay", "overlay"), ("zfs", "tank/data"),
    ],
)  # fmt: skip
def test_local_disks_are_not(
    kind: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = SimpleNamespace(mountpoint=str(tmp_path), fstype=kind, device=source)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [mount])
    open_store(tmp_path / "data").close()


@pytest.mark.parametrize("version", sorted(path.name for path in STORES.iterdir()))
def test_stores_of_earlier_versions_are_opened_and_read(version: str, tmp_path: Path) -> None:
    """Each as its version left it: 30 candles in files, then 12 in the journal, two of them
    revisions, of three series in two layouts.
    """
    for name, template in (("single", LAYOUTS[0]), ("month", LAYOUTS[1])):
        path = tmp_path / name
        shutil.copytree(STORES / version / name, path)
        expected = {
            series: [
                make_candle(nth_open_time_ms(series, n), n + (1.5 if n < 28 else 2.5))
                for n in range(40)
            ]
            for series in (BTC, CHINESE, MONTHLY)
        }
        for merge in (False, True):
            for series, rows in expected.items():
                frame = read(path, series.trade_type, series.symbol, series.time_interval)
                assert frame.equals(table_of(series, rows).to_pandas())
            store = open_store(path, template)
            assert store.journal.rows() == (0 if merge else 36)
            merge_all(store)
            store.close()


def test_a_newer_journal_is_named(tmp_path: Path) -> None:
    """The refusal of a newer store reaches the user as it is."""
    open_store(tmp_path).close()
    with contextlib.closing(
        sqlite3.connect(tmp_path / ".kline_trio" / "journal.sqlite")
    ) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"journal\.sqlite was written by a newer"):
        open_store(tmp_path)


def test_errors_of_the_disk_are_named_everywhere(tmp_path: Path) -> None:
    """Whatever door they come through, they are DiskErrors with the path and their cause."""
    store = write_minutes(tmp_path, 0, 2)
    taken = store.journal.take(BTC)
    [merge] = plan_merges(store.layout, BTC, taken)
    too_long = merge.path.with_name(f"{merge.path.name}{'x' * 300}")
    with pytest.raises(DiskError, match=r"spot_BTCUSDT_1m\.pqt") as caught:
        store.write(attrs.evolve(merge, path=too_long))
    assert isinstance(caught.value.__cause__, OSError)
    store.journal._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(DiskError, match=r"journal\.sqlite") as caught:
        store.journal.accept(minutes(2, 3))
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    with pytest.raises(DiskError, match=r"journal\.sqlite"):
        store.journal.forget(merged_file(BTC), taken)
    assert store.journal.rows() == 2
    store.close()


def test_a_closed_store_is_a_bug_to_use(tmp_path: Path) -> None:
    """Misuse is not disguised as a failing disk."""
    store = open_store(tmp_path)
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.journal.accept(minutes(0, 1))


def test_the_folders_above_are_made(tmp_path: Path) -> None:
    """A path that is missing altogether is made, and is absolute in the store."""
    store = open_store(tmp_path / "a" / "b" / "c")
    assert store.path == tmp_path / "a" / "b" / "c"
    store.close()


def test_days_follow_from_rows_a_day() -> None:
    assert DiskSpace(1_440 * 40, 40).days_left([BTC]) == pytest.approx(1)
    assert DiskSpace(1_440 * 40 * 10, 40).days_left([BTC, BTC]) == pytest.approx(5)
    assert DiskSpace(400, 40).days_left([MONTHLY]) == pytest.approx(10 * 30.44, rel=0.01)
    assert DiskSpace(400, 40).days_left([]) == math.inf


def test_a_row_takes_what_rows_in_long_files_take() -> None:
    """Short files are mostly footers: then 48 bytes are taken for granted."""
    assert DiskSpace.beside(Totals(2, 2_000, 60_000), 7) == DiskSpace(7, 30)
    assert DiskSpace.beside(Totals(2, 1_999, 60_000), 7) == DiskSpace(7, 48)
    assert DiskSpace.beside(Totals(0, 0, 0), 7) == DiskSpace(7, 48)


def test_a_store_tells_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    store = write_minutes(tmp_path, 1_500, 3)
    [file] = store.journal.files()
    assert store.room() == DiskSpace(10**9, file.size_bytes / 1_500)
    store.close()


def test_a_disk_that_does_not_say_its_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> int:
        raise OSError(5, "Input/output error")

    store = open_store(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", refuse)
    with pytest.raises(DiskError, match="Input/output error"):
        store.room()
    store.close()
