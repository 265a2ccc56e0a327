"""What is stored of a series as one table: the journal and the files seen as one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.files import bounds_ms, read_groups
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.table import BEGIN, overlay, schema, table_of

__all__ = ["EARLIEST_MS", "LATEST_MS", "stored_table"]

EARLIEST_MS, LATEST_MS = -(2**63), 2**63 - 1


def stored_table(
    store_path: Path, wanted: Series, start_ms: int = EARLIEST_MS, end_ms: int = LATEST_MS
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
