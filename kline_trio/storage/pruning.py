"""Remove months from the files of a store that were read back from the lake.

The journal has the months already, so a kill at any step loses nothing: what was not removed is
read back again the next time. Only what is exactly as it was read back is removed. No merge may run
meanwhile; readers may.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.errors import DamagedError, DiskFullError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.catalog import files_named_after, open_files, stored
from kline_trio.storage.disk import disk_errors, sync_folder
from kline_trio.storage.files import begins_ms, open_parquet, read_groups, span_of, status_of
from kline_trio.storage.journal.manifest import FileEntry, WrittenFiles
from kline_trio.storage.layout import Layout
from kline_trio.storage.parquet import write_file
from kline_trio.storage.paths import scratch
from kline_trio.storage.table import BEGIN, schema, values_of

MOST_ROWS = 100_000
"""In memory at once: 20 MB."""


@attrs.frozen
class ReadBack:
    """What a store has of a month, all of which was read back from the lake."""

    span: Span
    rows: int
    checksum: str


@attrs.frozen
class PrunedFiles:
    """What was done to the files of a series, for `Journal.list_pruned`."""

    written: tuple[FileEntry, ...] = ()
    """Files without the months."""
    removed: tuple[FileEntry, ...] = ()
    """The entries of files that are gone, as the manifest has them."""
    rows: int = 0
    """How many candles were removed."""
    freed_bytes: int = 0
    problem: str | None = None
    """Why the other files stay as they were; None: nothing went wrong."""


@attrs.define(eq=False)
class CandleChecksum:
    """The checksum of candles by open time, however they are cut into tables."""

    rows: int = attrs.field(init=False, default=0)
    _hash: "hashlib.blake2b" = attrs.field(
        init=False, factory=lambda: hashlib.blake2b(digest_size=16)
    )

    def add(self, table: pa.Table) -> None:
        """Add the next rows, with the columns of a series' files."""
        if table.num_rows:
            columns = [values_of(column).view(np.int64) for column in table.columns]
            self._hash.update(np.column_stack(columns).astype("<i8").tobytes())
            self.rows += table.num_rows

    @property
    def text(self) -> str:
        """The checksum of all rows so far."""
        return self._hash.hexdigest()


def slices(series: Series, span: Span, most_rows: int = MOST_ROWS) -> Iterator[Span]:
    """Give the parts of a span that have so many candles each, by time."""
    duration_ms = series.interval.duration_ms
    if duration_ms is None:
        yield span
        return
    step_ms = most_rows * duration_ms
    for from_ms in range(span.from_ms, span.to_ms, step_ms):
        yield Span(from_ms, min(span.to_ms, from_ms + step_ms))


@attrs.frozen
class Pruning:
    """The months of a series that are removed from its files."""

    store_path: Path
    layout: Layout
    series: Series
    months: Sequence[ReadBack]
    listed: Mapping[PurePosixPath, FileEntry]
    """The manifest's entries of the series."""

    def remove(self, written: WrittenFiles) -> PrunedFiles:
        """Remove the months that are as they were read back; leave the others.

        If a file is not in the manifest yet, leave everything: the next pruning finds it there.

        Args:
          written: of the journal; a file that is written anew is added.

        Raises:
          DamagedError: a file cannot be read. Nothing was removed.
          DiskError: the disk refused.
        """
        spans = self._spans()
        for path in spans:
            if written.newest(self._place(path), status_of(path)) is not None:
                return PrunedFiles()
        gone = joined(month.span for month in self.months if self._is_as_read(month, spans))
        done = PrunedFiles()
        for path, span in spans.items():
            if self._is_ours(path) and any(span.common_with(one) for one in gone):
                try:
                    with disk_errors(path):
                        done = _sum(done, self._without(path, gone, written))
                except (DamagedError, DiskFullError) as error:
                    # The journal has to list the files before this one as they are now.
                    return attrs.evolve(done, problem=str(error))
        return done

    def _spans(self) -> dict[Path, Span]:
        """Return the files with candles of the series, each with their time."""
        found = {}
        for path, owner, file in open_files(files_named_after(self.store_path, [self.series])):
            if owner == self.series and (span := span_of(file)) is not None:
                found[path] = span
        return found

    def _place(self, path: Path) -> PurePosixPath:
        return PurePosixPath(path.relative_to(self.store_path))

    def _is_ours(self, path: Path) -> bool:
        """Whether a recorder wrote the file: a copy that somebody put beside it stays."""
        place = self._place(path)
        return place in self.listed or self.layout.place(self.series, place) is not None

    def _is_as_read(self, month: ReadBack, spans: Mapping[Path, Span]) -> bool:
        paths = [path for path, span in spans.items() if span.common_with(month.span)]
        found = CandleChecksum()
        for part in slices(self.series, month.span):
            look = stored(self.store_path, [self.series], part.from_ms, part.to_ms, paths=paths)[
                self.series
            ]
            if look is not None:
                found.add(look.table())
        return found.rows > 0 and (found.rows, found.text) == (month.rows, month.checksum)

    def _without(self, path: Path, gone: Sequence[Span], written: WrittenFiles) -> PrunedFiles:
        """Write a file anew without some candles, or remove it if it has no others."""
        place = self._place(path)
        listed, size_bytes = self.listed.get(place), path.stat().st_size
        with open_parquet(path) as file:
            rows, kept = file.metadata.num_rows, self._rows_kept(file, path, gone)
            if kept == rows:
                return PrunedFiles()
            if kept:
                pieces = self._pieces(file, path, gone)
                entry = write_file(
                    self.series, place, pieces, self.store_path, scratch(self.store_path)
                )
                written.add(entry, None)
                return PrunedFiles((entry,), (), rows - kept, size_bytes - entry.size_bytes)
        path.unlink()
        sync_folder(path.parent)
        return PrunedFiles((), (listed,) if listed else (), rows, size_bytes)

    def _rows_kept(self, file: pq.ParquetFile, path: Path, gone: Sequence[Span]) -> int:
        every = (begins_ms(file, group, path) for group in range(file.num_row_groups))
        return sum(int(np.count_nonzero(_outside(begins, gone))) for begins in every)

    def _pieces(self, file: pq.ParquetFile, path: Path, gone: Sequence[Span]) -> Iterator[pa.Table]:
        for group in range(file.num_row_groups):
            piece = read_groups(file, [group], path).cast(schema(self.series))
            keep = _outside(values_of(piece[BEGIN]), gone)
            yield piece if keep.all() else piece.filter(pa.array(keep))


def _outside(begins: npt.NDArray[np.int64], gone: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Return which open times are in none of the spans."""
    keep = np.ones(len(begins), np.bool_)
    for span in gone:
        keep &= (begins < span.from_ms) | (begins >= span.to_ms)
    return keep


def _sum(one: PrunedFiles, other: PrunedFiles) -> PrunedFiles:
    return PrunedFiles(
        one.written + other.written,
        one.removed + other.removed,
        one.rows + other.rows,
        one.freed_bytes + other.freed_bytes,
    )
