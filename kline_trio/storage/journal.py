"""Accepted candles that are not yet in a Parquet file: durable once `accept` returns."""

import contextlib
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series
from kline_trio.errors import ConfigError, DamagedError, DiskError

__all__ = [
    "CANDLE_COLUMNS",
    "JOURNAL_VERSION",
    "Journal",
    "MergedFile",
    "PendingCandle",
    "PendingSeries",
    "check_version",
    "merged_files",
]

JOURNAL_VERSION = 2
"""Of the tables that `_STEPS` lead to, in the file's `user_version`; 0 is a file without tables."""

_FIELDS = tuple(field.name for field in attrs.fields(Candle))
_values_of = operator.attrgetter(*_FIELDS)

CANDLE_COLUMNS = ", ".join(_FIELDS)
"""A candle's columns, in the order of `Candle`'s fields."""

# A REAL column gives back every float but -0.0 bit for bit, and no candle holds that one.
# Ids keep the wide rows free of texts. No STRICT tables: SQLite below 3.37 is still around.
_FIRST_TABLES = """
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  trade_type TEXT NOT NULL,
  symbol TEXT NOT NULL,
  time_interval TEXT NOT NULL,
  UNIQUE (trade_type, symbol, time_interval)
);
CREATE TABLE candle (
  series_id INTEGER NOT NULL REFERENCES series (id),
  sequence INTEGER NOT NULL,
  open_time_ms INTEGER NOT NULL,
  open REAL NOT NULL,
  high REAL NOT NULL,
  low REAL NOT NULL,
  close REAL NOT NULL,
  volume REAL NOT NULL,
  quote_volume REAL NOT NULL,
  trade_num INTEGER NOT NULL,
  taker_buy_base_asset_volume REAL NOT NULL,
  taker_buy_quote_asset_volume REAL NOT NULL,
  PRIMARY KEY (series_id, open_time_ms)
) WITHOUT ROWID;
CREATE TABLE state (last_sequence INTEGER NOT NULL);
INSERT INTO state VALUES (0);
"""
_FILES_AND_LAYOUT = """
CREATE TABLE file (
  path TEXT PRIMARY KEY,
  series_id INTEGER NOT NULL REFERENCES series (id),
  rows INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  crc32 INTEGER NOT NULL
) WITHOUT ROWID;
ALTER TABLE state ADD COLUMN layout TEXT;
"""
_STEPS = (_FIRST_TABLES, _FILES_AND_LAYOUT)
"""The n-th leads from version n to the next; a step once released is never changed."""

_ACCEPT = (
    f"INSERT OR REPLACE INTO candle (series_id, sequence, {CANDLE_COLUMNS})"  # noqa: S608 - ours
    f" VALUES (?, ?{', ?' * len(_FIELDS)})"
)
_TAKE = (
    f"SELECT sequence, {CANDLE_COLUMNS} FROM candle"  # noqa: S608 - ours
    " WHERE series_id = ? ORDER BY open_time_ms"
)
_PENDING = """
SELECT trade_type, symbol, time_interval, rows, first_ms, last_ms FROM (
  SELECT series_id, count(*) AS rows, min(open_time_ms) AS first_ms, max(open_time_ms) AS last_ms
  FROM candle GROUP BY series_id
) JOIN series ON id = series_id ORDER BY id
"""
_FILES = """
SELECT path, trade_type, symbol, time_interval, rows, size_bytes, crc32
FROM file JOIN series ON id = series_id ORDER BY path
"""
_FORGET = "DELETE FROM candle WHERE series_id = ? AND open_time_ms = ? AND sequence = ?"

_NONSENSE = (
    f"SELECT 1 FROM candle WHERE open_time_ms NOT BETWEEN 0 AND {MAX_TIME_MS}"  # noqa: S608 - ours
    + "".join(
        f" OR typeof({field.name}) != '{'integer' if field.type is int else 'real'}'"
        for field in attrs.fields(Candle)
    )
)

_SETTINGS = """
PRAGMA synchronous = FULL;
PRAGMA fullfsync = 1;
PRAGMA checkpoint_fullfsync = 1;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = 67108864;
"""
"""Only macOS knows fullfsync: there a plain fsync leaves the bytes in the drive's own memory.
The cache is in KiB, the checkpoint in pages of 4 KiB, the limit (of a WAL that grew) in bytes."""


@attrs.frozen
class PendingCandle:
    """A candle in the journal."""

    sequence: int
    """Grows with every acceptance, so it tells a revision from what it revises."""
    candle: Candle


@attrs.frozen
class PendingSeries:
    """What the journal holds of one series."""

    series: Series
    rows: int
    first_open_time_ms: int
    """Inclusive."""
    last_open_time_ms: int
    """Inclusive."""


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


def merged_files(connection: sqlite3.Connection) -> tuple[MergedFile, ...]:
    """What merges wrote, by path, as a connection to a journal of the present version sees it."""
    return tuple(
        MergedFile(PurePosixPath(path), Series(*names), rows, size_bytes, crc32)
        for path, *names, rows, size_bytes, crc32 in connection.execute(_FILES)
    )


def check_version(path: Path, version: int) -> None:
    """Refuses the tables of a later kline_trio.

    Raises:
      ConfigError: this kline_trio is too old for the journal.
    """
    if version > JOURNAL_VERSION:
        problem = (
            f"{path} was written by a newer kline_trio (journal version {version}, this one"
            f" knows {JOURNAL_VERSION}): upgrade kline_trio"
        )
        raise ConfigError([problem])


@attrs.define(eq=False)
class Journal:
    """The one writing connection to the journal's file.

    Its methods may be called from any thread, but only from one at a time.
    """

    _connection: sqlite3.Connection
    _ids: dict[Series, int]

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Opens the file, or makes it; its content is checked and its WAL folded in.

        Raises:
          ConfigError: a newer kline_trio wrote it.
          DamagedError: its content is not what was written.
          DiskError: the file system cannot hold a WAL.
          sqlite3.Error: the disk refused.
        """
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
            ids = _looked_through(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(connection, ids)

    def accept(self, received: Sequence[ReceivedCandle]) -> None:
        """Commits the candles in one transaction; the last of equal series and open time wins.

        Raises:
          sqlite3.Error: nothing was accepted.
        """
        with self._transaction():
            [last] = self._connection.execute("SELECT last_sequence FROM state").fetchone()
            self._connection.executemany(
                _ACCEPT,
                [
                    (self._id(item.series), sequence, *_values_of(item.candle))
                    for sequence, item in enumerate(received, last + 1)
                ],
            )
            self._connection.execute("UPDATE state SET last_sequence = ?", [last + len(received)])

    def pending(self) -> tuple[PendingSeries, ...]:
        """What waits for a merge, by series."""
        return tuple(
            PendingSeries(Series(trade_type, symbol, time_interval), rows, first_ms, last_ms)
            for trade_type, symbol, time_interval, rows, first_ms, last_ms in (
                self._connection.execute(_PENDING)
            )
        )

    def take(self, series: Series) -> tuple[PendingCandle, ...]:
        """The series' waiting candles by open time; they stay until `forget`."""
        rows = self._connection.execute(_TAKE, [self._ids.get(series)])
        return tuple(PendingCandle(sequence, Candle(*values)) for sequence, *values in rows)

    def forget(self, merged: MergedFile, taken: Iterable[PendingCandle]) -> None:
        """Removes exactly these candles of the file's series, and keeps what the file is now.

        A revision accepted after `take` has another sequence and stays.

        Raises:
          sqlite3.Error: nothing was removed.
        """
        with self._transaction():
            series_id = self._id(merged.series)
            self._connection.executemany(
                _FORGET,
                [(series_id, item.candle.open_time_ms, item.sequence) for item in taken],
            )
            self._connection.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)",
                [str(merged.path), series_id, merged.rows, merged.size_bytes, merged.crc32],
            )

    def files(self) -> tuple[MergedFile, ...]:
        """What merges wrote, by path."""
        return merged_files(self._connection)

    def layout(self) -> str | None:
        """The template by which the store's files are named; None if it is not known."""
        [layout] = self._connection.execute("SELECT layout FROM state").fetchone()
        return None if layout is None else str(layout)

    def remember_layout(self, template: str) -> None:
        """Keeps the template by which the store's files are named.

        Raises:
          sqlite3.Error: it was not kept.
        """
        with self._transaction():
            self._connection.execute("UPDATE state SET layout = ?", [template])

    def rows(self) -> int:
        """How many candles wait."""
        [rows] = self._connection.execute("SELECT count(*) FROM candle").fetchone()
        return int(rows)

    def fold_in(self) -> None:
        """Leaves nothing in the WAL: after it the file alone is the journal.

        Raises:
          sqlite3.Error: some of it still is in the WAL alone.
        """
        [busy, *_] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another program is at the journal")

    def close(self) -> None:
        """Closes the file; SQLite folds the WAL in, and removes it, if no reader is at it."""
        self._connection.close()

    def _id(self, series: Series) -> int:
        known = self._ids.get(series)
        if known is None:
            names = (series.trade_type, series.symbol, series.time_interval)
            known = self._connection.execute(
                "INSERT INTO series (trade_type, symbol, time_interval) VALUES (?, ?, ?)", names
            ).lastrowid
            assert known is not None
            self._ids[series] = known
        return known

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a lock that cannot be had fails here, before any work.
        self._connection.execute("BEGIN IMMEDIATE")
        known = dict(self._ids)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A transaction rolled back takes its ids along.
            self._ids = known
            # After some errors, as a full disk, SQLite has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _looked_through(connection: sqlite3.Connection, path: Path) -> dict[Series, int]:
    """The series' ids. SQLite's pages have no checksums, so what can be told from nonsense is."""
    try:
        rows = connection.execute("SELECT trade_type, symbol, time_interval, id FROM series")
        ids = {Series(*names): series_id for *names, series_id in rows}
        if connection.execute(_NONSENSE).fetchone():
            raise ValueError("a candle whose numbers are none")
        if connection.execute("SELECT count(*) FROM state").fetchone() != (1,):
            raise ValueError("it does not know its last sequence number")
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    return ids


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    check_version(path, version)
    [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(f"{path} is damaged: {verdict}")
    [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DiskError(f"{path} is on a file system that cannot hold SQLite's WAL")
    connection.executescript(_SETTINGS)
    for step in _STEPS[version:]:
        version += 1
        connection.executescript(
            f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {version}; COMMIT;"
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
