"""Rows against the ledger: holes are named and repaired, files newer than the list are none."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from kline_trio.candle import Source
from kline_trio.commands.cli import main
from kline_trio.storage.journal.ledger import Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    NAME,
    START_MS,
    absent,
    child_environment,
    faults,
    merge_all,
    minutes,
    open_store,
    receive,
    row,
    write_minutes,
)


@pytest.mark.parametrize("rows", [8, 20])
def test_a_file_that_is_newer_than_the_list_is_no_fault(rows: int, tmp_path: Path) -> None:
    """A stop or a kill can come between `fill_in` and `keep_filled`, in files of any length."""
    store = write_minutes(tmp_path, 5, 0)
    store.fill_in(table_of(BTC, [row(n) for n in range(5, rows)]), BTC)
    for _ in range(2):
        assert faults(tmp_path) == []
        assert main(["check", str(tmp_path)]) == 0
        store.close()
        # With other candles waiting, too.
        store = open_store(tmp_path)
        store.journal.accept(minutes(50, 51))
    store.close()


def test_a_repair_that_is_not_listed_yet_is_no_fault(tmp_path: Path) -> None:
    """As many rows as are listed, of other values, and none of them waits: its bytes tell."""
    store = write_minutes(tmp_path, 50, 0)
    [listed] = store.journal.files()
    store.journal.accept(receive(BTC, row(7)), Source.REPAIR)
    merge_all(store)
    store.journal.list_file(listed)
    store.close()
    assert faults(tmp_path) == []


def test_bytes_that_no_checksum_covers_are_found_in_a_newer_file(tmp_path: Path) -> None:
    """Nothing reads the first four bytes; a merge would not have written these."""
    store = write_minutes(tmp_path, 5, 0)
    store.fill_in(table_of(BTC, [row(n) for n in range(5, 9)]), BTC)
    store.close()
    assert faults(tmp_path) == []
    content = bytearray((tmp_path / NAME).read_bytes())
    content[1] ^= 4
    (tmp_path / NAME).write_bytes(content)
    [file] = faults(tmp_path)
    assert [fault.what for fault in file.faults] == [
        "its CRC is not the one that it was written with"
    ]


def test_a_newer_file_after_damage_is_no_fault_where_the_ledger_tells_of_what_is_gone(
    tmp_path: Path,
) -> None:
    """The damaged one was set aside, the new one is not listed yet, and its rows are asked for."""
    store = write_minutes(tmp_path, 50, 0)
    (tmp_path / NAME).write_bytes(b"")
    store.fill_in(table_of(BTC, [row(n) for n in range(40, 60)]), BTC)
    [file] = faults(tmp_path)
    assert "the ledger does not tell of 30 that are gone" in file.faults[0].what
    store.journal.settle([absent(0, 40)], {BTC: SeriesAccount(START_MS, START_MS + 60 * 60_000)})
    assert faults(tmp_path) == []
    store.close()


_LACKING = "neither stored nor in the ledger"


def holed_store(path: Path) -> None:
    """Minutes 5 to 7 and 12 were lost in silence; 8 is pending, and 15 is pending and stored."""
    store = open_store(path)
    store.journal.accept([*minutes(0, 5), *minutes(7, 8), *minutes(9, 12)])
    merge_all(store)
    store.journal.accept(minutes(13, 20))
    account = SeriesAccount(START_MS, START_MS + 20 * 60_000)
    store.journal.settle([absent(8, 9), absent(15, 16)], {BTC: account})
    store.close()


def test_each_hole_is_named_with_series_and_span(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holed_store(tmp_path)
    [found] = faults(tmp_path)
    assert found.series == BTC
    assert main(["check", str(tmp_path)]) == 1
    *told, verdict = capsys.readouterr().out.splitlines()
    day = "spot BTCUSDT-1m: 2024-01-31"
    assert told == [
        f"{day} 00:05:00+00:00 to 2024-01-31 00:07:00+00:00: 2 candles are {_LACKING}",
        f"{day} 00:12:00+00:00 to 2024-01-31 00:13:00+00:00: 1 candle is {_LACKING}",
    ]
    assert verdict.endswith("2 faults")
    # Of a file or a folder within it, only what is there is looked at.
    assert faults(tmp_path / NAME) == []


def test_no_hole_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path)
    store.journal.accept([one for n in range(0, 100, 2) for one in minutes(n, n + 1)])
    store.journal.settle([], {BTC: SeriesAccount(START_MS, START_MS + 100 * 60_000)})
    store.close()
    assert main(["check", str(tmp_path)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 51


def test_an_older_copy_is_named_by_what_it_lacks(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 5, 0)
    older = (tmp_path / NAME).read_bytes()
    store.journal.accept(minutes(5, 9))
    merge_all(store)
    store.journal.settle([], {BTC: SeriesAccount(START_MS, START_MS + 9 * 60_000)})
    store.close()
    (tmp_path / NAME).write_bytes(older)
    file, ledger = faults(tmp_path)
    assert "the ledger does not tell of 4 that are gone" in file.faults[0].what
    assert "00:05:00+00:00 to 2024-01-31 00:09:00+00:00: 4 candles" in ledger.faults[0].what


def test_repair_writes_the_gaps_that_the_ledger_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holed_store(tmp_path)
    assert main(["check", str(tmp_path), "--repair"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "spot BTCUSDT-1m: 3 candles are gaps of the ledger now",
        "spot BTCUSDT-1m: 1 pending candle was stored",
        "repaired: 3 candles named, 1 set to filled; a recorder will ask for the gaps",
    ]
    with journal_view(tmp_path) as journal:
        rows = [(one.span.from_ms - START_MS, one.reason, one.state) for one in journal.gaps()]
    assert rows == [
        (5 * 60_000, Reason.FOUND_MISSING, State.PENDING),
        (8 * 60_000, Reason.NOT_RECEIVED, State.PENDING),
        (12 * 60_000, Reason.FOUND_MISSING, State.PENDING),
        (15 * 60_000, Reason.NOT_RECEIVED, State.FILLED),
    ]
    assert main(["check", str(tmp_path), "--repair"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "repaired: 0 candles named, 0 set to filled"
    assert main(["check", str(tmp_path)]) == 0


def test_repair_leaves_a_store_alone_that_a_recorder_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holed_store(tmp_path)
    store = open_store(tmp_path)
    assert main(["check", str(tmp_path), "--repair"]) == 75
    assert "is in use by the recorder with pid" in capsys.readouterr().err
    store.close()
    assert len(faults(tmp_path)) == 1


def test_repair_is_for_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path), "--repair"]) == 2
    assert "--repair is for stores" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_repair_that_is_killed_anywhere_can_be_done_again(tmp_path: Path) -> None:
    """At each of its statements of SQL, and then it ends as if it had not been."""
    wanted = None
    for nth in itertools.count():
        path = tmp_path / f"{nth}"
        holed_store(path)
        killed = subprocess.run(
            [sys.executable, "-c", _KILLED, path, str(nth)],
            env=child_environment(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert main(["check", str(path), "--repair"]) == 0
        with journal_view(path) as journal:
            found = list(journal.gaps())
        wanted = wanted or found
        assert found == wanted
        if killed.returncode == 0:
            break
        assert killed.returncode == -9, killed.stderr
    assert nth > 5


_KILLED = """
import os, signal, sqlite3, sys
from kline_trio.commands.cli import main
left = int(sys.argv[2])
def trace(statement):
    global left
    if statement.startswith(("UPDATE", "INSERT", "DELETE", "BEGIN IMM", "COMMIT")):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
real = sqlite3.connect
def connect(*arguments, **options):
    connection = real(*arguments, **options)
    connection.set_trace_callback(trace)
    return connection
sqlite3.connect = connect
sys.exit(main(["check", sys.argv[1], "--repair"]))
"""


def test_the_store_of_a_recorder_toml_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holed_store(tmp_path / "data")
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    assert main(["check", str(tmp_path / "recorder.toml")]) == 1
    assert "2 faults" in capsys.readouterr().out
