"""Candles as Arrow tables: columns, units and metadata of a file, and how two tables are merged."""

import array
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import Candle, Series
from kline_trio.errors import ConfigError
from kline_trio.interval import Span

BEGIN = "candle_begin_time"
END = "candle_end_time"

FORMAT_VERSION = 2
"""The version of the columns, their meaning and the seal; each file has it in its metadata."""

_VERSION_KEY = b"kline_trio_format"
_TIME = pa.timestamp("ms", "UTC")

_COIN = ("base asset", "quote asset")
_CONTRACTS = ("contracts", "base coin")
_UNITS = {"spot": _COIN, "usdt_futures": _COIN, "coin_futures": _CONTRACTS}
"""What `volume` and `quote_volume` count (Binance docs, "Kline/Candlestick Streams")."""


def schema(series: Series) -> pa.Schema:
    """Return the columns of the series' files.

    The metadata of a column names its unit. That of the schema names the series, and has pandas'
    entry that makes `candle_end_time` the index.
    """
    metadata: dict[bytes | str, bytes | str] = {
        "trade_type": series.trade_type,
        "symbol": series.symbol,
        "time_interval": series.time_interval,
        _VERSION_KEY: str(FORMAT_VERSION),
        "pandas": _pandas_metadata(),
    }
    return pa.schema(_fields(series.trade_type), metadata=metadata)


@functools.cache
def _fields(trade_type: str) -> tuple["pa.Field[Any]", ...]:
    volume, quote_volume = _UNITS[trade_type]
    price = "quote asset per base asset"
    columns: dict[str, tuple[pa.DataType, str]] = {
        BEGIN: (_TIME, "UTC, inclusive"),
        "open": (pa.float64(), price),
        "high": (pa.float64(), price),
        "low": (pa.float64(), price),
        "close": (pa.float64(), price),
        "volume": (pa.float64(), volume),
        "quote_volume": (pa.float64(), quote_volume),
        "trade_num": (pa.int64(), "trades"),
        "taker_buy_base_asset_volume": (pa.float64(), volume),
        "taker_buy_quote_asset_volume": (pa.float64(), quote_volume),
        END: (_TIME, "UTC, exclusive"),
    }
    return tuple(
        pa.field(name, kind, metadata={"unit": unit}) for name, (kind, unit) in columns.items()
    )


@functools.cache
def _pandas_metadata() -> str:
    # By hand rather than by Table.from_pandas: the recorder never loads pandas.
    kinds = {
        _TIME: ("datetimetz", "datetime64[ms]", {"timezone": "UTC"}),
        pa.float64(): ("float64", "float64", None),
        pa.int64(): ("int64", "int64", None),
    }
    metadata = {
        "index_columns": [END],
        "column_indexes": [_pandas_column(None, ("unicode", "str", {"encoding": "UTF-8"}))],
        "columns": [_pandas_column(field.name, kinds[field.type]) for field in _fields("spot")],
        "attributes": {},
        "pandas_version": "3.0.0",
    }
    return json.dumps(metadata)


def _pandas_column(name: str | None, kind: tuple[object, ...]) -> dict[str, object]:
    keys = ("name", "field_name", "pandas_type", "numpy_type", "metadata")
    return dict(zip(keys, (name, name, *kind), strict=True))


def format_version(metadata: Mapping[bytes, bytes] | None) -> int:
    """Return the format that metadata of a schema or file names; 0 if it is not one of ours."""
    return int((metadata or {}).get(_VERSION_KEY, 0))


def series_of(metadata: Mapping[bytes, bytes] | None) -> Series | None:
    """Return the series that metadata of a schema or file names; None if it is not one of ours.

    Raises:
      ConfigError: a newer kline_trio wrote it.
    """
    if metadata is None or _VERSION_KEY not in metadata:
        return None
    version = format_version(metadata)
    if version > FORMAT_VERSION:
        problem = (
            f"written by a newer kline_trio (format {version}, this one knows {FORMAT_VERSION}):"
            " upgrade kline_trio"
        )
        raise ConfigError([problem])
    return Series(
        metadata[b"trade_type"].decode(),
        metadata[b"symbol"].decode(),
        metadata[b"time_interval"].decode(),
    )


def table_of(series: Series, candles: Sequence[Candle]) -> pa.Table:
    """Return the candles as rows, in their order."""
    interval = series.interval
    times = {
        BEGIN: [candle.open_time_ms for candle in candles],
        END: [interval.end_time_ms(candle.open_time_ms) for candle in candles],
    }
    wanted = schema(series)
    arrays = []
    for field in wanted:
        values = times.get(field.name) or [getattr(candle, field.name) for candle in candles]
        # Not pa.array: it loads pandas, a second of CPU and 50 MB that a recorder never needs.
        packed = array.array("d" if field.type == pa.float64() else "q", values)
        arrays.append(pa.Array.from_buffers(field.type, len(packed), [None, pa.py_buffer(packed)]))
    return pa.Table.from_arrays(arrays, schema=wanted)


def empty_table(series: Series) -> pa.Table:
    """Return a table of the series with no rows; `Schema.empty_table` would load pandas."""
    return pa.Table.from_batches([], schema(series))


def open_times_ms(table: pa.Table) -> list[int]:
    """Return the rows' open times."""
    times: list[Any] = table[BEGIN].cast(pa.int64()).to_pylist()
    return times


def values_of(column: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - of whatever numbers
    """Return a column without nulls as an array; times are milliseconds."""
    dtype = np.float64 if column.type == pa.float64() else np.int64
    # Not to_numpy, nor combine_chunks of nothing: they load pandas, which a recorder never needs.
    if not len(column):
        return np.empty(0, dtype)
    whole: Any = column.combine_chunks()
    return np.frombuffer(whole.buffers()[1], dtype, len(whole), whole.offset * 8)


def runs_of(series: Series, begins: npt.NDArray[np.int64]) -> Iterator[Span]:
    """Give the spans of candles that follow each other; fast for years of candles."""
    interval = series.interval
    if interval.duration_ms is None:
        yield from interval.runs(begins.tolist())
        return
    breaks = np.flatnonzero(np.diff(begins) != interval.duration_ms)
    firsts = [0, *(breaks + 1).tolist()] if len(begins) else []
    lasts = [*breaks.tolist(), len(begins) - 1]
    for first, last in zip(firsts, lasts, strict=False):
        yield Span(int(begins[first]), int(begins[last]) + interval.duration_ms)


def candles_of(table: pa.Table) -> list[Candle]:
    """Return the rows as candles, in their order."""
    names = [field.name for field in attrs.fields(Candle)][1:]
    begins = table[BEGIN].cast(pa.int64()).to_pylist()
    columns = [table[name].to_pylist() for name in names]
    return [Candle(*row) for row in zip(begins, *columns, strict=True)]


def differing(older: pa.Table, newer: pa.Table) -> list[tuple[Candle, Candle]]:
    """Return the candles that differ between the tables, as pairs of the older and the newer."""
    if (
        not older.num_rows
        or not newer.num_rows
        or older[BEGIN][-1].value < newer[BEGIN][0].value
        or newer[BEGIN][-1].value < older[BEGIN][0].value
    ):
        return []
    # Imported here: it makes hundreds of functions, and no start of a recorder needs them.
    import pyarrow.compute as pc

    at = pc.index_in(newer[BEGIN], value_set=older[BEGIN].combine_chunks())
    theirs = candles_of(newer.filter(pc.is_valid(at)))
    mine = candles_of(older.take(pc.drop_null(at)))
    return [pair for pair in zip(mine, theirs, strict=True) if pair[0] != pair[1]]


def without(rows: pa.Table, present: pa.Table) -> pa.Table:
    """Return the rows whose begin the other table lacks."""
    if not rows.num_rows or not present.num_rows:
        return rows
    import pyarrow.compute as pc

    return rows.filter(pc.invert(pc.is_in(rows[BEGIN], value_set=present[BEGIN].combine_chunks())))


def overlay(older: pa.Table, newer: pa.Table) -> pa.Table:
    """Return the rows of both, by begin; if both have a candle, the newer table's row.

    Each must be sorted and unique, and so is the result.
    """
    if not older.num_rows or not newer.num_rows:
        return newer if newer.num_rows else older
    if older[BEGIN][-1].value < newer[BEGIN][0].value:
        # The usual case, and it must cost nothing: candles come in the order of time.
        return pa.concat_tables([older, newer])
    return pa.concat_tables([without(older, newer), newer]).sort_by(BEGIN)
