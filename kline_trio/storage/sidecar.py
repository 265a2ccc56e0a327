"""Small tables beside the candles: built without pandas, and replaced as a whole."""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from kline_trio.errors import DiskError
from kline_trio.storage.disk import replace_durably, sync_file
from kline_trio.storage.files import open_parquet, read_group
from kline_trio.storage.footer import SEAL, UNSEALED, seal
from kline_trio.storage.memory import arrow_errors

__all__ = ["TIME", "as_table", "as_tables", "write_sidecar"]

TIME = pa.timestamp("ms", "UTC")

_ROWS, _TENS = 1_000, 10
"""So many rows are text at once, which takes ten times the room; so many times as many are a row
group."""


def as_table(rows: Iterable[tuple[object, ...]], wanted: pa.Schema) -> pa.Table:
    """Rows of texts and whole numbers as a table; times are milliseconds."""
    return pa.concat_tables([pa.Table.from_batches([], wanted), *as_tables(rows, wanted)])


def as_tables(rows: Iterable[tuple[object, ...]], wanted: pa.Schema) -> Iterator[pa.Table]:
    """The same, some thousand rows at a time, so that there may be any number of them."""
    rows = iter(rows)
    while group := [
        _as_piece(piece, wanted)
        for piece in itertools.islice(iter(lambda: tuple(itertools.islice(rows, _ROWS)), ()), _TENS)
    ]:
        yield pa.concat_tables(group).combine_chunks()


def _as_piece(rows: Sequence[tuple[object, ...]], wanted: pa.Schema) -> pa.Table:
    # Not pa.array: it loads pandas.
    lines = b"\n".join(
        msgspec.json.encode(dict(zip(wanted.names, row, strict=True))) for row in rows
    )
    plain = pa.schema(
        [(field.name, pa.int64() if field.type == TIME else field.type) for field in wanted]
    )
    options = pyarrow.json.ParseOptions(explicit_schema=plain)
    with arrow_errors():
        return pyarrow.json.read_json(io.BytesIO(lines), parse_options=options).cast(wanted)


def write_sidecar(
    pieces: Callable[[], Iterable[pa.Table]], wanted: pa.Schema, target: Path, scratch: Path
) -> int:
    """Replaces the file by one that holds the pieces; then it survives a power cut.

    Whatever interrupts it, the old file or the new one stands under the name, whole.

    Args:
      pieces: what it is to hold; asked for twice, to write it and to compare what was written.
      wanted: its columns.
      target: the file.
      scratch: the folder for the temporary file; on the same file system.

    Returns:
      how many rows it holds.

    Raises:
      DiskError: what was written does not come back; the file is as it was.
      OSError: the disk refused; the same.
    """
    temporary = scratch / f"{target.stem}.tmp"
    # Somebody may have taken it for rubbish.
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
