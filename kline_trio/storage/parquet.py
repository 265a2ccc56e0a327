"""Merging waiting candles into Parquet files: plan, then perform, a whole file at a time."""

import contextlib
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Series, Source
from kline_trio.errors import DamagedError, DiskError
from kline_trio.storage.catalog import held_spans
from kline_trio.storage.disk import make_folders, sync_file, sync_folder
from kline_trio.storage.files import check_owner, open_parquet, read_groups, status_of
from kline_trio.storage.footer import Footer
from kline_trio.storage.footer_crc import SEAL, UNSEALED, footer_of, seal
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.manifest import FileEntry, is_as_listed
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.layout import Layout
from kline_trio.storage.row_group_copy import NOTHING, CopiedPrefix, NotAsWrittenError, join, keep
from kline_trio.storage.table import (
    BEGIN,
    END,
    differing,
    overlay,
    schema,
    table_of,
    values_of,
    without,
)

__all__ = ["Changes", "FileMerge", "by_file", "perform", "plan_merges", "rewrite_file"]

_DAY_MS = 86_400_000
_ROWS_PER_GROUP = 32_768
"""23 days of 1m. A merge of new candles copies all row groups but the last."""

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


def by_file(
    table: pa.Table, series: Series, layout: Layout
) -> Iterator[tuple[PurePosixPath, pa.Table]]:
    """The rows by the file that they belong into; no file spans less than a day."""
    days = values_of(table[BEGIN]) // _DAY_MS
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist()] if len(days) else []
    paths = [layout.path(series, int(days[start]) * _DAY_MS) for start in starts]
    changes = [n for n in range(len(paths)) if n == 0 or paths[n] != paths[n - 1]]
    ends = [*(starts[n] for n in changes), table.num_rows]
    for n, (start, end) in zip(changes, pairwise(ends), strict=True):
        yield paths[n], table.slice(start, end - start)


def perform(
    merge: FileMerge, store_path: Path, scratch: Path, known: FileEntry | None = None
) -> FileEntry:
    """Brings the merge's candles into its file, as `rewrite_file` does.

    What the stream brought replaces what the file holds; what did not come from it fills gaps.
    """
    replacing = [item.candle for item in merge.pending if item.origin.replaces]
    filling = [item.candle for item in merge.pending if not item.origin.replaces]
    by_time = {item.candle.open_time_ms: item.origin for item in merge.pending}
    news = Changes(table_of(merge.series, replacing), table_of(merge.series, filling))
    merged = rewrite_file(news, merge.path, merge.series, store_path, scratch, known)
    revisions = tuple(
        attrs.evolve(revision, origin=by_time[revision.newer.open_time_ms])
        for revision in merged.revisions
    )
    return attrs.evolve(merged, revisions=revisions)


@attrs.frozen
class Changes:
    """Rows for a file, each table by open time and unique, and not both empty."""

    replacing: pa.Table
    """They win over what the file holds."""
    filling: pa.Table
    """What the file holds wins over them."""

    @property
    def first_ms(self) -> int:
        """The open time of the first."""
        both = (self.replacing, self.filling)
        return min(int(table[BEGIN][0].value) for table in both if len(table))


def rewrite_file(
    news: Changes,
    path: PurePosixPath,
    series: Series,
    store_path: Path,
    scratch: Path,
    known: FileEntry | None = None,
) -> FileEntry:
    """Replaces the file by one that holds its rows and the new ones.

    Whatever interrupts it, the old file or the new one stands under the name, whole. When it
    returns, the new one survives a power cut. The file's bytes follow from its rows alone.

    Args:
      news: the new rows.
      path: the file, relative to the store's folder.
      series: whose candles they are.
      store_path: the store's folder.
      scratch: for the temporary file; on the file system of `store_path`.
      known: the manifest's entry of the file. If the file is still what was written, its row groups
        before the new rows are copied as they are; if its status is another, the result tells
        what the new file holds.

    Raises:
      DamagedError: the file that is there cannot be read, or is of something else.
      DiskError: the new one reads back wrong. The old file is untouched.
      OSError: the disk refused.
    """
    target = store_path / path
    known = known if known is not None and known.path == path else None
    # The name is a function of the target's, so that one left behind is overwritten by the next.
    temporary = scratch / f"{hashlib.sha256(bytes(path)).hexdigest()[:32]}.tmp"
    try:
        before = status_of(target)
        make_folders(target.parent)
        # Somebody may have taken it for rubbish.
        scratch.mkdir(exist_ok=True)
        kept = NOTHING
        if known is not None and known.rows >= _ROWS_PER_GROUP:
            kept = keep(known, target, news.first_ms, _ROWS_PER_GROUP, _like(series))
        revisions: list[Revision] = []
        try:
            rows, begin_crc32 = _write(news, series, target, temporary, kept, revisions)
        except NotAsWrittenError:
            kept = NOTHING
            rows, begin_crc32 = _write(news, series, target, temporary, kept, revisions)
        crc32, newest_ms = _verified(temporary, series, kept.rows + rows, kept, begin_crc32)
        held = None
        # Again, after it was read: whoever replaces or deletes it meanwhile is noticed.
        if not (is_as_listed(known, before) and _is_same(before, status_of(target))):
            held = held_spans(temporary, series)
        status = temporary.stat()
        merged = FileEntry(
            path,
            series,
            kept.rows + rows,
            status.st_size,
            crc32,
            tuple(revisions),
            modified_ns=status.st_mtime_ns,
            # A rename changes neither of the two.
            inode=status.st_ino,
            newest_ms=newest_ms,
            held=held,
        )
        os.replace(temporary, target)  # noqa: PTH105 - the word that design and tests look for
    finally:
        # A failure to clean up must not hide the failure itself; the next start sweeps.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    sync_folder(scratch)
    return merged


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


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


def _like(series: Series) -> Footer:
    """How the footers of the series' files look."""
    empty = io.BytesIO()
    with _writer(empty, series):
        pass
    return Footer.from_bytes(footer_of(empty)[0])


def _write(
    news: Changes,
    series: Series,
    target: Path,
    temporary: Path,
    kept: CopiedPrefix,
    revisions: list[Revision],
) -> tuple[int, int]:
    """Writes what follows on what is kept; gives how many rows that is, and the CRC of what is."""
    rows = crc32 = 0
    with temporary.open("w+b") as file:
        sink = pa.PythonFile(file, "w")
        with _writer(sink, series) as writer:
            if kept.groups:
                # Past the writer, which asks the sink for the place of each thing it writes.
                crc32 = kept.copy(target, sink)
            for piece in _pieces(target, series, news, len(kept.groups), revisions):
                writer.write_table(piece, row_group_size=_ROWS_PER_GROUP)
                rows += piece.num_rows
        if kept.groups:
            join(file, kept)
        seal(file)
        sync_file(file)
    return rows, crc32


def _pieces(
    target: Path, series: Series, news: Changes, skipped: int, revisions: list[Revision]
) -> Iterator[pa.Table]:
    """The merged rows in order, but for row groups that are kept; others that the new rows leave
    alone come one by one.
    """
    touched = [news.replacing.slice(0, 0)]
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_parquet(target))
        except FileNotFoundError:
            file = None
        if file is not None:
            check_owner(file, target, series)
            for group in range(skipped, file.num_row_groups):
                piece = read_groups(file, [group], target).cast(schema(series))
                if not piece.num_rows:
                    continue
                full = piece.num_rows % _ROWS_PER_GROUP == 0
                if full and len(touched) == 1 and piece[BEGIN][-1].value < news.first_ms:
                    yield piece
                else:
                    touched.append(piece)
    held = pa.concat_tables(touched)
    for table, wins in ((news.filling, False), (news.replacing, True)):
        revisions += [
            Revision(series, old, new, Source.STREAM, wins) for old, new in differing(held, table)
        ]
        held = overlay(held, table if wins else without(table, held))
    yield held


def _verified(
    path: Path, series: Series, rows: int, kept: CopiedPrefix, begin_crc32: int
) -> tuple[int, int]:
    """Reads the written file back, all of it: what was kept against its CRC, and the rest page by
    page against theirs. Gives the CRC of the whole, and the newest candle's open time.
    """
    found, last_ms = kept.rows, kept.last_ms
    try:
        with open_parquet(path) as file:
            check_owner(file, path, series)
            for group in range(len(kept.groups), file.num_row_groups):
                begins = read_groups(file, [group], path)[BEGIN]
                if begins[0].value <= last_ms:
                    raise DamagedError(f"{path} does not hold its candles in order, each once")
                last_ms = begins[-1].value
                found += len(begins)
        crc32 = kept.crc32_of(path, begin_crc32)
    except DamagedError as error:
        # Not the old file's damage: what was just written did not arrive.
        raise DiskError(f"the disk does not give back what was written to it: {error}") from error
    if found != rows:
        raise DiskError(f"{path} holds {found} rows after {rows} were written")
    return crc32, last_ms
