"""Ledgers of several recorders as one: what is closed, pending and filled."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Source
from kline_trio.interval import Span
from kline_trio.lake.union import OneLedger, united_account, united_gaps
from kline_trio.spans import joined
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from tests.storage.support import BTC, GAP_STATES, at, span

_MOST = 12
"""The last candle of the tests' ledgers, exclusive."""


def account(first: int, watermark: int, retired: int | None = None) -> SeriesAccount:
    return SeriesAccount(at(first), at(watermark), None if retired is None else at(retired))


def gap(
    first: int,
    end: int,
    state: State = State.PENDING,
    reason: Reason = Reason.NOT_RECEIVED,
    filled_by: Source | None = None,
) -> Gap:
    return Gap(BTC, span(first, end), at(end), reason, state, filled_by=filled_by)


def closed(first: int, end: int, reason: Reason = Reason.EXCHANGE_HAD_NONE) -> Gap:
    return gap(first, end, State.CLOSED, reason)


def filled(first: int, end: int, by: Source = Source.REST) -> Gap:
    return gap(first, end, State.FILLED, Reason.RECORDER_DOWN, by)


def of(name: str, *gaps: Gap, first: int = 0, watermark: int = 10) -> OneLedger:
    return OneLedger(name, account(first, watermark), gaps)


def told(*every: OneLedger, stored: list[Span]) -> list[tuple[int, int, str, str]]:
    """The gaps, each with its first and last candle, state and reason."""
    whole = united_account(one.account for one in every)
    gaps = united_gaps(BTC, whole, every, stored)
    return [
        (
            BTC.interval.count(Span(at(0), one.span.from_ms)) if one.span.from_ms > at(0) else 0,
            BTC.interval.count(Span(at(0), one.span.to_ms)),
            str(one.state),
            str(one.reason),
        )
        for one in gaps
    ]


def test_the_account_reaches_from_the_first_begin_to_the_last_watermark() -> None:
    assert united_account([account(3, 8), account(1, 5)]) == account(1, 8)


def test_a_series_is_retired_if_no_recorder_records_it() -> None:
    assert united_account([account(0, 8, 8), account(0, 5, 6)]) == account(0, 8, 8)
    assert united_account([account(0, 8, 8), account(0, 5)]) == account(0, 8)


def test_the_ledger_of_one_recorder_stays_as_it_is() -> None:
    gaps = (filled(1, 3), closed(3, 4), gap(6, 8), closed(8, 9, Reason.DELISTED))
    one = of("a", *gaps)
    found = united_gaps(BTC, one.account, [one], [span(0, 3), span(4, 6), span(9, 10)])
    assert found == list(gaps)


def test_a_candle_is_closed_if_each_recorder_that_accounts_for_it_has_closed_it() -> None:
    stored = [span(0, 2), span(4, 10)]
    reason = Reason.EXCHANGE_HAD_NONE
    both = told(of("a", closed(2, 4)), of("b", closed(2, 4)), stored=stored)
    assert both == [(2, 4, "closed", reason)]
    # The second recorder began after the gap.
    alone = told(of("a", closed(2, 4)), of("b", first=5), stored=stored)
    assert alone == [(2, 4, "closed", reason)]


def test_a_candle_that_one_recorder_still_asks_for_is_pending() -> None:
    asked = gap(2, 4, reason=Reason.RECORDER_DOWN)
    found = told(of("a", closed(2, 4)), of("b", asked), stored=[span(0, 2), span(4, 10)])
    assert found == [(2, 4, "pending", Reason.RECORDER_DOWN)]


def test_a_candle_that_a_recorder_has_as_stored_and_the_lake_lacks_is_found_missing() -> None:
    stored = [span(0, 2), span(4, 10)]
    for other in (of("b"), of("b", filled(2, 4))):
        found = told(of("a", closed(2, 4)), other, stored=stored)
        assert found == [(2, 4, "pending", Reason.FOUND_MISSING)]


def test_a_candle_between_two_recorders_is_found_missing() -> None:
    found = told(of("a", watermark=4), of("b", first=6), stored=[span(0, 4), span(6, 10)])
    assert found == [(4, 6, "pending", Reason.FOUND_MISSING)]


def test_a_gap_is_cut_where_the_recorders_disagree() -> None:
    found = told(of("a", closed(2, 6)), of("b", gap(4, 8)), stored=[span(0, 2), span(8, 10)])
    assert found == [
        (2, 4, "pending", Reason.FOUND_MISSING),
        (4, 6, "pending", Reason.NOT_RECEIVED),
        (6, 8, "pending", Reason.NOT_RECEIVED),
    ]


def test_a_filled_gap_is_history_if_every_recorder_had_missed_the_candle() -> None:
    stored = [span(0, 10)]
    assert told(of("a", filled(2, 6)), of("b", first=5), stored=stored) == [
        (2, 5, "filled", Reason.RECORDER_DOWN)
    ]
    assert told(of("a", filled(2, 6)), of("b"), stored=stored) == []


def test_gaps_that_two_recorders_filled_do_not_overlap() -> None:
    mine, theirs = filled(2, 6), filled(4, 8, Source.ARCHIVE)
    ledgers = [of("a", mine), of("b", theirs)]
    found = united_gaps(BTC, account(0, 10), ledgers, [span(0, 10)])
    # The fourth and fifth minute are of the first recorder; the others came to one of them.
    assert [(one.span, one.filled_by) for one in found] == [(span(4, 6), Source.REST)]


def test_nothing_after_the_last_watermark_is_due() -> None:
    assert told(of("a", watermark=5), stored=[span(0, 5), span(7, 8)]) == []


@st.composite
def ledgers(draw: st.DrawFn, name: str) -> OneLedger:
    """A recorder's account, and gaps that do not overlap, some of them behind the watermark."""
    first = draw(st.integers(0, _MOST - 1))
    watermark = draw(st.integers(first, _MOST))
    gaps, begin = [], first
    while begin < _MOST and draw(st.booleans()):
        begin = draw(st.integers(begin, _MOST - 1))
        end = draw(st.integers(begin + 1, _MOST))
        state = draw(st.sampled_from(GAP_STATES))
        gaps.append(filled(begin, end) if state is State.FILLED else gap(begin, end, state))
        begin = end
    return OneLedger(name, account(first, watermark), tuple(gaps))


def state_of(one: OneLedger, open_time_ms: int) -> State | str | None:
    """What a recorder knows of a candle; a text: it never accounted for it."""
    for each in one.gaps:
        if open_time_ms in each.span:
            return each.state
    is_due = one.account.first_ms <= open_time_ms < one.account.watermark_ms
    return None if is_due else "unknown"


def candles(span: Span) -> Iterator[int]:
    return BTC.interval.open_times_ms(span)


@settings(max_examples=300, deadline=None)
@given(
    every=st.tuples(ledgers("a"), ledgers("b"), ledgers("c")),
    minutes=st.sets(st.integers(0, _MOST - 1)),
)
def test_each_due_candle_is_stored_or_in_one_gap_and_in_the_right_one(
    every: tuple[OneLedger, ...], minutes: set[int]
) -> None:
    """Candle by candle, in the words of the module's docstring."""
    stored = joined(span(n, n + 1) for n in minutes)
    whole = united_account(one.account for one in every)
    found = united_gaps(BTC, whole, every, stored)
    times = [ms for one in found for ms in candles(one.span)]
    assert len(times) == len(set(times)), "two gaps overlap"
    state = {ms: one.state for one in found for ms in candles(one.span)}
    for n in range(_MOST):
        known = [state_of(one, at(n)) for one in every]
        accounted = [one for one in known if one != "unknown"]
        if n in minutes:
            was_missed = any(one is State.FILLED for one in known) and None not in known
            assert state.get(at(n)) is (State.FILLED if was_missed else None)
        elif whole.first_ms <= at(n) < whole.watermark_ms:
            is_closed = bool(accounted) and set(accounted) == {State.CLOSED}
            assert state.get(at(n)) is (State.CLOSED if is_closed else State.PENDING)
        else:
            assert at(n) not in state
