"""Write sorted rows as the files of a compacted partition.

A file ends where the symbol changes, so that the files of a partition share no symbol. A row group
has whole symbols too, if they are not too large: who reads one series for a month reads one group.
"""

import itertools
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_trio.lake.compaction_plan import SORTED, TARGET_BYTES
from kline_trio.lake.schema import CANDLES, PARTITIONS
from kline_trio.lake.sorting import coded
from kline_trio.storage.table import BEGIN, END

COLUMNS = pa.schema([one for one in CANDLES if one.name not in PARTITIONS])
"""Of the files; the partitions are in their paths."""
LEAST_GROUP_ROWS = 32_768
MOST_GROUP_ROWS = 131_072
_TEXTS: Any = ["symbol", "source"]
_DELTA = dict.fromkeys((BEGIN, END, "trade_num", "revision"), "DELTA_BINARY_PACKED")
_KEYS = ["symbol", BEGIN, END]
_PAGE_ROWS = 8_192


@attrs.frozen
class WrittenFile:
    """A file on the local disk, for the lake."""

    path: Path
    rows: int
    stats: str
    """As the table's log has them: JSON with the least and the greatest value of each column."""


@attrs.define
class _Stats:
    rows: int = 0
    low: dict[str, Any] = attrs.field(factory=dict)
    high: dict[str, Any] = attrs.field(factory=dict)
    nulls: dict[str, int] = attrs.field(factory=dict)

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for name in table.column_names:
            column = table[name]
            self.nulls[name] = self.nulls.get(name, 0) + column.null_count
            ends: Any = pc.min_max(column).as_py()
            low, high = ends["min"], ends["max"]
            if low is not None:
                self.low[name] = min(self.low.get(name, low), low)
                self.high[name] = max(self.high.get(name, high), high)

    def text(self) -> str:
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": _json(self.low),
                "maxValues": _json(self.high),
                "nullCount": self.nulls,
            }
        )


def _json(values: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, datetime):
            # Delta's protocol, "Per-file Statistics": ISO 8601 in UTC.
            found[name] = f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        elif not isinstance(value, float) or math.isfinite(value):
            found[name] = value
    return found


def write_sorted(
    pieces: Iterable[pa.Table], folder: Path, target_bytes: int = TARGET_BYTES
) -> Iterator[WrittenFile]:
    """Write sorted rows into local files, and give each as soon as it is whole.

    Args:
      pieces: the rows by symbol and time, in pieces.
      folder: on a local disk. The caller removes each file before the next one is written.
      target_bytes: a file ends at the first symbol after so many bytes.

    Raises:
      OSError: the local disk is full.
    """
    writer: _Writer | None = None
    last = ""
    for group in row_groups(pieces):
        first = group["symbol"][0].as_py()
        if writer is not None and writer.size >= target_bytes and first != last:
            yield writer.close()
            writer = None
        if writer is None:
            writer = _Writer(folder / f"{SORTED}{secrets.token_hex(16)}.parquet")
        writer.write(group)
        last = group["symbol"][-1].as_py()
    if writer is not None:
        yield writer.close()


class _Writer:
    """One file that is being written."""

    def __init__(self, path: Path) -> None:
        self._path, self._stats = path, _Stats()
        self._file = pa.OSFile(str(path), "wb")
        self._parquet = pq.ParquetWriter(
            self._file,
            COLUMNS,
            compression="zstd",
            compression_level=3,
            use_dictionary=_TEXTS,
            column_encoding=_DELTA,
            write_statistics=_KEYS,
            write_page_index=True,
            max_rows_per_page=_PAGE_ROWS,
            store_schema=False,
            sorting_columns=pq.SortingColumn.from_ordering(
                COLUMNS, [("symbol", "ascending"), (BEGIN, "ascending")]
            ),
        )

    @property
    def size(self) -> int:
        return int(self._file.tell())

    def write(self, group: pa.Table) -> None:
        self._stats.add(group)
        self._parquet.write_table(group, row_group_size=MOST_GROUP_ROWS)

    def close(self) -> WrittenFile:
        self._parquet.close()
        self._file.close()
        return WrittenFile(self._path, self._stats.rows, self._stats.text())


def row_groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut sorted rows into row groups: whole symbols, or parts of one large symbol."""
    held: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        for symbol_rows in _by_symbol(piece):
            count = symbol_rows.num_rows
            if rows and (rows >= LEAST_GROUP_ROWS or rows + count > MOST_GROUP_ROWS):
                yield pa.concat_tables(held)
                held, rows = [], 0
            for start in range(0, count, MOST_GROUP_ROWS):
                part = symbol_rows.slice(start, MOST_GROUP_ROWS)
                if part.num_rows == MOST_GROUP_ROWS:
                    yield part
                else:
                    held.append(part)
                    rows += part.num_rows
    if rows:
        yield pa.concat_tables(held)


def _by_symbol(piece: pa.Table) -> Iterator[pa.Table]:
    codes, _ = coded(piece["symbol"])
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), piece.num_rows]
    for start, end in itertools.pairwise(starts):
        if end > start:
            yield piece.slice(start, end - start)
