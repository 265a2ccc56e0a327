"""The CSV of an archive file as rows of the store, by Arrow from end to end.

Sources: github.com/binance/binance-public-data, README.md (columns; microseconds on spot from 2025
on) and its issues 246 and 386 (files with and without a header).
"""

import functools
import io
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.interval import Span
from kline_trio.storage.table import BEGIN, END, schema

__all__ = ["ArchiveRows", "read_csv"]

pc: Any = pyarrow.compute
"""Untyped: the stubs take no plain numbers as operands."""

_COLUMNS = (
    BEGIN, "open", "high", "low", "close", "volume", END, "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore",
)  # fmt: skip
_TIMES = (BEGIN, END, "trade_num")
_NUMBERS = tuple(name for name in _COLUMNS[:-1] if name not in _TIMES)
_MICROSECONDS = 10**14
"""Such a time in milliseconds would be in the year 5138."""


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
    kinds = {name: pa.int64() if name in _TIMES else pa.float64() for name in _COLUMNS[:-1]}
    try:
        raw = pyarrow.csv.read_csv(
            io.BytesIO(text),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(_COLUMNS), skip_rows=1 if has_header else 0, use_threads=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={**kinds, "ignore": pa.string()},
                include_columns=list(_COLUMNS[:-1]),
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        if len(text.splitlines()) <= has_header:
            return ArchiveRows(schema(series).empty_table(), Counter())
        raise DamagedArchiveError(f"no CSV of candles: {error}") from None
    table: Any = raw.set_column(0, BEGIN, _milliseconds(raw[BEGIN]))
    table = table.set_column(6, END, _milliseconds(raw[END]))
    bad: Counter[str] = Counter()
    for reason, is_fine in _CHECKS:
        # In turn, so that a row that was left out does not count for another reason too.
        fine = is_fine(table, series)
        kept = table.filter(fine)
        if kept.num_rows < table.num_rows:
            bad[reason] += table.num_rows - kept.num_rows
            table = kept
    return ArchiveRows(_stored_form(table, series, span), bad)


def _milliseconds(times: Any) -> Any:  # noqa: ANN401 - the stubs have no words for it
    return pc.if_else(pc.greater_equal(times, _MICROSECONDS), pc.divide(times, 1_000), times)


def _are_numbers(table: pa.Table, _: Series) -> Any:  # noqa: ANN401
    return _all(pc.is_finite(table[name]) for name in _NUMBERS)


def _are_positive(table: pa.Table, _: Series) -> Any:  # noqa: ANN401
    return _all(pc.greater_equal(table[name], 0) for name in (*_NUMBERS, "trade_num"))


def _low_is_lowest(table: pa.Table, _: Series) -> Any:  # noqa: ANN401
    return pc.less_equal(table["low"], pc.min_element_wise(table["open"], table["close"]))


def _high_is_highest(table: pa.Table, _: Series) -> Any:  # noqa: ANN401
    return pc.greater_equal(table["high"], pc.max_element_wise(table["open"], table["close"]))


def _all(conditions: Iterable[Any]) -> Any:  # noqa: ANN401
    return functools.reduce(pc.and_, conditions)


def _is_on_grid(table: pa.Table, series: Series) -> Any:  # noqa: ANN401
    begins: Any = table[BEGIN]
    interval = series.interval
    possible = pc.and_(pc.greater_equal(begins, 0), pc.less(begins, MAX_TIME_MS))
    if interval.duration_ms is None:
        # Months, of which there are few.
        times = [ms for ms in begins.to_pylist() if 0 <= ms < MAX_TIME_MS]
        fine = [ms for ms in times if interval.is_open_time(ms)]
        return pc.is_in(begins, value_set=pa.array(fine, pa.int64()))
    since = pc.subtract(begins, interval.phase_ms)
    length = interval.duration_ms
    on_grid = pc.equal(pc.multiply(pc.divide(since, length), length), since)
    return pc.and_(possible, on_grid)


def _ends_ms(begins: Any, series: Series) -> Any:  # noqa: ANN401
    interval = series.interval
    if interval.duration_ms is not None:
        return pc.add(begins, interval.duration_ms)
    ends = [interval.end_time_ms(ms) if 0 <= ms < MAX_TIME_MS else ms for ms in begins.to_pylist()]
    return pa.chunked_array([pa.array(ends, pa.int64())])


def _is_not_longer(table: pa.Table, series: Series) -> Any:  # noqa: ANN401
    return pc.less(table[END], _ends_ms(table[BEGIN], series))


_CHECKS: tuple[tuple[str, Callable[[pa.Table, Series], Any]], ...] = (
    ("a row with a number that is none", _are_numbers),
    ("a row with a negative number", _are_positive),
    ("a low above the open or the close", _low_is_lowest),
    ("a high below the open or the close", _high_is_highest),
    ("an open time off the interval's grid", _is_on_grid),
    ("a row of another interval", _is_not_longer),
)


def _stored_form(table: pa.Table, series: Series, span: Span) -> pa.Table:
    begins: Any = table[BEGIN]
    inside: Any = pc.and_(pc.greater_equal(begins, span.from_ms), pc.less(begins, span.to_ms))
    table = table.filter(inside)
    begins = table[BEGIN].combine_chunks()
    if not pc.all(pc.less(begins[:-1], begins[1:]), min_count=0).as_py():
        table = table.sort_by(BEGIN)
        begins = table[BEGIN].combine_chunks()
        # Of rows of one time the first counts; real files have none such.
        table = table.filter(
            pa.concat_arrays([pa.array([True]), pc.not_equal(begins[1:], begins[:-1])])
        )
    ends = _ends_ms(table[BEGIN], series)
    wanted = schema(series)
    columns = [
        (ends if field.name == END else table[field.name]).cast(field.type) for field in wanted
    ]
    return pa.Table.from_arrays(columns, schema=wanted)
