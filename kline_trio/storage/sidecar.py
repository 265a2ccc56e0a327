"""Small tables beside the candles: built without pandas, and replaced as a whole."""

import io
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from kline_trio.errors import DiskError
from kline_trio.storage.disk import sync_file, sync_folder
from kline_trio.storage.files import open_parquet, read_whole
from kline_trio.storage.seal import SEAL, UNSEALED, seal

__all__ = ["TIME", "as_table", "write_sidecar"]

TIME = pa.timestamp("ms", "UTC")

_ROWS_AT_ONCE = 1_000


def as_table(rows: Iterable[tuple[object, ...]], wanted: pa.Schema) -> pa.Table:
    """Rows of texts and whole numbers as a table; times are milliseconds."""
    rows = iter(rows)
    pieces = []
    # Years of a large universe are some million rows, and each takes much more as text.
    while piece := tuple(itertools.islice(rows, _ROWS_AT_ONCE)):
        pieces.append(_as_piece(piece, wanted))
    return pa.concat_tables(pieces) if pieces else pa.Table.from_batches([], wanted)


def _as_piece(rows: Sequence[tuple[object, ...]], wanted: pa.Schema) -> pa.Table:
    # Not pa.array: it loads pandas.
    lines = b"\n".join(
        msgspec.json.encode(dict(zip(wanted.names, row, strict=True))) for row in rows
    )
    plain = pa.schema(
        [(field.name, pa.int64() if field.type == TIME else field.type) for field in wanted]
    )
    options = pyarrow.json.ParseOptions(explicit_schema=plain)
    return pyarrow.json.read_json(io.BytesIO(lines), parse_options=options).cast(wanted)


def write_sidecar(table: pa.Table, target: Path, scratch: Path) -> None:
    """Replaces the file by one that holds the table; then it survives a power cut.

    Whatever interrupts it, the old file or the new one stands under the name, whole.

    Args:
      table: what it is to hold.
      target: the file.
      scratch: the folder for the temporary file; on the same file system.

    Raises:
      DiskError: what was written does not come back; the file is as it was.
      OSError: the disk refused; the same.
    """
    temporary = scratch / f"{target.stem}.tmp"
    with temporary.open("w+b") as file:
        with pq.ParquetWriter(
            file, table.schema, compression="zstd", write_page_checksum=True
        ) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({SEAL: UNSEALED})
        seal(file)
        sync_file(file)
    with open_parquet(temporary) as written:
        if not read_whole(written, temporary).equals(table):
            raise DiskError(f"the disk does not give back what was written to {temporary}")
    os.replace(temporary, target)  # noqa: PTH105 - as in merges
    sync_folder(target.parent)
