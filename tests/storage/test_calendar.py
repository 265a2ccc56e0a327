"""The completeness calendar, held against a model that looks at each candle."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.interval import INTERVALS, Span
from kline_trio.storage.calendar import Calendar, CellState, Counts, Due, Run, ledger_version
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.ledger_index import LedgerIndex
from kline_trio.storage.status import Clock, status
from tests.storage.support import (
    BTC,
    COIN,
    GAP_STATES,
    SERIES,
    START_MS,
    at,
    make_candle,
    merge_all,
    open_store,
    receive,
    span,
)

EVERY_INTERVAL = [Series("spot", "BTCUSDT", name) for name in INTERVALS]


def gap(
    series: Series,
    first: int,
    end: int,
    state: State = State.PENDING,
    by: Source | None = None,
    reason: Reason = Reason.NOT_RECEIVED,
) -> Gap:
    """A gap of the series' candles from the n-th to another, exclusive."""
    by = Source.REST if state is State.FILLED and by is None else by
    return Gap(series, span(first, end, series), START_MS, reason, state, filled_by=by)


def calendar(accounts: Mapping[Series, SeriesAccount], *gaps: Gap) -> Calendar:
    """The calendar of a ledger that needs no store."""
    rows = sorted(
        (attrs.astuple(one.series), one.span.from_ms, one.span.to_ms, one.reason, one.state,
         one.filled_by)
        for one in gaps
    )  # fmt: skip
    return Calendar(LedgerIndex.of("", accounts, rows, lambda key: Series(*key)))


def plain_bounds(
    open_time_ms: Callable[[int], int],
    account: SeriesAccount | None,
    gaps: Sequence[Gap],
    due: Due | None,
) -> tuple[int, int, int]:
    """The first due moment, that from which nobody has accounted for candles, and the end."""
    if account is None:
        # Only the candles that the ledger names are known.
        return gaps[0].span.from_ms, gaps[0].span.from_ms, gaps[-1].span.to_ms
    mark_ms = account.watermark_ms
    if due is None or account.retired_ms is not None:
        return account.first_ms, mark_ms, mark_ms
    end_ms = max(mark_ms, due.until_ms)
    if due.is_live:
        # The watermark of a series that was scanned is at its last candle before the start.
        is_seen = due.began_ms is None or mark_ms >= open_time_ms(due.began_ms - 60_000)
        return account.first_ms, end_ms if is_seen else mark_ms, end_ms
    if due.heard_ms is not None and mark_ms >= open_time_ms(due.heard_ms - 900_000):
        mark_ms = max(mark_ms, due.heard_ms - 60_000)
    return account.first_ms, mark_ms, end_ms


def plain_counts(
    series: Series,
    account: SeriesAccount | None,
    gaps: Sequence[Gap],
    cell: Span,
    due: Due | None,
) -> Counts:
    """The counts of one cell of one series, candle by candle."""
    interval = series.interval
    first_ms, dark_ms, end_ms = plain_bounds(interval.open_time_ms, account, gaps, due)
    found: Counter[str] = Counter()
    reasons = set()
    moment_ms = interval.next_open_time_ms(cell.from_ms)
    while moment_ms < cell.to_ms:
        here = next((one for one in gaps if moment_ms in one.span), None)
        is_pruned = here is not None and here.state is State.IN_LAKE
        if moment_ms >= first_ms and interval.end_time_ms(moment_ms) <= end_ms and not is_pruned:
            found["due"] += 1
            if here is None:
                found["unaccounted"] += interval.end_time_ms(moment_ms) > dark_ms
            elif here.state is not State.FILLED or here.filled_by is not Source.STREAM:
                words = {State.PENDING: "pending", State.CLOSED: "absent", State.FILLED: "refilled"}
                found[words[here.state]] += 1
                reasons.add(here.reason)
        moment_ms = interval.end_time_ms(moment_ms)
    return Counts(
        found["due"],
        found["refilled"],
        found["pending"],
        found["absent"],
        found["unaccounted"],
        tuple(one for one in Reason if one in reasons),
    )


def total(parts: Sequence[Counts]) -> Counts:
    reasons = {reason for one in parts for reason in one.reasons}
    return Counts(
        sum(one.due for one in parts),
        sum(one.refilled for one in parts),
        sum(one.pending for one in parts),
        sum(one.absent for one in parts),
        sum(one.unaccounted for one in parts),
        tuple(one for one in Reason if one in reasons),
    )


def cells(runs: Sequence[Run]) -> list[Counts]:
    """The counts of each cell; of complete cells the number of candles is not told."""
    every = [run.counts for run in runs for _ in range(run.cells)]
    return [Counts(-1) if one.state is CellState.COMPLETE else one for one in every]


MOST = 30
SOME_SERIES = st.sampled_from([*SERIES, *EVERY_INTERVAL])


@st.composite
def gaps_of(draw: st.DrawFn, series: Series, states: Sequence[State] = tuple(State)) -> list[Gap]:
    """Gaps that do not overlap, of every state, source and reason, and pruned months."""
    bounds = sorted(draw(st.sets(st.integers(0, MOST), max_size=10)))
    found = []
    for first, end in itertools.pairwise(bounds):
        if state := draw(st.sampled_from([None, *states])):
            by = draw(st.sampled_from(Source)) if state is State.FILLED else None
            found.append(gap(series, first, end, state, by, draw(st.sampled_from(Reason))))
    return found


@st.composite
def accounts_of(draw: st.DrawFn, series: Series, gaps: Sequence[Gap]) -> SeriesAccount | None:
    """An account of a series that is recorded, or retired; or none, if there are gaps."""
    if gaps and not draw(st.integers(0, 4)):
        return None
    first = draw(st.integers(0, 10))
    mark = first + draw(st.integers(0, 20))
    retired_ms = draw(st.sampled_from([None, None, at(mark, series)]))
    return SeriesAccount(at(first, series), at(mark, series), retired_ms)


def moments(series: Series) -> st.SearchStrategy[int]:
    """Times near the series' candles, on its grid and off it."""
    off = st.sampled_from([0, 0, 0, 1, -1, 40_000, 60_000, 60_001, 900_000, 900_001])
    return st.builds(lambda n, ms: at(n, series) + ms, st.integers(0, MOST + 5), off)


@st.composite
def edges(draw: st.DrawFn, series: Series) -> list[int]:
    """Increasing moments near the series' candles."""
    return sorted(draw(st.sets(moments(series), min_size=2, max_size=8)))


@st.composite
def dues(draw: st.DrawFn, series: Series) -> dict[str, Due]:
    """What may be due of a series' market; seldom nothing is known."""
    some = moments(series)
    due = Due(draw(some), draw(st.booleans()), draw(st.none() | some), draw(st.none() | some))
    return {series.trade_type: due} if draw(st.integers(0, 5)) else {}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), series=SOME_SERIES)
def test_cells_are_those_of_a_plain_model(data: st.DataObject, series: Series) -> None:
    gaps = data.draw(gaps_of(series))
    account = data.draw(accounts_of(series, gaps))
    bounds, now = data.draw(edges(series)), data.draw(dues(series))
    found = calendar({} if account is None else {series: account}, *gaps)
    [runs] = found.rows([[0]], bounds, now)
    due = now.get(series.trade_type)
    expected = [
        plain_counts(series, account, gaps, Span(*cell), due) for cell in itertools.pairwise(bounds)
    ]
    assert cells(runs) == cells([Run(1, one) for one in expected])
    assert sum(run.cells for run in runs) == len(bounds) - 1
    shown = cells([Run(1, run.counts) for run in runs])
    assert all(one != other for one, other in itertools.pairwise(shown))
    everything = Span(at(0, series), at(MOST + 6, series) + 900_001)
    ever = plain_counts(series, account, gaps, everything, due)
    assert found.totals([0], now) == ever
    [due_span] = found.spans(now)
    pruned = [one.span for one in gaps if one.state is State.IN_LAKE]
    due_spans = [] if due_span is None else due_span.without(pruned)
    assert sum(map(series.interval.count, due_spans)) == ever.due
    assert sum(found.lacking_by_reason([0], now).values()) == ever.absent + ever.pending


@settings(max_examples=100, deadline=None)
@given(data=st.data(), chosen=st.sets(SOME_SERIES, min_size=1, max_size=5))
def test_a_group_is_the_sum_of_its_members(data: st.DataObject, chosen: set[Series]) -> None:
    accounts: dict[Series, SeriesAccount] = {}
    gaps: list[Gap] = []
    for series in sorted(chosen):
        some = data.draw(gaps_of(series))
        account = data.draw(accounts_of(series, some))
        if account is not None:
            accounts[series] = account
        gaps += some
    found = calendar(accounts, *gaps)
    assert found.series == tuple(sorted(chosen))
    one = data.draw(st.sampled_from(found.series))
    bounds, now = data.draw(edges(one)), data.draw(dues(one))
    group = st.lists(st.integers(0, len(chosen) - 1), max_size=7)
    groups = data.draw(st.lists(group, max_size=4))
    rows = found.rows(groups, bounds, now)
    assert len(rows) == len(groups)
    for runs, members in zip(rows, groups, strict=True):
        # Cell by cell, since a run of complete cells tells how many are due of its first alone.
        whole = [
            total([row[0].counts for row in found.rows([[n] for n in members], cell, now)])
            for cell in itertools.pairwise(bounds)
        ]
        assert cells(runs) == cells([Run(1, counts) for counts in whole])
        assert found.totals(members, now) == total([found.totals([n], now) for n in members])


def test_a_store_is_read_and_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    accounts = {BTC: SeriesAccount(at(0), at(100)), COIN: SeriesAccount(at(0, COIN), at(9, COIN))}
    gaps = [gap(BTC, 3, 5), gap(BTC, 50, 60, State.CLOSED), gap(COIN, 2, 3)]
    store.journal.settle(gaps, accounts)
    found = Calendar.read(tmp_path)
    assert found.version == ledger_version(tmp_path)
    assert found.series == (COIN, BTC)
    now = {"spot": Due(at(200), is_live=True), "coin_futures": Due(at(10, COIN), is_live=False)}
    pending = Counts(200, pending=2, absent=10, reasons=(Reason.NOT_RECEIVED,))
    assert found.totals([1], now) == pending
    assert (pending.stored, pending.state) == (188, CellState.PENDING)
    assert found.totals([0], now).unaccounted == 1
    store.journal.settle([gap(BTC, 7, 8)], {})
    assert ledger_version(tmp_path) != found.version
    store.close()


def test_an_empty_store_has_no_series(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    found = Calendar.read(tmp_path)
    assert found.series == ()
    assert found.totals([], {}) == Counts(0)
    assert found.rows([[], []], [0, 1, 2], {}) == [[Run(2, Counts(0))]] * 2


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KlineTrioError):
        Calendar.read(tmp_path / "nowhere")


def test_the_worst_decides_the_state_of_a_cell() -> None:
    worse = [
        Counts(0),
        Counts(1),
        Counts(1, refilled=1),
        Counts(1, refilled=1, unaccounted=1),
        Counts(1, refilled=1, unaccounted=1, absent=1),
        Counts(1, refilled=1, unaccounted=1, absent=1, pending=1),
    ]
    assert [one.state for one in worse] == sorted(CellState)


def test_cells_with_other_reasons_are_other_runs() -> None:
    states = [(0, Reason.REFUSED), (1, Reason.REFUSED), (2, Reason.NOT_LISTED)]
    gaps = [gap(BTC, n, n + 1, State.CLOSED, reason=reason) for n, reason in states]
    found = calendar({BTC: SeriesAccount(at(0), at(3))}, *gaps)
    [runs] = found.rows([[0]], [at(n) for n in range(4)], {})
    one, other = ((reason,) for reason in (Reason.REFUSED, Reason.NOT_LISTED))
    assert runs == [
        Run(2, Counts(1, absent=1, reasons=one)),
        Run(1, Counts(1, absent=1, reasons=other)),
    ]
    assert found.lacking_by_reason([0], {}) == {Reason.REFUSED: 2, Reason.NOT_LISTED: 1}


@pytest.mark.parametrize("groups", [[], [[]], [[0], [0, 0]]])
def test_there_may_be_no_cells_and_no_groups(groups: list[list[int]]) -> None:
    found = calendar({BTC: SeriesAccount(at(0), at(5))})
    assert found.rows(groups, [at(3)], {}) == [[] for _ in groups]


@settings(max_examples=20, deadline=None)
@given(data=st.data(), series=st.sampled_from(SERIES))
def test_status_which_looks_into_the_files_counts_the_same(
    data: st.DataObject, series: Series, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """If each candle is stored that the ledger does not name, as a recorder leaves it."""
    path = tmp_path_factory.mktemp("store")
    gaps = data.draw(gaps_of(series, GAP_STATES))
    first = data.draw(st.integers(0, 10))
    mark, until = sorted(first + n for n in data.draw(st.tuples(*[st.integers(0, 25)] * 2)))
    by_state = {
        state: {
            ms
            for one in gaps
            for ms in series.interval.open_times_ms(one.span)
            if (one.state is State.FILLED) == (state is State.FILLED)
        }
        for state in (State.FILLED, State.CLOSED)
    }
    is_live = data.draw(st.booleans())
    account = SeriesAccount(at(first, series), at(mark, series))
    store = open_store(path)
    came = {at(n, series) for n in range(first, until if is_live else mark)}
    stored = (came | by_state[State.FILLED]) - by_state[State.CLOSED]
    candles = [make_candle(ms) for ms in sorted(stored)]
    store.journal.accept(receive(series, *candles))
    if data.draw(st.booleans()):
        merge_all(store)
    store.journal.settle(gaps, {series: account})
    clocks = {series.trade_type: Clock(at(until, series), "", 0)}
    [one] = [some for some in status(path, clocks=clocks).series if some.series == series]
    now = {series.trade_type: Due(at(until, series), is_live)}
    found = Calendar.read(path).totals([0], now)
    store.close()
    assert (found.due, found.stored) == (one.due, one.stored)
    assert (found.pending, found.unaccounted) == (one.absent.pop("pending", 0), one.unaccounted)
    assert found.absent == sum(one.absent.values())
    assert one.holes == 0
