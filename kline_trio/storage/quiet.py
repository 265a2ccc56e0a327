"""Find stretches without trades among rows with many: there an archive's file may be wrong.

USD-M's files of 2025-01-29 are flat and without trades where REST has trades
(github.com/binance/binance-public-data issue 395).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.table import BEGIN, runs_of, values_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Sifted", "quiet_runs", "sifted", "without_spans"]

_MOST_EXPECTED = 50
"""So many trades may be absent by chance: illiquid symbols have thousands of such runs."""
_LEAST_ROWS_AROUND = 60


@attrs.frozen
class Sifted:
    """The rows of a table, and the quiet runs that were left out."""

    kept: pa.Table
    quiet: tuple[tuple[Span, float], ...]
    """Spans whose rows were left out, by time, each with the expected number of trades."""


def quiet_runs(trade_nums: "npt.NDArray[np.int64]") -> list[tuple[int, int, float]]:
    """Return the runs of rows without trades in which more than 50 trades were to be expected.

    The expected rate is that of the rows around: on each side as many rows as the run has, and at
    least 60. If a run has no rows around, infinitely many trades were to be expected.

    Args:
      trade_nums: number of trades, by row.

    Returns:
      of each run its first row, its end (exclusive), and the expected number of trades.
    """
    is_quiet = np.concatenate(([False], trade_nums == 0, [False]))
    edges = np.flatnonzero(is_quiet[1:] != is_quiet[:-1])
    firsts, ends = edges[::2], edges[1::2]
    lengths = ends - firsts
    reach = np.maximum(lengths, _LEAST_ROWS_AROUND)
    lows = np.maximum(firsts - reach, 0)
    highs = np.minimum(ends + reach, len(trade_nums))
    sums = np.concatenate(([0], np.cumsum(trade_nums)))
    trades_around = sums[firsts] - sums[lows] + sums[highs] - sums[ends]
    rows_around = firsts - lows + highs - ends
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(rows_around > 0, trades_around * lengths / rows_around, np.inf)
    return [
        (int(firsts[n]), int(ends[n]), float(expected[n]))
        for n in np.flatnonzero(expected > _MOST_EXPECTED).tolist()
    ]


def sifted(table: pa.Table, series: Series) -> Sifted:
    """Leave quiet runs out of a table.

    Args:
      table: rows by begin, unique.
      series: of the rows.
    """
    runs = quiet_runs(values_of(table["trade_num"]))
    if not runs:
        return Sifted(table, ())
    begins = values_of(table[BEGIN])
    quiet = [
        (span, expected)
        for first, end, expected in runs
        for span in runs_of(series, begins[first:end])
    ]
    return Sifted(without_spans(table, [span for span, _ in quiet]), tuple(quiet))


def without_spans(table: pa.Table, spans: Sequence[Span]) -> pa.Table:
    """Return the rows that open in none of the spans.

    Args:
      table: rows by begin.
      spans: in order.
    """
    begins = values_of(table[BEGIN])
    firsts = np.searchsorted(begins, [span.from_ms for span in spans]).tolist()
    ends = np.searchsorted(begins, [span.to_ms for span in spans]).tolist()
    pairs = zip([0, *ends], [*firsts, len(begins)], strict=True)
    return pa.concat_tables([table.slice(at, first - at) for at, first in pairs])
