"""Candles as a DataFrame: the journal and the Parquet files seen as one table."""

import difflib
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_trio.candle import TRADE_TYPES, Series, upper_ascii
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Interval
from kline_trio.storage.catalog import candle_files, last_end_ms, open_files, series
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import bounds_ms, read_groups
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.missing import made_whole
from kline_trio.storage.table import BEGIN, END, overlay, schema, table_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["last_end_ms", "read", "series", "stored_table"]

_EARLIEST_MS, _LATEST_MS = -(2**63), 2**63 - 1


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
    result: Literal["pandas", "arrow", "polars"] = "pandas",
) -> "pd.DataFrame | pa.Table | pl.DataFrame":
    """The stored candles with `start <= begin < end`, each once, those just accepted included.

    Args:
      path: the store's folder.
      trade_type: `spot`, `usdt_futures` or `coin_futures`.
      symbol: in any case of its ASCII letters.
      time_interval: as the exchange spells it; `1mo` is another name of `1M`.
      start: the first candle's begin, inclusive; UTC if it names no zone. None: the oldest.
      end: exclusive; UTC if it names no zone. None: up to the newest.
      index: which end of the candle the index is: `candle_end_time` (exclusive, as in the files)
        or `candle_begin_time`; the other one is the first column. Both are in UTC.
      symbols: several, instead of one: one long frame, by time and then by symbol, with a column
        `symbol` before the others.
      columns: which of the columns, besides the times; None: all.
      missing: what to do about candles between the first and the last asked for that are not
        there: `keep` leaves them out, `null` gives them a row without values, `raise` raises.
      result: a pandas frame, or an Arrow table or a Polars frame, in which both times are columns.

    Raises:
      KlineTrioError: the store holds no candle of this series, or a file or the journal cannot be
        read, or, if that is asked for, candles are missing; the text names it.
      ValueError: an argument is none of the above.
    """
    _check_choice("index", index, ("begin", "end"))
    _check_choice("missing", missing, ("keep", "raise", "null"))
    _check_choice("result", result, ("pandas", "arrow", "polars"))
    if (symbol is None) == (symbols is None):
        raise ValueError("either a symbol, or symbols=[...]")
    start_ms = None if start is None else _ms("start", start)
    end_ms = None if end is None else _ms("end", end)
    store_path = Path(path)
    tables = {}
    for name in dict.fromkeys(symbols if symbols is not None else [str(symbol)]):
        wanted = _series(trade_type, name, time_interval)
        with disk_errors(store_path):
            table = stored_table(
                store_path,
                wanted,
                _EARLIEST_MS if start_ms is None else start_ms,
                _LATEST_MS if end_ms is None else end_ms,
            )
        if table is None:
            _check_known(store_path, wanted)
            table = schema(wanted).empty_table()
        if missing != "keep":
            table = made_whole(
                store_path, wanted, table, start_ms, end_ms, raises=missing == "raise"
            )
        tables[wanted.symbol] = _chosen(table, columns)
    if symbols is None:
        [table] = tables.values()
    else:
        table = _long(tables)
    return _as_asked(table, index, result)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def _chosen(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        return table
    unknown = [name for name in columns if name not in table.column_names]
    if unknown:
        raise ValueError(f"no columns {unknown}; there are {', '.join(table.column_names)}")
    return table.select(dict.fromkeys([BEGIN, *columns, END]))


def _long(tables: dict[str, pa.Table]) -> pa.Table:
    pieces = [
        table.add_column(0, "symbol", pa.array([name] * table.num_rows, pa.string()))
        for name, table in tables.items()
    ]
    # The metadata of a file names its one series.
    whole = pa.concat_tables([piece.replace_schema_metadata(None) for piece in pieces])
    return whole.sort_by([(BEGIN, "ascending"), ("symbol", "ascending")])


def _as_asked(
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


def stored_table(
    store_path: Path, wanted: Series, start_ms: int = _EARLIEST_MS, end_ms: int = _LATEST_MS
) -> pa.Table | None:
    """The rows by begin; None if no file is of this series and the journal has no row to give.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    # The journal first: a candle leaves it only after the file that holds it is in place. So one
    # that this look misses is in the files by now; files first would lose what is merged between.
    with journal_view(store_path) as journal:
        waiting = journal.candles(wanted, start_ms, end_ms)
    names = (wanted.trade_type, wanted.symbol, wanted.interval.file_name)
    paths = [
        path
        for path in candle_files(store_path)
        if all(name in str(path.relative_to(store_path)) for name in names)
    ]
    pieces = [
        _rows(file, path, start_ms, end_ms).cast(schema(wanted))
        for path, owner, file in open_files(paths)
        if owner == wanted
    ]
    if not pieces and not waiting:
        return None
    # Two files hold the same candle only after a change of layout; what begins later is newer.
    pieces = sorted(filter(len, pieces), key=lambda piece: piece[BEGIN][0].value)
    table = schema(wanted).empty_table()
    for piece in [*pieces, table_of(wanted, waiting)]:
        table = overlay(table, piece)
    return table


def _rows(file: pq.ParquetFile, path: Path, start_ms: int, end_ms: int) -> pa.Table:
    groups = []
    for group in range(file.num_row_groups):
        first_ms, last_ms = bounds_ms(file, group, BEGIN)
        if first_ms < end_ms and last_ms >= start_ms:
            groups.append(group)
    if not groups:
        return file.schema_arrow.empty_table()
    table = read_groups(file, groups, path)
    begins = table[BEGIN].cast(pa.int64())
    # Sorted: what is wanted is one stretch, and a slice copies nothing.
    first = _count_before(begins, start_ms)
    return table.slice(first, _count_before(begins, end_ms) - first)


def _count_before(begins: "pa.ChunkedArray[Any]", moment_ms: int) -> int:
    before: Any = pc.less(begins, pa.scalar(moment_ms, pa.int64()))
    return int(pc.sum(before, min_count=0).as_py())


def _series(trade_type: str, symbol: str, time_interval: str) -> Series:
    if trade_type not in TRADE_TYPES:
        raise ValueError(f"trade_type is one of {' '.join(TRADE_TYPES)}, not {trade_type!r}")
    return Series(trade_type, upper_ascii(symbol), Interval.from_text(time_interval).name)


def _ms(name: str, moment: str | date | pd.Timestamp) -> int:
    if not isinstance(moment, str | date):
        # A bare number could be seconds, milliseconds or nanoseconds.
        raise ValueError(f"{name} is a date, a datetime or a text, not {moment!r}")
    try:
        stamp = pd.Timestamp(moment)
    except ValueError as error:
        raise ValueError(f"{name} is no date or time: {moment!r}") from error
    if pd.isna(stamp):
        raise ValueError(f"{name} is no date or time: {moment!r}")
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    if stamp.unit in ("us", "ns"):
        # The first whole millisecond that is not before it, which is right for both bounds.
        stamp = stamp.ceil("ms")
    return int(stamp.as_unit("ms").to_datetime64().astype("int64"))


def _check_known(store_path: Path, wanted: Series) -> None:
    known = {str(other): other for other in series(store_path)}
    if str(wanted) in known:
        return
    nearest = difflib.get_close_matches(str(wanted), known, n=3)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise KlineTrioError(
        f"no candles of {wanted} in {store_path}{hint}; kline_trio.series({str(store_path)!r})"
        f" lists all {len(known)} series"
    )
