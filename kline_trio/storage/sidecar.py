"""Small tables beside the candles: built without pandas, and replaced as a whole."""

import array
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.errors import DiskError
from kline_trio.storage.disk import replace_durably, sync_file
from kline_trio.storage.files import open_parquet, read_group
from kline_trio.storage.footer import SEAL, UNSEALED, seal

TIME = pa.timestamp("ms", "UTC")

_ROWS = 10_000
"""Of a table in memory, and of a row group."""


def as_table(rows: Iterable[tuple[Any, ...]], wanted: pa.Schema) -> pa.Table:
    """Return rows of texts and numbers as a table of these columns; times are milliseconds."""
    return pa.concat_tables([pa.Table.from_batches([], wanted), *as_tables(rows, wanted)])


def as_tables(rows: Iterable[tuple[Any, ...]], wanted: pa.Schema) -> Iterator[pa.Table]:
    """Yield rows as tables of up to 10,000 rows, so that there may be any number of rows."""
    rows = iter(rows)
    while piece := tuple(itertools.islice(rows, _ROWS)):
        arrays = [
            _array(values, field.type)
            for values, field in zip(zip(*piece, strict=True), wanted, strict=True)
        ]
        yield pa.Table.from_arrays(arrays, schema=wanted)


def _array(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    # Not pa.array: it loads pandas.
    buffers: list[pa.Buffer | None] = [None]
    if None in values:
        known = [value is not None for value in values]
        buffers = [pa.py_buffer(np.packbits(known, bitorder="little").tobytes())]
    if kind == pa.string():
        texts = [(value or "").encode() for value in values]
        ends = array.array("i", itertools.accumulate(map(len, texts), initial=0))
        buffers += [pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    else:
        code = "d" if kind == pa.float64() else "q"
        buffers.append(pa.py_buffer(array.array(code, [value or 0 for value in values])))
    return pa.Array.from_buffers(kind, len(values), buffers)


def write_sidecar(
    pieces: Callable[[], Iterable[pa.Table]], wanted: pa.Schema, target: Path, scratch: Path
) -> int:
    """Replace the file by one that holds the pieces, and sync it.

    After an interruption at any moment, the old file or the new one has the name, whole.

    Args:
      pieces: the content; called twice, to write it and to compare it with what was written.
      wanted: the columns.
      target: the file.
      scratch: the folder for the temporary file; on the same file system.

    Returns:
      how many rows the file has.

    Raises:
      DiskError: the disk gives back other bytes than were written; the file is as it was.
      OSError: the disk refused; the file is as it was.
    """
    temporary = scratch / f"{target.stem}.tmp"
    # Another program may have removed the folder.
    scratch.mkdir(exist_ok=True)
    with temporary.open("w+b") as file:
        with pq.ParquetWriter(file, wanted, compression="zstd", write_page_checksum=True) as writer:
            for piece in pieces():
                writer.write_table(piece, row_group_size=piece.num_rows or None)
            writer.add_key_value_metadata({SEAL: UNSEALED})
        seal(file)
        sync_file(file)
    with open_parquet(temporary) as written:
        rows = written.metadata.num_rows
        groups = range(written.num_row_groups)
        for group, piece in itertools.zip_longest(groups, pieces()):
            lacks = group is None or piece is None
            if lacks or not read_group(written, group, temporary).equals(piece):
                raise DiskError(f"the disk does not give back what was written to {temporary}")
    replace_durably(temporary, target)
    return rows
