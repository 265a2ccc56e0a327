"""Made-up trading: pure, exact, and monotone inside a candle."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.simulator.calendar import DAY_MS, next_open_ms, open_ms
from kline_trio.simulator.prices import Figures, Tape, continued_hash, hash_key, mix, started_hash
from kline_trio.simulator.symbols import Listing, listing_of
from tests.builders import HOUR_MS, MINUTE_MS

from .support import START_MS

SYMBOLS = [
    ("spot", "BTCUSDT"),
    ("spot", "XMRBTC"),
    ("spot", "SHIBUSDT"),
    ("usdt_futures", "YFIUSDT"),
    ("coin_futures", "BTCUSD_PERP"),
    ("coin_futures", "LTCUSD_PERP"),
]


def listing(trade_type: str, symbol: str) -> Listing:
    found = listing_of(trade_type, symbol)
    assert found is not None
    return found


def added(tape: Tape, opened: int, end: int, step: int) -> Figures:
    parts = [tape.figures(ms, ms + step) for ms in range(opened, end, step)]
    total = parts[0]
    for part in parts[1:]:
        total = total.then(part)
    return total


@pytest.mark.parametrize(
    ("trade_type", "symbol", "interval"),
    # A month of minutes takes seconds: longer candles are added up from days.
    [(*one, interval) for one in SYMBOLS for interval in ("5m", "1h", "1d", "3d", "1w", "1M")],
)
def test_minutes_add_up(trade_type: str, symbol: str, interval: str) -> None:
    """One-minute candles give exactly the longer ones, however those are come by."""
    opened = open_ms(interval, START_MS)
    end = next_open_ms(interval, opened)
    step = DAY_MS if interval in ("3d", "1w", "1M") else MINUTE_MS
    by_minute = added(Tape(7, listing(trade_type, symbol)), opened, end, step)
    at_once = Tape(7, listing(trade_type, symbol)).figures(opened, end)
    assert at_once == by_minute
    growing = Tape(7, listing(trade_type, symbol))
    for part in range(1, 8):
        growing.figures(opened, opened + (end - opened) * part // 8)
    assert growing.figures(opened, end) == by_minute
    assert (
        growing.figures(opened, end - MINUTE_MS).then(growing.figures(end - MINUTE_MS, end))
        == by_minute
    )


@pytest.mark.parametrize(("trade_type", "symbol"), SYMBOLS)
@given(minute=st.integers(24_000_000, 32_000_000), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_seconds_add_up(trade_type: str, symbol: str, minute: int, seed: int) -> None:
    """The seconds of a minute hold its trades and volumes, each once."""
    tape = Tape(seed, listing(trade_type, symbol))
    whole = tape.figures(minute * MINUTE_MS, (minute + 1) * MINUTE_MS)
    seconds = added(tape, minute * MINUTE_MS, (minute + 1) * MINUTE_MS, 1000)
    assert seconds[4:] == whole[4:]
    assert seconds.close == whole.close
    if whole.trades:
        traded = [
            tape.figures(ms, ms + 1000)
            for ms in range(minute * MINUTE_MS, (minute + 1) * MINUTE_MS, 1000)
        ]
        traded = [second for second in traded if second.trades]
        assert traded[0].open == whole.open
        assert max(second.high for second in traded) == whole.high
        assert min(second.low for second in traded) == whole.low


@pytest.mark.parametrize(("trade_type", "symbol"), SYMBOLS)
@given(st.integers(0, HOUR_MS), st.integers(0, HOUR_MS))
@settings(max_examples=50, deadline=None)
def test_a_forming_candle_only_grows(trade_type: str, symbol: str, one: int, two: int) -> None:
    """While a candle forms, its range and sums never shrink, and it is lawful throughout."""
    tape = Tape(1, listing(trade_type, symbol))
    opened = open_ms("1h", START_MS)
    earlier, later = (tape.figures(opened, opened + 1 + ms) for ms in sorted((one, two)))
    for figures in (earlier, later):
        assert 0 < figures.low <= min(figures.open, figures.close)
        assert figures.high >= max(figures.open, figures.close)
        assert 0 <= figures.taker_volume <= figures.volume
        assert 0 <= figures.taker_turnover <= figures.turnover
    if earlier.trades:
        assert later.high >= earlier.high
        assert later.low <= earlier.low
    assert all(new >= old for new, old in zip(later[4:9], earlier[4:9], strict=True))
    assert later.first_trade == earlier.first_trade


@pytest.mark.parametrize(("trade_type", "symbol"), SYMBOLS)
@given(minute=st.integers(24_000_000, 32_000_000), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_short_way_to_a_minute_is_right(
    trade_type: str, symbol: str, minute: int, seed: int
) -> None:
    """A whole minute is what its two parts are, and as it stands in its last millisecond."""
    tape = Tape(seed, listing(trade_type, symbol))
    opened, end = minute * MINUTE_MS, (minute + 1) * MINUTE_MS
    whole = tape.figures(opened, end)
    last = tape.figures(end - 1, end)
    parts = tape.figures(opened, end - 1)
    if last.trades:
        parts = parts.then(last) if parts.trades else last
    assert parts[:4] == whole[:4]
    assert parts[8] == whole[8]
    assert parts[4] == whole[4]


@given(st.integers(1, 400), st.integers(0, 200_000), st.integers(0, 200_000))
@settings(max_examples=100, deadline=None)
def test_a_span_may_begin_anywhere(seed: int, begins_ms: int, length_ms: int) -> None:
    """What is traded up to any moment, and from it on, is what is traded in all."""
    tape = Tape(seed, listing("usdt_futures", "BTCUSDT"))
    opened = open_ms("1m", START_MS)
    middle, end = opened + begins_ms, opened + begins_ms + length_ms
    whole, early, late = (
        tape.figures(*span) for span in ((opened, end), (opened, middle), (middle, end))
    )
    assert whole[4:9] == tuple(a + b for a, b in zip(early[4:9], late[4:9], strict=True))
    assert whole.close == (late.close if late.trades else early.close)


def test_memory_of_a_tape_is_bounded() -> None:
    """However many minutes, hours and months of it are asked for."""
    tape = Tape(1, listing("spot", "BTCUSDT"))
    opened = open_ms("1h", START_MS)
    for hour in range(200):
        for length in (1, 3, 15, 60, 240):
            tape.figures(opened + hour * HOUR_MS, opened + hour * HOUR_MS + length * MINUTE_MS)
    assert tape._block.cache_info().currsize <= 4
    assert len(tape._runs) <= 32


def test_trade_numbers_go_on() -> None:
    """The first trade of a minute is the one after the last of the minute before."""
    tape = Tape(1, listing("spot", "ETHUSDT"))
    opened = open_ms("1m", START_MS)
    for ms in range(opened, opened + 100 * MINUTE_MS, MINUTE_MS):
        here, there = (tape.figures(m, m + MINUTE_MS) for m in (ms, ms + MINUTE_MS))
        assert here.first_trade + here.trades == there.first_trade


def test_a_candle_is_the_same_always() -> None:
    """Seed, symbol and time alone decide; the value below must never change unnoticed."""
    tape = Tape(1, listing("spot", "BTCUSDT"))
    opened = open_ms("1m", START_MS)
    here = tape.figures(opened, opened + MINUTE_MS)
    tape.figures(opened - 10**9, opened)
    assert tape.figures(opened, opened + MINUTE_MS) == here
    assert Tape(2, listing("spot", "BTCUSDT")).figures(opened, opened + MINUTE_MS) != here


def test_quiet_symbols_leave_minutes_flat() -> None:
    """A quiet symbol has minutes without trades, at the last price; a busy one has none."""
    opened = open_ms("1h", START_MS)
    quiet, busy = (Tape(1, listing("spot", name)) for name in ("XMRUSDT", "BTCUSDT"))
    flats = 0
    for ms in range(opened, opened + 300 * MINUTE_MS, MINUTE_MS):
        before, here = quiet.figures(ms - MINUTE_MS, ms), quiet.figures(ms, ms + MINUTE_MS)
        assert busy.figures(ms, ms + MINUTE_MS).trades
        if not here.trades:
            flats += 1
            assert set(here[:4]) == {before.close}
            assert set(here[4:9]) == {0}
    assert 200 < flats < 290


def test_a_month_is_quick() -> None:
    """A month of minutes is summed in far less than a frame's time on a slow machine."""
    tape = Tape(1, listing("usdt_futures", "BTCUSDT"))
    opened = open_ms("1M", START_MS)
    began = time.perf_counter()
    tape.figures(opened, next_open_ms("1M", opened))
    assert time.perf_counter() - began < 0.5


@given(st.text(), st.lists(st.integers(0, 2**48), min_size=1, max_size=3))
def test_a_hash_may_be_finished_later(text: str, numbers: list[int]) -> None:
    """What a stream's hash begins with is worked out once."""
    assert continued_hash(started_hash(1, text), *numbers) == hash_key(1, text, *numbers)


@given(st.integers(0, 2**64 - 1))
def test_both_hashes_are_one(value: int) -> None:
    """The hash of single numbers is that of columns, so a candle has one value."""
    tape = Tape(0, listing("spot", "BTCUSDT"))
    tape._keys[0] = value
    assert int(tape._bits(0, np.array([5]), 1023)[0]) == mix((value + 5) & (2**64 - 1)) & 1023
