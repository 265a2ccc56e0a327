"""Rows against the ledger: each due candle is the one or stands in the other, or is a hole."""

import itertools
import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.spans import common, joined
from kline_trio.storage import holdings as module
from kline_trio.storage.holdings import (
    Holdings,
    LedgerComparison,
    holdings,
    ledger_comparisons,
    unlisted_files,
)
from kline_trio.storage.journal.ledger import Gap, Ledger, Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    MONTHLY,
    SERIES,
    absent,
    at,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
    span,
    write_minutes,
)

MOST = 24


def fail(_: Path, error: DamagedError) -> None:
    raise error


def times(series: Series, spans: Iterable[Span]) -> list[int]:
    return [ms for one in spans for ms in series.interval.open_times_ms(one)]


@given(
    rows=st.sets(st.integers(0, MOST - 1)),
    states=st.lists(st.sampled_from([None, *State]), min_size=MOST, max_size=MOST),
    first=st.integers(0, MOST),
    end=st.integers(0, MOST),
    until=st.none() | st.integers(0, MOST),
    series=st.sampled_from([BTC, MONTHLY]),
)
def test_holes_are_those_of_plain_sets(
    rows: set[int],
    states: list[State | None],
    first: int,
    end: int,
    until: int | None,
    series: Series,
) -> None:
    ledger = [
        absent(n, n + 1, state, series)
        for n, state in enumerate(states)
        if state in (State.PENDING, State.CLOSED)
    ]
    runs = tuple(series.interval.runs(at(n, series) for n in sorted(rows)))
    account = SeriesAccount(at(first, series), at(end, series))
    one = Holdings(series, account, runs, tuple(ledger))
    until_ms = None if until is None else at(until, series)
    due = set(range(first, end if until is None else until))
    named = {n for n, state in enumerate(states) if state in (State.PENDING, State.CLOSED)}
    assert times(series, one.due(until_ms)) == [at(n, series) for n in sorted(due)]
    missing = one.missing(until_ms)
    assert times(series, missing) == [at(n, series) for n in sorted(due - rows - named)]
    assert one.count(missing) == len(due - rows - named)
    pending = {n for n, state in enumerate(states) if state is State.PENDING}
    assert times(series, one.stored_pending()) == [at(n, series) for n in sorted(pending & rows)]


_some_spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 6)).map(lambda two: Span(two[0], sum(two)))
)


@given(_some_spans, _some_spans)
def test_spans_are_joined_and_cut_like_sets(one: list[Span], other: list[Span]) -> None:
    def numbers(spans: Iterable[Span]) -> set[int]:
        return {n for each in spans for n in range(each.from_ms, each.to_ms)}

    mine, theirs = joined(one), joined(other)
    assert numbers(mine) == numbers(one)
    assert all(a.to_ms < b.from_ms for a, b in itertools.pairwise(mine))
    both = list(common(mine, theirs))
    assert numbers(both) == numbers(one) & numbers(other)
    assert both == sorted(both)


def test_a_series_without_an_account_has_nothing_due() -> None:
    one = Holdings(BTC, None, (span(0, 5),))
    assert (one.due(), one.missing(), one.due(at(9))) == ((), (), ())


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_all_rows_of_files_and_journal_are_seen_once(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is in the one, in the other, in both, or in neither."""
    path = tmp_path_factory.mktemp("store")
    template = data.draw(st.sampled_from(LAYOUTS))
    store = open_store(path, template)
    model: dict[Series, set[int]] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        for series in data.draw(st.sets(st.sampled_from(SERIES))):
            chosen = sorted(data.draw(st.sets(st.integers(0, 20))))
            candles = [make_candle(at(n, series)) for n in chosen]
            store.journal.accept(receive(series, *candles))
            model.setdefault(series, set()).update(candle.open_time_ms for candle in candles)
        if data.draw(st.booleans()):
            merge_all(store)
    known = {series: sorted(rows) for series, rows in model.items() if rows}
    every = holdings(path, fail)
    assert {one.series: times(one.series, one.rows) for one in every if one.rows} == known
    some = holdings(path, fail, list(known))
    assert {one.series: times(one.series, one.rows) for one in some} == known
    store.close()


def test_whole_row_groups_are_counted_by_their_footers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years of a series must take milliseconds: only groups with gaps are read."""
    write_minutes(tmp_path, 5_000, 0).close()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("rows are read")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", refuse)
    [one] = holdings(tmp_path, fail)
    assert one.rows == (span(0, 5_000),)


def test_rows_of_another_programs_making_are_read_as_they_are(tmp_path: Path) -> None:
    """A file without a seal may hold a time twice, in any order, off the grid, or none at all."""
    rows = [make_candle(ms) for ms in (at(3), at(1), at(1), at(5) + 1, at(2), 2**60, -60_000)]
    table = table_of(BTC, rows)
    metadata = {**(table.schema.metadata or {}), b"kline_trio_format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.pqt")
    [one] = holdings(tmp_path, fail)
    assert one.rows == (span(1, 4),)


def test_a_damaged_file_is_told_and_holds_nothing(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 50, 2)
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(52))})
    store.close()
    [file] = tmp_path.glob("*.pqt")
    file.write_bytes(file.read_bytes()[:-50])
    told: list[Path] = []
    for among in (None, [BTC]):
        [one] = holdings(tmp_path, lambda path, _: told.append(path), among)
        assert one.rows == (span(50, 52),)
        assert one.missing() == (span(0, 50),)
    assert told == [file, file]


def test_a_damaged_row_group_is_told_and_the_others_count(tmp_path: Path) -> None:
    """Of a group with gaps the times are read, and their pages have checksums."""
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 100), *minutes(101, 200)])
    merge_all(store)
    store.close()
    [file] = tmp_path.glob("*.pqt")
    content = bytearray(file.read_bytes())
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    file.write_bytes(content)
    told: list[Path] = []
    [one] = holdings(tmp_path, lambda path, _: told.append(path))
    assert (one.rows, told) == ((), [file])


def test_only_files_with_pending_candles_are_read(tmp_path: Path) -> None:
    """And of these it is told which of the pending candles are stored."""
    store = open_store(tmp_path, LAYOUTS[2])  # a file a day
    day = 1_440
    store.journal.accept(
        [*minutes(0, 10), *minutes(day, day + 10), *minutes(3 * day, 3 * day + 10)]
    )
    merge_all(store)
    store.journal.settle([absent(day + 5, day + 12), absent(2 * day, 2 * day + 5)], {})
    [one] = holdings(tmp_path, fail, [BTC], None, Layout(LAYOUTS[2]))
    assert one.rows == (span(day, day + 10),)
    assert one.stored_pending() == (span(day + 5, day + 10),)
    store.close()


def test_files_that_the_list_lacks_are_found_with_their_series(tmp_path: Path) -> None:
    """As after a kill between rename and list, where a file is new."""
    store = open_store(tmp_path, LAYOUTS[1])
    store.fill_in(table_of(BTC, [make_candle(at(n)) for n in range(5)]), BTC)
    unlisted = unlisted_files(tmp_path, [], fail)
    [path] = tmp_path.rglob("*.parquet")
    assert unlisted == {BTC: [path]}
    [one] = holdings(tmp_path, fail, [BTC], unlisted)
    assert one.rows == (span(0, 5),)
    assert unlisted_files(tmp_path, [PurePosixPath(path.relative_to(tmp_path))], fail) == {}
    store.close()


def test_a_recorder_at_work_causes_no_holes(tmp_path: Path) -> None:
    """Journal first, then files: a candle that moves meanwhile is seen in one of them."""
    store = write_minutes(tmp_path, 5, 0)
    stop = threading.Event()

    def work() -> None:
        minute = 5
        while not stop.is_set():
            store.journal.accept(minutes(minute, minute + 1))
            store.journal.settle([], {BTC: SeriesAccount(at(0), at(minute + 1))})
            merge_all(store)
            minute += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(100):
            [one] = holdings(tmp_path, fail)
            assert one.missing() == ()
    finally:
        stop.set()
        worker.join()
        store.close()


@pytest.fixture
def holed(tmp_path: Path) -> Store:
    """Two silent holes, and pending candles of which some are stored, in files and journal."""
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 10), *minutes(12, 20)])
    merge_all(store)
    store.journal.accept(minutes(25, 30))
    store.journal.settle(
        [absent(8, 10), absent(20, 22), absent(28, 31)], {BTC: SeriesAccount(at(0), at(35))}
    )
    return store


def ledger(path: Path) -> list[tuple[Span, str, str]]:
    with journal_view(path) as journal:
        return [(one.span, str(one.reason), str(one.state)) for one in journal.gaps()]


AFTER = [
    (span(8, 10), "not received", "filled"),
    (span(10, 12), "found missing", "pending"),
    (span(20, 22), "not received", "pending"),
    (span(22, 25), "found missing", "pending"),
    (span(28, 30), "not received", "filled"),
    (span(30, 31), "not received", "pending"),
    (span(31, 35), "found missing", "pending"),
]


def test_holes_become_gaps_and_stored_pending_candles_filled(holed: Store) -> None:
    [look] = holdings(holed.path, fail)
    assert holed.journal.compare(look) == 2 + 3 + 4
    assert ledger(holed.path) == AFTER
    [again] = holdings(holed.path, fail)
    assert (again.missing(), again.stored_pending()) == ((), ())
    assert holed.journal.compare(again) == 0
    assert ledger(holed.path) == AFTER
    # They are asked for like any other gap, and filled when they come.
    assert len(holed.journal.pending_gaps([BTC])) == 5
    holed.journal.accept(minutes(10, 11))
    assert (span(10, 11), "found missing", "filled") in ledger(holed.path)
    holed.close()


def test_what_came_after_the_look_is_no_gap(holed: Store) -> None:
    [look] = holdings(holed.path, fail)
    holed.journal.accept(minutes(11, 12))
    assert holed.journal.compare(look) == 1 + 3 + 4
    assert (span(10, 11), "found missing", "pending") in ledger(holed.path)
    holed.close()


def test_a_merge_after_the_look_calls_for_another_look(holed: Store) -> None:
    """What came after the look may be in a file by now."""
    before = ledger(holed.path)
    [look] = holdings(holed.path, fail)
    holed.journal.accept(minutes(11, 12))
    merge_all(holed)
    assert holed.journal.compare(look) is None
    assert ledger(holed.path) == before
    [look] = holdings(holed.path, fail)
    assert holed.journal.compare(look) == 1 + 3 + 4
    holed.close()


def test_a_comparison_is_written_whole_or_not_at_all(
    holed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it is cut off, the series is compared again."""
    before = ledger(holed.path)
    holed.journal._connection.execute("UPDATE series SET is_compared = 0")
    [look] = holdings(holed.path, fail)
    change, calls = Ledger.change, itertools.count()

    def interrupted(*arguments: Any) -> None:  # noqa: ANN401 - as they are
        if next(calls) == 1:
            raise KeyboardInterrupt
        change(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "change", interrupted)
        with pytest.raises(KeyboardInterrupt):
            holed.journal.compare(look)
    assert ledger(holed.path) == before
    with journal_view(holed.path) as journal:
        assert journal.to_compare() == {BTC: True}
    assert holed.journal.compare(look) == 9
    with journal_view(holed.path) as journal:
        assert journal.to_compare() == {BTC: False}
    holed.close()


def test_a_filled_row_of_the_ledger_does_not_explain_a_lost_candle(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 5), *minutes(6, 10)])
    store.journal.settle([absent(5, 6)], {BTC: SeriesAccount(at(0), at(10))})
    merge_all(store)
    older = (tmp_path / "spot_BTCUSDT_1m.pqt").read_bytes()
    store.journal.accept(minutes(5, 6))
    merge_all(store)
    (tmp_path / "spot_BTCUSDT_1m.pqt").write_bytes(older)
    [look] = holdings(tmp_path, fail)
    assert look.missing() == (span(5, 6),)
    assert store.journal.compare(look) == 1
    assert ledger(tmp_path) == [(span(5, 6), "found missing", "pending")]
    store.close()


def planned(store: Store) -> list[LedgerComparison]:
    return ledger_comparisons(store.path, store.layout)


def never_compared(store: Store, series: Sequence[Series]) -> None:
    for one in series:
        store.journal.accept(receive(one, make_candle(nth_open_time_ms(one, 0))))
    store.journal._connection.execute("UPDATE series SET is_compared = 0")


def test_a_new_store_has_nothing_to_compare(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 3))
    assert planned(store) == []
    store.close()


def test_a_job_is_of_few_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with pending candles come first: they take a look at few files."""
    monkeypatch.setattr(module, "_SERIES_AT_ONCE", 2)
    store = open_store(tmp_path)
    never_compared(store, SERIES)
    last = max(SERIES)
    store.journal._connection.execute(
        "UPDATE series SET is_compared = 1 WHERE symbol = ?", [last.symbol]
    )
    gap = Gap(last, span(5, 6, last), at(6, last), Reason.NOT_RECEIVED)
    store.journal.settle([gap], {})
    ordered = [one for one in sorted(SERIES) if one != last]
    assert [(job.is_first, job.series) for job in planned(store)] == [
        (False, (last,)),
        (True, tuple(ordered[:2])),
        (True, tuple(ordered[2:])),
    ]
    store.close()


def test_a_first_look_is_at_every_series_and_finds_what_is_missing(tmp_path: Path) -> None:
    """Candles of a file that is not listed are there."""
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 5))
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(9))})
    store.fill_in(table_of(BTC, [make_candle(at(7))]), BTC)
    never_compared(store, ())
    [job] = planned(store)
    [look] = job.look()
    assert look.missing() == (span(5, 7), span(8, 9))
    assert job.look_again(BTC) == look
    assert store.journal.compare(look) == 3
    [job] = planned(store)
    assert not job.is_first
    store.close()


def test_a_later_look_is_only_at_files_with_pending_candles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the others hold does not count as missing; a series without stored ones is left out."""
    caplog.set_level(logging.WARNING, "kline_trio")
    store = open_store(tmp_path, LAYOUTS[2])
    store.journal.accept([*minutes(0, 10), *minutes(1_445, 1_446)])
    merge_all(store)
    store.journal.settle([absent(1_445, 1_447)], {BTC: SeriesAccount(at(0), at(1_447))})
    older, _ = sorted(tmp_path.rglob("*.parquet"))
    older.write_bytes(b"")
    [job] = planned(store)
    [look] = job.look()
    assert (look.missing(), look.stored_pending()) == ((), (span(1_445, 1_446),))
    assert caplog.messages == []
    assert store.journal.compare(look) == 0
    [job] = planned(store)
    assert job.look() == []
    assert job.look_again(BTC).stored_pending() == ()
    store.close()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    (tmp_path / ".kline_trio" / "journal.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(DamagedError, match=r"journal\.sqlite"):
        ledger_comparisons(tmp_path, store.layout)
