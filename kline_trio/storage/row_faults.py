"""Find rows that can be no candles: the rules of `candle` and the calendar, for whole columns."""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_trio.candle import MAX_TIME_MS, NEGATIVE, NOT_FINITE, NUMBERS, PRICE_ORDER, Series
from kline_trio.counting import counted
from kline_trio.interval import Interval
from kline_trio.storage.table import BEGIN, END, values_of

_MOST_ROWS_A_KIND = 5
"""How many rows with the same fault are named; the others are counted."""


@attrs.frozen
class Fault:
    """Something that is wrong with a file."""

    what: str
    row: int | None = None
    """Counted from 0; None for the file as a whole."""
    begin_time_ms: int | None = None
    """The row's open time."""


def row_faults(
    table: pa.Table, owner: Series, first_row: int, earlier_ms: int | None
) -> list[Fault]:
    """Return everything that is wrong with rows, by the calendar and by the rules of a candle.

    Args:
      table: with the columns of `schema(owner)`.
      owner: the series of the candles.
      first_row: how many rows of the file come before the table's.
      earlier_ms: the open time of the row before; None if there is none.
    """
    if not table.num_rows:
        return []
    for name in table.column_names:
        if table[name].null_count:
            return [Fault(f"{name} has {counted(table[name].null_count, 'empty value')}")]
    columns = {name: values_of(table[name]) for name in table.column_names}
    faults = []
    for what, mask in _problems(columns, owner, earlier_ms):
        rows = np.flatnonzero(mask)
        faults += [
            Fault(what, first_row + int(row), int(columns[BEGIN][row]))
            for row in rows[:_MOST_ROWS_A_KIND]
        ]
        if len(rows) > _MOST_ROWS_A_KIND:
            faults.append(Fault(f"{what}: {counted(len(rows) - _MOST_ROWS_A_KIND, 'row')} more"))
    return faults


def _problems(
    columns: Mapping[str, NDArray[Any]], owner: Series, earlier_ms: int | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give each thing that can be wrong with a row, and which rows have it."""
    begins = columns[BEGIN]
    first = begins[0] - 1 if earlier_ms is None else earlier_ms
    earlier = np.concatenate(([first], begins[:-1]))
    yield "is there twice", begins == earlier
    yield "is not in order", begins < earlier
    possible, on_grid = is_possible_time(begins), is_on_grid(begins, owner.interval)
    yield "is of a time that cannot be", ~possible
    yield f"does not begin on the grid of {owner.time_interval}", possible & ~on_grid
    wrong_end = columns[END] != end_times_ms(begins, owner.interval)
    yield f"does not end {owner.time_interval} after its begin", possible & wrong_end
    for problem, broken in broken_rules(columns):
        yield f"has {problem}", broken


def broken_rules(
    columns: Mapping[str, NDArray[Any]],
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give each rule that the numbers of a candle can break, and which rows break it.

    Where a number is not finite, what the other rules say of the row is worth nothing.
    """
    yield NOT_FINITE, reduce(or_, (~np.isfinite(columns[name]) for name in NUMBERS))
    yield NEGATIVE, reduce(or_, (columns[name] < 0 for name in (*NUMBERS, "trade_num")))
    for problem, pairs in PRICE_ORDER.items():
        yield problem, reduce(or_, (columns[less] > columns[more] for less, more in pairs))


def is_possible_time(begins: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which open times the calendar reaches."""
    return (begins >= 0) & (begins < MAX_TIME_MS)


def is_on_grid(begins: NDArray[np.int64], interval: Interval) -> NDArray[np.bool_]:
    """Return which times are open times of an interval."""
    possible = is_possible_time(begins)
    if interval.duration_ms is not None:
        on_grid: NDArray[np.bool_] = (begins - interval.phase_ms) % interval.duration_ms == 0
        return possible & on_grid
    # Months, of which there are few.
    times = zip(begins.tolist(), possible.tolist(), strict=True)
    return np.array([fine and interval.is_open_time(ms) for ms, fine in times], np.bool_)


def end_times_ms(begins: NDArray[np.int64], interval: Interval) -> NDArray[np.int64]:
    """Return the end of the candle that opens at each time; of an impossible time, any."""
    if interval.duration_ms is not None:
        return begins + interval.duration_ms
    ends = [interval.end_time_ms(ms) if 0 <= ms < MAX_TIME_MS else ms for ms in begins.tolist()]
    return np.array(ends, np.int64)
