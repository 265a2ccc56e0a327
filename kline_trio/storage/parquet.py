"""Merging waiting candles into Parquet files: plan, then perform, a whole file at a time."""

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.errors import DamagedError, DiskError
from kline_trio.storage.disk import make_folders, sync_file, sync_folder
from kline_trio.storage.files import crc32_of, open_parquet, owner_of, read_groups
from kline_trio.storage.journal import MergedFile, PendingCandle
from kline_trio.storage.layout import Layout
from kline_trio.storage.seal import SEAL, UNSEALED, seal
from kline_trio.storage.table import BEGIN, END, overlay, schema, table_of

__all__ = ["FileMerge", "bring_in", "perform", "plan_merges"]

_ROWS_PER_GROUP = 131_072
"""91 days of 1m; a merge holds two groups in memory, 12 MB each, however long the file is."""

_PAGE_BYTES = 122_880

_DELTA = dict.fromkeys((BEGIN, END, "trade_num"), "DELTA_BINARY_PACKED")


@attrs.frozen
class FileMerge:
    """What one file is to take in."""

    path: PurePosixPath
    """Relative to the store's folder."""
    series: Series
    pending: tuple[PendingCandle, ...]
    """By open time, unique, and never empty."""


def plan_merges(
    layout: Layout, series: Series, pending: Sequence[PendingCandle]
) -> tuple[FileMerge, ...]:
    """One merge for each file that the candles of this series belong to, oldest file first."""
    files: defaultdict[PurePosixPath, list[PendingCandle]] = defaultdict(list)
    for item in sorted(pending, key=lambda item: item.candle.open_time_ms):
        files[layout.path(series, item.candle.open_time_ms)].append(item)
    return tuple(FileMerge(path, series, tuple(items)) for path, items in files.items())


def perform(merge: FileMerge, store_path: Path, scratch: Path) -> MergedFile:
    """Brings the merge's candles into its file, as `bring_in` does."""
    new = table_of(merge.series, [item.candle for item in merge.pending])
    return bring_in(new, merge.path, merge.series, store_path, scratch)


def bring_in(
    new: pa.Table, path: PurePosixPath, series: Series, store_path: Path, scratch: Path
) -> MergedFile:
    """Replaces the file by one that holds its rows and the new ones, which win.

    Whatever interrupts it, the old file or the new one stands under the name, whole. When it
    returns, the new one survives a power cut. The file's bytes follow from its rows alone.

    Args:
      new: by open time, unique, and not empty.
      path: the file, relative to the store's folder.
      series: whose candles they are.
      store_path: the store's folder.
      scratch: for the temporary file; on the file system of `store_path`.

    Raises:
      DamagedError: the file that is there cannot be read, or is of something else.
      DiskError: the new one reads back wrong. The old file is untouched.
      OSError: the disk refused.
    """
    target = store_path / path
    # The name is a function of the target's, so that one left behind is overwritten by the next.
    temporary = scratch / f"{hashlib.sha256(bytes(path)).hexdigest()[:32]}.tmp"
    make_folders(target.parent)
    try:
        rows = _write(new, series, target, temporary)
        _verify(temporary, series, rows)
        merged = MergedFile(path, series, rows, temporary.stat().st_size, crc32_of(temporary))
        os.replace(temporary, target)  # noqa: PTH105 - the word that design and tests look for
    finally:
        # A failure to clean up must not hide the failure itself; the next start sweeps.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    sync_folder(scratch)
    return merged


def _write(new: pa.Table, series: Series, target: Path, temporary: Path) -> int:
    rows = 0
    with temporary.open("w+b") as file:
        with pq.ParquetWriter(
            file,
            schema(series),
            compression="zstd",
            # This mix by measurement on real archives: docs/encoding.md.
            compression_level=2,
            use_dictionary=False,
            column_encoding=_DELTA,
            data_page_size=_PAGE_BYTES,
            write_statistics=[BEGIN, END],
            write_page_checksum=True,
        ) as writer:
            for piece in _pieces(target, series, new):
                writer.write_table(piece, row_group_size=_ROWS_PER_GROUP)
                rows += piece.num_rows
            writer.add_key_value_metadata({SEAL: UNSEALED})
        seal(file)
        sync_file(file)
    return rows


def _pieces(target: Path, series: Series, new: pa.Table) -> Iterator[pa.Table]:
    """The merged rows in order; row groups that the new rows leave alone come one by one."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_parquet(target))
        except FileNotFoundError:
            yield new
            return
        _check_owner(file, target, series)
        first_new = new[BEGIN][0].value
        touched = [new.slice(0, 0)]
        for group in range(file.num_row_groups):
            piece = read_groups(file, [group], target).cast(schema(series))
            if not piece.num_rows:
                continue
            full = piece.num_rows >= _ROWS_PER_GROUP
            if full and len(touched) == 1 and piece[BEGIN][-1].value < first_new:
                yield piece
            else:
                touched.append(piece)
    yield overlay(pa.concat_tables(touched), new)


def _check_owner(file: pq.ParquetFile, path: Path, series: Series) -> None:
    owner = owner_of(file, path)
    if owner != series:
        raise DamagedError(
            f"{path} stands where the candles of {series} belong, but holds"
            f" {owner or 'something else'}"
        )


def _verify(path: Path, series: Series, rows: int) -> None:
    """Reads the written file back; all of it, so that every page's CRC is looked at."""
    found = 0
    last_ms = -1
    try:
        with open_parquet(path) as file:
            _check_owner(file, path, series)
            for group in range(file.num_row_groups):
                begins = read_groups(file, [group], path)[BEGIN]
                if begins[0].value <= last_ms:
                    raise DamagedError(f"{path} does not hold its candles in order, each once")
                last_ms = begins[-1].value
                found += len(begins)
    except DamagedError as error:
        # Not the old file's damage: what was just written did not arrive.
        raise DiskError(f"the disk does not give back what was written to it: {error}") from error
    if found != rows:
        raise DiskError(f"{path} holds {found} rows after {rows} were written")
