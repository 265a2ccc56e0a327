"""Estimate how long the space on a store's disk lasts. It loads neither pyarrow nor pandas."""

import math
from collections.abc import Iterable

import attrs

from kline_trio.candle import Series
from kline_trio.storage.journal.manifest import Totals

_DAY_SECONDS = 86_400.0
_MONTH_SECONDS = 2_629_746.0
_BYTES_A_ROW = 48.0
"""While there is no file; rows of real files take 25 to 50."""
_FEW_ROWS = 1_000
"""Files with fewer rows are mostly footers, and say little about the bytes of a row."""


@attrs.frozen
class DiskSpace:
    """The space on a store's disk, and what candles take of it."""

    free_bytes: int
    bytes_a_row: float

    @classmethod
    def beside(cls, totals: Totals, free_bytes: int) -> "DiskSpace":
        """Return the room beside a store's files: new rows take as many bytes as those in files.

        Args:
          totals: of all files.
          free_bytes: what the file system has left.
        """
        is_enough = totals.rows >= _FEW_ROWS * totals.files > 0
        return cls(free_bytes, totals.size_bytes / totals.rows if is_enough else _BYTES_A_ROW)

    def days_left(self, series: Iterable[Series]) -> float:
        """Return how many days the room lasts for candles of these series; infinity for none."""
        rows_a_second = sum(
            1_000 / one.interval.duration_ms if one.interval.duration_ms else 1 / _MONTH_SECONDS
            for one in series
        )
        if not rows_a_second:
            return math.inf
        return self.free_bytes / (rows_a_second * self.bytes_a_row * _DAY_SECONDS)
