"""Which series come to their end, and which trade again."""

from datetime import UTC, datetime

import attrs
import pytest

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.recorder.endings import Endings
from tests.storage.support import make_candle

ETH = Series("spot", "ETHUSDT", "1m")
BTC = Series("spot", "BTCUSDT", "1m")
MINUTE_MS = 60_000
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_a_series_is_over_when_a_candle_has_passed_after_that_in_which_its_end_was_seen() -> None:
    endings = Endings()
    endings.see([ETH], [BTC])
    at = {"spot": 90_000}
    assert endings.over(at, {ETH: 0, BTC: 0}) == {}, "this is when it is seen"
    assert endings.is_noticed(ETH, 2 * MINUTE_MS)
    at = {"spot": 400_000}
    assert endings.over(at, {ETH: 2 * MINUTE_MS, BTC: 0}) == {}
    assert endings.over(at, {BTC: 0}) == {}, "nothing is known of it yet"
    assert endings.over(at, {ETH: 3 * MINUTE_MS, BTC: 0}) == {ETH: 2 * MINUTE_MS}


@pytest.mark.parametrize(
    ("minute", "trades", "is_over"), [(1, 5, True), (2, 0, True), (2, 5, False), (3, 1, False)]
)
def test_trades_after_an_end_was_seen_put_it_off(
    minute: int, trades: int, *, is_over: bool
) -> None:
    """Flat candles do not: some delisted contracts go on sending them."""
    endings = Endings()
    endings.see([ETH], [])
    marks = {ETH: 9 * MINUTE_MS}
    assert endings.over({"spot": 90_000}, marks) == {}
    values = attrs.evolve(make_candle(minute * MINUTE_MS), trade_num=trades)
    endings.came([ReceivedCandle(ETH, values, NOW)])
    assert endings.is_noticed(ETH, 2 * MINUTE_MS) == is_over
    assert (endings.over({"spot": 500_000}, marks) == {ETH: 2 * MINUTE_MS}) == is_over
    assert endings.over({"spot": 900_000}, marks).get(ETH) == (2 * MINUTE_MS if is_over else None)


def test_without_the_exchanges_time_no_end_is_seen() -> None:
    endings = Endings()
    endings.see([ETH], [])
    assert endings.over({"spot": None}, {ETH: 0}) == {}
    assert endings.over({"spot": 300_000}, {ETH: 500_000}) == {}
    assert endings.over({"spot": None}, {ETH: 500_000}) == {ETH: 360_000}


def test_what_is_traded_is_reopened_once_and_again_when_it_had_ended() -> None:
    endings = Endings()
    endings.see([], [ETH, BTC])
    assert endings.to_reopen({ETH}) == [ETH], "the other is not known yet"
    endings.reopened([ETH])
    assert endings.to_reopen({ETH, BTC}) == [BTC]
    endings.see([ETH], [BTC])
    endings.see([], [ETH, BTC])
    assert endings.to_reopen({ETH}) == [ETH]


def test_what_was_sealed_while_it_traded_again_is_reopened() -> None:
    endings = Endings()
    endings.see([], [ETH])
    endings.reopened([ETH])
    endings.forget(ETH)
    assert endings.to_reopen({ETH}) == [ETH]


def test_what_ended_while_it_was_reopened_counts_as_not_reopened() -> None:
    endings = Endings()
    endings.see([], [ETH])
    [asked] = endings.to_reopen({ETH})
    endings.see([ETH], [])
    endings.reopened([asked])
    endings.see([], [ETH])
    assert endings.to_reopen({ETH}) == [ETH]
