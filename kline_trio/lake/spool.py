"""A folder of temporary files, one for each series, which turns months of series into series.

The lake holds all series of a month together, and a store holds all months of a series together.
So each file of the lake is read once, its rows are cut by series and appended to the files of the
spool; then each file of the spool is read once and removed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.lake.schema import VALUES
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.names import disk_name
from kline_trio.storage.table import BEGIN

ROWS_AT_ONCE = 400_000
"""Rows in memory until they are sorted and appended: 40 MB, and twice as many while sorted."""
BYTES_A_ROW = 60
"""At most, in a file of the spool. Real candles take 35 to 45."""
_TIME = pa.timestamp("us", "UTC")
_COLUMNS: dict[str, pa.DataType] = {
    BEGIN: _TIME,
    **{name: pa.int64() if name == "trade_num" else pa.float64() for name in VALUES},
    "source": pa.int8(),
    "revision": pa.int32(),
}
COLUMNS = pa.schema(_COLUMNS)
"""Of the spool: those of the lake that differ from row to row. A source is a number."""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")
_PART = b"part"


@attrs.define(eq=False)
class Spool:
    """Rows of any series, added part by part, and taken series by series."""

    folder: Path
    rows: dict[Series, int] = attrs.field(init=False, factory=dict)
    """How many rows each series has."""
    _market: tuple[str, str] = attrs.field(init=False, default=("", ""))
    _waiting: list[pa.Table] = attrs.field(init=False, factory=list)
    _waiting_rows: int = attrs.field(init=False, default=0)
    _part: int = attrs.field(init=False, default=0)

    def begin_part(self, trade_type: str, time_interval: str) -> None:
        """Begin with rows of a market and an interval that are later than all before of theirs.

        Raises:
          DiskError: the disk refused.
        """
        self.flush()
        self._market = (trade_type, time_interval)
        self._part += 1

    def add(self, symbols: "pa.DictionaryArray[Any, Any]", rows: pa.Table) -> None:
        """Add rows of the present part, in any order.

        Args:
          symbols: of the rows.
          rows: with `COLUMNS`.

        Raises:
          DiskError: the disk refused.
          ValueError: a symbol cannot be one.
        """
        self._waiting.append(rows.append_column("symbol", symbols))
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory. Call this after the last row.

        Raises:
          DiskError: the disk refused.
          ValueError: a symbol cannot be one.
        """
        if not self._waiting_rows:
            return
        table = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
        self._waiting, self._waiting_rows = [], 0
        symbols: Any = table["symbol"].chunk(0)
        codes: npt.NDArray[np.int32] = symbols.indices.to_numpy()
        table = table.drop_columns("symbol")
        if (np.diff(codes) < 0).any():
            order = np.argsort(codes, kind="stable")
            table, codes = table.take(order), codes[order]
        names = symbols.dictionary.to_pylist()
        trade_type, time_interval = self._market
        for first, end in _runs(codes):
            series = Series(trade_type, names[codes[first]], time_interval)
            self._append(series, table.slice(first, end - first))

    def _append(self, series: Series, rows: pa.Table) -> None:
        path, schema = self._path(series), COLUMNS.with_metadata({_PART: str(self._part)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
            writer.write_table(rows.replace_schema_metadata(schema.metadata))
        with disk_errors(path), path.open("ab") as file:
            file.write(sink.getvalue())
        self.rows[series] = self.rows.get(series, 0) + rows.num_rows

    def take(self, series: Series) -> Iterator[pa.Table]:
        """Give the rows of a series, a table a part, with `COLUMNS`; then remove its file.

        The rows of a part are in the order in which they were added.

        Raises:
          DiskError: the disk refused.
        """
        if series not in self.rows:
            return
        path = self._path(series)
        with disk_errors(path):
            with pa.OSFile(str(path), "rb") as file:
                yield from _parts(file)
            path.unlink()

    def _path(self, series: Series) -> Path:
        names = (series.trade_type, series.symbol, series.interval.file_name)
        return self.folder / disk_name(f"{'_'.join(names)}.spool")


def _parts(file: pa.OSFile) -> Iterator[pa.Table]:
    pieces: list[pa.Table] = []
    present: bytes | None = None
    size_bytes = file.size()
    while file.tell() < size_bytes:
        reader = pa.ipc.open_stream(file)
        part = (reader.schema.metadata or {})[_PART]
        if part != present and pieces:
            yield pa.concat_tables(pieces)
            pieces = []
        present = part
        pieces.append(reader.read_all().replace_schema_metadata(None))
    if pieces:
        yield pa.concat_tables(pieces)


def _runs(codes: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Give the begin and the end of each run of equal codes."""
    breaks = (np.flatnonzero(np.diff(codes)) + 1).tolist()
    yield from zip([0, *breaks], [*breaks, len(codes)], strict=True)
