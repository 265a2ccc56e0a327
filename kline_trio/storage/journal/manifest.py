"""The manifest: which files merges wrote, and how each was left. A table of the journal.

A merge and an archive fill may write the same file one after the other, and reach the journal in
the other order. `WrittenFiles` keeps the files that are not in the manifest yet: only the newest
file may become the manifest's entry, and the rows of an older one count only if the newer file was
made of it.
"""

import enum
import os
import sqlite3
import threading
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.names import disk_name, text_of

_COLUMNS = "trade_type, symbol, time_interval, path, rows, size_bytes, crc32, modified_ns, inode"
_FROM = "FROM file JOIN series ON id = series_id"
_FILES = f"SELECT {_COLUMNS} {_FROM} ORDER BY path"
_FILES_OF_SERIES = f"""
SELECT {_COLUMNS} {_FROM} WHERE trade_type = ? AND symbol = ? AND time_interval = ? ORDER BY path
"""
_FEW = 100
"""Look up so many series one by one: the whole list can have 100,000 files."""
_FILE = f"SELECT {_COLUMNS} {_FROM} WHERE path = ?"
_NEWEST_FILES = f"SELECT {_COLUMNS}, max(path) {_FROM} GROUP BY series_id"
"""All columns are of the row with the greatest path (www.sqlite.org/lang_select.html, "Bare
columns")."""
_TOTALS = "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(size_bytes), 0) FROM file"
_PUT = """
INSERT OR REPLACE INTO file (path, series_id, rows, size_bytes, crc32, modified_ns, inode)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_MOST_OLDER = 16
"""More than jobs that write at the same time; older files were given up, as after a full disk."""


@attrs.frozen
class FileEntry:
    """A candle file as a merge left it. Equal entries mean equal content."""

    path: PurePosixPath
    """Relative to the store's folder."""
    series: Series
    rows: int
    size_bytes: int
    crc32: int
    """Of the whole file: a Parquet footer has no checksum that other programs check."""
    revisions: tuple[Revision, ...] = ()
    """Rows of the file for which the merge had other values."""
    modified_ns: int | None = attrs.field(default=None, eq=False)
    """By the file system's clock. None: an earlier version wrote the entry, and the file was not
    opened since."""
    inode: int | None = attrs.field(default=None, eq=False)
    newest_ms: int | None = attrs.field(default=None, eq=False)
    """The open time of the newest candle, if a merge has just read it; not in the journal."""
    held: tuple[Span, ...] | None = attrs.field(default=None, eq=False)
    """The candles in the file, if the file before it was not as listed: candles may be lost then.
    None: nothing can be lost. Not in the journal."""

    @property
    def status(self) -> tuple[int | None, int | None]:
        """Modification time and inode: what tells two files of equal content apart."""
        return self.modified_ns, self.inode


@attrs.frozen
class Totals:
    """Sums over all files."""

    files: int
    rows: int
    size_bytes: int


def is_as_listed(listed: FileEntry | None, status: os.stat_result | None) -> bool:
    """Return whether the file is the one that the manifest lists.

    For an entry without a modification time, compare the size alone; `changed_files` completes such
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


def listed_files(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> tuple[FileEntry, ...]:
    """Return the manifest's entries of all series, or of some, by path."""
    if among is None or len(among) > _FEW:
        every = map(_entry, connection.execute(_FILES))
        return tuple(one for one in every if among is None or one.series in among)
    found = [
        _entry(row)
        for one in among
        for row in connection.execute(_FILES_OF_SERIES, attrs.astuple(one))
    ]
    return tuple(sorted(found, key=lambda file: text_of(file.path)))


def _entry(row: Sequence[Any]) -> FileEntry:
    trade_type, symbol, time_interval, path, rows, size_bytes, crc32, modified_ns, inode = row
    return FileEntry(
        PurePosixPath(disk_name(path)),
        Series(trade_type, symbol, time_interval),
        rows,
        size_bytes,
        crc32,
        modified_ns=modified_ns,
        inode=inode,
    )


def listed_file(connection: sqlite3.Connection, path: PurePosixPath) -> FileEntry | None:
    """Return the entry of a path; None if there is none."""
    row = connection.execute(_FILE, [text_of(path)]).fetchone()
    return None if row is None else _entry(row)


def newest_files(connection: sqlite3.Connection) -> dict[Series, FileEntry]:
    """Return each series' file with the newest candles: the file with the greatest path."""
    entries = (_entry(row[:-1]) for row in connection.execute(_NEWEST_FILES))
    return {entry.series: entry for entry in entries}


def put_file(connection: sqlite3.Connection, series_id: int, file: FileEntry) -> None:
    """Insert an entry, or replace the older one of the path."""
    values = (file.rows, file.size_bytes, file.crc32, file.modified_ns, file.inode)
    connection.execute(_PUT, [text_of(file.path), series_id, *values])


def remove_file(connection: sqlite3.Connection, path: PurePosixPath) -> None:
    """Remove the entry of a path."""
    connection.execute("DELETE FROM file WHERE path = ?", [text_of(path)])


def totals(connection: sqlite3.Connection) -> Totals:
    """Return the sums over all files."""
    return Totals(*connection.execute(_TOTALS).fetchone())


class Standing(enum.Enum):
    """The state of a written file when it reaches the journal."""

    NEWEST = "newest"
    """It is the file at its path."""
    CONTINUED = "continued"
    """A newer file was made of it, and has all its candles."""
    VOID = "void"
    """A newer file was made of something else."""


@attrs.define(eq=False)
class _Chain:
    newest: FileEntry
    older: list[FileEntry]
    """Each was made of the one before, and the newest of the last; none is in the manifest yet."""
    is_newest_kept: bool = False


@attrs.define(eq=False)
class WrittenFiles:
    """Written files by path, for a thread that writes files and one that lists them."""

    _chains: dict[PurePosixPath, _Chain] = attrs.field(init=False, factory=dict)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def newest(self, path: PurePosixPath, now: os.stat_result | None) -> FileEntry | None:
        """Return the file written last at a path; None: it is in the manifest, or was replaced.

        Args:
          path: relative to the store's folder.
          now: the status of the file at the path now.
        """
        with self._lock:
            chain = self._chains.get(path)
            return chain.newest if chain and is_as_listed(chain.newest, now) else None

    def add(self, merged: FileEntry, made_of: FileEntry | None) -> None:
        """Add a file that was just written.

        Args:
          merged: the file.
          made_of: the result of `newest` before; None: there was none, or it was not used.
        """
        with self._lock:
            older: list[FileEntry] = []
            chain = self._chains.get(merged.path)
            if chain is not None and chain.newest is made_of:
                older = chain.older if chain.is_newest_kept else [*chain.older, chain.newest]
            self._chains[merged.path] = _Chain(merged, older[-_MOST_OLDER:])

    def standing(self, merged: FileEntry) -> Standing:
        """Return the state of a file."""
        with self._lock:
            chain = self._chains.get(merged.path)
            if chain is not None and chain.newest is merged:
                return Standing.NEWEST
            is_older = chain is not None and any(one is merged for one in chain.older)
            return Standing.CONTINUED if is_older else Standing.VOID

    def kept(self, merged: FileEntry) -> None:
        """Drop a file: the journal has committed its entry and its candles."""
        with self._lock:
            chain = self._chains.get(merged.path)
            if chain is None:
                return
            if chain.newest is merged:
                chain.is_newest_kept = True
            chain.older = [one for one in chain.older if one is not merged]
            if chain.is_newest_kept and not chain.older:
                del self._chains[merged.path]
