"""How the ledger gets into memory: from a journal of any version, a damaged one, or a copy."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import pytest

from kline_trio.candle import Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.interval import INTERVALS
from kline_trio.storage import ledger_index as module
from kline_trio.storage.calendar import (
    Calendar,
    CellState,
    Counts,
    Due,
    ledger_stamp,
    ledger_version,
)
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.ledger_index import LedgerIndex
from kline_trio.storage.paths import coverage_path, journal_path
from kline_trio.storage.reports import write_coverage
from tests.storage.journal.test_reader import write_version
from tests.storage.support import (
    BTC,
    CHINESE,
    COIN,
    LAYOUTS,
    MONTHLY,
    START_MS,
    absent,
    at,
    merge_all,
    minutes,
    open_accounted,
    open_store,
    span,
    write_minutes,
)

LIVE = {BTC.trade_type: Due(at(120), is_live=True)}
STOPPED = {BTC.trade_type: Due(at(120), is_live=False)}
NOT_RECEIVED = (Reason.NOT_RECEIVED,)


def counts(path: Path, now: dict[str, Due], series: Series = BTC) -> Counts:
    """All that a calendar read now has of a series."""
    found = Calendar.read(path)
    return found.totals([found.series.index(series)], now)


def settle(path: Path, *gaps: Gap, account: SeriesAccount | None = None) -> None:
    store = open_store(path)
    store.journal.settle(gaps, {BTC: account or SeriesAccount(at(0), at(100))})
    store.close()


def execute(path: Path, sql: str, values: Sequence[object] = ()) -> None:
    """Change the journal of a closed store as no recorder would."""
    with contextlib.closing(sqlite3.connect(journal_path(path))) as connection, connection:
        connection.execute(sql, values)


@pytest.mark.parametrize("source", Source)
def test_a_gap_that_the_stream_filled_late_is_complete_and_others_are_refilled(
    tmp_path: Path, source: Source
) -> None:
    settle(tmp_path, attrs.evolve(absent(3, 7, State.FILLED), filled_by=source))
    found = counts(tmp_path, {})
    if source is Source.STREAM:
        assert (found, found.state) == (Counts(100), CellState.COMPLETE)
    else:
        assert found == Counts(100, refilled=4, reasons=NOT_RECEIVED)
        assert found.state is CellState.REFILLED
    assert found.stored == 100


def test_what_the_stream_filled_late_has_no_reason_beside_a_gap_that_has_the_same(
    tmp_path: Path,
) -> None:
    late = attrs.evolve(absent(3, 7, State.FILLED), filled_by=Source.STREAM)
    settle(tmp_path, late, absent(60, 61))
    [runs] = Calendar.read(tmp_path).rows([[0]], [at(0), at(50), at(100)], {})
    lacks = Counts(50, pending=1, reasons=NOT_RECEIVED)
    assert [run.counts for run in runs] == [Counts(50), lacks]


def test_candles_after_the_watermark_are_stored_while_a_recorder_runs(tmp_path: Path) -> None:
    settle(tmp_path)
    assert counts(tmp_path, {}) == Counts(100)
    assert counts(tmp_path, LIVE) == Counts(120)
    found = counts(tmp_path, STOPPED)
    assert found == Counts(120, unaccounted=20)
    assert (found.state, found.stored) == (CellState.UNACCOUNTED, 100)
    earlier = {"spot": Due(at(50), is_live=False)}
    assert counts(tmp_path, earlier) == Counts(100)


def test_a_gap_after_the_watermark_is_accounted_for(tmp_path: Path) -> None:
    settle(tmp_path, absent(110, 115))
    assert counts(tmp_path, LIVE) == Counts(120, pending=5, reasons=NOT_RECEIVED)
    found = counts(tmp_path, STOPPED)
    assert found == Counts(120, pending=5, unaccounted=15, reasons=NOT_RECEIVED)


def test_a_recorder_that_began_lately_has_not_looked_at_old_watermarks(tmp_path: Path) -> None:
    settle(tmp_path)
    for began, unaccounted in ((90, 0), (101, 0), (102, 20), (119, 20)):
        now = {"spot": Due(at(120), is_live=True, began_ms=at(began))}
        assert counts(tmp_path, now).unaccounted == unaccounted, began


def test_a_recorder_that_was_killed_judged_candles_until_its_last_heartbeat(tmp_path: Path) -> None:
    settle(tmp_path)
    for heard, unaccounted in ((90, 20), (106, 15), (115, 6), (116, 20)):
        now = {"spot": Due(at(120), is_live=False, heard_ms=at(heard))}
        assert counts(tmp_path, now).unaccounted == unaccounted, heard


def test_a_retired_series_is_due_up_to_its_watermark(tmp_path: Path) -> None:
    settle(tmp_path, account=SeriesAccount(at(0), at(100), at(100)))
    assert counts(tmp_path, LIVE) == counts(tmp_path, STOPPED) == Counts(100)


def test_gaps_before_the_first_due_candle_do_not_count(tmp_path: Path) -> None:
    settle(tmp_path, absent(5, 15), account=SeriesAccount(at(10), at(20)))
    assert counts(tmp_path, {}) == Counts(10, pending=5, reasons=NOT_RECEIVED)


@pytest.mark.parametrize("name", INTERVALS)
def test_each_interval_is_counted_by_its_own_calendar(tmp_path: Path, name: str) -> None:
    series = Series("spot", "ETHUSDT", name)
    store = open_store(tmp_path)
    gap = Gap(series, span(2, 5, series), START_MS, Reason.REFUSED, State.CLOSED)
    store.journal.settle([gap], {series: SeriesAccount(at(0, series), at(40, series))})
    store.close()
    assert counts(tmp_path, {}, series) == Counts(40, absent=3, reasons=(Reason.REFUSED,))
    edges = [at(n, series) for n in range(41)]
    [runs] = Calendar.read(tmp_path).rows([[0]], edges, {})
    assert [(run.cells, run.counts.state) for run in runs] == [
        (2, CellState.COMPLETE),
        (3, CellState.ABSENT),
        (35, CellState.COMPLETE),
    ]


def test_years_of_months_are_counted_by_year(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.settle([], {MONTHLY: SeriesAccount(at(0, MONTHLY), at(36, MONTHLY))})
    store.close()
    years = [at(12 * n, MONTHLY) for n in range(5)]
    [runs] = Calendar.read(tmp_path).rows([[0]], years, {})
    assert [(run.cells, run.counts) for run in runs] == [(3, Counts(12)), (1, Counts(0))]


def test_an_hour_without_a_candle_is_not_due_even_inside_a_gap(tmp_path: Path) -> None:
    weekly = CHINESE
    store = open_store(tmp_path)
    account = SeriesAccount(at(0, weekly), at(4, weekly))
    store.journal.settle([absent(0, 3, State.CLOSED, weekly)], {weekly: account})
    store.close()
    edges = range(at(0, weekly), at(4, weekly) + 1, 3_600_000)
    [runs] = Calendar.read(tmp_path).rows([[0]], list(edges), {})
    one = Counts(1, absent=1, reasons=NOT_RECEIVED)
    cells = [(run.cells, run.counts) for run in runs]
    assert cells == [(1, one), (167, Counts(0))] * 3 + [(1, Counts(1)), (167, Counts(0))]


def test_gaps_without_an_account_are_all_that_is_known_of_a_series(tmp_path: Path) -> None:
    settle(tmp_path, absent(3, 5), absent(8, 9, State.CLOSED))
    execute(tmp_path, "UPDATE series SET first_ms = NULL, watermark_ms = NULL")
    expected = Counts(6, pending=2, absent=1, unaccounted=3, reasons=NOT_RECEIVED)
    assert counts(tmp_path, LIVE) == counts(tmp_path, STOPPED) == expected


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path, version: int) -> None:
    write_version(tmp_path, version)
    found = Calendar.read(tmp_path)
    assert found.series == ((BTC,) if version == 3 else ())
    if found.series:
        assert found.totals([0], {}) == Counts(1, pending=1, reasons=NOT_RECEIVED)
    assert ledger_version(tmp_path) == found.version


def test_gaps_of_a_damaged_journal_that_overlap_count_once(tmp_path: Path) -> None:
    settle(tmp_path, absent(3, 10), absent(20, 30, State.CLOSED))
    sql = "INSERT INTO absence VALUES (1, ?, ?, 5, 'refused', 'closed', 0, NULL)"
    execute(tmp_path, sql, [at(5), at(8)])
    execute(tmp_path, sql, [at(25), at(35)])
    found = counts(tmp_path, {})
    assert (found.pending, found.absent, found.stored) == (7, 15, 78)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE absence SET reason = 'nonsense'",
        "UPDATE absence SET state = 'nonsense'",
        "UPDATE absence SET filled_by = 'nonsense'",
        "UPDATE absence SET from_ms = 'nonsense'",
        "UPDATE absence SET to_ms = 1.5",
        "UPDATE absence SET series_id = 77",
        "UPDATE series SET symbol = '../up'",
        "UPDATE series SET time_interval = '7m'",
        "UPDATE series SET watermark_ms = 'nonsense'",
    ],
)
def test_nonsense_in_a_journal_is_an_error_that_says_so(tmp_path: Path, sql: str) -> None:
    settle(tmp_path, absent(3, 5))
    execute(tmp_path, sql)
    with pytest.raises(KlineTrioError, match="is damaged"):
        Calendar.read(tmp_path)
    ledger_version(tmp_path)


@pytest.mark.parametrize("moment", [-(2**63), -1, 2**62, 2**63 - 1])
def test_times_beyond_all_calendars_do_no_harm(tmp_path: Path, moment: int) -> None:
    settle(tmp_path, absent(3, 5))
    execute(tmp_path, "UPDATE absence SET to_ms = ?", [moment])
    assert counts(tmp_path, LIVE).due == 120
    execute(tmp_path, "UPDATE series SET first_ms = ?", [moment])
    assert counts(tmp_path, LIVE).stored >= 0


def test_a_file_that_is_no_journal_is_an_error(tmp_path: Path) -> None:
    settle(tmp_path)
    journal_path(tmp_path).write_bytes(b"no database" * 1_000)
    for read in (Calendar.read, ledger_version):
        with pytest.raises(KlineTrioError):
            read(tmp_path)


def test_the_version_tells_each_change_of_the_ledger(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, 50)
    versions = [ledger_version(tmp_path)]
    for gaps, accounts in (
        ([absent(3, 5)], {}),
        ([absent(8, 9, State.CLOSED)], {}),
        ([absent(10, 12, series=COIN)], {}),
        ([], {BTC: SeriesAccount(at(0), at(60))}),
        ([], {BTC: SeriesAccount(at(0), at(60), at(60))}),
    ):
        store.journal.settle(gaps, accounts)
        assert ledger_version(tmp_path) == Calendar.read(tmp_path).version
        versions.append(ledger_version(tmp_path))
    assert len(set(versions)) == len(versions)
    store.journal.accept(minutes(3, 4))  # fills a part of a gap
    assert ledger_version(tmp_path) not in versions
    versions.append(ledger_version(tmp_path))
    store.journal.accept(minutes(60, 61))
    assert ledger_version(tmp_path) == versions[-1]
    store.close()


def test_another_store_in_the_place_of_one_has_another_version(tmp_path: Path) -> None:
    """Both begin and end at the same time, as two that were started and stopped together."""
    for name, one in (("btc", BTC), ("eth", attrs.evolve(BTC, symbol="ETHUSDT"))):
        store = open_store(tmp_path / name)
        store.journal.settle([], {one: SeriesAccount(at(0), at(60))})
        store.close()
    assert ledger_version(tmp_path / "btc") != ledger_version(tmp_path / "eth")


def test_the_stamp_stays_while_nothing_is_written(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, 50)
    before = ledger_stamp(tmp_path)
    Calendar.read(tmp_path)
    assert ledger_stamp(tmp_path) == before
    store.journal.settle([absent(3, 5)], {})
    assert ledger_stamp(tmp_path) != before
    store.close()
    assert ledger_stamp(tmp_path / "nowhere") != before


def test_a_recorder_may_write_meanwhile(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for n in range(1, 5):
        store.journal.settle([absent(10 * n, 10 * n + 2)], {BTC: SeriesAccount(at(0), at(10 * n))})
        assert counts(tmp_path, LIVE).pending == 2 * n
    store.close()


@pytest.mark.parametrize("template", LAYOUTS)
def test_a_copy_without_a_journal_has_the_ledger_in_its_coverage(
    tmp_path: Path, template: str
) -> None:
    """Due is what the files and the ledger speak of, and it ends there whatever the time is."""
    store = write_minutes(tmp_path, 80, 0, template)
    gaps = [absent(80, 90), attrs.evolve(absent(10, 20, State.FILLED), filled_by=Source.REST)]
    store.journal.settle(gaps, {BTC: SeriesAccount(at(0), at(90))})
    store.journal.settle([absent(2, 6, State.CLOSED, COIN)], {})
    write_coverage(tmp_path)
    store.close()
    journal_path(tmp_path).unlink()
    found = Calendar.read(tmp_path)
    assert found.series == (COIN, BTC)
    for now in (LIVE, STOPPED, {}):
        counted = found.totals([1], now)
        assert counted == Counts(90, refilled=10, pending=10, reasons=NOT_RECEIVED)
    assert found.totals([0], LIVE) == Counts(4, absent=4, reasons=NOT_RECEIVED)
    assert found.version == ledger_version(tmp_path) == Calendar.read(tmp_path).version
    coverage_path(tmp_path).unlink()
    bare = Calendar.read(tmp_path)
    assert (bare.series, bare.totals([0], LIVE)) == ((BTC,), Counts(80))
    assert bare.version == ledger_version(tmp_path) != found.version


def test_a_copy_is_another_one_when_a_file_of_it_is(tmp_path: Path) -> None:
    """One that is still being copied, or loses a file, is not shown as it was before."""
    write_minutes(tmp_path, 80, 0).close()
    journal_path(tmp_path).unlink()
    versions, stamps = [ledger_version(tmp_path)], [ledger_stamp(tmp_path)]
    assert (versions, stamps) == ([Calendar.read(tmp_path).version], [ledger_stamp(tmp_path)])
    [file] = tmp_path.glob("*.pqt")
    for change in (partial(os.utime, file, (1, 1)), file.unlink):
        change()
        versions.append(ledger_version(tmp_path))
        stamps.append(ledger_stamp(tmp_path))
    assert len(set(versions)) == len(set(stamps)) == 3


def test_a_copy_with_a_hole_that_its_ledger_does_not_explain_is_not_complete(
    tmp_path: Path,
) -> None:
    store = write_minutes(tmp_path, 30, 0)
    store.journal.settle([absent(30, 50)], {BTC: SeriesAccount(at(0), at(50))})
    store.journal.accept(minutes(50, 60))
    merge_all(store)
    write_coverage(tmp_path)
    store.close()
    journal_path(tmp_path).unlink()
    assert counts(tmp_path, LIVE) == Counts(60, pending=20, reasons=NOT_RECEIVED)
    coverage_path(tmp_path).unlink()
    bare = counts(tmp_path, LIVE)
    assert (bare, bare.state) == (Counts(60, unaccounted=60), CellState.UNACCOUNTED)


def test_candles_that_two_files_of_a_copy_have_do_not_hide_a_hole(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 10, 0)
    store.journal.accept(minutes(20, 30))
    merge_all(store)
    store.close()
    journal_path(tmp_path).unlink()
    [file] = tmp_path.glob("*.pqt")
    shutil.copyfile(file, tmp_path / "older.parquet")
    assert counts(tmp_path, LIVE) == Counts(30, unaccounted=30)


def test_a_damaged_file_of_a_copy_is_left_out(tmp_path: Path) -> None:
    write_minutes(tmp_path, 80, 0).close()
    [file] = tmp_path.glob("*.pqt")
    file.write_bytes(file.read_bytes()[:-50])
    journal_path(tmp_path).unlink()
    assert Calendar.read(tmp_path).series == ()


def test_a_damaged_coverage_is_an_error(tmp_path: Path) -> None:
    settle(tmp_path, absent(3, 5))
    write_coverage(tmp_path)
    journal_path(tmp_path).unlink()
    coverage_path(tmp_path).write_bytes(b"nonsense")
    with pytest.raises(KlineTrioError):
        Calendar.read(tmp_path)


def test_a_journal_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    settle(tmp_path, *(absent(n, n + 1) for n in range(0, 100, 7)))
    assert counts(tmp_path, {}).pending == 15
    assert len(LedgerIndex.read(tmp_path).gaps.begin) == 15
