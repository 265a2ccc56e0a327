"""The widths that candles in a chart can have: those of the exchange, and some between."""

from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt

from kline_trio.interval import DAY_MS, INTERVALS, Interval
from kline_trio.storage.numbering import numbers_until

MONTH_MS = 2_629_746_000
"""A mean month."""

_Integers = npt.NDArray[np.int64]


@attrs.frozen
class Width:
    """The length and the calendar of coarse candles: a time, or a number of months."""

    name: str
    """As an interval's: `2m`, `1w`, `3M`, `1y`."""
    duration_ms: int
    """Of months: their mean."""
    phase_ms: int = 0
    """An open time. All others differ from it by a multiple of the duration."""
    months: int = 0
    """How many months; 0: the duration counts."""

    def numbers(self, times_ms: _Integers) -> _Integers:
        """Return the number of the candle that covers each time."""
        if self.months:
            return numbers_until(INTERVALS["1M"], times_ms) // self.months
        return (times_ms - self.phase_ms) // self.duration_ms

    def open_times_ms(self, numbers: _Integers) -> _Integers:
        """Return the open time of each candle of a number."""
        if self.months:
            months = (numbers * self.months).astype("datetime64[M]")
            return months.astype("datetime64[ms]").astype(np.int64)
        return numbers * self.duration_ms + self.phase_ms

    def count(self, first_ms: int, last_ms: int) -> int:
        """Return how many candles there can be from one open time to another, inclusive."""
        first, last = self.numbers(np.array([first_ms, last_ms], np.int64)).tolist()
        return int(last - first) + 1


_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
_LENGTHS = (
    *("2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m"),
    *("1h", "2h", "4h", "6h", "8h", "12h", "1d", "2d", "3d", "1w"),
)
_MONTHS = {"1M": 1, "3M": 3, "1y": 12, "5y": 60, "10y": 120, "all": 12 * 10_000}


def _ladder() -> Iterator[Width]:
    for name in _LENGTHS:
        phase_ms = INTERVALS[name].phase_ms if name in INTERVALS else 0
        yield Width(name, int(name[:-1]) * _UNITS_MS[name[-1]], phase_ms)
    for name, months in _MONTHS.items():
        yield Width(name, months * MONTH_MS, months=months)


def widths_of(interval: Interval) -> Iterator[Width]:
    """Yield the widths that candles of an interval can have, the finest first.

    Each is a multiple of the interval. The last one has room for all time.
    """
    own_ms = interval.duration_ms
    if own_ms is None:
        yield Width(interval.name, MONTH_MS, months=1)
    else:
        yield Width(interval.name, own_ms, interval.phase_ms)
    if own_ms is not None and DAY_MS % own_ms:
        # Neither months nor the exchange's intervals are multiples of three days or of a week.
        for power in range(1, 23):
            length_ms = own_ms << power
            yield Width(f"{length_ms // DAY_MS}d", length_ms, interval.phase_ms)
        return
    for width in _ladder():
        is_coarser = width.duration_ms > (own_ms or MONTH_MS)
        if is_coarser and (width.months or (own_ms is not None and not width.duration_ms % own_ms)):
            yield width
