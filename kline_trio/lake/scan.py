"""Read the files of a lake, each once: the candles in parts of bounded size.

A part is one market and one interval, and one month or several. All its rows are later than those
of the parts of the market and interval before it.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from kline_trio.candle import Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.lake.errors import LakeError, lake_errors
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.schema import PARTITIONS, TABLES, TIME
from kline_trio.lake.spool import COLUMNS, ROWS_AT_ONCE
from kline_trio.lake.tables import open_table
from kline_trio.quoting import one_line, shown
from kline_trio.storage.table import BEGIN

_TABLE = "candles"
_BATCH_ROWS = 65_536
_WHOLE_BYTES = 8 << 20
"""A file up to this length is read by one request."""
_BYTES_AHEAD = 32 << 20
"""Of files that are read ahead of time. A request to S3 takes 30 ms and more."""
_MOST_AHEAD = 8
SOURCES = [str(one) for one in Source]
"""A number of the spool is a place in this list; -1 stands for all other sources."""


@attrs.frozen
class Filter:
    """Which candles are read. An empty set means all."""

    markets: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()
    intervals: frozenset[str] = frozenset()
    since_ms: int = 0

    def __contains__(self, series: Series) -> bool:
        return (
            (not self.markets or series.trade_type in self.markets)
            and (not self.symbols or series.symbol in self.symbols)
            and (not self.intervals or series.time_interval in self.intervals)
        )

    @property
    def first_month(self) -> str:
        """The month of the first candle, as the lake spells it."""
        return str(np.datetime64(self.since_ms, "ms").astype("datetime64[M]"))


@attrs.frozen
class LakeFile:
    """A file of the lake's candles, by the log of the table."""

    trade_type: str
    time_interval: str
    month: str
    path: str
    rows: int
    size_bytes: int


@attrs.frozen
class Part:
    """Months of one market and interval that are read together."""

    files: tuple[LakeFile, ...]
    """By month; at least one."""

    @property
    def rows(self) -> int:
        """How many rows the files have."""
        return sum(one.rows for one in self.files)

    @property
    def size_bytes(self) -> int:
        """How long the files are."""
        return sum(one.size_bytes for one in self.files)

    def __str__(self) -> str:
        last = self.files[-1]
        return f"{last.trade_type} {last.time_interval} {last.month}"


def files_of(delta: DeltaTable, wanted: Filter) -> list[LakeFile]:
    """Return the files that may hold wanted candles, in order, by the log alone.

    Raises:
      LakeError: the log cannot be read.
    """
    with lake_errors(f"{delta.table_uri}: the list of its files cannot be read"):
        actions = pa.table(delta.get_add_actions(flatten=True))
    names = [f"partition.{name}" for name in PARTITIONS]
    names += ["path", "num_records", "size_bytes", "min.symbol", "max.symbol"]
    found = []
    columns = (actions[name].to_pylist() if name in actions.column_names else [] for name in names)
    for trade_type, interval, month, path, rows, size_bytes, low, high in _rows_of(columns):
        may_hold = (
            (not wanted.markets or trade_type in wanted.markets)
            and (not wanted.intervals or interval in wanted.intervals)
            and month >= wanted.first_month
            and (not wanted.symbols or low is None or _is_between(wanted.symbols, low, high))
        )
        if may_hold:
            found.append(LakeFile(trade_type, interval, month, path, rows or 0, size_bytes))
    return sorted(found, key=lambda one: (one.trade_type, one.time_interval, one.month))


def _rows_of(columns: Iterable[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Give the values of each row; of a column that the log lacks, None."""
    every = list(columns)
    rows = max(map(len, every))
    return zip(*(column or [None] * rows for column in every), strict=True)


def _is_between(symbols: Collection[str], low: str, high: str) -> bool:
    # The log may have the first characters of a long symbol only.
    size = min(len(low), len(high))
    return any(low[:size] <= one[:size] <= high[:size] for one in symbols)


def parts_of(files: Iterable[LakeFile], most_rows: int = ROWS_AT_ONCE) -> list[Part]:
    """Return the files in parts. A part has at most so many rows, or one month."""
    parts: list[Part] = []
    for _, some in itertools.groupby(files, key=_partition):
        new = Part(tuple(some))
        last = parts[-1] if parts else new
        is_alike = _partition(last.files[0])[:2] == _partition(new.files[0])[:2]
        if parts and is_alike and last.rows + new.rows <= most_rows:
            parts[-1] = Part((*last.files, *new.files))
        else:
            parts.append(new)
    return parts


def _partition(one: LakeFile) -> tuple[str, str, str]:
    return one.trade_type, one.time_interval, one.month


def scan(
    objects: Objects, part: Part, wanted: Filter
) -> Iterator[tuple["pa.DictionaryArray[Any, Any]", pa.Table]]:
    """Give the rows of a part in the order of the files: their symbols, and `COLUMNS`.

    Args:
      objects: of the lake.
      part: of its table of candles.
      wanted: which rows.

    Raises:
      LakeError: the lake cannot be read, or a file of it is missing or damaged.
    """
    with contextlib.closing(_opened(objects, part.files)) as sources:
        for one, source in zip(part.files, sources, strict=True):
            place = f"{objects.url}/{_TABLE}/{one.path}"
            with read_errors(place), pq.ParquetFile(source, pre_buffer=True) as file:
                for group in range(file.num_row_groups):
                    if _may_hold(file.metadata.row_group(group), wanted):
                        # Group by group: pre_buffer holds all that one call asks for.
                        batches = file.iter_batches(
                            _BATCH_ROWS, row_groups=[group], columns=["symbol", *COLUMNS.names]
                        )
                        yield from (_split(batch, wanted) for batch in batches)


def _opened(objects: Objects, files: Sequence[LakeFile]) -> Generator[pa.NativeFile, None, None]:
    """Open the files in their order. Small ones are read as a whole, several at a time."""

    def opened(one: LakeFile) -> pa.NativeFile:
        return _open(objects, f"{_TABLE}/{one.path}", whole=one.size_bytes <= _WHOLE_BYTES)

    with ThreadPoolExecutor(_MOST_AHEAD) as threads:
        ahead: deque[tuple[int, Future[pa.NativeFile]]] = deque()
        ahead_bytes = 0
        try:
            for one in files:
                size_bytes = min(one.size_bytes, _WHOLE_BYTES)
                while ahead and ahead_bytes + size_bytes > _BYTES_AHEAD:
                    first_bytes, first = ahead.popleft()
                    yield first.result()
                    ahead_bytes -= first_bytes
                ahead.append((size_bytes, threads.submit(opened, one)))
                ahead_bytes += size_bytes
            for _, first in ahead:
                yield first.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _may_hold(group: pq.RowGroupMetaData, wanted: Filter) -> bool:
    """Return whether a row group may have wanted rows, by the bounds in the file's footer."""
    bounds: dict[str, Any] = {}
    for n in range(group.num_columns):
        column: Any = group.column(n)
        if column.is_stats_set and column.statistics.has_min_max:
            bounds[column.path_in_schema] = column.statistics
    begins, symbols = bounds.get(BEGIN), bounds.get("symbol")
    if begins is not None and begins.max.timestamp() * 1_000 < wanted.since_ms:
        return False
    if not wanted.symbols or symbols is None:
        return True
    return _is_between(wanted.symbols, symbols.min, symbols.max)


def _split(
    batch: pa.RecordBatch, wanted: Filter
) -> tuple["pa.DictionaryArray[Any, Any]", pa.Table]:
    # delta-rs marks texts as string views, for which Arrow has few functions.
    symbols, sources = (batch.column(name).cast(pa.string()) for name in ("symbol", "source"))
    codes = pc.index_in(sources, value_set=pa.array(SOURCES)).fill_null(-1).cast(pa.int8())
    columns = [codes if name == "source" else batch.column(name) for name in COLUMNS.names]
    if any(column.null_count for column in (symbols, *columns)):
        raise ValueError("a row with an empty value")
    table = pa.Table.from_arrays(columns, schema=COLUMNS)
    keep = pc.greater_equal(batch.column(BEGIN), pa.scalar(wanted.since_ms * 1_000, TIME))
    if wanted.symbols:
        keep = pc.and_(keep, pc.is_in(symbols, value_set=pa.array(sorted(wanted.symbols))))
    if not pc.all(keep).as_py():
        table, symbols = table.filter(keep), symbols.filter(keep)
    return symbols.dictionary_encode(), table


def rows_of(location: Location, name: str) -> pa.Table:
    """Return all rows of a small table of the lake; no rows if the lake has no such table.

    Raises:
      LakeError: the lake cannot be read, or a file of it is missing or damaged.
    """
    wanted, partitions = TABLES[name]
    table = open_table(location, name)
    if table is None:
        return wanted.empty_table()
    url = location.table_url(name)
    with lake_errors(f"{url}: the list of its files cannot be read"):
        actions = pa.table(table.delta.get_add_actions(flatten=True)).to_pylist()
    objects = Objects.of(location)
    pieces = [wanted.empty_table()]
    for one in sorted(actions, key=lambda one: str(one["path"])):
        path = str(one["path"])
        with read_errors(f"{url}/{path}"):
            with pq.ParquetFile(_open(objects, f"{name}/{path}", whole=True)) as file:
                rows = file.read([each for each in wanted.names if each not in partitions])
            for each in partitions:
                values = pa.array([one[f"partition.{each}"]] * rows.num_rows, pa.string())
                rows = rows.append_column(each, values)
            pieces.append(rows.select(wanted.names).cast(wanted))
    return pa.concat_tables(pieces)


def _open(objects: Objects, path: str, *, whole: bool) -> pa.NativeFile:
    if "://" in path or ".." in path.split("/"):
        raise LakeError(f"{objects.url}: the log names a file elsewhere: {shown(path)}")
    return objects.open(path, whole=whole)


@contextlib.contextmanager
def read_errors(place: str) -> Iterator[None]:
    """Name a file of the lake that is missing or damaged: a retry would not help."""
    try:
        yield
    except (KlineTrioError, MemoryError):
        raise
    except (FileNotFoundError, ValueError) as error:
        # ArrowInvalid is a ValueError.
        raise LakeError(
            f"{place}: a file of the lake is missing or damaged: {one_line(str(error))[:300]}"
        ) from error
    except OSError as error:
        with lake_errors(place):
            raise error
