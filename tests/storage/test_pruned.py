"""Months that a lake alone has are never due, absent, refilled or faults of a store."""

import json
import shutil
import sqlite3
import time
from pathlib import Path

import attrs
import pandas as pd
import pytest

import kline_trio
from kline_trio.candle import Series, Source
from kline_trio.commands.cli import main
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span
from kline_trio.monitor.page.candles import CandleQuery, candles_answer
from kline_trio.storage import catalog, copy_stores
from kline_trio.storage import holdings as holdings_module
from kline_trio.storage.calendar import Calendar, CellState, ledger_version
from kline_trio.storage.catalog import first_stored_ms, stored_table
from kline_trio.storage.copy_stores import snapshot, unite
from kline_trio.storage.gaps import gaps_found_last, stored_gaps
from kline_trio.storage.holdings import Holdings, holdings, ledger_comparisons
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.paths import journal_path
from kline_trio.storage.reports import write_coverage
from kline_trio.storage.status import status
from kline_trio.storage.store import Store
from tests.storage.support import (
    ADDRESS,
    BTC,
    COIN,
    LAYOUTS,
    MONTHLY,
    absent,
    at,
    faults,
    make_candle,
    merge_all,
    minutes,
    month_of,
    open_store,
    prune,
    receive,
    span,
)

MONTHS = LAYOUTS[1]
FIRST, NEXT, END = 1_430, 1_440, 1_460
"""BTC's minutes: January ends ten minutes after the first, and ten more are due of February."""
MONTH = month_of(rows=7)
ETH = Series("spot", "ETHUSDT", "1m")


def fill(store: Store) -> None:
    """Ten minutes of two months. In each month one is closed; in January two came over REST."""
    store.journal.settle([], {BTC: SeriesAccount(at(FIRST), at(END))})
    came = [n for n in range(FIRST, END) if n not in {1_432, 1_433, 1_434, 1_445}]
    for n in came:
        store.journal.accept(minutes(n, n + 1))
    merge_all(store)
    closed = [
        attrs.evolve(absent(n, n + 1), state=State.CLOSED, reason=Reason.EXCHANGE_HAD_NONE)
        for n in (1_434, 1_445)
    ]
    store.journal.settle([absent(1_432, 1_434), *closed], {})
    rest = tuple(make_candle(at(n)) for n in (1_432, 1_433))
    store.journal.refill([FetchResult(BTC, span(1_432, 1_434), rest, Source.REST)])
    merge_all(store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    one = open_store(tmp_path / "data", MONTHS)
    fill(one)
    return one


def look(path: Path) -> Holdings:
    [one] = holdings(path, lambda _, error: pytest.fail(str(error)))
    return one


def gaps_of(path: Path) -> list[Gap]:
    with journal_view(path) as journal:
        return list(journal.gaps())


def test_a_pruned_month_is_not_due(store: Store) -> None:
    before = gaps_of(store.path)
    prune(store, MONTH)
    found = look(store.path)
    assert found.pruned == (MONTH.span,)
    assert found.due() == (span(NEXT, END),)
    assert found.missing() == ()
    assert gaps_of(store.path) == before
    store.close()
    assert not faults(store.path)
    [one] = status(store.path).series
    assert (one.due, one.stored, one.absent, one.holes) == (20, 19, {"the exchange had none": 1}, 0)


def test_a_month_in_the_middle_makes_two_spans() -> None:
    account = SeriesAccount(at(0), at(100_000))
    one = Holdings(BTC, account, (), pruned=(month_of(month="2024-02").span,))
    first, second = one.due()
    assert first == span(0, NEXT)
    assert second == Span(month_of(month="2024-02").span.to_ms, at(100_000))


def test_a_month_that_is_pruned_during_the_look_is_no_hole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = catalog.open_files

    def prune_and_open(*values: object) -> object:
        prune(store, MONTH)
        return opened(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(holdings_module, "open_files", prune_and_open)
    assert look(store.path).missing() == ()


def test_status_tells_what_the_lake_has(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    store.journal.beat(None, {"spot": at(END)}, 1_800_000_000_000)
    store.close()
    assert main(["status", str(store.path)]) == 0
    assert "lake" not in capsys.readouterr().out
    again = open_store(store.path, MONTHS)
    prune(again, MONTH, month_of(ETH, rows=1_000))
    again.close()
    assert main(["status", str(store.path)]) == 0
    line = "in the lake alone: 2 months of 2 series, 1,007 candles, s3://bucket/klines\n"
    assert line in capsys.readouterr().out
    assert main(["status", str(store.path), "--json"]) == 0
    btc, eth = json.loads(capsys.readouterr().out)["in_lake"]
    assert eth["symbol"] == "ETHUSDT"
    assert btc == {
        "trade_type": "spot",
        "symbol": "BTCUSDT",
        "time_interval": "1m",
        "from": "2024-01-01 00:00:00+00:00",
        "to": "2024-02-01 00:00:00+00:00",
        "lake": "s3://bucket/klines",
        "version": 7,
        "rows": 7,
        "checksum": "c0ffee",
        "pruned": "2024-04-30 00:00:00+00:00",
    }


@pytest.mark.parametrize("is_copy", [False, True])
def test_the_calendar_has_nothing_due_in_a_pruned_month(store: Store, is_copy: bool) -> None:
    before = ledger_version(store.path)
    prune(store, MONTH)
    assert ledger_version(store.path) != before
    write_coverage(store.path)
    store.close()
    if is_copy:
        journal_path(store.path).unlink()
    calendar = Calendar.read(store.path)
    edges = [at(0), *(at(n) for n in (FIRST, NEXT, END, END + 1))]
    [runs] = calendar.rows([[0]], edges, {})
    states = [run.counts.state for run in runs for _ in range(run.cells)]
    assert states == [CellState.NOT_DUE, CellState.NOT_DUE, CellState.ABSENT, CellState.NOT_DUE]
    total = calendar.totals([0], {})
    assert (total.due, total.absent, total.refilled, total.unaccounted) == (20, 1, 0, 0)
    assert total.reasons == (Reason.EXCHANGE_HAD_NONE,)
    assert calendar.lacking_by_reason([0], {}) == {Reason.EXCHANGE_HAD_NONE: 1}


def test_a_gap_over_the_end_of_a_month_counts_outside(store: Store) -> None:
    store.journal.settle([absent(END, END + 5, State.CLOSED)], {})
    prune(store, attrs.evolve(MONTH, span=span(FIRST, END + 2)))
    total = Calendar.read(store.path).totals([0], {})
    assert (total.due, total.absent) == (0, 0)
    store.journal.settle([], {BTC: SeriesAccount(at(FIRST), at(END + 10))})
    total = Calendar.read(store.path).totals([0], {})
    assert (total.due, total.absent) == (8, 3)


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_gap_over_the_begin_of_a_month_counts_outside(tmp_path: Path, is_copy: bool) -> None:
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 3), *minutes(10, 20)])
    merge_all(store)
    store.journal.settle([absent(3, 8, State.CLOSED)], {BTC: SeriesAccount(at(0), at(20))})
    prune(store, attrs.evolve(MONTH, span=span(5, 10)))
    write_coverage(store.path)
    store.close()
    if is_copy:
        journal_path(store.path).unlink()
    total = Calendar.read(store.path).totals([0], {})
    assert (total.due, total.absent, total.unaccounted) == (15, 2, 0)


def test_the_coverage_has_a_row_for_each_pruned_month(store: Store) -> None:
    prune(store, MONTH)
    frame = kline_trio.coverage(store.path)
    assert list(zip(frame["from"], frame["state"], strict=True)) == sorted(
        zip(frame["from"], frame["state"], strict=True)
    )
    [row] = frame[frame["state"] == "in lake"].to_dict("records")
    assert row["reason"] == "pruned"
    assert row["from"].isoformat() == "2024-01-01T00:00:00+00:00"
    assert row["to"].isoformat() == "2024-02-01T00:00:00+00:00"
    assert row["first_seen"].value == MONTH.pruned_ms * 1_000_000
    assert (row["asked"], pd.isna(row["filled_by"])) == (0, True)
    assert set(frame["state"]) == {"in lake", "filled", "closed"}
    write_coverage(store.path)
    journal = gaps_found_last(store.path, 10)
    store.close()
    journal_path(store.path).unlink()
    assert kline_trio.coverage(store.path).equals(frame)
    assert gaps_found_last(store.path, 10) == journal
    every = stored_gaps(store.path, None, Span(0, at(END)), tuple(State), 10)
    assert {one.state for one in every} == {State.FILLED, State.CLOSED}


def test_the_coverage_is_written_when_a_month_was_pruned(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.journal.ledger_changes() == 0
    prune(store, MONTH)
    assert store.journal.ledger_changes() == 1
    prune(store, month_of(ETH))
    assert store.journal.ledger_changes() == 2
    store.close()
    assert open_store(tmp_path).journal.ledger_changes() == 2


def test_reading_a_pruned_month_names_the_lake(store: Store) -> None:
    prune(store, MONTH)
    problem = (
        "spot BTCUSDT-1m 2024-01: in the lake alone, s3://bucket/klines: read them there with"
        " lake=True, or begin after them, start='2024-02-01 00:00:00'"
    )
    for asked in ({}, {"end": "2024-01-31"}, {"start": "2024-01-31 23:59", "result": "arrow"}):
        with pytest.raises(KlineTrioError) as caught:
            kline_trio.read(store.path, "spot", "BTCUSDT", **asked)  # type: ignore[call-overload]
        assert str(caught.value) == f"{store.path}: {problem}"
    for has_lake in (False, True):
        rows = kline_trio.read(store.path, "spot", "BTCUSDT", start="2024-02", lake=has_lake)
        assert len(rows) == 19
    assert len(kline_trio.read(store.path, "spot", "BTCUSDT", end="2024-01-01")) == 0


def test_other_series_are_read_as_ever(store: Store) -> None:
    store.journal.accept(receive(ETH, make_candle(at(FIRST))))
    prune(store, MONTH)
    assert len(kline_trio.read(store.path, "spot", "ETHUSDT")) == 1
    with pytest.raises(KlineTrioError, match="BTCUSDT-1m 2024-01: in the lake"):
        kline_trio.read(store.path, "spot", symbols=["ETHUSDT", "BTCUSDT"])


def test_a_month_that_is_pruned_while_it_is_read_is_not_lost_in_silence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = catalog.open_files

    def prune_and_open(*values: object) -> object:
        prune(store, MONTH)
        return opened(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "open_files", prune_and_open)
    with pytest.raises(KlineTrioError, match="in the lake alone"):
        kline_trio.read(store.path, "spot", "BTCUSDT")


def test_a_series_in_the_lake_alone_is_listed(store: Store) -> None:
    prune(store, month_of(ETH))
    assert kline_trio.series(store.path) == [BTC, ETH]
    with pytest.raises(KlineTrioError, match="ETHUSDT-1m 2024-01: in the lake alone"):
        kline_trio.read(store.path, "spot", "ETHUSDT")


def test_a_copy_without_a_journal_knows_that_a_lake_has_them(store: Store) -> None:
    prune(store, MONTH)
    write_coverage(store.path)
    store.close()
    journal_path(store.path).unlink()
    unknown = "in the lake alone, a lake of which the store has no address"
    with pytest.raises(KlineTrioError, match=unknown):
        kline_trio.read(store.path, "spot", "BTCUSDT")
    assert len(kline_trio.read(store.path, "spot", "BTCUSDT", start="2024-02")) == 19


def test_many_months_are_named_in_few_words() -> None:
    months = [month_of(month=one) for one in ("2024-01", "2024-02", "2024-03", "2024-07")]
    others = [month_of(Series("spot", f"A{n}USDT", "1m")) for n in range(4)]
    found = InLake((*months, *others), {"lake-1": ADDRESS})
    assert str(found) == (
        "spot BTCUSDT-1m 2024-01 to 2024-03, 2024-07; spot A0USDT-1m 2024-01;"
        " spot A1USDT-1m 2024-01; months of 2 more series:"
        " in the lake alone, s3://bucket/klines"
    )
    folder = attrs.evolve(found, addresses={"lake-1": json.dumps({"folder": "/lake"})})
    assert folder.urls() == ["/lake"]
    for damaged in ("{", "[]", "{}"):
        broken = attrs.evolve(found, addresses={"lake-1": damaged})
        assert broken.urls() == ["a lake of which the store has no address"]


def test_an_export_of_a_pruned_month_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prune(store, MONTH)
    store.close()
    target = tmp_path / "all.csv"
    assert main(["export", str(store.path), "--csv", str(target)]) == 2
    assert "BTCUSDT-1m 2024-01: in the lake alone, s3://bucket/klines" in capsys.readouterr().err
    assert not target.exists()
    late = ["--start", "2024-02-01 00:00:00"]
    assert main(["export", str(store.path), "--csv", str(target), *late]) == 0
    assert len(target.read_text().splitlines()) == 1 + 19


def test_the_page_says_which_months_a_lake_alone_has(store: Store) -> None:
    prune(store, MONTH)
    query = CandleQuery(BTC, at(0), at(END), 100)
    found = json.loads(candles_answer(store.path, query, is_csv=False).body)
    assert found["in_lake"] == [[MONTH.span.from_ms, MONTH.span.to_ms]]
    assert len(found["open"]) == 19
    later = attrs.evolve(query, from_ms=at(NEXT))
    assert json.loads(candles_answer(store.path, later, is_csv=False).body)["in_lake"] == []


def unlink_january(store: Store) -> None:
    """The kill came after the file was removed, and before it was unlisted."""
    store.journal.keep_pruned([MONTH], {"lake-1": ADDRESS})
    (store.path / store.layout.path(BTC, at(FIRST))).unlink()


@pytest.mark.parametrize("template", [MONTHS, DEFAULT_LAYOUT], ids=["months", "one file"])
def test_a_kill_while_files_are_removed_makes_no_gaps(tmp_path: Path, template: str) -> None:
    store = open_store(tmp_path / "data", template)
    fill(store)
    before = gaps_of(store.path)
    if template == MONTHS:
        unlink_january(store)
    else:
        # The file is in place without its pruned month, and not yet listed.
        other = open_store(tmp_path / "other", template)
        table = stored_table(store.path, BTC, at(NEXT), at(END))
        assert table is not None
        other.fill_in(table, BTC)
        name = other.layout.path(BTC, 0)
        store.journal.keep_pruned([MONTH], {"lake-1": ADDRESS})
        shutil.copy(other.path / name, store.path / name)
        other.close()
    store.close()
    assert not faults(store.path)
    again = open_store(store.path, template)
    changed = again.changed_files(again.journal.files())
    assert len(changed) == 1
    assert again.journal.adopt(changed) == 0
    assert gaps_of(store.path) == before
    assert again.journal.queue(10) == []
    for comparison in ledger_comparisons(again.path, again.layout):
        for one in comparison.look():
            assert again.journal.compare(one) == 0
    assert gaps_of(store.path) == before
    again.close()
    assert not faults(store.path)


def test_a_file_that_lost_more_than_its_pruned_month_is_a_fault(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    fill(store)
    store.journal.keep_pruned([MONTH], {"lake-1": ADDRESS})
    (store.path / store.layout.path(BTC, 0)).unlink()
    store.close()
    [file] = faults(store.path)
    assert file.series == BTC
    again = open_store(store.path)
    assert again.journal.adopt(again.changed_files(again.journal.files())) == 19
    assert [one.span for one in again.journal.queue(10)] == [
        span(1_446, END),
        span(NEXT, 1_445),
    ]


def test_gaps_of_a_pruned_month_stay_closed(store: Store) -> None:
    store.journal.settle(
        [absent(1_420, 1_425, State.CLOSED, reason=Reason.DELISTED),
         absent(1_445, 1_450, State.CLOSED, ETH, reason=Reason.DELISTED)],
        {},
    )  # fmt: skip
    store.journal.settle([absent(NEXT - 2, NEXT + 3, State.CLOSED, ETH, Reason.DELISTED)], {})
    prune(store, MONTH, month_of(ETH))
    assert store.journal.reopen([BTC]) == ()
    reopened = store.journal.reopen([ETH])
    assert [one.span for one in reopened] == [
        span(NEXT, NEXT + 3, ETH),
        span(NEXT + 5, NEXT + 10, ETH),
    ]
    [kept] = store.journal.gaps_in(ETH, span(0, NEXT, ETH))
    assert (kept.span, kept.state) == (span(NEXT - 2, NEXT, ETH), State.CLOSED)
    assert kept.reason is Reason.DELISTED


def test_a_damaged_journal_gives_its_pruned_months(store: Store) -> None:
    prune(store, MONTH, month_of(MONTHLY), month_of(COIN))
    before = gaps_of(store.path)
    with journal_view(store.path) as journal:
        months = journal.pruned()
    store.close()
    path = journal_path(store.path)
    connection = sqlite3.connect(path)
    nonsense: list[tuple[object, ...]] = [
        (99, at(0), at(1), "lake-1", 1, 1, "x", 0),
        (1, at(1), at(0), "lake-1", 1, 1, "x", 0),
        (1, at(2) + 1, at(3), "lake-1", 1, 1, "x", 0),
        (1, at(4), at(5), "lake-1", "many", 1, "x", 0),
        (1, at(5), at(6), b"lake-1", 1, 1, "x", 0),
    ]
    with connection:
        connection.execute("PRAGMA foreign_keys = off")
        connection.executemany("INSERT INTO pruned VALUES (?, ?, ?, ?, ?, ?, ?, ?)", nonsense)
        connection.execute("INSERT INTO lake_address VALUES ('lake-2', '{')")
        connection.execute("DELETE FROM state")
    connection.close()
    again = open_store(store.path, MONTHS)
    with journal_view(again.path) as journal:
        assert journal.pruned() == months
        assert journal.lake_addresses() == {"lake-1": ADDRESS}
    assert gaps_of(store.path) == before
    again.close()


def test_a_snapshot_has_the_pruned_months(store: Store, tmp_path: Path) -> None:
    prune(store, MONTH)
    snapshot(store.path, tmp_path / "copy")
    assert InLake.read(tmp_path / "copy") == InLake.read(store.path)
    assert not faults(tmp_path / "copy")


def test_a_snapshot_knows_a_month_that_is_pruned_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = copy_stores._link_files

    def prune_and_link(*values: object) -> int:
        prune(store, MONTH)
        return linked(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(copy_stores, "_link_files", prune_and_link)
    snapshot(store.path, tmp_path / "copy")
    assert InLake.read(tmp_path / "copy") == InLake.read(store.path)
    assert not faults(tmp_path / "copy")


def united(into: Path, *stores: Store) -> Path:
    for one in stores:
        one.close()
    list(unite([one.path for one in stores], into, Layout(DEFAULT_LAYOUT)))
    return into


def test_a_new_layout_keeps_the_pruned_months(store: Store, tmp_path: Path) -> None:
    prune(store, MONTH, month_of(ETH))
    before = gaps_of(store.path)
    into = united(tmp_path / "new", store)
    assert InLake.read(into) == InLake.read(store.path)
    assert gaps_of(into) == [one for one in before if one.state is not State.FILLED]
    assert not faults(into)
    again = open_store(into)
    assert again.journal.queue(10) == []
    again.close()


@pytest.mark.parametrize("has_all", [False, True])
def test_united_stores_have_a_month_again_if_one_has_all_of_it(
    tmp_path: Path, has_all: bool
) -> None:
    stores = [open_store(tmp_path / name, MONTHS) for name in ("one", "two")]
    for one in stores:
        fill(one)
    rows = 9 if has_all else 10
    prune(stores[0], attrs.evolve(MONTH, rows=rows))
    stores[1].journal.settle([absent(1_420, FIRST)], {BTC: SeriesAccount(at(1_420), at(END))})
    into = united(tmp_path / "new", *stores)
    pending = [one.span for one in gaps_of(into) if one.state is State.PENDING]
    if has_all:
        assert InLake.read(into).months == ()
        assert pending == [span(1_420, FIRST)]
        assert len(kline_trio.read(into, "spot", "BTCUSDT")) == 28
    else:
        assert [one.rows for one in InLake.read(into).months] == [10]
        assert pending == []
    assert not faults(into)


def test_a_late_candle_of_a_pruned_month_does_no_harm(store: Store) -> None:
    prune(store, MONTH)
    store.journal.accept(minutes(FIRST, FIRST + 1, 9.0))
    merge_all(store)
    assert look(store.path).missing() == ()
    [one] = status(store.path).series
    assert (one.due, one.stored, one.rows) == (20, 19, 20)
    store.close()
    assert not faults(store.path)


def test_a_pruned_month_is_a_proof_that_the_exchange_had_candles_then(tmp_path: Path) -> None:
    """REST that has no candle so old any more does not make the series younger."""
    store = open_store(tmp_path, MONTHS)
    fill(store)
    prune(store, MONTH)
    assert first_stored_ms(tmp_path, BTC, Span(0, at(END))) == MONTH.span.from_ms
    assert first_stored_ms(tmp_path, BTC, Span(at(FIRST), at(END))) == at(NEXT)
    store.close()
