"""Read the candles of a lake in parts of bounded size, each file once.

A part is one market and one interval, and one month or several. All its rows are later than those
of the parts of the market and interval before it.
"""

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from kline_trio.candle import Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.lake.errors import LakeError, lake_errors
from kline_trio.lake.schema import PARTITIONS, TIME
from kline_trio.lake.spool import COLUMNS, ROWS_AT_ONCE
from kline_trio.quoting import one_line
from kline_trio.storage.table import BEGIN

_BATCH_ROWS = 131_072
_BYTES_AHEAD = 64 << 20
"""Of files that are read ahead of time: small files are many at once."""
_MOST_AHEAD = 16
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

    trade_type: str
    time_interval: str
    months: tuple[str, ...]
    paths: frozenset[str]
    rows: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.trade_type} {self.time_interval} {self.months[-1]}"


def files_of(delta: DeltaTable, wanted: Filter) -> list[LakeFile]:
    """Return the files that may hold wanted candles, in order, by the log alone.

    Raises:
      LakeError: the log cannot be read.
    """
    with lake_errors("the list of the lake's files cannot be read"):
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
    for (trade_type, interval, month), some in itertools.groupby(files, key=_partition):
        every = list(some)
        rows, size_bytes = sum(one.rows for one in every), sum(one.size_bytes for one in every)
        paths = frozenset(one.path for one in every)
        last = parts[-1] if parts else None
        if (
            last is not None
            and (last.trade_type, last.time_interval) == (trade_type, interval)
            and last.rows + rows <= most_rows
        ):
            parts[-1] = attrs.evolve(
                last,
                months=(*last.months, month),
                paths=last.paths | paths,
                rows=last.rows + rows,
                size_bytes=last.size_bytes + size_bytes,
            )
        else:
            parts.append(Part(trade_type, interval, (month,), paths, rows, size_bytes))
    return parts


def _partition(one: LakeFile) -> tuple[str, str, str]:
    return one.trade_type, one.time_interval, one.month


def scan(
    delta: DeltaTable, part: Part, wanted: Filter
) -> Iterator[tuple["pa.DictionaryArray[Any, Any]", pa.Table]]:
    """Give the rows of a part in the order of the files: their symbols, and `COLUMNS`.

    Args:
      delta: the table of candles, at the version whose files were listed.
      part: of that table.
      wanted: which rows.

    Raises:
      LakeError: the lake cannot be read, or a file of it is missing or damaged.
    """
    place = f"{delta.table_uri}: {part}"
    with read_errors(place):
        # A condition on symbols fails in Arrow 26 if the file has its texts as string views.
        since = pc.field(BEGIN) >= pa.scalar(wanted.since_ms * 1_000, TIME)
        scanner = _dataset(delta, part).scanner(
            ["symbol", *COLUMNS.names],
            filter=since if wanted.since_ms else None,
            batch_size=_BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=_ahead(part),
        )
        for batch in scanner.to_batches():
            yield _split(batch, wanted)


def _dataset(delta: DeltaTable, part: Part) -> ds.Dataset:
    """Return the files of a part, without the bounds that the log has of each."""
    where: list[tuple[str, str, Any]] = [
        ("trade_type", "=", part.trade_type),
        ("time_interval", "=", part.time_interval),
        ("month", "in", list(part.months)),
    ]
    found: Any = delta.to_pyarrow_dataset(partitions=where)
    # The log has the bounds of texts as string views, by which Arrow 26 can do nothing.
    files = [
        found.format.make_fragment(one.path, filesystem=found.filesystem)
        for one in found.get_fragments()
        if one.path in part.paths
    ]
    return ds.FileSystemDataset(files, found.schema, found.format, found.filesystem)


def _ahead(part: Part) -> int:
    bytes_a_file = max(1, part.size_bytes // max(1, len(part.paths)))
    return min(_MOST_AHEAD, max(1, _BYTES_AHEAD // bytes_a_file))


def _split(
    batch: pa.RecordBatch, wanted: Filter
) -> tuple["pa.DictionaryArray[Any, Any]", pa.Table]:
    if wanted.symbols:
        symbols = pa.array(sorted(wanted.symbols))
        batch = batch.filter(pc.is_in(batch.column("symbol"), value_set=symbols))
    sources = pc.index_in(batch.column("source"), value_set=pa.array(SOURCES))
    columns = [
        sources.fill_null(-1).cast(pa.int8()) if name == "source" else batch.column(name)
        for name in COLUMNS.names
    ]
    table = pa.Table.from_arrays(columns, schema=COLUMNS)
    if any(column.null_count for column in (batch.column("symbol"), *columns)):
        raise ValueError("a row with an empty value")
    return batch.column("symbol").dictionary_encode(), table


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
