"""Series and candles: what is taken, and what is refused."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series, StreamedKline, upper_ascii
from kline_trio.errors import ProtocolError
from kline_trio.interval import INTERVALS
from tests.builders import SPOT

MINUTE = INTERVALS["1m"]


def kline(**changes: Any) -> StreamedKline:  # noqa: ANN401 - also what no kline may have
    fields = {
        "s": "BTCUSDT",
        "i": "1m",
        "x": True,
        "t": 1_700_000_040_000,
        "T": 1_700_000_099_999,
        "o": "2.0",
        "h": "4.0",
        "l": "1.0",
        "c": "3.0",
        "v": "10",
        "q": "20.5",
        "n": 7,
        "V": "4",
        "Q": "8.25",
    }
    return StreamedKline(**{**fields, **changes})


def test_a_candle_takes_the_exchange_s_letters_by_their_meaning() -> None:
    assert Candle.from_stream(kline(), MINUTE) == Candle(
        open_time_ms=1_700_000_040_000,
        open=2.0,
        high=4.0,
        low=1.0,
        close=3.0,
        volume=10.0,
        quote_volume=20.5,
        trade_num=7,
        taker_buy_base_asset_volume=4.0,
        taker_buy_quote_asset_volume=8.25,
    )


@pytest.mark.parametrize("name", ["o", "h", "l", "c", "v", "q", "V", "Q"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "+1",
        "-1",
        "-0",
        "1e5",
        "nan",
        "NaN",
        "inf",
        "1_000",
        ".5",
        "5.",
        "0x10",
        "١",
        "9" * 400,
        "0." + "1" * 25,
        "1,5",
        "1\n",
    ],
)
def test_only_plain_decimal_text_is_a_number(name: str, text: str) -> None:
    with pytest.raises(ProtocolError, match="plain decimal"):
        Candle.from_stream(kline(**{name: text}), MINUTE)


@pytest.mark.parametrize("open_time_ms", [1_700_000_040_001, -60_000, 253_402_300_800_000, 2**70])
def test_an_open_time_off_the_grid_or_out_of_this_world_is_refused(open_time_ms: int) -> None:
    with pytest.raises(ProtocolError, match="open time"):
        Candle.from_stream(kline(t=open_time_ms), MINUTE)


@pytest.mark.parametrize("trades", [-1, 2**63])
def test_an_impossible_number_of_trades_is_refused(trades: int) -> None:
    with pytest.raises(ProtocolError, match="number of trades"):
        Candle.from_stream(kline(n=trades), MINUTE)


@given(prices=st.lists(st.integers(0, 10**14), min_size=4, max_size=4))
def test_prices_are_taken_exactly_where_low_is_lowest_and_high_is_highest(
    prices: list[int],
) -> None:
    texts = [f"{price // 10**8}.{price % 10**8:08}" for price in prices]
    o, h, low, c = (float(text) for text in texts)
    event = kline(**dict(zip("ohlc", texts, strict=True)))
    if low <= min(o, c) and max(o, c) <= h:
        candle = Candle.from_stream(event, MINUTE)
        assert (candle.open, candle.high, candle.low, candle.close) == (o, h, low, c)
    else:
        with pytest.raises(ProtocolError, match="the open or the close"):
            Candle.from_stream(event, MINUTE)


@given(st.text() | st.sampled_from(["../x", "..", ".", "a/b", "A\0", "A\\B", "~", "CON:", "A B"]))
def test_a_symbol_is_a_file_name_part_or_no_symbol(text: str) -> None:
    try:
        symbol = Series("spot", text, "1m").symbol
    except ValueError:
        return
    assert symbol
    assert all(
        character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
        for character in symbol
    )


@pytest.mark.parametrize(
    "symbol",
    [
        "BTCUSDT", "1000SHIBUSDT", "BTCUSD_PERP", "币安人生USDT", "ลิงUSDT", "हिन्दीUSDT", "தமிழ்USDT",
        "עִבְרִיתUSDT", "TIE\u0302\u0301NGUSDT", "ខ្មែរUSDT",
    ],
)  # fmt: skip
def test_symbols_may_hold_digits_letters_and_marks_of_any_script(symbol: str) -> None:
    assert str(Series("usdt_futures", symbol, "1M")) == f"usdt_futures {symbol}-1M"


@pytest.mark.parametrize(
    ("trade_type", "symbol", "time_interval"),
    [("swap", "BTCUSDT", "1m"), ("spot", "btcusdt", "1m"), ("spot", "BTCUSDT", "7m")],
)
def test_a_series_of_an_unknown_kind_is_refused(
    trade_type: str, symbol: str, time_interval: str
) -> None:
    with pytest.raises(ValueError, match=r"must be in|upper case"):
        Series(trade_type, symbol, time_interval)


def test_only_ascii_letters_change_case() -> None:
    assert upper_ascii("btcß币ſusdt") == "BTCß币ſUSDT"


def test_a_receive_time_is_in_utc() -> None:
    series, candle = SPOT, Candle.from_stream(kline(), MINUTE)
    received = ReceivedCandle(series, candle, datetime.now(UTC))
    assert (received.trade_type, received.symbol, received.time_interval) == (
        "spot",
        "BTCUSDT",
        "1m",
    )
    with pytest.raises(ValueError, match="UTC"):
        ReceivedCandle(series, candle, datetime.now(timezone(timedelta(hours=1))))
