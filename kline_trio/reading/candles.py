"""Read candles as a DataFrame, an Arrow table or a Polars frame."""

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import pandas as pd
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.counting import counted, noun
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span, time_text
from kline_trio.reading.address import lake_packages
from kline_trio.reading.readable import Absences, Readable, readable
from kline_trio.storage.arguments import (
    a_market,
    a_symbol,
    an_interval,
    moment_ms,
    texts,
    unknown_series,
)
from kline_trio.storage.catalog import EARLIEST_MS, LATEST_MS
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.table import BEGIN, END, empty_table, open_times_ms, overlay, values_of

if TYPE_CHECKING:
    import polars as pl

_MOST_GAPS_SHOWN = 5
_Moment = str | date | pd.Timestamp | None


@overload
def read(
    path: str | os.PathLike[str],
    trade_type: str,
    symbol: str | None = None,
    time_interval: str = "1m",
    start: _Moment = None,
    end: _Moment = None,
    index: Literal["begin", "end"] = "end",
    *,
    symbols: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["keep", "raise", "null"] = "keep",
    lake: bool = False,
    result: Literal["pandas"] = "pandas",
) -> pd.DataFrame: ...
@overload
def read(
    path: str | os.PathLike[str],
    trade_type: str,
    symbol: str | None = None,
    time_interval: str = "1m",
    start: _Moment = None,
    end: _Moment = None,
    *,
    symbols: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["keep", "raise", "null"] = "keep",
    lake: bool = False,
    result: Literal["arrow"],
) -> pa.Table: ...
@overload
def read(
    path: str | os.PathLike[str],
    trade_type: str,
    symbol: str | None = None,
    time_interval: str = "1m",
    start: _Moment = None,
    end: _Moment = None,
    *,
    symbols: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["keep", "raise", "null"] = "keep",
    lake: bool = False,
    result: Literal["polars"],
) -> "pl.DataFrame": ...
def read(
    path: str | os.PathLike[str],
    trade_type: str,
    symbol: str | None = None,
    time_interval: str = "1m",
    start: _Moment = None,
    end: _Moment = None,
    index: Literal["begin", "end"] = "end",
    *,
    symbols: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["keep", "raise", "null"] = "keep",
    lake: bool = False,
    result: Literal["pandas", "arrow", "polars"] = "pandas",
) -> "pd.DataFrame | pa.Table | pl.DataFrame":
    """Return the stored candles with `start <= begin < end`, each once and in order of time.

    Of a store, candles that a recorder has accepted and not yet merged into a file are among them;
    of a lake, what recorders have published.

    Args:
      path: the store's folder; `~` is expanded. Or a lake: `s3://bucket/name`, or its folder.
      trade_type: `spot`, `usdt_futures` or `coin_futures`.
      symbol: in any case of its ASCII letters.
      time_interval: as the exchange spells it; `1mo` is another name of `1M`.
      start: the first candle's begin, inclusive; UTC if it names no zone. None: the oldest.
      end: exclusive; UTC if it names no zone. None: up to the newest.
      index: which end of the candle the index is: `candle_end_time` (exclusive, as in the files)
        or `candle_begin_time`; the other one is the first column. Both are in UTC.
      symbols: several symbols instead of one. The result is one long frame, by time and then by
        symbol, with a column `symbol` before the others. A text is one symbol.
      columns: which columns to return besides the times; a text is one column. None: all.
      missing: what to do about missing candles between the first and the last asked for: `keep`
        leaves them out, `null` gives each a row without values, `raise` raises an error.
      lake: also read months that were pruned from the store, from the lake that has them; the
        environment gives the credentials. Candles that the store has are the store's.
      result: a pandas frame, or an Arrow table or a Polars frame, in which both times are columns.

    Raises:
      KlineTrioError: there is no such folder or lake; it holds no candle of a series; a file, the
        journal or the lake cannot be read; a month of the range was pruned, and `lake` is False, or
        the lake has fewer candles of it than it had; or candles are missing and `missing` is
        `raise`. The text names the folder, series, file, lake, months or candles.
      ValueError: an argument is none of the above.
    """
    _check_choice("index", index, ("begin", "end"))
    _check_choice("missing", missing, ("keep", "raise", "null"))
    _check_choice("result", result, ("pandas", "arrow", "polars"))
    if (symbol is None) == (symbols is None):
        raise ValueError("either a symbol, or symbols=[...]")
    start_ms = None if start is None else moment_ms("start", start)
    end_ms = None if end is None else moment_ms("end", end)
    names = [symbol] if symbols is None else texts("symbols", symbols)
    if not names:
        raise ValueError("symbols is empty: name at least one symbol")
    market, interval = a_market(trade_type), an_interval(time_interval)
    wanted = dict.fromkeys(Series(market, a_symbol(name), interval) for name in names)
    chosen = None if columns is None else texts("columns", columns)
    place = readable(path)
    absences = place.absences(wanted) if missing == "raise" else None
    tables = {}
    for one, table in _tables(place, wanted, start_ms, end_ms, has_lake=lake).items():
        if missing != "keep" and (gaps := _gaps(one, table, start_ms, end_ms)):
            if absences is not None:
                raise _missing_candles(absences, one, gaps)
            table = _with_null_rows(one, table, gaps)
        tables[one.symbol] = table if chosen is None else _with_columns(table, chosen)
    return _as_result(tables.popitem()[1] if symbols is None else _long(tables), index, result)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def _tables(
    place: Readable,
    wanted: Collection[Series],
    start_ms: int | None,
    end_ms: int | None,
    *,
    has_lake: bool,
) -> dict[Series, pa.Table]:
    """Return the rows of each series; refuse a series that is not there.

    Args:
      place: has the series.
      wanted: the series.
      start_ms: the first open time.
      end_ms: exclusive.
      has_lake: whether pruned months are read from their lake; if not, they are refused.
    """
    from_ms = EARLIEST_MS if start_ms is None else start_ms
    to_ms = LATEST_MS if end_ms is None else end_ms
    found = place.tables(wanted, from_ms, to_ms)
    pruned = place.in_lake(wanted).touching(Span(from_ms, to_ms))
    if pruned.months and not has_lake:
        after = time_text(pruned.after_ms()).removesuffix("+00:00")
        advice = f"read them there with lake=True, or begin after them, start='{after}'"
        raise KlineTrioError(f"{place.name}: {pruned}: {advice}")
    if pruned.months:
        found = _with_pruned(found, pruned, from_ms, to_ms)
    for one, table in found.items():
        if table is None and one not in (known := place.series()):
            raise unknown_series(place.name, str(one), list(map(str, known)))
    return {one: empty_table(one) if table is None else table for one, table in found.items()}


def _with_pruned(
    found: Mapping[Series, pa.Table | None], pruned: InLake, from_ms: int, to_ms: int
) -> dict[Series, pa.Table | None]:
    """Return the rows with those of pruned months; of a candle in both, the store's."""
    with lake_packages():
        from kline_trio.lake.month_reader import pruned_candles

        tables = dict(found)
        for one, months in pruned_candles(pruned).items():
            first, end = np.searchsorted(values_of(months[BEGIN]), [from_ms, to_ms]).tolist()
            there, here = months.slice(first, end - first), tables[one]
            tables[one] = there if here is None else overlay(there, here)
    return tables


def _gaps(wanted: Series, table: pa.Table, start_ms: int | None, end_ms: int | None) -> list[Span]:
    """Return the candles that the table lacks from the first to the last that was asked for.

    Args:
      wanted: the table's series.
      table: the stored rows, by begin.
      start_ms: as asked for; None: from the first row on.
      end_ms: as asked for, exclusive; None: up to the last row.
    """
    interval, begins = wanted.interval, open_times_ms(table)
    if not begins and (start_ms is None or end_ms is None):
        return []
    from_ms = begins[0] if start_ms is None else interval.next_open_time_ms(start_ms)
    if end_ms is None:
        to_ms = interval.end_time_ms(begins[-1])
    else:
        to_ms = interval.next_open_time_ms(end_ms)
    return list(interval.gaps(Span(from_ms, to_ms), begins)) if from_ms < to_ms else []


def _with_null_rows(wanted: Series, table: pa.Table, gaps: Sequence[Span]) -> pa.Table:
    """Return the table with a row without values for each missing candle."""
    interval = wanted.interval
    begins = [ms for gap in gaps for ms in interval.open_times_ms(gap)]
    times = {BEGIN: begins, END: [interval.end_time_ms(ms) for ms in begins]}
    columns = [
        pa.array(times[field.name], pa.int64()).cast(field.type)
        if field.name in times
        else pa.nulls(len(begins), field.type)
        for field in table.schema
    ]
    return overlay(table, pa.Table.from_arrays(columns, schema=table.schema))


def _missing_candles(absences: Absences, wanted: Series, gaps: Sequence[Span]) -> KlineTrioError:
    """Return the error that names the missing candles, with the reasons in the ledger."""
    lines = []
    for gap in gaps[:_MOST_GAPS_SHOWN]:
        why = ", ".join(absences.reasons(wanted, gap))
        lines.append(f"{time_text(gap.from_ms)} to {time_text(gap.to_ms)} ({why})")
    count = sum(wanted.interval.count(gap) for gap in gaps)
    more = len(gaps) - _MOST_GAPS_SHOWN
    end = f" and {counted(more, 'more stretch', 'more stretches')}" if more > 0 else ""
    missing = f"{counted(count, 'candle')} of {wanted} {noun(count, 'is', 'are')} missing"
    return KlineTrioError(f"{missing}: {'; '.join(lines)}{end}")


def _with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    unknown = [name for name in names if name not in table.column_names]
    if unknown:
        raise ValueError(f"no columns {unknown}; there are {', '.join(table.column_names)}")
    return table.select(dict.fromkeys([BEGIN, *names, END]))


def _long(tables: Mapping[str, pa.Table]) -> pa.Table:
    """Return the rows of all tables, with their symbols, by time and then by symbol."""
    pieces = [
        table.add_column(0, "symbol", pa.array([name] * table.num_rows, pa.string()))
        for name, table in tables.items()
    ]
    # The metadata of a file names its one series.
    whole = pa.concat_tables([piece.replace_schema_metadata(None) for piece in pieces])
    return whole.sort_by([(BEGIN, "ascending"), ("symbol", "ascending")])


def _as_result(
    table: pa.Table, index: Literal["begin", "end"], result: str
) -> "pd.DataFrame | pa.Table | pl.DataFrame":
    if result == "arrow":
        return table.replace_schema_metadata(None)
    if result == "polars":
        try:
            import polars as pl
        except ImportError as error:
            raise KlineTrioError("result='polars' needs the package polars") from error
        return pl.DataFrame(table.replace_schema_metadata(None))
    frame = table.to_pandas()
    if frame.index.name != END:
        frame = frame.set_index(END)
    if index == "begin":
        frame = frame.reset_index().set_index(BEGIN)
    return frame
