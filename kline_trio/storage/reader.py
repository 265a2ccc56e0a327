"""Candles as a DataFrame: the journal and the Parquet files seen as one table."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import pandas as pd
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.storage.arguments import (
    a_market,
    a_symbol,
    an_interval,
    store_folder,
    texts,
    unknown_series,
)
from kline_trio.storage.catalog import last_end_ms, series
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.missing import made_whole
from kline_trio.storage.stored import EARLIEST_MS, LATEST_MS, stored_tables
from kline_trio.storage.table import BEGIN, END, empty_table

if TYPE_CHECKING:
    import polars as pl

__all__ = ["last_end_ms", "moment_ms", "read", "series"]


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
      path: the store's folder; `~` is expanded.
      trade_type: `spot`, `usdt_futures` or `coin_futures`.
      symbol: in any case of its ASCII letters.
      time_interval: as the exchange spells it; `1mo` is another name of `1M`.
      start: the first candle's begin, inclusive; UTC if it names no zone. None: the oldest.
      end: exclusive; UTC if it names no zone. None: up to the newest.
      index: which end of the candle the index is: `candle_end_time` (exclusive, as in the files)
        or `candle_begin_time`; the other one is the first column. Both are in UTC.
      symbols: several, instead of one: one long frame, by time and then by symbol, with a column
        `symbol` before the others. A text is one symbol.
      columns: which of the columns, besides the times; a text is one column. None: all.
      missing: what to do about candles between the first and the last asked for that are not
        there: `keep` leaves them out, `null` gives them a row without values, `raise` raises.
      result: a pandas frame, or an Arrow table or a Polars frame, in which both times are columns.

    Raises:
      KlineTrioError: there is no such folder, or it holds no candle of this series, or a file or
        the journal cannot be read, or, if that is asked for, candles are missing; the text names
        it.
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
    every = dict.fromkeys(Series(market, a_symbol(name), interval) for name in names)
    chosen = None if columns is None else texts("columns", columns)
    store_path = store_folder(path)
    with disk_errors(store_path):
        found = stored_tables(
            store_path,
            every,
            EARLIEST_MS if start_ms is None else start_ms,
            LATEST_MS if end_ms is None else end_ms,
        )
    tables = {}
    for wanted, table in found.items():
        if table is None:
            _check_known(store_path, wanted)
            table = empty_table(wanted)
        if missing != "keep":
            table = made_whole(
                store_path, wanted, table, start_ms, end_ms, raises=missing == "raise"
            )
        tables[wanted.symbol] = _chosen(table, chosen)
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


def moment_ms(name: str, moment: str | date | pd.Timestamp) -> int:
    """A date or a time in milliseconds, UTC if it names no zone.

    Raises:
      ValueError: it is none; the text calls it by the name.
    """
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
    known = [str(other) for other in series(store_path)]
    if str(wanted) not in known:
        raise unknown_series(store_path, str(wanted), known)
