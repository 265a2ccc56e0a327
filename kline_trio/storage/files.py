"""Read Parquet files: check every page's CRC, and that open times are in order, each once."""

import contextlib
import errno
import math
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.footer import is_sealed
from kline_trio.storage.memory import arrow_errors
from kline_trio.storage.table import BEGIN, END, format_version, schema, series_of, values_of

_SEALED_SINCE = 2
"""The first format whose files have a seal, so that their rows are in order, no time twice."""
_CHUNK_BYTES = 1 << 20
_NO_PATH = (errno.ELOOP, errno.ENOTDIR)
"""A link to itself, or a file in the place of a folder: nothing can be read or made there."""


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open the file; not memory-mapped, since a failing disk would then be a SIGBUS, not an error.

    Raises:
      FileNotFoundError: there is none.
      DamagedError: it is damaged, cut short, or no Parquet file.
      OSError: the disk refused.
    """
    # Opening a pipe would block for ever.
    status = status_of(path)
    if status is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(f"{path} is damaged or no Parquet file: it is no file at all")
    # One descriptor for all of it: a merge may replace the file between two looks.
    # As bytes, since a name need not be UTF-8.
    with pa.OSFile(cast("str", os.fsencode(path)), "rb") as source:
        with damage(path):
            sealed = is_sealed(cast("IO[bytes]", source), path)
            file = pq.ParquetFile(source, page_checksum_verification=True)
            if not sealed and must_be_sealed(file):
                raise DamagedError(f"{path} is damaged: its footer is not what was written")
        yield file


def must_be_sealed(file: pq.ParquetFile) -> bool:
    """Return whether every file of the file's format has a seal."""
    return format_version(file.metadata.metadata) >= _SEALED_SINCE


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Raise DamagedError for damage to the file that is read; other errors of the disk pass.

    A sector that cannot be read is damage to the file on it. Arrow raises OSError without a number
    for nonsense in a file. A lack of threads or memory says nothing about the file.
    """
    try:
        with arrow_errors():
            yield
    except MemoryError:
        # Arrow's is an ArrowException too, and says nothing about the file.
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EIO):
            raise
        raise DamagedError(f"{path} is damaged or no Parquet file: {error}") from error


def status_of(path: Path) -> os.stat_result | None:
    """Return the file's status; None if there is no file.

    Raises:
      DamagedError: no file can be there until what stands at the path is set aside.
      OSError: the disk refused.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_PATH:
            raise
        raise DamagedError(f"{path} is damaged or no Parquet file: {error.strerror}") from error


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of the whole file.

    Raises:
      FileNotFoundError: there is none.
      OSError: the disk refused.
    """
    with path.open("rb") as file:
        return crc32_on(file)


def crc32_on(file: IO[bytes], most_bytes: float = math.inf, crc32: int = 0) -> int:
    """Return the CRC-32 of what is read from here on, continuing an earlier one.

    Raises:
      OSError: the disk refused.
    """
    for chunk in chunks(file, most_bytes):
        crc32 = zlib.crc32(chunk, crc32)
    return crc32


def chunks(file: IO[bytes], most_bytes: float = math.inf) -> Iterator[bytes]:
    """Give the content of a file from here on, in pieces of at most 1 MiB.

    Raises:
      OSError: the disk refused.
    """
    while chunk := file.read(int(min(most_bytes, _CHUNK_BYTES))):
        most_bytes -= len(chunk)
        yield chunk


def owner_of(file: pq.ParquetFile, path: Path) -> Series | None:
    """Return the series that the file names; None if it is not one of ours.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DamagedError: it names a series, but has other columns, or the series is none.
    """
    try:
        owner = series_of(file.metadata.metadata)
        columns = file.schema_arrow
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} names no series that can be: {error}") from error
    if owner is not None and not columns.equals(schema(owner)):
        raise DamagedError(f"{path} has not the columns of a file of {owner}")
    return owner


def check_owner(file: pq.ParquetFile, path: Path, series: Series) -> None:
    """Refuse a file at a series' path that holds something else.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DamagedError: it is not of this series.
    """
    owner = owner_of(file, path)
    if owner != series:
        raise DamagedError(
            f"{path} stands where the candles of {series} belong, but holds"
            f" {owner or 'something else'}"
        )


def read_groups(
    file: pq.ParquetFile, groups: list[int], path: Path, columns: list[str] | None = None
) -> pa.Table:
    """Return the rows of these row groups, of which there is at least one.

    Args:
      file: the file.
      groups: the numbers of the row groups.
      path: of the file.
      columns: only these, the begins among them; None: all.

    Raises:
      DamagedError: a page is damaged, or the rows are not in order, each once.
      OSError: the disk refused.
    """
    with damage(path):
        # A merge is small; handing its columns to a pool of threads costs more than reading them.
        table = file.read_row_groups(groups, columns=columns, use_threads=len(groups) > 1)
    begins = table[BEGIN].combine_chunks()
    import pyarrow.compute as pc  # here, as in storage/table.py

    if not pc.all(pc.less(begins[:-1], begins[1:]), min_count=0).as_py():
        raise DamagedError(f"{path} does not hold its candles in order, each once")
    return table


def read_group(file: pq.ParquetFile, group: int, path: Path) -> pa.Table:
    """Return the rows of a row group in whatever order they are.

    Raises:
      DamagedError: a page is damaged.
      OSError: the disk refused.
    """
    with damage(path):
        return file.read_row_group(group, use_threads=False)


def read_table(path: Path) -> pa.Table:
    """Return all rows of a file that holds no candles.

    Raises:
      FileNotFoundError: there is none.
      DamagedError: it cannot be read.
      OSError: the disk refused.
    """
    with open_parquet(path) as file, damage(path):
        return file.read(use_threads=False)


def begins_ms(file: pq.ParquetFile, group: int, path: Path) -> npt.NDArray[np.int64]:
    """Return the open times in a row group; rows of other programs without one do not count.

    Raises:
      DamagedError: a page is damaged.
      OSError: the disk refused.
    """
    with damage(path):
        column = file.read_row_group(group, columns=[BEGIN], use_threads=False)[BEGIN]
    return values_of(column.cast(pa.int64()).drop_null())


def span_of(file: pq.ParquetFile) -> Span | None:
    """Return the time from the first to the last candle of an open file; None if it has none."""
    metadata = file.metadata
    groups = [n for n in range(file.num_row_groups) if metadata.row_group(n).num_rows]
    if not groups:
        return None
    return Span(
        min(bounds_ms(file, n, BEGIN)[0] for n in groups),
        max(bounds_ms(file, n, END)[1] for n in groups),
    )


def bounds_ms(file: pq.ParquetFile, group: int, column: str) -> tuple[int, int]:
    """Return the earliest and the latest value of a time column in a row group, both inclusive."""
    chunk = file.metadata.row_group(group).column(file.schema_arrow.get_field_index(column))
    statistics: Any = chunk.statistics
    if statistics is not None and statistics.has_min_max:
        return int(statistics.min_raw), int(statistics.max_raw)
    # Ours always has them; what another program made of it may not.
    values: list[Any] = (
        file.read_row_group(group, columns=[column], use_threads=False)[column]
        .cast(pa.int64())
        .to_pylist()
    )
    return min(values), max(values)
