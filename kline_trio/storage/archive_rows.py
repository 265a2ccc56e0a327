"""The CSV of an archive file as rows of the store, by Arrow from end to end.

Sources: github.com/binance/binance-public-data, README.md (columns; microseconds on spot from 2025
on) and its issues 246 and 386 (files with and without a header).
"""

import io
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.csv

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.interval import Span
from kline_trio.storage.table import BEGIN, END, schema, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["ArchiveRows", "read_csv"]

_COLUMNS = (
    BEGIN, "open", "high", "low", "close", "volume", END, "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore",
)  # fmt: skip
_TIMES = (BEGIN, END, "trade_num")
_NUMBERS = tuple(name for name in _COLUMNS[:-1] if name not in _TIMES)
_MICROSECONDS = 10**14
"""Such a time in milliseconds would be in the year 5138."""
_CONVERSION = pyarrow.csv.ConvertOptions(
    column_types={
        **{name: pa.int64() if name in _TIMES else pa.float64() for name in _COLUMNS[:-1]},
        "ignore": pa.string(),
    },
    include_columns=list(_COLUMNS[:-1]),
    null_values=[],
)

# Not Arrow's own arithmetic: each of its calls costs more than it does to a day's 1,440 rows.
_Columns = dict[str, "npt.NDArray[Any]"]


@attrs.frozen
class ArchiveRows:
    """What a file holds."""

    table: pa.Table
    """By begin, unique, and all of the span."""
    bad_rows: Counter[str]
    """How many rows could not be taken, by reason."""


def read_csv(text: bytes, series: Series, span: Span) -> ArchiveRows:
    """The rows of a file of candles; bad ones are counted, and harm no other.

    Args:
      text: the CSV, with a header or without, with times in milliseconds or microseconds.
      series: whose candles they are.
      span: which of them; others are left out without a word.

    Raises:
      DamagedArchiveError: it is no such CSV.
    """
    has_header = not text[:1].isdigit()
    reading = pyarrow.csv.ReadOptions(
        column_names=list(_COLUMNS), skip_rows=1 if has_header else 0, use_threads=False
    )
    try:
        raw = pyarrow.csv.read_csv(
            io.BytesIO(text), read_options=reading, convert_options=_CONVERSION
        )
    except pa.ArrowInvalid as error:
        if len(text.splitlines()) <= has_header:
            return ArchiveRows(schema(series).empty_table(), Counter())
        raise DamagedArchiveError(f"no CSV of candles: {error}") from None
    columns = {name: values_of(raw[name]) for name in _COLUMNS[:-1]}
    for name in (BEGIN, END):
        columns[name] = _milliseconds(columns[name])
    bad: Counter[str] = Counter()
    good = np.ones(raw.num_rows, np.bool_)
    for reason, fine in _checks(columns, series):
        # In turn, so that a row that was left out does not count for another reason too.
        if not fine.all():
            bad[reason] += int(np.count_nonzero(good & ~fine))
            good &= fine
    return ArchiveRows(_stored_form(columns, good, series, span), +bad)


def _milliseconds(times: "npt.NDArray[np.int64]") -> "npt.NDArray[np.int64]":
    micro = times >= _MICROSECONDS
    return np.where(micro, times // 1_000, times) if micro.any() else times


def _checks(columns: _Columns, series: Series) -> "Iterator[tuple[str, npt.NDArray[np.bool_]]]":
    """What may be wrong with a row, and which rows are fine in this."""
    numbers = [columns[name] for name in _NUMBERS]
    low, high, begins = columns["low"], columns["high"], columns[BEGIN]
    start, close = columns["open"], columns["close"]
    yield "a row with a number that is none", _all(np.isfinite(column) for column in numbers)
    yield (
        "a row with a negative number",
        _all(column >= 0 for column in (*numbers, columns["trade_num"])),
    )
    yield "a low above the open or the close", (low <= start) & (low <= close)
    yield "a high below the open or the close", (high >= start) & (high >= close)
    yield "an open time off the interval's grid", _is_on_grid(begins, series)
    yield "a row of another interval", columns[END] < _ends_ms(begins, series)


def _all(conditions: "Iterator[npt.NDArray[np.bool_]]") -> "npt.NDArray[np.bool_]":
    whole = next(conditions)
    for condition in conditions:
        whole &= condition
    return whole


def _is_on_grid(begins: "npt.NDArray[np.int64]", series: Series) -> "npt.NDArray[np.bool_]":
    interval = series.interval
    possible = (begins >= 0) & (begins < MAX_TIME_MS)
    if interval.duration_ms is not None:
        on_grid: npt.NDArray[np.bool_] = (begins - interval.phase_ms) % interval.duration_ms == 0
        return possible & on_grid
    # Months, of which there are few.
    times = zip(begins.tolist(), possible.tolist(), strict=True)
    return np.array([fine and interval.is_open_time(ms) for ms, fine in times], np.bool_)


def _ends_ms(begins: "npt.NDArray[np.int64]", series: Series) -> "npt.NDArray[np.int64]":
    interval = series.interval
    if interval.duration_ms is not None:
        return begins + interval.duration_ms
    ends = [interval.end_time_ms(ms) if 0 <= ms < MAX_TIME_MS else ms for ms in begins.tolist()]
    return np.array(ends, np.int64)


def _stored_form(
    columns: _Columns, good: "npt.NDArray[np.bool_]", series: Series, span: Span
) -> pa.Table:
    begins = columns[BEGIN]
    wanted = good & (begins >= span.from_ms) & (begins < span.to_ms)
    if not wanted.all():
        columns = {name: column[wanted] for name, column in columns.items()}
        begins = columns[BEGIN]
    if not (begins[:-1] < begins[1:]).all():
        # Of rows of one time the first counts; real files have none such.
        _, first = np.unique(begins, return_index=True)
        columns = {name: column[first] for name, column in columns.items()}
    columns = {**columns, END: _ends_ms(columns[BEGIN], series)}
    fields = schema(series)
    arrays = [
        pa.Array.from_buffers(field.type, len(column), [None, pa.py_buffer(column.data)])
        for field in fields
        for column in [columns[field.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=fields)
