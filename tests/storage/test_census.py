"""What a count of the store finds, held against the ledger and the files."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span
from kline_trio.storage.census import Absences, census
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from tests.storage.support import (
    BTC,
    COIN,
    GAP_STATES,
    MONTHLY,
    START_MS,
    minutes,
    month_of,
    nth_open_time_ms,
    open_store,
    prune,
)


def gap(first: int, end: int, state: State, reason: Reason = Reason.NOT_RECEIVED) -> Gap:
    span = Span(nth_open_time_ms(BTC, first), nth_open_time_ms(BTC, end))
    return Gap(BTC, span, START_MS, reason, state)


def settle(path: Path, *gaps: Gap) -> None:
    store = open_store(path)
    accounts = {one.series: SeriesAccount(START_MS, START_MS) for one in gaps}
    store.journal.settle(gaps, accounts)
    store.close()


def test_absent_candles_are_counted_by_state_and_reason_and_filled_ones_are_not(
    tmp_path: Path,
) -> None:
    settle(
        tmp_path,
        gap(0, 3, State.PENDING),
        gap(5, 6, State.PENDING, Reason.RECORDER_DOWN),
        gap(10, 20, State.CLOSED, Reason.EXCHANGE_HAD_NONE),
        gap(30, 32, State.CLOSED, Reason.EXCHANGE_HAD_NONE),
        gap(40, 45, State.FILLED),
    )
    found = census(tmp_path, {}).absences
    assert found == {BTC: Absences(4, {"the exchange had none": 12}, is_late=False)}


def test_closed_gaps_count_in_a_pruned_month_as_before(tmp_path: Path) -> None:
    settle(tmp_path, gap(10, 20, State.CLOSED))
    before = census(tmp_path, {}).absences
    store = open_store(tmp_path)
    prune(store, month_of())
    store.close()
    assert census(tmp_path, {}).absences == before


@pytest.mark.parametrize(("began", "is_late"), [(0, True), (3, True), (4, False)])
def test_a_series_is_late_if_a_pending_gap_begins_after_the_recorder(
    tmp_path: Path, began: int, is_late: bool
) -> None:
    settle(tmp_path, gap(3, 9, State.PENDING), gap(20, 30, State.CLOSED))
    began_ms = {"spot": nth_open_time_ms(BTC, began)}
    assert census(tmp_path, began_ms).absences[BTC].is_late is is_late
    others = {"usdt_futures": START_MS}
    assert not census(tmp_path, others).absences[BTC].is_late


def test_months_are_counted_though_they_differ(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first, end = nth_open_time_ms(MONTHLY, 1), nth_open_time_ms(MONTHLY, 8)
    store.journal.settle(
        [Gap(MONTHLY, Span(first, end), START_MS, Reason.NOT_RECEIVED)],
        {MONTHLY: SeriesAccount(first, end)},
    )
    store.close()
    assert census(tmp_path, {}).absences[MONTHLY].pending == 7


def test_rows_of_the_journal_files_and_free_space_are_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 12))
    found = census(tmp_path, {})
    assert found.journal_rows == 12
    assert found.files.files == 0
    assert found.free_bytes > 0
    assert not found.absences
    store.close()


def test_a_recorder_may_write_meanwhile_and_the_count_is_of_one_moment(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for count in range(1, 5):
        store.journal.accept(minutes(0, 12 * count))
        assert census(tmp_path, {}).journal_rows == 12 * count
    store.close()


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KlineTrioError):
        census(tmp_path / "nowhere", {})


@settings(deadline=None, max_examples=30)  # each opens a store
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from(GAP_STATES)), max_size=8
    )
)
def test_the_counts_are_those_of_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int, State]]
) -> None:
    gaps, at = [], 0
    for pause, length, state in pieces:
        gaps.append(gap(at + pause, at + pause + length, state))
        at += pause + length
    path = tmp_path_factory.mktemp("store")
    settle(path, *gaps)
    found = census(path, {}).absences.get(BTC, Absences())
    pending = sum(one.span.to_ms - one.span.from_ms for one in gaps if one.state is State.PENDING)
    closed = sum(one.span.to_ms - one.span.from_ms for one in gaps if one.state is State.CLOSED)
    assert found.pending == pending // 60_000
    assert sum(found.closed.values()) == closed // 60_000


def test_series_with_other_intervals_are_counted_by_their_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first, end = nth_open_time_ms(COIN, 2), nth_open_time_ms(COIN, 12)
    store.journal.settle(
        [Gap(COIN, Span(first, end), START_MS, Reason.NOT_RECEIVED)],
        {COIN: SeriesAccount(first, end)},
    )
    store.close()
    assert census(tmp_path, {}).absences[COIN].pending == 10
