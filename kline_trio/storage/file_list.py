"""The manifest: which files merges wrote, and how each was left. A table of the journal."""

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.ledger import Revision
from kline_trio.storage.names import disk_name, text_of

__all__ = [
    "FileEntry",
    "Totals",
    "is_as_listed",
    "listed_file",
    "listed_files",
    "merged_files",
    "newest_files",
    "put_file",
    "remove_file",
    "totals",
]

_NAMES = "path, trade_type, symbol, time_interval, rows, size_bytes, crc32"
_STATUS = "modified_ns, inode"
_FILES = f"SELECT {_NAMES} FROM file JOIN series ON id = series_id ORDER BY path"  # noqa: S608 - ours
_FILES_WITH_STATUS = f"""
SELECT {_NAMES}, {_STATUS} FROM file JOIN series ON id = series_id ORDER BY path
"""  # noqa: S608 - ours
_FILES_OF_SERIES = f"""
SELECT {_NAMES}, {_STATUS} FROM file JOIN series ON id = series_id
WHERE trade_type = ? AND symbol = ? AND time_interval = ? ORDER BY path
"""  # noqa: S608 - ours
_FEW = 100
"""Of so many series each is looked up by itself: the whole list can have 100,000 files."""
_FILE = f"""
SELECT {_NAMES}, {_STATUS} FROM file JOIN series ON id = series_id WHERE path = ?
"""  # noqa: S608 - ours
_NEWEST_FILES = f"""
SELECT max(path), {_NAMES}, {_STATUS} FROM file JOIN series ON id = series_id GROUP BY series_id
"""  # noqa: S608 - ours
"""Of the row with the greatest path (www.sqlite.org/lang_select.html, "Bare columns")."""
_TOTALS = "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(size_bytes), 0) FROM file"
_PUT = """
INSERT OR REPLACE INTO file (path, series_id, rows, size_bytes, crc32, modified_ns, inode)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""


@attrs.frozen
class FileEntry:
    """A candle file as a merge left it. Equal files have equal content, wherever they lie."""

    path: PurePosixPath
    """Relative to the store's folder."""
    series: Series
    rows: int
    size_bytes: int
    crc32: int
    """Of the whole file: a Parquet footer has no checksum that other programs look at."""
    revisions: tuple[Revision, ...] = ()
    """Rows of the file for which the merge had other values."""
    modified_ns: int | None = attrs.field(default=None, eq=False)
    """By the file system's clock. None: an earlier version wrote the entry, and nobody has opened
    the file since."""
    inode: int | None = attrs.field(default=None, eq=False)
    newest_ms: int | None = attrs.field(default=None, eq=False)
    """The open time of the newest candle, where a merge has just learned it; not in the journal."""
    held: tuple[Span, ...] | None = attrs.field(default=None, eq=False)
    """The candles in the file, if the file before it was not as the manifest says: candles may be
    lost then. None: nothing can be lost. Not in the journal."""

    @property
    def status(self) -> tuple[int | None, int | None]:
        """Modification time and inode: what tells two files of equal content apart."""
        return self.modified_ns, self.inode


@attrs.frozen
class Totals:
    """All files together."""

    files: int
    rows: int
    size_bytes: int


def is_as_listed(listed: FileEntry | None, status: os.stat_result | None) -> bool:
    """Return whether the file is the one that the manifest lists.

    An entry without a modification time proves by its size alone; `changed_files` completes such
    entries at the first start of this version.

    Args:
      listed: the manifest's entry; None: there is none.
      status: of the file; None: there is none.
    """
    if listed is None or status is None:
        return listed is None and status is None
    if listed.modified_ns is None:
        return listed.size_bytes == status.st_size
    found = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found == (listed.size_bytes, listed.modified_ns, listed.inode)


def merged_files(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> tuple[FileEntry, ...]:
    """Return what merges wrote, by path, without status: for any version that has the table."""
    return tuple(_among(connection.execute(_FILES), among))


def listed_files(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> tuple[FileEntry, ...]:
    """Return what merges wrote, by path, as a connection to a present journal sees it."""
    if among is None or len(among) > _FEW:
        return tuple(_among(connection.execute(_FILES_WITH_STATUS), among))
    found = [
        _merged(one, row)
        for one in among
        for row in connection.execute(
            _FILES_OF_SERIES, [one.trade_type, one.symbol, one.time_interval]
        )
    ]
    return tuple(sorted(found, key=lambda file: text_of(file.path)))


def _among(
    rows: Iterable[tuple[Any, ...]], among: Collection[Series] | None
) -> Iterator[FileEntry]:
    for row in rows:
        series = Series(*row[1:4])
        if among is None or series in among:
            yield _merged(series, row)


def _merged(series: Series, row: Sequence[Any]) -> FileEntry:
    path, _, _, _, rows, size_bytes, crc32, *status = row
    modified_ns, inode = status or (None, None)
    return FileEntry(
        PurePosixPath(disk_name(path)),
        series,
        rows,
        size_bytes,
        crc32,
        modified_ns=modified_ns,
        inode=inode,
    )


def listed_file(connection: sqlite3.Connection, path: PurePosixPath) -> FileEntry | None:
    """Return the entry of a path; None if there is none."""
    row = connection.execute(_FILE, [text_of(path)]).fetchone()
    return None if row is None else _merged(Series(*row[1:4]), row)


def newest_files(connection: sqlite3.Connection) -> dict[Series, FileEntry]:
    """Return of each series the file with the newest candles: its path is the last."""
    return {
        (series := Series(*row[1:4])): _merged(series, row)
        for _, *row in connection.execute(_NEWEST_FILES)
    }


def put_file(connection: sqlite3.Connection, series_id: int, file: FileEntry) -> None:
    """Write an entry, in the place of an older one of the path."""
    values = (file.rows, file.size_bytes, file.crc32, file.modified_ns, file.inode)
    connection.execute(_PUT, [text_of(file.path), series_id, *values])


def remove_file(connection: sqlite3.Connection, path: PurePosixPath) -> None:
    """Remove the entry of a path."""
    connection.execute("DELETE FROM file WHERE path = ?", [text_of(path)])


def totals(connection: sqlite3.Connection) -> Totals:
    """What all files are together."""
    return Totals(*connection.execute(_TOTALS).fetchone())
