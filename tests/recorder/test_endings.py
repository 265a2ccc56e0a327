"""Which series come to their end, and which trade again."""

from datetime import UTC, datetime

import attrs
import pytest

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.interval import Span
from kline_trio.recorder.endings import Endings
from tests.storage.support import make_candle

ETH = Series("spot", "ETHUSDT", "1m")
BTC = Series("spot", "BTCUSDT", "1m")
MINUTE_MS = 60_000
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_a_series_is_over_when_a_candle_has_passed_after_that_in_which_its_end_was_seen() -> None:
    endings = Endings()
    assert not endings
    endings.see({ETH: 90_000}, [BTC])
    assert endings
    after = Span(2 * MINUTE_MS, 3 * MINUTE_MS)
    assert endings.is_over(ETH, after)
    assert endings.over({ETH: 2 * MINUTE_MS, BTC: 0}) == {}
    assert endings.over({BTC: 0}) == {}, "nothing is known of it yet"
    assert endings.over({ETH: 3 * MINUTE_MS, BTC: 0}) == {ETH: after}


def test_when_an_end_was_seen_does_not_change_while_it_lasts() -> None:
    endings = Endings()
    endings.see({ETH: 90_000}, [])
    endings.see({ETH: 900_000}, [])
    assert endings.is_over(ETH, Span(2 * MINUTE_MS, 3 * MINUTE_MS))
    endings.see({}, [ETH])
    endings.see({ETH: 900_000}, [])
    assert endings.is_over(ETH, Span(16 * MINUTE_MS, 17 * MINUTE_MS))


@pytest.mark.parametrize(
    ("minute", "trades", "next_minute"), [(1, 5, 2), (2, 0, 2), (2, 5, 3), (7, 1, 8)]
)
def test_trades_after_an_end_was_seen_put_it_off(
    minute: int, trades: int, next_minute: int
) -> None:
    """Flat candles do not: some delisted contracts go on sending them."""
    endings = Endings()
    endings.see({ETH: 90_000}, [])
    candle = attrs.evolve(make_candle(minute * MINUTE_MS), trade_num=trades)
    endings.came([ReceivedCandle(ETH, candle, NOW), ReceivedCandle(BTC, candle, NOW)])
    assert endings.is_over(ETH, Span(next_minute * MINUTE_MS, (next_minute + 1) * MINUTE_MS))


def test_what_is_traded_is_reopened_once_and_again_when_it_had_ended() -> None:
    endings = Endings()
    endings.see({}, [ETH, BTC])
    assert endings.to_reopen({ETH}) == [ETH], "the other is not known yet"
    endings.reopened([ETH])
    assert endings.to_reopen({ETH, BTC}) == [BTC]
    endings.see({ETH: 0}, [BTC])
    endings.see({}, [ETH, BTC])
    assert endings.to_reopen({ETH}) == [ETH]


def test_what_was_sealed_while_it_traded_again_is_reopened() -> None:
    endings = Endings()
    endings.see({}, [ETH])
    endings.reopened([ETH])
    endings.forget(ETH)
    assert endings.to_reopen({ETH}) == [ETH]


def test_what_ended_while_it_was_reopened_counts_as_not_reopened() -> None:
    endings = Endings()
    endings.see({}, [ETH])
    [asked] = endings.to_reopen({ETH})
    endings.see({ETH: 0}, [])
    endings.reopened([asked])
    endings.see({}, [ETH])
    assert endings.to_reopen({ETH}) == [ETH]
