"""The journal: what it accepted it gives back, bit for bit, until exactly that is forgotten."""

import itertools
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.manifest import FileEntry, Totals
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.journal.reader import JournalView
from kline_trio.storage.journal.schema import JOURNAL_VERSION
from kline_trio.storage.journal.writer import Journal
from tests.storage.support import (
    BTC,
    COIN,
    SERIES,
    START_MS,
    Rows,
    apply,
    batches,
    make_candle,
    merged_file,
    minutes,
    ordered,
    receive,
)

_steps = st.one_of(
    batches(),
    st.tuples(st.sampled_from(["take", "forget"]), st.sampled_from(SERIES)),
    st.just("reopen"),
)


def revisions(journal: Journal) -> tuple[Revision, ...]:
    return JournalView(journal._connection).revisions()


def forget(journal: Journal, merged: FileEntry, taken: Iterable[PendingCandle]) -> None:
    """Forget the candles of a file that was just written."""
    journal.written.add(merged, None)
    journal.forget(merged, taken)


def _held(journal: Journal) -> dict[Series, list[Candle]]:
    return {series: [item.candle for item in journal.take(series)] for series in journal.pending()}


@settings(max_examples=40, deadline=None)
@given(st.lists(_steps, max_size=12))
def test_it_is_a_dict_that_survives(steps: list[object]) -> None:
    """Batches, duplicates, revisions, takes, forgets and reopenings in any order act on it as
    on a dict by series and open time, whose entries know when they were set.
    """
    model: dict[Series, Rows] = {}
    taken: dict[Series, tuple[PendingCandle, ...]] = {}
    taken_rows: dict[Series, Rows] = {}
    revised: dict[Series, set[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.sqlite")
        journal = Journal.open(path)
        for step in steps:
            if isinstance(step, list):
                journal.accept(step)
                apply(model, step)
                for item in step:
                    revised.setdefault(item.series, set()).add(item.candle.open_time_ms)
            elif isinstance(step, tuple) and step[0] == "take":
                taken[step[1]] = journal.take(step[1])
                taken_rows[step[1]] = dict(model.get(step[1], {}))
                revised[step[1]] = set()
            elif isinstance(step, tuple) and step[1] in taken and taken[step[1]]:
                forget(journal, merged_file(step[1]), taken[step[1]])
                for open_time_ms in set(taken_rows[step[1]]) - revised[step[1]]:
                    model[step[1]].pop(open_time_ms, None)
            elif step == "reopen":
                journal.close()
                journal = Journal.open(path)
            expected = {series: ordered(rows) for series, rows in model.items() if rows}
            # repr tells 1.0 from 1, and every float from every other.
            assert sorted(map(repr, _held(journal).items())) == sorted(map(repr, expected.items()))
            assert journal.rows() == sum(map(len, expected.values()))
        journal.close()


def test_pending_says_how_much_waits(tmp_path: Path) -> None:
    """Each waiting series is listed with its rows."""
    journal = Journal.open(tmp_path / "journal")
    journal.accept([*minutes(3, 9), *receive(COIN, make_candle(START_MS))])
    assert journal.pending() == {BTC: 6, COIN: 1}
    journal.close()


def test_a_revision_accepted_during_a_merge_stays(tmp_path: Path) -> None:
    """What was taken is forgotten by its sequence number, so a newer value is not."""
    journal = Journal.open(tmp_path / "journal")
    journal.accept(minutes(0, 2, value=1.0))
    taken = journal.take(BTC)
    journal.accept(minutes(1, 2, value=2.0))
    forget(journal, merged_file(BTC), taken)
    assert [item.candle for item in journal.take(BTC)] == [make_candle(START_MS + 60_000, 2.0)]
    journal.close()


def test_the_same_value_again_is_a_revision_too(tmp_path: Path) -> None:
    """Sequence numbers grow with every acceptance, over emptying and reopening too."""
    path = tmp_path / "journal"
    last = 0
    for _ in range(3):
        journal = Journal.open(path)
        journal.accept(minutes(0, 1))
        journal.accept(minutes(0, 2))
        taken = journal.take(BTC)
        assert all(item.sequence > last for item in taken)
        last = max(item.sequence for item in taken)
        forget(journal, merged_file(BTC), taken)
        journal.close()


def test_the_last_of_a_batch_wins(tmp_path: Path) -> None:
    """Of two equal keys in one batch the later one is kept."""
    journal = Journal.open(tmp_path / "journal")
    journal.accept([*minutes(0, 1, value=1.0), *minutes(0, 1, value=2.0)])
    assert [item.candle.open for item in journal.take(BTC)] == [2.0]
    journal.close()


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 200])
def test_each_row_of_a_long_batch_is_weighed_against_what_is_there(
    tmp_path: Path, rows: int
) -> None:
    """Rows go in by the dozen; one that replaces another value is a revision all the same."""
    journal = Journal.open(tmp_path / "journal")
    journal.accept(minutes(0, rows, value=1.0))
    assert revisions(journal) == ()
    journal.accept([*minutes(0, rows, value=1.0), *minutes(rows, 2 * rows, value=1.0)])
    assert revisions(journal) == ()
    journal.accept([*minutes(rows, 2 * rows - 1), *minutes(2 * rows - 1, 2 * rows, value=2.0)])
    [noted] = revisions(journal)
    assert (noted.older.open, noted.newer.open) == (1.0, 2.0)
    assert noted.newer.open_time_ms == START_MS + (2 * rows - 1) * 60_000
    assert [item.candle.open for item in journal.take(BTC)] == [1.0] * (2 * rows - 1) + [2.0]
    journal.close()


@pytest.mark.parametrize("values", [(1, 1, 2), (1, 2, 1), (1, 2, 3), (1, 2, 2, 1)])
@pytest.mark.parametrize("between", [0, 70])
def test_values_of_one_batch_revise_each_other(
    tmp_path: Path, values: tuple[int, ...], between: int
) -> None:
    """Wherever in the batch they are."""
    journal = Journal.open(tmp_path / "journal")
    batch: list[ReceivedCandle] = []
    for value in values:
        batch += minutes(0, 1, value=float(value))
        batch += minutes(len(batch), len(batch) + between)
    journal.accept(batch)
    noted = [(one.older.open, one.newer.open) for one in revisions(journal)]
    assert noted == [pair for pair in itertools.pairwise(values) if pair[0] != pair[1]]
    assert journal.take(BTC)[0].candle.open == values[-1]
    journal.close()


def test_a_batch_is_accepted_whole_or_not_at_all(tmp_path: Path) -> None:
    """One impossible candle takes the whole batch back, new series included."""
    journal = Journal.open(tmp_path / "journal")
    too_many = receive(COIN, make_candle(START_MS, trade_num=2**63))
    with pytest.raises(OverflowError):
        journal.accept([*minutes(0, 2), *too_many])
    assert journal.pending() == {}
    journal.accept(minutes(0, 2))
    assert len(journal.take(BTC)) == 2
    journal.close()


def test_an_empty_batch_is_nothing(tmp_path: Path) -> None:
    """Nothing to accept, and nothing of a series never seen, are no errors."""
    journal = Journal.open(tmp_path / "journal")
    journal.accept([])
    assert journal.take(COIN) == ()
    assert journal.rows() == 0
    journal.close()


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """WAL mode with synchronous=FULL: the two settings that the promise rests on."""
    journal = Journal.open(tmp_path / "journal")
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """Its tables may mean something else; the text says what to do."""
    path = tmp_path / "journal"
    Journal.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {JOURNAL_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="upgrade kline_trio"):
        Journal.open(path)
    assert path.read_bytes() == before


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    """A page of noise is noticed before anything is accepted."""
    path = tmp_path / "journal"
    journal = Journal.open(path)
    journal.accept(minutes(0, 200))
    journal.close()
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\x5a" * 4096
    path.write_bytes(content)
    with pytest.raises((DamagedError, sqlite3.DatabaseError)):
        Journal.open(path)


def test_what_a_merge_wrote_is_kept_with_what_it_forgets(tmp_path: Path) -> None:
    """The latest state of each file, by path, over reopenings."""
    path = tmp_path / "journal"
    journal = Journal.open(path)
    journal.accept([*minutes(0, 2), *receive(COIN, make_candle(START_MS))])
    first = merged_file(BTC, 2, "b.pqt")
    forget(journal, first, journal.take(BTC))
    later = attrs.evolve(first, rows=3, crc32=7)
    other = merged_file(COIN, 1, "a.pqt")
    forget(journal, later, ())
    forget(journal, other, journal.take(COIN))
    journal.close()
    journal = Journal.open(path)
    assert journal.files() == (other, later)
    assert journal.rows() == 0
    journal.close()


def test_files_are_told_of_some_series_by_the_newest_and_all_together(tmp_path: Path) -> None:
    """What a store of many years needs to know of its files are a few numbers."""
    journal = Journal.open(tmp_path / "journal")
    assert journal.totals() == Totals(0, 0, 0)
    assert journal.newest_files() == {}
    files = [merged_file(BTC, rows, f"btc/{rows}.pqt") for rows in (1, 3, 2)]
    for file in (*files, merged_file(COIN, 10, "coin.pqt")):
        forget(journal, file, ())
    assert journal.files([BTC]) == (files[0], files[2], files[1])
    assert journal.files([]) == ()
    assert journal.newest_files() == {BTC: files[1], COIN: merged_file(COIN, 10, "coin.pqt")}
    size_bytes = sum(file.size_bytes for file in journal.files())
    assert journal.totals() == Totals(4, 16, size_bytes)
    journal.close()


def test_the_layout_is_kept(tmp_path: Path) -> None:
    """Unknown at first, and then what it was told last."""
    path = tmp_path / "journal"
    journal = Journal.open(path)
    assert journal.layout() is None
    journal.remember_layout("a")
    journal.remember_layout("b")
    journal.close()
    journal = Journal.open(path)
    assert journal.layout() == "b"
    journal.close()


def test_opening_folds_the_wal_in(tmp_path: Path) -> None:
    """What a crash left in the WAL is in the database once the journal is open."""
    path = tmp_path / "journal"
    crashed = Journal.open(path)
    crashed.accept(minutes(0, 50))
    journal = Journal.open(path)
    assert (tmp_path / "journal-wal").stat().st_size == 0
    assert journal.rows() == 50
    journal.close()
    crashed.close()


def test_a_large_batch_costs_little(tmp_path: Path) -> None:
    """2,500 candles of as many series are one transaction of at most 50 ms of CPU."""
    journal = Journal.open(tmp_path / "journal")
    series = [Series("spot", f"S{n}USDT", "1m") for n in range(2_500)]
    used_seconds = []
    for minute in range(4):
        batch: list[ReceivedCandle] = []
        for one in series:
            batch += receive(one, make_candle(START_MS + minute * 60_000, 0.1 * minute))
        begin_seconds = time.process_time()
        journal.accept(batch)
        used_seconds.append(time.process_time() - begin_seconds)
    # The least: others may use this machine too.
    assert min(used_seconds) <= 0.05
    journal.close()
