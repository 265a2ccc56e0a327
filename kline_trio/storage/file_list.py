"""Which files merges wrote: a table of the journal."""

import sqlite3
from collections.abc import Collection
from pathlib import PurePosixPath

import attrs

from kline_trio.candle import Series
from kline_trio.storage.ledger import Revision

__all__ = ["MergedFile", "Totals", "merged_files", "newest_files", "totals"]

_FILES = """
SELECT path, trade_type, symbol, time_interval, rows, size_bytes, crc32
FROM file JOIN series ON id = series_id ORDER BY path
"""
_NEWEST_FILES = """
SELECT max(path), trade_type, symbol, time_interval, rows, size_bytes, crc32
FROM file JOIN series ON id = series_id GROUP BY series_id
"""
"""Of the row with the greatest path (www.sqlite.org/lang_select.html, "Bare columns")."""
_TOTALS = "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(size_bytes), 0) FROM file"


@attrs.frozen
class MergedFile:
    """A candle file as a merge left it."""

    path: PurePosixPath
    """Relative to the store's folder."""
    series: Series
    rows: int
    size_bytes: int
    crc32: int
    """Of the whole file: a Parquet footer has no checksum that other programs look at."""
    revisions: tuple[Revision, ...] = ()
    """Rows of the file for which the merge had other values."""
    replaces_damaged: bool = False
    """What was there could not be read: what it held is absent."""


@attrs.frozen
class Totals:
    """All files together."""

    files: int
    rows: int
    size_bytes: int


def merged_files(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> tuple[MergedFile, ...]:
    """What merges wrote, by path, as a connection to a journal of the present version sees it."""
    return tuple(
        MergedFile(PurePosixPath(row[0]), series, *row[4:])
        for row in connection.execute(_FILES)
        if (series := Series(*row[1:4])) and (among is None or series in among)
    )


def newest_files(connection: sqlite3.Connection) -> dict[Series, MergedFile]:
    """Of each series the file whose path is the last."""
    return {
        (series := Series(*row[1:4])): MergedFile(PurePosixPath(row[0]), series, *row[4:])
        for row in connection.execute(_NEWEST_FILES)
    }


def totals(connection: sqlite3.Connection) -> Totals:
    """What all files are together."""
    return Totals(*connection.execute(_TOTALS).fetchone())
