"""Detect a file that was changed since a merge wrote it, by its bytes alone."""

import shutil
import tempfile
from pathlib import Path, PurePosixPath

import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DiskError
from kline_trio.storage.changes import Changes
from kline_trio.storage.files import open_parquet, read_group
from kline_trio.storage.parquet import rewrite_file
from kline_trio.storage.table import schema

_WRITER = f"parquet-cpp-arrow version {pa.cpp_version}"
"""How pyarrow names itself in a footer."""


def is_as_written(path: Path, owner: Series, crc32: int) -> bool | None:
    """Return whether a merge of the file's rows would write exactly this file.

    The bytes of a file follow from its rows alone, so the rows are written once more, in a
    temporary folder. The checksums of pages and footer do not cover every byte; this does.

    Args:
      path: the file; all of its rows can be read.
      owner: whose candles it holds.
      crc32: of the whole file.

    Returns:
      None if another version of pyarrow wrote the file, so that nothing can be told.

    Raises:
      DiskError: the temporary folder has no room, or the file cannot be read.
      OSError: the same.
    """
    with tempfile.TemporaryDirectory(prefix="kline_trio-") as name:
        folder, place = Path(name), PurePosixPath(path.name)
        copy = folder / place
        shutil.copyfile(path, copy)
        with open_parquet(copy) as file:
            groups = [n for n in range(file.num_row_groups) if file.metadata.row_group(n).num_rows]
            if not groups:
                return False
            if file.metadata.created_by != _WRITER:
                return None
            # Merge its own last row: that changes no value and writes every row anew.
            last = read_group(file, groups[-1], copy).cast(schema(owner))
        row = last.slice(last.num_rows - 1)
        try:
            changes = Changes(owner, row, row.slice(0, 0))
            merged = rewrite_file(changes, place, folder, folder)
        except DiskError as error:
            raise DiskError(f"{path} cannot be written once more: {error}") from error
        return merged.crc32 == crc32
