"""The completeness calendar, held against a model that looks at each candle."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.interval import INTERVALS, Span
from kline_trio.storage.calendar import Calendar, CellState, Counts, Due, Run, ledger_version
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.ledger_index import LedgerIndex
from tests.storage.support import BTC, COIN, SERIES, START_MS, at, open_store, span

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


def plain_counts(
    series: Series,
    account: SeriesAccount | None,
    gaps: Sequence[Gap],
    cell: Span,
    due: Due | None,
) -> Counts:
    """The counts of one cell of one series, candle by candle."""
    interval = series.interval
    if account is None:
        first_ms, mark_ms, end_ms = gaps[0].span.from_ms, gaps[0].span.from_ms, gaps[-1].span.to_ms
        is_dark = True
    else:
        first_ms, mark_ms = account.first_ms, account.watermark_ms
        until_ms = mark_ms if due is None else max(mark_ms, due.until_ms)
        end_ms = mark_ms if account.retired_ms is not None else until_ms
        is_dark = due is None or not due.is_live
    found: Counter[str] = Counter()
    reasons = set()
    moment_ms = interval.next_open_time_ms(cell.from_ms)
    while moment_ms < cell.to_ms:
        if moment_ms >= first_ms and interval.end_time_ms(moment_ms) <= end_ms:
            found["due"] += 1
            here = next((one for one in gaps if moment_ms in one.span), None)
            if here is None:
                found["unaccounted"] += is_dark and moment_ms >= mark_ms
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
OFFSETS = st.sampled_from([-1, 0, 0, 1, 40_000])


@st.composite
def gaps_of(draw: st.DrawFn, series: Series) -> list[Gap]:
    """Gaps that do not overlap, of every state, source and reason."""
    bounds = sorted(draw(st.sets(st.integers(0, MOST), max_size=10)))
    found = []
    for first, end in itertools.pairwise(bounds):
        if state := draw(st.sampled_from([None, *State])):
            by = draw(st.sampled_from(Source)) if state is State.FILLED else None
            found.append(gap(series, first, end, state, by, draw(st.sampled_from(Reason))))
    return found


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[dict[Series, SeriesAccount | None], dict[Series, list[Gap]]]:
    """Accounts, recorded or retired or none, and gaps, of some series."""
    accounts: dict[Series, SeriesAccount | None] = {}
    gaps: dict[Series, list[Gap]] = {}
    for series in draw(st.sets(SOME_SERIES, min_size=1, max_size=5)):
        gaps[series] = draw(gaps_of(series))
        first = draw(st.integers(0, 10))
        mark = first + draw(st.integers(0, 20))
        retired_ms = draw(st.none() | st.just(at(mark, series)))
        has_account = not gaps[series] or draw(st.integers(0, 4))
        account = SeriesAccount(at(first, series), at(mark, series), retired_ms)
        accounts[series] = account if has_account else None
    return accounts, gaps


@st.composite
def edges(draw: st.DrawFn, series: Series) -> list[int]:
    """Moments near the series' candles, on its grid and off it."""
    near = st.tuples(st.integers(0, MOST + 5), OFFSETS)
    steps = draw(st.lists(near, min_size=2, max_size=8, unique=True))
    found = sorted({at(n, series) + off for n, off in steps})
    return found if len(found) > 1 else [*found, found[0] + 1]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), ledger=ledgers())
def test_cells_are_those_of_a_plain_model(
    data: st.DataObject,
    ledger: tuple[dict[Series, SeriesAccount | None], dict[Series, list[Gap]]],
) -> None:
    accounts, gaps = ledger
    known = {series: account for series, account in accounts.items() if account is not None}
    found = calendar(known, *(one for some in gaps.values() for one in some))
    assert list(found.series) == sorted(accounts)
    moments = data.draw(edges(data.draw(st.sampled_from(found.series))))
    # A small cell of one interval can have millions of candles of another.
    near = [
        n
        for n, one in enumerate(found.series)
        if (moments[-1] - moments[0]) / (one.interval.duration_ms or 2e9) < 1_000
    ]
    assume(near)
    groups = data.draw(st.lists(st.lists(st.sampled_from(near), unique=True), max_size=4))
    now = {}
    for name in sorted({one.trade_type for one in found.series}):
        if data.draw(st.integers(0, 3)):
            now[name] = Due(data.draw(st.sampled_from(moments)), data.draw(st.booleans()))
    rows = found.rows(groups, np.array(moments), now)
    assert len(rows) == len(groups)
    for runs, members in zip(rows, groups, strict=True):
        expected = [
            total(
                [
                    plain_counts(one, accounts[one], gaps[one], cell, now.get(one.trade_type))
                    for one in (found.series[n] for n in members)
                ]
            )
            for cell in itertools.starmap(Span, itertools.pairwise(moments))
        ]
        assert cells(runs) == cells([Run(1, one) for one in expected])
        assert sum(run.cells for run in runs) == len(moments) - 1
        shown = cells([Run(1, run.counts) for run in runs])
        assert all(one != other for one, other in itertools.pairwise(shown))


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
