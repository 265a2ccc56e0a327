"""How long a market or a series that gave no candles is left alone; no clock, no network."""

import pytest

from kline_trio.candle import Series
from kline_trio.recorder.rests import Rests

BTC = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")
PERP = Series("coin_futures", "BTCUSD_PERP", "1m")


def wait_of(rests: Rests, series: Series, now: float) -> float:
    return rests.until(series) - now


def test_each_failure_in_a_row_doubles_the_rest_up_to_a_minute() -> None:
    rests, now, waits = Rests(), 0.0, []
    for _ in range(8):
        rests.failed(BTC, now)
        waits.append(wait_of(rests, BTC, now))
        now = rests.until(BTC)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_series_rests_longer_than_its_market_and_other_markets_do_not() -> None:
    rests = Rests()
    rests.failed(BTC, 100.0)
    assert wait_of(rests, BTC, 100.0) == 2
    assert wait_of(rests, ETH, 100.0) == 1
    assert rests.until(PERP) < 100.0


def test_a_success_ends_the_series_rest_and_begins_its_market_s_count_anew() -> None:
    rests, now = Rests(), 0.0
    for _ in range(5):
        rests.failed(BTC, now)
        now = rests.until(BTC)
    rests.succeeded(BTC)
    rests.failed(ETH, now)
    assert wait_of(rests, ETH, now) == 2
    assert wait_of(rests, BTC, now) == 1, "the market's first failure, and none of its own"
    rests.succeeded(ETH)
    rests.failed(BTC, now + 100)
    assert wait_of(rests, BTC, now + 100) == 2, "its own count began anew, too"


def test_a_success_that_was_asked_before_others_failed_does_not_cut_their_rest_short() -> None:
    rests, now = Rests(), 0.0
    for _ in range(4):
        rests.market_failed("spot", now)
        now = rests.until(ETH)
    rests.market_failed("spot", now)
    rests.succeeded(BTC)
    assert wait_of(rests, BTC, now) == 16


def test_what_fails_while_the_market_rests_is_the_same_failure() -> None:
    rests = Rests()
    for _ in range(4):
        rests.market_failed("spot", 10.0)
    assert wait_of(rests, ETH, 10.0) == 1
    assert rests.market_failed("spot", 11.0) is False
    assert wait_of(rests, ETH, 11.0) == 2


def test_it_is_told_once_when_failures_begin() -> None:
    rests = Rests()
    assert rests.failed(BTC, 0.0)
    assert not rests.failed(BTC, 100.0)
    assert not rests.failed(ETH, 200.0), "its market fails already"
    rests.succeeded(BTC)
    rests.succeeded(ETH)
    assert rests.failed(ETH, 300.0)


@pytest.mark.parametrize("least", [0.0, 30.0])
def test_a_rest_that_the_exchange_asks_for_is_kept(least: float) -> None:
    rests = Rests()
    rests.market_failed("spot", 0.0, least)
    assert rests.until(BTC) == max(1.0, least)
