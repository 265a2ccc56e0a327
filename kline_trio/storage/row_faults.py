"""What can be wrong with rows of candles, by the rows alone."""

from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.storage.table import BEGIN, END

__all__ = ["Fault", "begins_ms", "row_faults"]

_Numbers = npt.NDArray[np.float64]
_Times = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

_MOST_ROWS_A_KIND = 5
"""How many rows are named that have the same thing wrong with them; the rest is counted."""
_PRICES = ("open", "high", "low", "close")
_VOLUMES = (
    "volume",
    "quote_volume",
    "taker_buy_base_asset_volume",
    "taker_buy_quote_asset_volume",
)


@attrs.frozen
class Fault:
    """Something that is wrong with a file."""

    what: str
    row: int | None = None
    """Counted from 0; None for the file as a whole."""
    begin_time_ms: int | None = None
    """The row's."""


def begins_ms(table: pa.Table) -> _Times:
    """When each row begins; none of them may be empty."""
    return _times(table, BEGIN)


def row_faults(
    table: pa.Table, owner: Series, first_row: int, earlier_ms: int | None
) -> list[Fault]:
    """Everything that is wrong with the rows, by the calendar and by what a candle is.

    Args:
      table: with the columns of `schema(owner)`.
      owner: whose candles they are.
      first_row: how many rows of the file come before the table's.
      earlier_ms: the begin of the row before; None if there is none.
    """
    if not table.num_rows:
        return []
    for name in table.column_names:
        if table[name].null_count:
            return [Fault(f"{name} has {table[name].null_count:,} empty values")]
    begins, ends = _times(table, BEGIN), _times(table, END)
    faults = []
    for what, mask in _masks(table, owner, begins, ends, earlier_ms):
        rows = np.flatnonzero(mask)
        faults += [
            Fault(what, first_row + int(row), int(begins[row])) for row in rows[:_MOST_ROWS_A_KIND]
        ]
        if len(rows) > _MOST_ROWS_A_KIND:
            faults.append(Fault(f"{what}: {len(rows) - _MOST_ROWS_A_KIND:,} rows more"))
    return faults


def _times(table: pa.Table, name: str) -> _Times:
    times: _Times = table[name].to_numpy().astype("datetime64[ms]").astype(np.int64)
    return times


def _masks(
    table: pa.Table, owner: Series, begins: _Times, ends: _Times, earlier_ms: int | None
) -> Iterator[tuple[str, _Mask]]:
    """Each thing that can be wrong with a row, and the rows that it is wrong with."""
    first = begins[0] - 1 if earlier_ms is None else earlier_ms
    earlier = np.concatenate(([first], begins[:-1]))
    yield "is there twice", begins == earlier
    yield "is not in order", begins < earlier
    possible = (begins >= 0) & (begins < MAX_TIME_MS)
    yield "is of a time that cannot be", ~possible
    opens, wanted_ends = _calendar(owner, np.where(possible, begins, 0))
    yield f"does not begin on the grid of {owner.time_interval}", possible & (begins != opens)
    yield f"does not end {owner.time_interval} after its begin", possible & (ends != wanted_ends)
    numbers: dict[str, _Numbers] = {name: table[name].to_numpy() for name in (*_PRICES, *_VOLUMES)}
    finite = np.logical_and.reduce([np.isfinite(values) for values in numbers.values()])
    yield "has a number that is none", ~finite
    negative = np.logical_or.reduce([values < 0 for values in numbers.values()])
    yield "has a negative number", negative | (table["trade_num"].to_numpy() < 0)
    lowest = np.minimum(numbers["open"], numbers["close"])
    highest = np.maximum(numbers["open"], numbers["close"])
    yield "has a low above its open or close", numbers["low"] > lowest
    yield "has a high below its open or close", numbers["high"] < highest


def _calendar(owner: Series, begins: _Times) -> tuple[_Times, _Times]:
    """The open time of the candle that covers each moment, and the end that it should have."""
    interval = owner.interval
    if interval.duration_ms is not None:
        opens = begins - (begins - interval.phase_ms) % interval.duration_ms
        return opens, begins + interval.duration_ms
    months = [interval.open_time_ms(int(begin)) for begin in begins]
    ends = [interval.end_time_ms(int(begin)) for begin in begins]
    return np.array(months, np.int64), np.array(ends, np.int64)
