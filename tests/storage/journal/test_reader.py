"""Journals of earlier versions, and one that changes while a reader copies it."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kline_trio.candle import Source
from kline_trio.errors import DamagedError, DiskError
from kline_trio.storage.journal import schema
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import journal_path
from tests.storage.support import (
    BTC,
    START_MS,
    child_environment,
    everything_under,
    make_candle,
    write_minutes,
)

_RECORDER = """
import os, sys
from pathlib import Path
from tests.storage.support import *
store = open_store(Path(sys.argv[1]))
first = int(sys.argv[2])
store.journal.accept(minutes(first, first + 300))
# All into the database, and the log begins anew.
store.journal.fold_in()
store.journal.accept(minutes(first + 300, first + 305))
os._exit(0)
"""
"""Accepts 305 candles, and leaves the newest five in the write-ahead log, as a crash would."""


def record(store: Path, first: int) -> None:
    subprocess.run(
        [sys.executable, "-c", _RECORDER, store, str(first)],
        env=child_environment(),
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("changes", [1, 2])
def test_a_copy_in_which_database_and_log_do_not_belong_together_is_made_again(
    changes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two a recorder starts, empties the log into the database, and goes on."""
    write_minutes(tmp_path, 0, 10).close()
    copyfile = shutil.copyfile
    known = [10]

    def copy_and_record(source: Path, target: Path) -> Any:  # noqa: ANN401
        copied = copyfile(source, target)
        if source == journal_path(tmp_path) and len(known) <= changes:
            record(tmp_path, known[-1])
            known.append(known[-1] + 305)
        return copied

    monkeypatch.setattr(shutil, "copyfile", copy_and_record)
    with journal_view(tmp_path) as journal:
        candles = journal.candles(BTC, 0, 2**62)
        assert journal.faults() == []
    assert len(candles) == known[-1]
    times = [candle.open_time_ms for candle, _ in candles]
    assert times == [*range(times[0], times[0] + known[-1] * 60_000, 60_000)]


def test_a_journal_that_never_stands_still_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path, 0, 10).close()
    copyfile = shutil.copyfile

    def copy_and_touch(source: Path, target: Path) -> Any:  # noqa: ANN401
        copied = copyfile(source, target)
        source.write_bytes(source.read_bytes() + bytes(4_096))
        return copied

    monkeypatch.setattr(shutil, "copyfile", copy_and_touch)
    with pytest.raises(DiskError, match="changes too fast to be copied"), journal_view(tmp_path):
        pass


def write_version(store: Path, version: int) -> Path:
    """A journal as an earlier version left it: a candle of BTC, and a gap if it had a ledger."""
    journal = journal_path(store)
    journal.parent.mkdir()
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        for step in schema._STEPS[:version]:
            connection.executescript(step)
        connection.execute(f"PRAGMA user_version = {version}")
        sql = "INSERT INTO series (trade_type, symbol, time_interval) VALUES ('spot', 'BTCUSDT', ?)"
        connection.execute(sql, ["1m"])
        candle = (START_MS, *[2.0] * 6, 7, 2.0, 2.0)
        origin = [] if version < 3 else ["rest"]
        marks = ", ".join("?" * (len(candle) + len(origin)))
        connection.execute(f"INSERT INTO candle VALUES (1, 1, {marks})", [*candle, *origin])
        if version >= 3:
            connection.execute(
                "INSERT INTO absence VALUES (1, ?, ?, 5, 'not received', 'pending', 0, NULL)",
                [START_MS - 60_000, START_MS],
            )
    return journal


@pytest.mark.parametrize("version", range(schema.JOURNAL_VERSION))
def test_a_journal_of_an_earlier_version_is_read_and_stays_as_it_is(
    version: int, tmp_path: Path
) -> None:
    if version:
        write_version(tmp_path, version)
    else:
        journal_path(tmp_path).parent.mkdir()
        journal_path(tmp_path).touch()
    before = everything_under(tmp_path)
    with journal_view(tmp_path) as journal:
        origin = Source.STREAM if version < 3 else Source.REST
        candle = [(make_candle(START_MS, 2.0), origin)] if version else []
        assert journal.candles(BTC, 0, 2**62) == candle
        assert journal.newest_ms() == ({BTC: START_MS} if version else {})
        assert len(list(journal.gaps())) == len(list(journal.gap_rows())) == (version >= 3)
        assert journal.to_compare() == ({BTC: True} if version else {})
        assert (journal.lake(), list(journal.unpublished().spans)) == (None, [BTC] * bool(version))
        assert (journal.files(), journal.revisions(), journal.accounts()) == ((), (), {})
        assert (journal.pid(), journal.layout(), journal.exchange_times()) == (None, None, {})
        assert journal.faults() == []
    assert everything_under(tmp_path) == before


def test_a_damaged_ledger_of_an_earlier_version_hides_no_candle(tmp_path: Path) -> None:
    journal = write_version(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'absence'"
        [page] = connection.execute(sql).fetchone()
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(journal.read_bytes())
    content[(page - 1) * page_bytes : page * page_bytes] = bytes([255]) * page_bytes
    journal.write_bytes(content)
    with journal_view(tmp_path) as view:
        assert len(view.candles(BTC, 0, 2**62)) == 1
    with pytest.raises(DamagedError), journal_view(tmp_path) as view:
        list(view.gaps())
