"""What is stored against what it should be: the exchange's rows, and sums of shorter candles."""

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import Candle, Series
from kline_trio.interval import Interval
from kline_trio.storage.table import open_times_ms

__all__ = ["Comparison", "Mismatch", "compare", "summed_mismatches"]

_SUMS = (
    "volume",
    "quote_volume",
    "taker_buy_base_asset_volume",
    "taker_buy_quote_asset_volume",
)
_TOLERANCE = 1e-9
"""Sums of the nearest floats to decimal texts differ in the last digits."""


@attrs.frozen
class Comparison:
    """How the stored candles of a stretch compare with the exchange's."""

    compared: int
    """Candles that both have."""
    differing: tuple[tuple[Candle, Candle], ...]
    """Ours and theirs, where they are not the same."""
    absent_here: tuple[Candle, ...]
    absent_there: tuple[Candle, ...]

    @property
    def equal(self) -> int:
        """Candles that are the same in every field."""
        return self.compared - len(self.differing)


def compare(ours: Sequence[Candle], theirs: Sequence[Candle]) -> Comparison:
    """Compares row by row and field by field.

    Args:
      ours: by open time, and unique.
      theirs: the same, of the same stretch.
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
    """A candle that is not what the shorter ones in it make up."""

    series: Series
    shorter: Interval
    open_time_ms: int
    column: str
    stored: float
    summed: float


def summed_mismatches(
    shorter: pa.Table, short: Interval, longer: pa.Table, series: Series
) -> Iterator[Mismatch]:
    """Where the candles of a series disagree with those of a shorter interval, of the same symbol.

    Only candles all of whose shorter ones are there are looked at.

    Args:
      shorter: rows by begin.
      short: their interval.
      longer: rows of the series, by begin.
      series: whose they are.
    """
    begins = np.array(open_times_ms(shorter), np.int64)
    ends = [series.interval.end_time_ms(ms) for ms in open_times_ms(longer)]
    starts = open_times_ms(longer)
    names = (*_SUMS, "open", "high", "low", "close", "trade_num")
    columns = {name: shorter[name].to_numpy() for name in names}
    stored = {name: longer[name].to_numpy() for name in columns}
    first = np.searchsorted(begins, starts)
    last = np.searchsorted(begins, ends)
    for row, (from_ms, to_ms) in enumerate(zip(starts, ends, strict=True)):
        low, high = int(first[row]), int(last[row])
        if high - low != _count(short, from_ms, to_ms):
            continue
        for name, value in _made_up(columns, low, high).items():
            have = float(stored[name][row])
            if abs(have - value) > _TOLERANCE * max(abs(have), abs(value)):
                yield Mismatch(series, short, from_ms, name, have, value)


def _count(short: Interval, from_ms: int, to_ms: int) -> int:
    assert short.duration_ms is not None, "nothing is longer than a month"
    return (to_ms - from_ms) // short.duration_ms


def _made_up(columns: dict[str, npt.NDArray[np.float64]], low: int, high: int) -> dict[str, float]:
    pieces = {name: values[low:high] for name, values in columns.items()}
    return {
        "open": float(pieces["open"][0]),
        "high": float(pieces["high"].max()),
        "low": float(pieces["low"].min()),
        "close": float(pieces["close"][-1]),
        "trade_num": float(pieces["trade_num"].sum()),
        **{name: float(pieces[name].sum()) for name in _SUMS},
    }
