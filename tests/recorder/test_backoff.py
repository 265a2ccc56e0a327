"""What must not be asked before when; no clock, no network."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.recorder.backoff import Backoff

BTC = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")
PERP = Series("coin_futures", "BTCUSD_PERP", "1m")
MINUTE_MS = 60_000


def span(from_minute: int, to_minute: int) -> Span:
    return Span(from_minute * MINUTE_MS, to_minute * MINUTE_MS)


# Markets and series that gave no candles.


def until(backoff: Backoff, series: Series, now: float) -> float:
    return backoff.ready_at(series, span(0, 6), now)


def wait_of(backoff: Backoff, series: Series, now: float) -> float:
    return until(backoff, series, now) - now


def test_each_failure_in_a_row_doubles_the_rest_up_to_a_minute() -> None:
    backoff, now, waits = Backoff(), 0.0, []
    for _ in range(8):
        backoff.failed(BTC, now)
        waits.append(wait_of(backoff, BTC, now))
        now = until(backoff, BTC, now)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_series_rests_longer_than_its_market_and_other_markets_do_not() -> None:
    backoff = Backoff()
    backoff.failed(BTC, 100.0)
    assert wait_of(backoff, BTC, 100.0) == 2
    assert wait_of(backoff, ETH, 100.0) == 1
    assert until(backoff, PERP, 100.0) == 100.0


def test_a_success_ends_the_series_rest_and_begins_its_market_s_count_anew() -> None:
    backoff, now = Backoff(), 0.0
    for _ in range(5):
        backoff.failed(BTC, now)
        now = until(backoff, BTC, now)
    backoff.succeeded(BTC)
    backoff.failed(ETH, now)
    assert wait_of(backoff, ETH, now) == 2
    assert wait_of(backoff, BTC, now) == 1, "the market's first failure, and none of its own"
    backoff.succeeded(ETH)
    backoff.failed(BTC, now + 100)
    assert wait_of(backoff, BTC, now + 100) == 2, "its own count began anew, too"


def test_a_success_that_was_asked_before_others_failed_does_not_cut_their_rest_short() -> None:
    backoff, now = Backoff(), 0.0
    for _ in range(4):
        backoff.market_failed("spot", now)
        now = until(backoff, ETH, now)
    backoff.market_failed("spot", now)
    backoff.succeeded(BTC)
    assert wait_of(backoff, BTC, now) == 16


def test_what_fails_while_the_market_rests_is_the_same_failure() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.market_failed("spot", 10.0)
    assert wait_of(backoff, ETH, 10.0) == 1
    assert backoff.market_failed("spot", 11.0) is False
    assert wait_of(backoff, ETH, 11.0) == 2


def test_it_is_told_once_when_failures_begin() -> None:
    backoff = Backoff()
    assert backoff.failed(BTC, 0.0)
    assert not backoff.failed(BTC, 100.0)
    assert not backoff.failed(ETH, 200.0), "its market fails already"
    backoff.succeeded(BTC)
    backoff.succeeded(ETH)
    assert backoff.failed(ETH, 300.0)


@pytest.mark.parametrize("least", [0.0, 30.0])
def test_a_rest_that_the_exchange_asks_for_is_kept(least: float) -> None:
    backoff = Backoff()
    backoff.market_failed("spot", 0.0, least)
    assert until(backoff, BTC, 0.0) == max(1.0, least)


# Spans that the exchange did not have.


def test_only_what_was_asked_for_waits() -> None:
    backoff = Backoff()
    backoff.put_off(BTC, {span(2, 4): 10.0}, 0.0)
    assert backoff.ready(BTC, span(0, 6), 5.0) == [span(0, 2), span(4, 6)]
    assert backoff.ready(ETH, span(0, 6), 5.0) == [span(0, 6)]
    assert backoff.ready(BTC, span(0, 6), 10.0) == [span(0, 6)]


def test_when_it_ends() -> None:
    backoff = Backoff()
    backoff.put_off(BTC, {span(2, 4): 10.0}, 0.0)
    backoff.put_off(ETH, {span(2, 4): 8.0}, 0.0)
    assert backoff.ready_at(BTC, span(2, 3), 5.0) == 10.0
    assert backoff.ready_at(BTC, span(1, 3), 5.0) == 5.0
    assert backoff.next_at(5.0) == 8.0
    assert backoff.next_at(9.0) == 10.0
    assert backoff.next_at(10.0) == math.inf


def test_what_is_over_is_forgotten_when_a_series_is_put_off_again() -> None:
    backoff = Backoff()
    for now in range(100):
        backoff.put_off(BTC, {span(now, now + 1): 2.0}, float(now))
    assert len(backoff._waiting[BTC]) == 2


_spans = st.tuples(st.integers(0, 20), st.integers(1, 10)).map(lambda p: span(p[0], p[0] + p[1]))


@given(waits=st.lists(st.tuples(_spans, st.integers(0, 10))), asked=_spans, now=st.integers(0, 11))
def test_it_is_a_set_of_minutes(waits: list[tuple[Span, int]], asked: Span, now: int) -> None:
    backoff = Backoff()
    busy: set[int] = set()
    for one, seconds in waits:
        backoff.put_off(BTC, {one: seconds}, 0.0)
        if seconds > now:
            busy.update(range(one.from_ms, one.to_ms, MINUTE_MS))
    ready = [
        ms
        for one in backoff.ready(BTC, asked, now)
        for ms in range(one.from_ms, one.to_ms, MINUTE_MS)
    ]
    assert ready == [ms for ms in range(asked.from_ms, asked.to_ms, MINUTE_MS) if ms not in busy]
