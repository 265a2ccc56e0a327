"""What is stored of a series as one table: the journal and the files seen as one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_trio.candle import Candle, Series, Source
from kline_trio.errors import DamagedError
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.files import bounds_ms, read_groups
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.ledger import Revision
from kline_trio.storage.names import text_of
from kline_trio.storage.table import (
    BEGIN,
    differing,
    empty_table,
    overlay,
    schema,
    table_of,
    without,
)

__all__ = ["EARLIEST_MS", "LATEST_MS", "Stored", "stored", "stored_table", "stored_tables"]

EARLIEST_MS, LATEST_MS = -(2**63), 2**63 - 1


@attrs.frozen
class Stored:
    """What one look found of a series, in the files and in the journal."""

    series: Series
    filed: pa.Table
    """The files' rows by begin."""
    filling: pa.Table
    """The journal's rows that only fill what the files lack, as REST's."""
    replacing: pa.Table
    """The journal's rows that win over the files', as the stream's."""
    origins: Mapping[int, Source]
    """Of the journal's rows, by open time."""

    def table(self) -> pa.Table:
        """Return the rows as the merge of what waits will leave them."""
        # If REST's value won over the file's here, readers would see it until the merge.
        filled = overlay(self.filed, without(self.filling, self.filed))
        return overlay(filled, self.replacing)

    def revisions(self) -> list[Revision]:
        """Return what the merge of what waits will note: values that differ from the files'."""
        return [
            Revision(self.series, old, new, self.origins[new.open_time_ms], is_newer_kept)
            for news, is_newer_kept in ((self.filling, False), (self.replacing, True))
            for old, new in differing(self.filed, news)
        ]


def stored_table(
    store_path: Path, wanted: Series, start_ms: int = EARLIEST_MS, end_ms: int = LATEST_MS
) -> pa.Table | None:
    """The rows by begin; None if no file is of this series and the journal has no row to give.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    found = stored(store_path, [wanted], start_ms, end_ms)[wanted]
    return None if found is None else found.table()


def stored_tables(
    store_path: Path,
    wanted: Collection[Series],
    start_ms: int = EARLIEST_MS,
    end_ms: int = LATEST_MS,
) -> dict[Series, pa.Table | None]:
    """The same of several series, for which the store is looked through once.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    found = stored(store_path, wanted, start_ms, end_ms)
    return {one: None if what is None else what.table() for one, what in found.items()}


def stored(
    store_path: Path,
    wanted: Collection[Series],
    start_ms: int = EARLIEST_MS,
    end_ms: int = LATEST_MS,
    on_damage: Callable[[Path, DamagedError], None] | None = None,
) -> dict[Series, Stored | None]:
    """Look the store through once for these series, in the files and in the journal.

    Args:
      store_path: the store's folder.
      wanted: the series.
      start_ms: the first open time.
      end_ms: the end of the open times, exclusive.
      on_damage: told of each file that cannot be opened, which is passed over; None: it raises.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    # The journal first: a candle leaves it only after the file that holds it is in place. So one
    # that this look misses is in the files by now; files first would lose what is merged between.
    with journal_view(store_path) as journal:
        waiting = {one: journal.candles(one, start_ms, end_ms) for one in wanted}
    pieces: dict[Series, list[pa.Table]] = {one: [] for one in wanted}
    for path, owner, file in open_files(_candidates(store_path, wanted), on_damage):
        if owner in pieces:
            pieces[owner].append(_rows(file, path, start_ms, end_ms).cast(schema(owner)))
    return {one: _stored(one, pieces[one], waiting[one]) for one in wanted}


def _stored(
    series: Series, pieces: list[pa.Table], waiting: Sequence[tuple[Candle, Source]]
) -> Stored | None:
    if not pieces and not waiting:
        return None
    # Two files hold the same candle only after a change of layout; what begins later is newer.
    filed = empty_table(series)
    for piece in sorted(filter(len, pieces), key=lambda piece: piece[BEGIN][0].value):
        filed = overlay(filed, piece)
    return Stored(
        series,
        filed,
        table_of(series, [candle for candle, origin in waiting if not origin.replaces]),
        table_of(series, [candle for candle, origin in waiting if origin.replaces]),
        {candle.open_time_ms: origin for candle, origin in waiting},
    )


def _candidates(store_path: Path, wanted: Collection[Series]) -> list[Path]:
    """The files that may hold these, by their names: each name of a series is in its path."""
    found = []
    few = {(one.trade_type, one.interval.file_name) for one in wanted}
    [symbol] = [one.symbol for one in wanted] if len(wanted) == 1 else [""]
    for path in candle_files(store_path):
        name = text_of(path.relative_to(store_path))
        if symbol in name and any(kind in name and interval in name for kind, interval in few):
            found.append(path)
    return found


def _rows(file: pq.ParquetFile, path: Path, start_ms: int, end_ms: int) -> pa.Table:
    groups = []
    for group in range(file.num_row_groups):
        first_ms, last_ms = bounds_ms(file, group, BEGIN)
        if first_ms < end_ms and last_ms >= start_ms:
            groups.append(group)
    if not groups:
        return file.schema_arrow.empty_table()
    table = read_groups(file, groups, path)
    begins = table[BEGIN].cast(pa.int64())
    # Sorted: what is wanted is one stretch, and a slice copies nothing.
    first = _count_before(begins, start_ms)
    return table.slice(first, _count_before(begins, end_ms) - first)


def _count_before(begins: "pa.ChunkedArray[Any]", moment_ms: int) -> int:
    before: Any = pc.less(begins, pa.scalar(moment_ms, pa.int64()))
    return int(pc.sum(before, min_count=0).as_py())
