"""Numbers of candles, held against the calendar of each interval."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kline_trio.candle import MAX_TIME_MS
from kline_trio.interval import INTERVALS, Interval, Span
from kline_trio.storage.numbering import numbers_from, numbers_until

EVERY = st.sampled_from(list(INTERVALS.values()))
TIMES = st.integers(0, 4_102_444_800_000)


@given(interval=EVERY, one=TIMES, other=TIMES)
def test_differences_are_counts_of_candles(interval: Interval, one: int, other: int) -> None:
    first, end = sorted(map(interval.next_open_time_ms, (one, min(other, one + 10**10))))
    span_count = interval.count(Span(first, end)) if first < end else 0
    numbers = numbers_from(interval, [first, end])
    assert int(numbers[1] - numbers[0]) == span_count
    assert numbers_until(interval, [first, end]).tolist() == numbers.tolist()


@given(interval=EVERY, time_ms=TIMES)
@example(INTERVALS["1M"], 1_709_251_200_000)
@example(INTERVALS["1M"], 1_709_251_199_999)
@example(INTERVALS["1M"], 1_709_251_200_001)
def test_times_between_are_rounded_up_or_down(interval: Interval, time_ms: int) -> None:
    open_ms, next_ms = interval.open_time_ms(time_ms), interval.next_open_time_ms(time_ms)
    begin = numbers_from(interval, [time_ms, next_ms]).tolist()
    assert begin[0] == begin[1]
    if open_ms >= 0:
        until = numbers_until(interval, [time_ms, open_ms]).tolist()
        assert until[0] == until[1]
        assert begin[0] - until[0] == (time_ms != open_ms)


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=lambda one: one.name)
def test_times_beyond_the_calendar_are_its_ends(interval: Interval) -> None:
    ends = [-(2**63), -1, 0, MAX_TIME_MS, MAX_TIME_MS + 1, 2**63 - 1]
    for numbers in (numbers_from(interval, ends), numbers_until(interval, ends)):
        assert np.all(numbers[:3] == numbers[0])
        assert np.all(numbers[3:] == numbers[3])
        assert numbers[3] > numbers[0]


def test_months_are_numbered_from_1970() -> None:
    january_2024 = 1_704_067_200_000
    assert numbers_from(INTERVALS["1M"], [0, january_2024, january_2024 + 1]).tolist() == [
        0,
        648,
        649,
    ]
