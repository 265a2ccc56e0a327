"""The widths of coarse candles: multiples of the interval, by the exchange's calendar."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import MAX_TIME_MS
from kline_trio.interval import DAY_MS, INTERVALS, Interval
from kline_trio.storage.widths import Width, widths_of

EVERY = [(interval, width) for interval in INTERVALS.values() for width in widths_of(interval)]


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=lambda one: one.name)
def test_the_first_width_is_the_interval_and_the_last_has_room_for_all_time(
    interval: Interval,
) -> None:
    first, *_, last = widths = list(widths_of(interval))
    assert first.name == interval.name
    first_ms = interval.next_open_time_ms(0)
    assert last.count(first_ms, MAX_TIME_MS) == 1
    assert all(one.duration_ms < two.duration_ms for one, two in itertools.pairwise(widths))
    assert len({one.name for one in widths}) == len(widths)


def test_a_minute_has_the_widths_that_a_chart_wants() -> None:
    names = [width.name for width in widths_of(INTERVALS["1m"])]
    within_a_day = "1m 2m 5m 10m 15m 30m 1h 2h 4h 6h 8h 12h"
    assert " ".join(names) == f"{within_a_day} 1d 2d 3d 1w 1M 3M 1y 5y 10y all"
    assert [width.name for width in widths_of(INTERVALS["1w"])][:3] == ["1w", "14d", "28d"]
    assert [width.name for width in widths_of(INTERVALS["8h"])][:3] == ["8h", "1d", "2d"]
    assert [width.name for width in widths_of(INTERVALS["1M"])][:3] == ["1M", "3M", "1y"]


@pytest.mark.parametrize(("interval", "width"), EVERY, ids=lambda one: one.name)
def test_each_width_is_a_multiple_of_its_interval(interval: Interval, width: Width) -> None:
    if interval.duration_ms is None:
        assert width.months
    elif width.months:
        assert DAY_MS % interval.duration_ms == 0
    else:
        assert width.duration_ms % interval.duration_ms == 0
        assert (width.phase_ms - interval.phase_ms) % interval.duration_ms == 0


@given(
    one=st.sampled_from(EVERY),
    times_ms=st.lists(st.integers(0, 4_102_444_800_000), min_size=1, max_size=20),
)
def test_each_candle_is_in_one_wider_one_which_covers_it(
    one: tuple[Interval, Width], times_ms: list[int]
) -> None:
    interval, width = one
    opens = np.array([interval.next_open_time_ms(ms) for ms in times_ms], np.int64)
    numbers = width.numbers(opens)
    begins, ends = width.open_times_ms(numbers), width.open_times_ms(numbers + 1)
    assert np.all(begins <= opens)
    assert np.all([interval.end_time_ms(ms) for ms in opens.tolist()] <= ends)
    assert np.all(width.numbers(begins) == numbers)
    assert all(interval.is_open_time(ms) for ms in begins.tolist())


@given(
    name=st.sampled_from(["1h", "12h", "1d", "3d", "1w", "1M"]),
    time_ms=st.integers(0, 4_102_444_800_000),
)
def test_widths_of_the_exchange_are_its_own_candles(name: str, time_ms: int) -> None:
    [width] = [one for one in widths_of(INTERVALS["1m"]) if one.name == name]
    number = width.numbers(np.array([time_ms], np.int64))
    assert width.open_times_ms(number).tolist() == [INTERVALS[name].open_time_ms(time_ms)]
