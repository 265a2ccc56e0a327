"""Read the CSV of an archive file as rows of the store, and sift out rows that may be wrong.

An archive's file may be wrong where a stretch has no trades among rows with many: USD-M's files of
2025-01-29 are flat there, and REST has trades (github.com/binance/binance-public-data issue 395).

Sources: github.com/binance/binance-public-data, README.md (columns; microseconds on spot from 2025
on) and its issues 246 and 386 (files with and without a header).
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from kline_trio.candle import Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.interval import Span
from kline_trio.quoting import shown
from kline_trio.storage.memory import arrow_errors
from kline_trio.storage.row_faults import broken_rules, end_times_ms, is_on_grid
from kline_trio.storage.table import BEGIN, END, empty_table, runs_of, schema, values_of

_COLUMNS = (
    BEGIN, "open", "high", "low", "close", "volume", END, "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore",
)  # fmt: skip
_TIMES = (BEGIN, END, "trade_num")
_MICROSECONDS = 10**14
"""Such a time in milliseconds would be in the year 5138."""
_BLOCK_BYTES = 2**18
_MOST_EXPECTED = 50
"""So many trades may be absent by chance: illiquid symbols have thousands of such runs."""
_LEAST_ROWS_AROUND = 60
_CONVERSION = pyarrow.csv.ConvertOptions(
    column_types={
        **{name: pa.int64() if name in _TIMES else pa.float64() for name in _COLUMNS[:-1]},
        "ignore": pa.string(),
    },
    include_columns=list(_COLUMNS[:-1]),
    null_values=[],
)

# NumPy's arithmetic, not Arrow's: a call of Arrow costs more than its work on a day's 1,440 rows.
_Columns = dict[str, NDArray[Any]]


@attrs.frozen
class ArchiveRows:
    """The rows of a file."""

    table: pa.Table
    """By begin, unique, and all in the span."""
    bad_rows: Counter[str]
    """How many rows could not be taken, by problem."""


def read_csvs(
    texts: Sequence[bytes], series: Series, spans: Sequence[Span]
) -> list[ArchiveRows] | None:
    """Read several files as one: to begin a file costs as much as to read 300 rows.

    Args:
      texts: the files, oldest first, each as for `read_csv`.
      series: of the candles.
      spans: which candles to take from each file; in order, without overlap.

    Returns:
      None if any row is bad, out of order or outside of its span: read each file alone then.
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
    if any(broken.any() for _, broken in _problems(columns, series)):
        return None
    table = _table(columns, series)
    ends = np.cumsum(counts).tolist()
    return [
        ArchiveRows(table.slice(end - count, count), Counter())
        for end, count in zip(ends, counts, strict=True)
    ]


def _body(text: bytes) -> bytes:
    """Return the text without a header, and with a line end after its last line."""
    if not text[:1].isdigit():
        text = text.partition(b"\n")[2]
    return text if text.endswith(b"\n") or not text else text + b"\n"


def read_csv(text: bytes, series: Series, span: Span) -> ArchiveRows:
    """Read the rows of a file of candles. A bad row is counted and left out.

    Args:
      text: the CSV, with a header or without, with times in milliseconds or microseconds.
      series: of the candles.
      span: which candles to take. Rows outside are left out and not counted.

    Raises:
      DamagedArchiveError: the text is no CSV of candles.
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
    for problem, broken in _problems(columns, series):
        # In turn, so that a row that was left out does not count for another problem too.
        if broken.any():
            bad[problem] += int(np.count_nonzero(good & broken))
            good &= ~broken
    begins = columns[BEGIN]
    wanted = np.flatnonzero(good & (begins >= span.from_ms) & (begins < span.to_ms))
    # Of several rows of one time take the first. Real files have no such rows.
    _, first = np.unique(begins[wanted], return_index=True)
    taken = {name: column[wanted[first]] for name, column in columns.items()}
    return ArchiveRows(_table(taken, series), +bad)


def _columns(text: bytes, skip_rows: int = 0) -> _Columns:
    reading = pyarrow.csv.ReadOptions(
        column_names=list(_COLUMNS), skip_rows=skip_rows, use_threads=False, block_size=_BLOCK_BYTES
    )
    with arrow_errors():
        file = io.BytesIO(text)
        raw = pyarrow.csv.read_csv(file, read_options=reading, convert_options=_CONVERSION)
    columns = {name: values_of(raw[name]) for name in _COLUMNS[:-1]}
    for name in (BEGIN, END):
        times = columns[name]
        micro = times >= _MICROSECONDS
        if micro.any():
            columns[name] = np.where(micro, times // 1_000, times)
    return columns


def _problems(columns: _Columns, series: Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give each thing that can be wrong with a row, and which rows have it."""
    yield from broken_rules(columns)
    moves = columns["low"] != columns["high"]
    yield "a row without trades whose price moves", (columns["trade_num"] <= 0) & moves
    begins, interval = columns[BEGIN], series.interval
    yield "an open time off the interval's grid", ~is_on_grid(begins, interval)
    yield "a row of another interval", columns[END] >= end_times_ms(begins, interval)


def _table(columns: _Columns, series: Series) -> pa.Table:
    columns = {**columns, END: end_times_ms(columns[BEGIN], series.interval)}
    fields = schema(series)
    arrays = [
        pa.Array.from_buffers(field.type, len(column), [None, pa.py_buffer(column.data)])
        for field in fields
        for column in [columns[field.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=fields)


@attrs.frozen
class Sifted:
    """The rows of a table, and the quiet runs that were left out."""

    kept: pa.Table
    quiet: tuple[tuple[Span, float], ...]
    """Spans whose rows were left out, by time, each with the expected number of trades."""


def quiet_runs(trade_nums: NDArray[np.int64]) -> list[tuple[int, int, float]]:
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
