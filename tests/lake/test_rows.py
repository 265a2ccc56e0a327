"""The rows for the lake are the store's candles, each with its source and number of revisions."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.lake.rows import _MOST_READ, _by_hull, lake_rows
from kline_trio.lake.schema import CANDLES
from kline_trio.storage.catalog import series
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN
from tests.lake.support import ETH, by_key, fill_from_archive, make_store, stored_rows
from tests.storage.support import (
    BTC,
    CHINESE,
    COIN,
    LAYOUTS,
    MONTHLY,
    at,
    make_candle,
    merge_all,
    nth_open_time_ms,
    open_store,
    receive,
    span,
)

EVER = Span(0, 2**50)
MOST = 8
SERIES = (BTC, ETH, COIN, MONTHLY, CHINESE)


def every(store: Store) -> dict[Series, list[Span]]:
    return {one: [EVER] for one in series(store.path)}


@pytest.fixture(params=LAYOUTS)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return open_store(tmp_path / "store", request.param)


_minutes = st.integers(0, MOST - 1)
_values = st.sampled_from([1.0, 2.0, 3.0])
# Mostly one series, so that much happens to it.
_series = st.sampled_from([BTC, BTC, BTC, BTC, MONTHLY, CHINESE])
_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("accept"),
            _series,
            st.lists(st.tuples(_minutes, _values), min_size=1, max_size=4),
            st.sampled_from([Source.STREAM, Source.STREAM, Source.REPAIR]),
        ),
        st.tuples(st.just("gap"), _series, _minutes, st.integers(1, 3)),
        st.tuples(st.just("outage"), _series, _minutes, st.integers(1, 3), _values),
        st.tuples(st.just("rest"), _series, _minutes, st.integers(1, 3), _values),
        st.tuples(st.just("archive"), _series, _minutes, _values),
        st.tuples(st.just("merge")),
    ),
    max_size=12,
)


def play(store: Store, step: tuple[object, ...]) -> None:
    """Let candles come in one of the ways in which they come."""
    journal = store.journal

    def place(one: Series, first: int, count: int) -> Span:
        ends = (nth_open_time_ms(one, first), nth_open_time_ms(one, first + count))
        return Span(*ends)

    match step:
        case ("accept", Series() as one, list() as some, Source() as origin):
            candles = [make_candle(nth_open_time_ms(one, n), value) for n, value in some]
            journal.accept(receive(one, *candles), origin)
        case ("gap", Series() as one, int() as first, int() as count):
            gap = place(one, first, count)
            journal.settle([Gap(one, gap, gap.to_ms, Reason.NOT_RECEIVED)], {})
        case ("outage", Series() as one, int() as first, int() as count, float() as value):
            play(store, ("gap", one, first, count))
            play(store, ("rest", one, first, count, value))
        case ("rest", Series() as one, int() as first, int() as count, float() as value):
            asked = place(one, first, count)
            found = tuple(make_candle(ms, value) for ms in one.interval.open_times_ms(asked))
            journal.refill([FetchResult(one, asked, found, Source.REST)])
        case ("archive", Series() as one, int() as first, float() as value):
            fill_from_archive(store, one, [make_candle(nth_open_time_ms(one, first), value)])
        case ("merge",):
            merge_all(store)
        case _:
            raise AssertionError(step)


@settings(max_examples=40, deadline=None)
@given(steps=_steps, place=st.tuples(_minutes, st.integers(1, 4)))
def test_the_rows_are_the_truth_whatever_happened_to_the_store(
    steps: list[tuple[object, ...]], place: tuple[int, int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "store"))
        for step in steps:
            play(store, step)
        truth = stored_rows(store.path)
        found = lake_rows(store.path, every(store))
        assert found.schema.equals(CANDLES)
        assert by_key(found) == truth
        # Any part of it is that part.
        first, count = place
        ends = {
            one: (nth_open_time_ms(one, first), nth_open_time_ms(one, first + count))
            for one in SERIES
        }
        some = lake_rows(store.path, {one: [Span(*ends[one])] for one in series(store.path)})
        names = {(one.trade_type, one.symbol, one.time_interval): ends[one] for one in SERIES}
        wanted = []
        for row in truth:
            low, high = names[row["trade_type"], row["symbol"], row["time_interval"]]
            if low <= row[BEGIN].timestamp() * 1_000 < high:
                wanted.append(row)
        assert by_key(some) == wanted
        # A merge changes nothing of the rows: what it notes was counted before.
        merge_all(store)
        assert by_key(lake_rows(store.path, every(store))) == truth
        store.close()


def test_candles_of_every_origin_say_so(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    rows = by_key(lake_rows(store.path, every(store)))
    assert rows == stored_rows(store.path)
    assert {row["source"] for row in rows} == {str(one) for one in Source}
    assert {row["revision"] for row in rows} == {0, 1, 2}
    store.close()


def test_rows_come_by_series_and_time(store: Store) -> None:
    for one in (ETH, BTC, COIN):
        store.journal.accept(receive(one, *(make_candle(at(n, one)) for n in (3, 1, 2))))
    merge_all(store)
    store.journal.accept(receive(BTC, make_candle(at(0))))
    rows = lake_rows(store.path, every(store)).to_pylist()
    order = [(row["trade_type"], row["symbol"], row[BEGIN]) for row in rows]
    assert order == sorted(order)
    assert len(rows) == 10
    store.close()


def test_several_spans_of_a_series_give_just_these(store: Store) -> None:
    store.journal.accept(receive(BTC, *(make_candle(at(n)) for n in range(9))))
    found = lake_rows(store.path, {BTC: [span(1, 3), span(5, 6), span(8, 20)]})
    minutes = [row[BEGIN].minute for row in found.to_pylist()]
    assert minutes == [1, 2, 5, 8]
    store.close()


def test_a_candle_is_in_the_month_of_its_begin(store: Store) -> None:
    store.journal.accept(receive(BTC, *(make_candle(at(n)) for n in range(1_438, 1_442))))
    rows = by_key(lake_rows(store.path, every(store)))
    assert [row["month"] for row in rows] == ["2024-01", "2024-01", "2024-02", "2024-02"]
    assert all(row["month"] == f"{row[BEGIN]:%Y-%m}" for row in rows)
    store.close()


def test_a_week_over_a_months_end_is_there_once(store: Store) -> None:
    store.journal.accept(receive(CHINESE, make_candle(nth_open_time_ms(CHINESE, 0))))
    first = store.journal.take(CHINESE)[0].candle.open_time_ms
    pieces = [Span(first, at(1_440)), Span(at(1_440), CHINESE.interval.end_time_ms(first))]
    assert [lake_rows(store.path, {CHINESE: [one]}).num_rows for one in pieces] == [1, 0]
    store.close()


def test_nothing_stored_is_an_empty_table_with_all_columns(store: Store) -> None:
    for wanted in ({}, {BTC: [EVER]}):
        found = lake_rows(store.path, wanted)
        assert found.num_rows == 0
        assert found.schema.equals(CANDLES)
    store.close()


SYMBOLS = [Series("spot", f"S{n}USDT", "1m") for n in range(8)]


@given(
    st.dictionaries(
        st.sampled_from(SYMBOLS),
        st.tuples(st.integers(0, 1_000), st.integers(1, 100)),
        max_size=len(SYMBOLS),
    )
)
def test_each_series_is_in_one_group_which_reads_at_most_twice_what_is_wanted(
    places: dict[Series, tuple[int, int]],
) -> None:
    wanted = {one: [Span(first, first + length)] for one, (first, length) in places.items()}
    groups = _by_hull(wanted)
    assert sorted(one for _, members in groups for one in members) == sorted(wanted)
    for hull, members in groups:
        for one in members:
            assert hull.from_ms <= wanted[one][0].from_ms
            assert wanted[one][-1].to_ms <= hull.to_ms
        length = hull.to_ms - hull.from_ms
        needed = sum(places[one][1] for one in members)
        assert length * len(members) <= _MOST_READ * needed


def test_series_whose_first_month_begins_on_other_days_are_read_together() -> None:
    """Otherwise all files of the store are listed for each of them."""
    end = 30 * 1_440
    wanted = {one: [span(1_440 * n, end)] for n, one in enumerate(SYMBOLS)}
    assert len(_by_hull(wanted)) == 1


def test_a_late_candle_of_one_series_is_read_alone() -> None:
    wanted = {one: [span(40_000, 40_060)] for one in SYMBOLS[1:]}
    wanted[SYMBOLS[0]] = [span(3, 4)]
    assert [members for _, members in _by_hull(wanted)] == [SYMBOLS[:1], SYMBOLS[1:]]
