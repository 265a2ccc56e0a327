"""Looking a store over: each thing that can be wrong is found, at its file and row."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kline_trio.candle import Candle, Series
from kline_trio.commands.cli import main
from kline_trio.errors import ConfigError
from kline_trio.interval import Span
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.step import Step
from kline_trio.storage.table import END, table_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    MONTHLY,
    NAME,
    SERIES,
    START_MS,
    faults,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
    row,
    write_minutes,
)


def write_rows(path: Path, series: Series, rows: list[Candle]) -> None:
    """A file as kline_trio 0.1 could have written it: with our metadata, and no seal."""
    table = table_of(series, rows)
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True)


@pytest.mark.parametrize("template", LAYOUTS)
def test_a_sound_store_has_no_faults(template: str, tmp_path: Path) -> None:
    store = open_store(tmp_path, template)
    for series in SERIES:
        rows = [make_candle(nth_open_time_ms(series, n), 1.0 + n) for n in range(50)]
        store.journal.accept(receive(series, *rows))
    merge_all(store)
    store.journal.accept(minutes(50, 60))
    found = list(check(tmp_path))
    assert [file.faults for file in found if file.faults] == []
    assert sum(file.rows for file in found) == 200
    store.close()


def test_each_step_is_told_before_it_is_done(tmp_path: Path) -> None:
    """Files are counted in bytes: some are a thousand times larger than others."""
    store = write_minutes(tmp_path, 5_000, 2)
    store.journal.accept(receive(MONTHLY, make_candle(nth_open_time_ms(MONTHLY, 0))))
    merge_all(store)
    store.close()
    first, second = sorted(tmp_path.glob("*.pqt"))
    total = first.stat().st_size + second.stat().st_size
    steps: list[Step] = []
    for file in check(tmp_path, steps.append):
        assert steps[-1].what in (file.path.name, "checking the journal")
    assert steps == [
        Step("reading the list of files"),
        Step("reading the journal"),
        Step(first.name, 0, total, "byte"),
        Step(second.name, first.stat().st_size, total, "byte"),
        Step("checking the journal"),
        Step("comparing the ledger: reading the list of files"),
        Step(f"comparing the ledger: {first.name}", 0, 2, "file"),
        Step(f"comparing the ledger: {second.name}", 1, 2, "file"),
    ]


@pytest.mark.parametrize(
    ("rows", "what", "at"),
    [
        ([row(0), row(1), row(1)], "is there twice", 2),
        ([row(0), row(2), row(1)], "is not in order", 2),
        ([row(0), row(1, open_time_ms=START_MS + 60_001)], "does not begin on the grid", 1),
        ([row(0), row(1, low=5.1)], "has a low above", 1),
        ([row(0), row(1, low=4.95, close=4.9)], "has a low above", 1),
        ([row(0), row(1), row(2, high=4.9)], "has a high below", 2),
        ([row(0), row(1), row(2, high=5.05, close=5.1)], "has a high below", 2),
        ([row(0), row(1, volume=float("nan"))], "is not finite", 1),
        (
            [row(0), row(1, close=float("inf"), high=float("inf"))],
            "has a number that is not finite",
            1,
        ),
        ([row(0), row(1, quote_volume=-1.0)], "has a negative number", 1),
        ([row(0), row(1, trade_num=-1)], "has a negative number", 1),
    ],
)
def test_a_wrong_row_is_named(rows: list[Candle], what: str, at: int, tmp_path: Path) -> None:
    write_rows(tmp_path / NAME, BTC, rows)
    [file] = faults(tmp_path)
    [fault] = file.faults
    assert file.path == tmp_path / NAME
    assert what in fault.what
    assert (fault.row, fault.begin_time_ms) == (at, rows[at].open_time_ms)


def test_rows_are_counted_over_row_groups(tmp_path: Path) -> None:
    """The last row of one group and the first of the next are neighbours too."""
    table = table_of(BTC, [row(n) for n in (0, 1, 2, 2, 3, 4)])
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / NAME, row_group_size=3, write_page_checksum=True)
    [file] = faults(tmp_path)
    assert [(fault.what, fault.row) for fault in file.faults] == [("is there twice", 3)]


def test_a_wrong_end_is_named(tmp_path: Path) -> None:
    table = table_of(MONTHLY, [make_candle(nth_open_time_ms(MONTHLY, n)) for n in range(3)])
    ends = table[END].combine_chunks()
    wrong = pa.concat_arrays([ends.slice(0, 2), ends.slice(1, 1)])
    table = table.set_column(10, table.schema.field(10), wrong)
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "months.pqt")
    [file] = faults(tmp_path)
    assert [(fault.what, fault.row) for fault in file.faults] == [
        ("does not end 1M after its begin", 2)
    ]


def test_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    write_rows(tmp_path / NAME, BTC, [row(n, low=6.0) for n in range(100)])
    [file] = faults(tmp_path)
    assert [fault.row for fault in file.faults] == [0, 1, 2, 3, 4, None]
    assert file.faults[-1].what.endswith("95 rows more")


def test_empty_values_are_named(tmp_path: Path) -> None:
    table = table_of(BTC, [row(0), row(1)])
    table = table.set_column(1, table.schema.field(1), pa.array([1.0, None]))
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / NAME)
    [file] = faults(tmp_path)
    assert [fault.what for fault in file.faults] == ["open has 1 empty value"]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """By the page's checksum, the footer's seal, or the CRC of the whole that the journal keeps."""
    write_minutes(tmp_path, 60, 0).close()
    content = (tmp_path / NAME).read_bytes()
    for bit in random.Random(5).sample(range(len(content) * 8), 300):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / NAME).write_bytes(flipped)
        assert [file.path.name for file in faults(tmp_path)] == [NAME], f"bit {bit}"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_a_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    (tmp_path / NAME).write_bytes(content)
    [file] = faults(tmp_path)
    assert any("damaged" in fault.what for fault in file.faults)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    write_minutes(tmp_path, 50, 0).close()
    whole = (tmp_path / NAME).read_bytes()
    for length in range(0, len(whole), 1_013):
        (tmp_path / NAME).write_bytes(whole[:length])
        assert [file.path.name for file in faults(tmp_path)] == [NAME]


def test_a_file_of_somebody_else_is_no_fault(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "mine.parquet")
    found = list(check(tmp_path))
    assert not any(file.faults for file in found)
    assert [file.path.name for file in found if file.is_foreign] == ["mine.parquet"]


def test_a_file_in_the_wrong_place_and_one_that_is_gone(tmp_path: Path) -> None:
    """Both by what the journal remembers; without it, a file's place is the user's choice."""
    write_minutes(tmp_path, 5, 0).close()
    (tmp_path / NAME).rename(tmp_path / "other.pqt")
    misplaced, journal = faults(tmp_path)
    assert [fault.what for fault in misplaced.faults] == [
        f"its row of 2024-01-31 00:00:00+00:00 belongs into {NAME}"
    ]
    assert [fault.what for fault in journal.faults] == [f"it knows {NAME}, which is gone"]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 500).close()
    journal = tmp_path / ".kline_trio" / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[-4_096:] = b"\x5a" * 4_096
    journal.write_bytes(content)
    assert [file.path for file in faults(tmp_path)] == [journal]


def test_a_file_that_was_replaced_by_an_older_copy_is_named(tmp_path: Path) -> None:
    """It is whole, and not the one that the journal knows."""
    store = write_minutes(tmp_path, 5, 0)
    older = (tmp_path / NAME).read_bytes()
    store.journal.accept(minutes(5, 9))
    merge_all(store)
    store.close()
    (tmp_path / NAME).write_bytes(older)
    [file] = faults(tmp_path)
    assert "CRC" in file.faults[0].what


def test_a_recorder_at_work_causes_no_faults(tmp_path: Path) -> None:
    """Files are replaced while they are looked at, and before the journal knows of it."""
    store = write_minutes(tmp_path, 5, 0)
    stop = threading.Event()

    def work() -> None:
        minute = 5
        while not stop.is_set():
            store.journal.accept(minutes(minute, minute + 1))
            merge_all(store)
            minute += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(60):
            assert faults(tmp_path) == []
    finally:
        stop.set()
        worker.join()
        store.close()


def write_table(table: pa.Table, path: Path) -> None:
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("series", [BTC, MONTHLY])
@pytest.mark.parametrize(
    ("times", "what"),
    [
        ([START_MS, 2**60], "is of a time that cannot be"),
        ([-60_000, START_MS], "is of a time that cannot be"),
        ([START_MS, None], "has 1 empty value"),
    ],
)
def test_times_that_no_calendar_reaches(
    times: list[int | None], what: str, series: Series, tmp_path: Path
) -> None:
    write_minutes(tmp_path, 5, 0).close()
    table = table_of(series, [make_candle(START_MS)] * 2)
    column = pa.array(times, pa.timestamp("ms", "UTC"))
    write_table(table.set_column(0, table.schema.field(0), column), tmp_path / "x.pqt")
    [file] = faults(tmp_path)
    assert any(what in fault.what for fault in file.faults)


def test_a_known_file_that_somebody_elses_took_the_place_of(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    pq.write_table(pa.table({"a": [1]}), tmp_path / NAME)
    [file] = faults(tmp_path)
    assert "one of spot BTCUSDT-1m was written here" in file.faults[0].what


def test_a_file_or_folder_within_a_store_is_checked_by_its_journal(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 50, 0, LAYOUTS[1])
    [file] = tmp_path.rglob("*.parquet")
    older = file.read_bytes()
    store.journal.accept(minutes(50, 60))
    merge_all(store)
    store.close()
    file.write_bytes(older)
    for path in (file, file.parent, tmp_path):
        [found] = faults(path)
        assert "CRC" in found.faults[0].what


def test_an_older_copy_is_named_while_candles_wait(tmp_path: Path) -> None:
    """A waiting candle excuses only a file that has it already."""
    store = write_minutes(tmp_path, 5, 0)
    older = (tmp_path / NAME).read_bytes()
    store.journal.accept(minutes(5, 9))
    merge_all(store)
    store.journal.accept(minutes(9, 10))
    store.close()
    (tmp_path / NAME).write_bytes(older)
    [file] = faults(tmp_path)
    assert "CRC" in file.faults[0].what


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE candle SET open_time_ms = open_time_ms + 1",
        "UPDATE candle SET low = 99",
        "UPDATE candle SET open = x'00ff'",
        "UPDATE candle SET open_time_ms = open_time_ms + (1 << 62)",
        "UPDATE series SET symbol = 'b.t/c'",
        "UPDATE state SET layout = 'nonsense'",
        "DROP TABLE file",
        "UPDATE absence SET reason = 'nonsense'",
        "UPDATE absence SET to_ms = 'nonsense'",
        "UPDATE series SET watermark_ms = 'nonsense'",
    ],
)
def test_nonsense_in_the_journal_is_named(damage: str, tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 5, 5)
    gap = Gap(BTC, Span(START_MS, START_MS + 60_000), START_MS, Reason.NOT_RECEIVED)
    store.journal.settle([gap], {BTC: SeriesAccount(START_MS, START_MS)})
    store.close()
    journal = tmp_path / ".kline_trio" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        connection.execute(damage)
        connection.commit()
    assert [file.path for file in faults(tmp_path)] == [journal]


def test_what_follows_a_damaged_row_group_is_checked_too(tmp_path: Path) -> None:
    rows = [row(n) for n in range(5)] + [row(5, low=99.0)]
    table = table_of(BTC, rows)
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    path = tmp_path / NAME
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        row_group_size=3,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    content[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    path.write_bytes(content)
    [file] = faults(tmp_path)
    assert [fault.row for fault in file.faults] == [None, 5]
    assert file.faults[0].what.startswith("rows 0 to 2: it is damaged")


def test_a_file_that_the_disk_does_not_give_is_named(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    (tmp_path / "bad.pqt").symlink_to("/proc/self/mem")
    [file] = faults(tmp_path)
    assert file.path.name == "bad.pqt"
    assert "cannot be read: Input/output error" in file.faults[0].what


def test_what_is_no_file_is_passed_by(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    os.mkfifo(tmp_path / "pipe.pqt")
    (tmp_path / "loop.pqt").symlink_to("loop.pqt")
    (tmp_path / "folder.pqt").mkdir()
    assert faults(tmp_path) == []


@pytest.mark.parametrize("name", [b"a\nb.pqt", b"back\\slash.pqt", b"x\xff.pqt"])
def test_odd_names_are_checked_and_summed(name: bytes, tmp_path: Path) -> None:
    store = tmp_path / "data"
    write_minutes(store, 5, 0).close()
    shutil.rmtree(store / ".kline_trio")
    (store / NAME).rename(os.fsdecode(os.fsencode(store) + b"/" + name))
    assert main(["check", str(store), "--manifest", str(tmp_path / "SUMS")]) == 0
    command = ["sha256sum", "--check", "--strict", str(tmp_path / "SUMS")]
    assert subprocess.run(command, cwd=store, timeout=30, check=False).returncode == 0
    [path] = store.iterdir()
    path.write_bytes(b"")
    assert main(["check", str(store)]) == 1


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file or folder"):
        list(check(tmp_path / "none"))


@pytest.fixture
def sums(tmp_path: Path) -> Callable[[], str]:
    def read() -> str:
        return (tmp_path / "SUMS").read_text(encoding="utf-8")

    return read


def test_the_command_says_all_good_and_writes_sums(
    tmp_path: Path, sums: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The sums are in the format of sha256sum, and are those of the files."""
    store = tmp_path / "data"
    write_minutes(store, 30, 2, LAYOUTS[1]).close()
    assert main(["check", str(store), "--manifest", str(tmp_path / "SUMS")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("checked 1 file, 30 rows, ")
    assert out.endswith("bytes: all good\n")
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", str(tmp_path / "SUMS")],
        cwd=store,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done
    assert main(["check", str(store), "--manifest"]) == 0
    assert capsys.readouterr().out == sums()


def test_the_command_names_file_and_row_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / NAME, BTC, [row(0), row(1, low=6.0)])
    assert main(["check", str(tmp_path)]) == 1
    where = f"{tmp_path / NAME}: row 1 (2024-01-31 00:01:00+00:00)"
    assert capsys.readouterr().out.splitlines() == [
        f"{where}: has a low above the open or the close",
        f"checked 1 file, 2 rows, {(tmp_path / NAME).stat().st_size:,} bytes: 1 fault",
    ]


def test_the_command_refuses_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none")]) == 2
    assert "no file or folder" in capsys.readouterr().err
