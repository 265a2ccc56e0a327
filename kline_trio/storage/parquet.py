"""Merge waiting candles into Parquet files: plan, then write whole files anew."""

import contextlib
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.counting import counted
from kline_trio.errors import DamagedError, DiskError
from kline_trio.interval import DAY_MS
from kline_trio.storage.catalog import held_spans
from kline_trio.storage.changes import Changes
from kline_trio.storage.disk import make_folders, replace_durably, sync_file, sync_folder
from kline_trio.storage.files import check_owner, open_parquet, read_groups, status_of
from kline_trio.storage.footer import SEAL, UNSEALED, Footer, footer_of, seal
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.manifest import FileEntry, is_as_listed
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.layout import Layout
from kline_trio.storage.row_group_copy import (
    NOTHING,
    CopiedPrefix,
    NotAsWrittenError,
    add_copied_groups,
    copyable_prefix,
)
from kline_trio.storage.table import BEGIN, END, empty_table, schema, values_of

_ROWS_PER_GROUP = 32_768
"""23 days of 1m. A merge of new candles copies all row groups but the last."""

_PAGE_BYTES = 122_880

_DELTA = dict.fromkeys((BEGIN, END, "trade_num"), "DELTA_BINARY_PACKED")


@attrs.frozen
class FileMerge:
    """The candles that one file is to take in."""

    path: PurePosixPath
    """Relative to the store's folder."""
    series: Series
    pending: tuple[PendingCandle, ...]
    """By open time, unique, and never empty."""

    def changes(self) -> Changes:
        """Return the rows for the file."""
        return Changes.of(self.series, [(item.candle, item.origin) for item in self.pending])


def plan_merges(
    layout: Layout, series: Series, pending: Sequence[PendingCandle]
) -> tuple[FileMerge, ...]:
    """Return a merge for each file that the candles of this series belong to, oldest file first."""
    files: defaultdict[PurePosixPath, list[PendingCandle]] = defaultdict(list)
    for item in sorted(pending, key=lambda item: item.candle.open_time_ms):
        files[layout.path(series, item.candle.open_time_ms)].append(item)
    return tuple(FileMerge(path, series, tuple(items)) for path, items in files.items())


def split_by_file(
    table: pa.Table, series: Series, layout: Layout
) -> Iterator[tuple[PurePosixPath, pa.Table]]:
    """Give the rows by the file that they belong to; no file spans less than a day."""
    days = values_of(table[BEGIN]) // DAY_MS
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist()] if len(days) else []
    paths = [layout.path(series, int(days[start]) * DAY_MS) for start in starts]
    changes = [n for n in range(len(paths)) if n == 0 or paths[n] != paths[n - 1]]
    ends = [*(starts[n] for n in changes), table.num_rows]
    for n, (start, end) in zip(changes, pairwise(ends), strict=True):
        yield paths[n], table.slice(start, end - start)


def rewrite_file(
    changes: Changes,
    path: PurePosixPath,
    store_path: Path,
    scratch: Path,
    known: FileEntry | None = None,
) -> FileEntry:
    """Replace the file by one that holds its rows and the new ones.

    Whatever interrupts it, the path has the whole old file or the whole new one. When it returns,
    the new one survives a power cut. The file's bytes follow from its rows alone.

    Args:
      changes: the new rows, of which there is at least one.
      path: the file, relative to the store's folder.
      store_path: the store's folder.
      scratch: for the temporary file; on the file system of `store_path`.
      known: the manifest's entry of the file. If the file is still what was written, its row groups
        before the new rows are copied as they are; if its status is another, the result says
        what the new file holds.

    Raises:
      DamagedError: the file that is there cannot be read, or is of something else.
      DiskError: the new one reads back wrong. The old file is untouched.
      OSError: the disk refused.
    """
    target = store_path / path
    known = known if known is not None and known.path == path else None
    temporary = _temporary(path, scratch)
    try:
        before = status_of(target)
        make_folders(target.parent)
        # Somebody may have taken it for rubbish.
        scratch.mkdir(exist_ok=True)
        merged = _Rewrite(changes, path, target, temporary).write(known)
        # Again, after it was read: whoever replaces or deletes it meanwhile is noticed.
        is_same = _identity(before) == _identity(status_of(target))
        if not (is_as_listed(known, before) and is_same):
            merged = attrs.evolve(merged, held=held_spans(temporary, changes.series))
        replace_durably(temporary, target)
    finally:
        # A failure to clean up must not hide the failure itself; the next start sweeps.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(scratch)
    return merged


def _temporary(path: PurePosixPath, scratch: Path) -> Path:
    # The name is a function of the target's, so that one left behind is overwritten by the next.
    return scratch / f"{hashlib.sha256(bytes(path)).hexdigest()[:32]}.tmp"


def write_file(
    series: Series,
    path: PurePosixPath,
    pieces: Iterable[pa.Table],
    store_path: Path,
    scratch: Path,
) -> FileEntry:
    """Write a file from these rows alone, of any number, in little memory.

    Its bytes are those that merges of its rows would write.

    Args:
      series: of the candles.
      path: the file, relative to the store's folder.
      pieces: its rows in order, each once, in tables of any size; at least one row.
      store_path: the store's folder.
      scratch: for the temporary file; on the file system of `store_path`.

    Raises:
      DiskError: it reads back wrong. What is at its path stays.
      OSError: the disk refused.
    """
    target, made = store_path / path, _temporary(path, scratch)
    try:
        make_folders(target.parent)
        # Somebody may have taken it for rubbish.
        scratch.mkdir(exist_ok=True)
        written = _written(made, path, series, _in_groups(pieces), _Source(target))
        replace_durably(made, target)
    finally:
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
    sync_folder(scratch)
    return written


def _identity(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)


@attrs.frozen
class _Rewrite:
    """One file that is written anew."""

    changes: Changes
    path: PurePosixPath
    """Relative to the store's folder."""
    target: Path
    temporary: Path

    def write(self, known: FileEntry | None) -> FileEntry:
        """Write the temporary file, copying the row groups of the known file that stay."""
        copied = NOTHING
        if known is not None and known.rows >= _ROWS_PER_GROUP:
            first_ms, footer = self.changes.first_ms, _footer_of_no_rows(self.changes.series)
            copied = copyable_prefix(known, self.target, first_ms, _ROWS_PER_GROUP, footer)
        try:
            return self._write(copied)
        except NotAsWrittenError:
            return self._write(NOTHING)

    def _write(self, copied: CopiedPrefix) -> FileEntry:
        revisions: list[Revision] = []
        pieces = self._pieces(len(copied.groups), revisions)
        source = _Source(self.target, copied)
        file = _written(self.temporary, self.path, self.changes.series, pieces, source)
        return attrs.evolve(file, revisions=tuple(revisions))

    def _pieces(self, skipped: int, revisions: list[Revision]) -> Iterator[pa.Table]:
        """Give the merged rows in order, but for the first row groups, which are copied.

        Other row groups that the new rows do not touch come one by one. Values that differ are
        added to the revisions.
        """
        changes, series = self.changes, self.changes.series
        touched = [empty_table(series)]
        with contextlib.ExitStack() as stack:
            groups = range(0)
            with contextlib.suppress(FileNotFoundError):
                file = stack.enter_context(open_parquet(self.target))
                groups = range(skipped, file.num_row_groups)
                check_owner(file, self.target, series)
            for group in groups:
                piece = read_groups(file, [group], self.target).cast(schema(series))
                if not piece.num_rows:
                    continue
                is_full = piece.num_rows % _ROWS_PER_GROUP == 0
                if is_full and len(touched) == 1 and piece[BEGIN][-1].value < changes.first_ms:
                    yield piece
                else:
                    touched.append(piece)
        held = pa.concat_tables(touched)
        revisions += changes.revisions(held)
        yield changes.over(held)


@attrs.frozen
class _Source:
    """The file that a new one is made of."""

    path: Path
    copied: CopiedPrefix = NOTHING
    """The part of it that the new file begins with."""


def _written(
    temporary: Path,
    path: PurePosixPath,
    series: Series,
    pieces: Iterable[pa.Table],
    source: _Source,
) -> FileEntry:
    """Write a temporary file, read it back, and return what it is to be listed as.

    Args:
      temporary: the file that is written.
      path: the file that it will be, relative to the store's folder.
      series: of the candles.
      pieces: the rows behind the copied ones, in order; each has whole row groups, but the last.
      source: whose row groups come first.
    """
    copied = source.copied
    rows, begin_crc32 = copied.rows, 0
    with temporary.open("w+b") as file:
        sink = pa.PythonFile(file, "w")
        with _writer(sink, series) as writer:
            if copied.groups:
                # Past the writer, which asks the sink for the place of each thing it writes.
                begin_crc32 = copied.copy(source.path, sink)
            for piece in pieces:
                writer.write_table(piece, row_group_size=_ROWS_PER_GROUP)
                rows += piece.num_rows
        if copied.groups:
            add_copied_groups(file, copied)
        seal(file)
        sync_file(file)
    crc32, newest_ms = _verified(temporary, series, rows, copied, begin_crc32)
    status = temporary.stat()
    return FileEntry(
        path,
        series,
        rows,
        status.st_size,
        crc32,
        # A rename changes neither of the two.
        modified_ns=status.st_mtime_ns,
        inode=status.st_ino,
        newest_ms=newest_ms,
    )


def _in_groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Give the rows in tables of whole row groups, the last one excepted."""
    rest: list[pa.Table] = []
    for piece in pieces:
        rest.append(piece)
        rows = sum(one.num_rows for one in rest)
        if whole := rows - rows % _ROWS_PER_GROUP:
            # The ends of chunks can end pages, and the bytes are to follow from the rows alone.
            table = pa.concat_tables(rest).combine_chunks()
            yield table.slice(0, whole)
            rest = [table.slice(whole)]
    if any(one.num_rows for one in rest):
        yield pa.concat_tables(rest).combine_chunks()


@contextlib.contextmanager
def _writer(sink: IO[bytes] | pa.NativeFile, series: Series) -> Iterator[pq.ParquetWriter]:
    with pq.ParquetWriter(
        sink,
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
        yield writer
        writer.add_key_value_metadata({SEAL: UNSEALED})


def _footer_of_no_rows(series: Series) -> Footer:
    empty = io.BytesIO()
    with _writer(empty, series):
        pass
    return Footer.from_bytes(footer_of(empty)[0])


def _verified(
    path: Path, series: Series, rows: int, copied: CopiedPrefix, begin_crc32: int
) -> tuple[int, int]:
    """Read the written file back: compare what was copied by its CRC, and the rest page by page.

    Returns:
      the CRC of the whole file, and the open time of the newest candle.

    Raises:
      DiskError: it is not what was written.
    """
    found, last_ms = copied.rows, copied.last_ms
    try:
        with open_parquet(path) as file:
            check_owner(file, path, series)
            for group in range(len(copied.groups), file.num_row_groups):
                begins = read_groups(file, [group], path)[BEGIN]
                if begins[0].value <= last_ms:
                    raise DamagedError(f"{path} does not hold its candles in order, each once")
                last_ms = begins[-1].value
                found += len(begins)
        crc32 = copied.crc32_of(path, begin_crc32)
    except DamagedError as error:
        # Not the old file's damage: what was just written did not arrive.
        raise DiskError(f"the disk does not give back what was written to it: {error}") from error
    if found != rows:
        raise DiskError(f"{path} holds {counted(found, 'row')} after {rows:,} were written")
    return crc32, last_ms
