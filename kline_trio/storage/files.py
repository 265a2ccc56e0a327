"""Parquet files as they are read back: every page against its CRC, every key once, in order."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.errors import DiskError
from kline_trio.storage.table import BEGIN, schema, series_of

__all__ = ["bounds_ms", "open_parquet", "owner_of", "read_groups"]


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens the file; not memory-mapped, since there a failing disk is a SIGBUS, not an error.

    Raises:
      FileNotFoundError: there is none.
      DiskError: it is damaged, cut short, or no Parquet file.
      OSError: the disk refused.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # The system's own; Arrow raises OSError for nonsense in a footer, too.
            raise
        raise DiskError(f"{path} is damaged or no Parquet file: {error}") from error


def owner_of(file: pq.ParquetFile, path: Path) -> Series | None:
    """Whose candles the file announces; None if it is not one of ours.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DiskError: it announces candles, but has other columns, or an unknown series.
    """
    try:
        owner = series_of(file.metadata.metadata)
    except (KeyError, ValueError) as error:
        raise DiskError(f"{path} names no series that can be: {error}") from error
    if owner is not None and not file.schema_arrow.equals(schema(owner)):
        raise DiskError(f"{path} has not the columns of a file of {owner}")
    return owner


def read_groups(file: pq.ParquetFile, groups: list[int], path: Path) -> pa.Table:
    """The rows of these row groups, of which there is at least one.

    Raises:
      DiskError: a page is damaged, or the rows are not in order, each once.
    """
    try:
        # A merge is small; handing its columns to a pool of threads costs more than reading them.
        table = file.read_row_groups(groups, use_threads=len(groups) > 1)
    except (OSError, pa.ArrowException) as error:
        raise DiskError(f"{path} is damaged: {error}") from error
    begins = table[BEGIN].combine_chunks()
    if not pc.all(pc.less(begins[:-1], begins[1:]), min_count=0).as_py():
        raise DiskError(f"{path} does not hold its candles in order, each once")
    return table


def bounds_ms(file: pq.ParquetFile, group: int, column: str) -> tuple[int, int]:
    """The earliest and the latest value of a time column in a row group, both inclusive."""
    chunk = file.metadata.row_group(group).column(file.schema_arrow.get_field_index(column))
    statistics: Any = chunk.statistics
    if statistics is not None and statistics.has_min_max:
        return int(statistics.min_raw), int(statistics.max_raw)
    # Ours always has them; what another program made of it may not.
    values: list[Any] = (
        file.read_row_group(group, columns=[column])[column].cast(pa.int64()).to_pylist()
    )
    return min(values), max(values)
