"""The CSV of an archive file as rows of the store, by Arrow from end to end.

Sources: github.com/binance/binance-public-data, README.md (columns; microseconds on spot from 2025
on) and its issues 246 and 386 (files with and without a header).
"""

import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.csv

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.interval import Span
from kline_trio.quoting import shown
from kline_trio.storage.memory import arrow_errors
from kline_trio.storage.table import BEGIN, END, empty_table, schema, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["ArchiveRows", "read_csv", "read_csvs"]

_COLUMNS = (
    BEGIN, "open", "high", "low", "close", "volume", END, "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore",
)  # fmt: skip
_TIMES = (BEGIN, END, "trade_num")
_NUMBERS = tuple(name for name in _COLUMNS[:-1] if name not in _TIMES)
_MICROSECONDS = 10**14
"""Such a time in milliseconds would be in the year 5138."""
_BLOCK_BYTES = 2**18
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


def read_csvs(
    texts: Sequence[bytes], series: Series, spans: Sequence[Span]
) -> list[ArchiveRows] | None:
    """The rows of several files, read as one: to begin a file costs as much as 300 rows of it.

    Args:
      texts: as of `read_csv`, oldest first.
      series: whose candles they are.
      spans: which are wanted of each; in order, without overlap.

    Returns:
      None where there is anything about them to tell or to leave out: ask for each alone.
    """
    bodies = [_body(text) for text in texts]
    try:
        columns = _columns(b"".join(bodies))
    except pa.ArrowInvalid:
        return None
    counts = [body.count(b"\n") for body in bodies]
    begins = columns[BEGIN]
    if len(begins) != sum(counts):
        return None
    from_ms = np.repeat([span.from_ms for span in spans], counts)
    to_ms = np.repeat([span.to_ms for span in spans], counts)
    in_order = (begins[:-1] < begins[1:]).all()
    if not in_order or not ((from_ms <= begins) & (begins < to_ms)).all():
        return None
    if not all(fine.all() for _, fine in _checks(columns, series)):
        return None
    table = _table(columns, series)
    ends = np.cumsum(counts).tolist()
    return [
        ArchiveRows(table.slice(end - count, count), Counter())
        for end, count in zip(ends, counts, strict=True)
    ]


def _body(text: bytes) -> bytes:
    """Without a header, and with an end to its last line."""
    if not text[:1].isdigit():
        text = text.partition(b"\n")[2]
    return text if text.endswith(b"\n") or not text else text + b"\n"


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
    try:
        columns = _columns(text, skip_rows=1 if has_header else 0)
    except pa.ArrowInvalid as error:
        if len(text.splitlines()) <= has_header:
            return ArchiveRows(empty_table(series), Counter())
        raise DamagedArchiveError(f"no CSV of candles: {shown(str(error))}") from None
    bad: Counter[str] = Counter()
    good = np.ones(len(columns[BEGIN]), np.bool_)
    for reason, fine in _checks(columns, series):
        # In turn, so that a row that was left out does not count for another reason too.
        if not fine.all():
            bad[reason] += int(np.count_nonzero(good & ~fine))
            good &= fine
    return ArchiveRows(_stored_form(columns, good, series, span), +bad)


def _columns(text: bytes, skip_rows: int = 0) -> _Columns:
    reading = pyarrow.csv.ReadOptions(
        column_names=list(_COLUMNS), skip_rows=skip_rows, use_threads=False, block_size=_BLOCK_BYTES
    )
    with arrow_errors():
        file = io.BytesIO(text)
        raw = pyarrow.csv.read_csv(file, read_options=reading, convert_options=_CONVERSION)
    columns = {name: values_of(raw[name]) for name in _COLUMNS[:-1]}
    for name in (BEGIN, END):
        columns[name] = _milliseconds(columns[name])
    return columns


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
    yield "a row without trades whose price moves", (columns["trade_num"] > 0) | (low == high)
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
    return _table(columns, series)


def _table(columns: _Columns, series: Series) -> pa.Table:
    columns = {**columns, END: _ends_ms(columns[BEGIN], series)}
    fields = schema(series)
    arrays = [
        pa.Array.from_buffers(field.type, len(column), [None, pa.py_buffer(column.data)])
        for field in fields
        for column in [columns[field.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=fields)
