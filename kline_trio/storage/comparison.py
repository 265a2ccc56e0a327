"""Compare stored candles with the exchange's, and with shorter candles of the same symbol."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa

from kline_trio.candle import NUMBERS, Candle, Series
from kline_trio.interval import Interval
from kline_trio.storage.row_faults import end_times_ms
from kline_trio.storage.table import BEGIN, values_of

_SUMMARIES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys((*NUMBERS, "trade_num"), np.sum),
    "open": lambda values: values[0],
    "high": np.max,
    "low": np.min,
    "close": lambda values: values[-1],
}
"""How the shorter candles' values make the longer candle's, by column."""
_TOLERANCE = 1e-9
"""Sums of the nearest floats to decimal texts differ in the last digits."""


@attrs.frozen
class Comparison:
    """The stored candles of a stretch beside the exchange's."""

    compared: int
    """How many candles both have."""
    differing: tuple[tuple[Candle, Candle], ...]
    """Pairs of the stored and the exchange's candle that are not equal."""
    absent_here: tuple[Candle, ...]
    absent_there: tuple[Candle, ...]

    @property
    def equal(self) -> int:
        """How many candles are equal in every field."""
        return self.compared - len(self.differing)


def compare(ours: Sequence[Candle], theirs: Sequence[Candle]) -> Comparison:
    """Compare candle by candle and field by field.

    Args:
      ours: the stored candles of a stretch, each open time once.
      theirs: the exchange's candles of the same stretch, each open time once.
    """
    mine = {candle.open_time_ms: candle for candle in ours}
    other = {candle.open_time_ms: candle for candle in theirs}
    both = sorted(mine.keys() & other.keys())
    return Comparison(
        len(both),
        tuple((mine[ms], other[ms]) for ms in both if mine[ms] != other[ms]),
        tuple(other[ms] for ms in sorted(other.keys() - mine.keys())),
        tuple(mine[ms] for ms in sorted(mine.keys() - other.keys())),
    )


@attrs.frozen
class Mismatch:
    """A value of a candle that the shorter candles in it do not make up."""

    open_time_ms: int
    column: str
    stored: float
    summed: float


def summed_mismatches(
    shorter: pa.Table, short: Interval, longer: pa.Table, series: Series
) -> Iterator[Mismatch]:
    """Give where the candles of a series disagree with shorter candles of the same symbol.

    A candle is compared only if all of its shorter candles are there.

    Args:
      shorter: the shorter candles, by begin.
      short: their interval, which is no month.
      longer: rows of the series, by begin.
      series: of the longer candles.
    """
    assert short.duration_ms is not None, "nothing is longer than a month"
    begins, starts = values_of(shorter[BEGIN]), values_of(longer[BEGIN])
    ends = end_times_ms(starts, series.interval)
    firsts, lasts = np.searchsorted(begins, starts), np.searchsorted(begins, ends)
    parts = {name: values_of(shorter[name]) for name in _SUMMARIES}
    wholes = {name: values_of(longer[name]) for name in _SUMMARIES}
    for row in np.flatnonzero((lasts - firsts) * short.duration_ms == ends - starts).tolist():
        for name, summary in _SUMMARIES.items():
            stored = float(wholes[name][row])
            summed = float(summary(parts[name][firsts[row] : lasts[row]]))
            if abs(stored - summed) > _TOLERANCE * max(abs(stored), abs(summed)):
                yield Mismatch(int(starts[row]), name, stored, summed)
