"""Number the candles of an interval, so that a count of candles is a difference of numbers.

Candle 0 opens at the interval's phase; for months it is that of January 1970. To number a thousand
times takes microseconds, for months too.
"""

import numpy as np
import numpy.typing as npt

from kline_trio.candle import MAX_TIME_MS
from kline_trio.interval import Interval

Numbers = npt.NDArray[np.int64]


def numbers_from(interval: Interval, times_ms: npt.ArrayLike) -> Numbers:
    """Return the number of the first candle that opens at each time or later.

    Times before 1970 and beyond the calendar count as its first and its last moment.
    """
    return -_floors(interval, times_ms, is_up=True)


def numbers_until(interval: Interval, times_ms: npt.ArrayLike) -> Numbers:
    """Return how many candles, from candle 0 on, have ended by each time.

    Times before 1970 and beyond the calendar count as its first and its last moment.
    """
    return _floors(interval, times_ms, is_up=False)


def open_times_ms(interval: Interval, numbers: Numbers) -> Numbers:
    """Return the open times of the candles of some numbers."""
    if interval.duration_ms is not None:
        return numbers * interval.duration_ms + interval.phase_ms
    return numbers.astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)


def _floors(interval: Interval, times_ms: npt.ArrayLike, *, is_up: bool) -> Numbers:
    """Return the times in candles, rounded down; or, negated, rounded up."""
    times = np.clip(np.asarray(times_ms, np.int64), 0, MAX_TIME_MS)
    if interval.duration_ms is not None:
        passed = times - interval.phase_ms
        return (-passed if is_up else passed) // interval.duration_ms
    months = times.astype("datetime64[ms]").astype("datetime64[M]")
    numbers = months.astype(np.int64)
    if is_up:
        return -(numbers + (months.astype("datetime64[ms]").astype(np.int64) < times))
    return numbers
