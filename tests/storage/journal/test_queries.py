"""The small queries of a page: some gaps and revisions, the newest first."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.storage.journal.ledger import Gap, Reason, Revision
from kline_trio.storage.journal.reader import journal_view
from tests.storage.support import (
    BTC,
    COIN,
    GAP_STATES,
    START_MS,
    absent,
    at,
    make_candle,
    nth_open_time_ms,
    open_store,
)

STATES = st.sets(st.sampled_from(GAP_STATES))


@st.composite
def ledgers(draw: st.DrawFn) -> list[Gap]:
    """Gaps of two series that never touch, found at any time."""
    found = []
    for series in (BTC, COIN):
        bounds = sorted(draw(st.sets(st.integers(0, 30), max_size=8)))
        for first, end in list(itertools.pairwise(bounds))[::2]:
            span = Span(nth_open_time_ms(series, first), nth_open_time_ms(series, end))
            seen_ms = START_MS + draw(st.integers(0, 5))
            found.append(
                Gap(series, span, seen_ms, Reason.REFUSED, draw(st.sampled_from(GAP_STATES)))
            )
    return found


@settings(max_examples=30, deadline=None)
@given(data=st.data(), ledger=ledgers())
def test_some_gaps_are_those_of_a_plain_list(
    data: st.DataObject, ledger: list[Gap], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store")
    store = open_store(path)
    store.journal.settle(ledger, {})
    one = data.draw(st.sampled_from([None, BTC, COIN]))
    from_ms, to_ms = sorted(at(n) for n in data.draw(st.tuples(*[st.integers(0, 90)] * 2)))
    limit, states = data.draw(st.integers(1, 5)), data.draw(STATES)
    with journal_view(path) as journal:
        between = journal.gaps_between(one, from_ms, to_ms, limit, states=states)
        newest = journal.newest_gaps(limit)
        every = list(journal.gaps())
    store.close()
    wanted = [gap for gap in every if one in (None, gap.series)]
    inside = [
        gap
        for gap in wanted
        if gap.state in states and gap.span.from_ms < to_ms and gap.span.to_ms > from_ms
    ]
    inside.sort(key=lambda gap: gap.span.from_ms, reverse=True)
    assert between == inside[:limit]
    seen = sorted((gap.first_seen_ms for gap in every), reverse=True)
    assert [gap.first_seen_ms for gap in newest] == seen[:limit]
    assert set(newest) <= set(every)


def test_a_gap_that_only_touches_a_range_is_not_in_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.settle([absent(3, 5), absent(6, 7), absent(8, 9)], {})
    with journal_view(tmp_path) as journal:
        [found] = journal.gaps_between(BTC, at(5), at(8), 10)
    assert found == absent(6, 7)
    store.close()


def revision(series: Series, minute: int, value: float) -> Revision:
    open_ms = nth_open_time_ms(series, minute)
    older, newer = make_candle(open_ms, value), make_candle(open_ms, value + 1)
    return Revision(series, older, newer, Source.STREAM, is_newer_kept=True)


def test_revisions_of_a_series_are_the_last_ones_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    some = [revision(BTC, 3, 1.0), revision(COIN, 2, 5.0), revision(BTC, 1, 2.0)]
    some.append(revision(BTC, 3, 2.0))
    store.journal.settle([], {}, some)
    with journal_view(tmp_path) as journal:
        assert journal.revisions_of(BTC, 2) == [some[3], some[2]]
        assert journal.revisions_of(BTC, 9) == [some[3], some[2], some[0]]
        assert journal.revisions_of(COIN, 9) == [some[1]]
        assert journal.newest_revisions(3) == [some[3], some[2], some[1]]
        assert journal.revision_count() == 4
        assert journal.revisions() == (some[1], some[2], some[0], some[3])
    store.close()


def test_a_store_without_a_journal_has_none(tmp_path: Path) -> None:
    with journal_view(tmp_path) as journal:
        assert journal.gaps_between(None, 0, 2**62, 10) == []
        assert journal.gaps_between(BTC, 0, 2**62, 10, states=[]) == []
        assert journal.newest_gaps(10) == []
        assert (journal.revisions_of(BTC, 10), journal.newest_revisions(10)) == ([], [])
        assert journal.revision_count() == 0
