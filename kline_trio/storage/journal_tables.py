"""Opening the journal's file: its tables, the steps between versions, and a look through it."""

import contextlib
import sqlite3
from pathlib import Path

import attrs

from kline_trio.candle import MAX_TIME_MS, Candle, Series
from kline_trio.errors import ConfigError, DamagedError, DiskError
from kline_trio.storage.held import JournalFile
from kline_trio.storage.ledger import LEDGER_TABLES, QUEUE_TABLES

__all__ = ["JOURNAL_VERSION", "check_version", "open_tables"]

JOURNAL_VERSION = 4
"""Of the tables that `_STEPS` lead to, in the file's `user_version`; 0 is a file without tables."""

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
_STEPS = (_FIRST_TABLES, _FILES_AND_LAYOUT, LEDGER_TABLES, QUEUE_TABLES)
"""The n-th leads from version n to the next; a step once released is never changed."""

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
PRAGMA cache_size = -4096;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = 67108864;
"""
"""Only macOS knows fullfsync: there a plain fsync leaves the bytes in the drive's own memory.
The cache is in KiB, the checkpoint in pages of 4 KiB, the limit (of a WAL that grew) in bytes."""


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


def open_tables(path: Path) -> tuple[JournalFile, sqlite3.Connection, dict[Series, int]]:
    """The file, made and brought forward where needed, a connection to it, and the series' ids.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DamagedError: its content is not what was written.
      DiskError: the file system cannot hold a WAL.
      sqlite3.Error: the disk refused.
    """
    with contextlib.ExitStack() as undo:
        # Opened before SQLite opens it, and closed after.
        file = undo.enter_context(contextlib.closing(JournalFile.open(path)))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(connection.close)
        _prepare(connection, path)
        ids = _looked_through(connection, path)
        undo.pop_all()
    file.note()
    return file, connection, ids


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
