"""The journal's tables: their columns, the migrations between versions, and the checks at opening.

Ids of series keep the wide rows free of texts.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs

from kline_trio.candle import MAX_TIME_MS, Candle, Series
from kline_trio.errors import ConfigError, DamagedError, DiskError
from kline_trio.storage.held import JournalFile

JOURNAL_VERSION = 6
"""The file's `user_version` after all `_STEPS`; 0: a file without tables."""

VALUE_COLUMNS = tuple(field.name for field in attrs.fields(Candle))[1:]
"""A candle's columns without its open time."""
REVISION_COLUMNS = tuple(f"{age}_{name}" for age in ("older", "newer") for name in VALUE_COLUMNS)
"""The columns for both values of a revision."""

# A REAL column gives back every float but -0.0 bit for bit, and no candle holds -0.0.
# No STRICT tables: SQLite below 3.37 is still around.
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
_GAPS_AND_REVISIONS = f"""
ALTER TABLE series ADD COLUMN first_ms INTEGER;
ALTER TABLE series ADD COLUMN watermark_ms INTEGER;
ALTER TABLE series ADD COLUMN retired_ms INTEGER;
ALTER TABLE candle ADD COLUMN origin TEXT NOT NULL DEFAULT 'stream';
CREATE TABLE absence (
  series_id INTEGER NOT NULL REFERENCES series (id),
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  state TEXT NOT NULL,
  asked INTEGER NOT NULL,
  filled_by TEXT,
  PRIMARY KEY (series_id, from_ms)
) WITHOUT ROWID;
CREATE TABLE revision (
  series_id INTEGER NOT NULL REFERENCES series (id),
  open_time_ms INTEGER NOT NULL,
  origin TEXT NOT NULL,
  is_newer_kept INTEGER NOT NULL,
  {", ".join(f"{name} NOT NULL" for name in REVISION_COLUMNS)}
);
"""
"""Version 3. The new columns of `series` are the fields of `SeriesAccount`. The columns of values
have no type, so that numbers stay as they are."""

_QUEUE_AND_HEARTBEAT = """
CREATE INDEX pending_absence ON absence (to_ms DESC, series_id) WHERE state = 'pending';
CREATE INDEX file_of_series ON file (series_id);
ALTER TABLE file ADD COLUMN modified_ns INTEGER;
ALTER TABLE file ADD COLUMN inode INTEGER;
ALTER TABLE series ADD COLUMN is_compared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN pid INTEGER;
CREATE TABLE exchange_time (
  trade_type TEXT PRIMARY KEY,
  exchange_ms INTEGER NOT NULL,
  local_ms INTEGER NOT NULL
) WITHOUT ROWID;
"""
"""Version 4: an index of pending gaps, newest first; the status of each listed file; which series
were compared with the ledger; and the recorder's last heartbeat."""

_OUTBOX = """
ALTER TABLE state ADD COLUMN recorder TEXT;
ALTER TABLE state ADD COLUMN lake TEXT;
ALTER TABLE state ADD COLUMN published_sequence INTEGER NOT NULL DEFAULT 0;
CREATE TABLE unpublished (
  series_id INTEGER NOT NULL REFERENCES series (id),
  from_ms INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  PRIMARY KEY (series_id, from_ms, sequence)
) WITHOUT ROWID;
CREATE INDEX revision_of_series ON revision (series_id, open_time_ms);
"""
"""Version 5: which candles are not in the lake yet; `outbox.py` describes it. The columns of the
key come first: otherwise quick_check of SQLite 3.40 finds a NULL in `to_ms`, where none is."""

_PRUNED = """
CREATE TABLE pruned (
  series_id INTEGER NOT NULL REFERENCES series (id),
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  lake TEXT NOT NULL,
  version INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  checksum TEXT NOT NULL,
  pruned_ms INTEGER NOT NULL,
  PRIMARY KEY (series_id, from_ms)
) WITHOUT ROWID;
CREATE TABLE lake_address (lake TEXT PRIMARY KEY, address TEXT NOT NULL) WITHOUT ROWID;
"""
"""Version 6: months that the lake alone has; `pruned.py` describes them."""

_STEPS = (
    _FIRST_TABLES,
    _FILES_AND_LAYOUT,
    _GAPS_AND_REVISIONS,
    _QUEUE_AND_HEARTBEAT,
    _OUTBOX,
    _PRUNED,
)
"""Step n leads from version n to version n + 1. A released step never changes."""

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


@attrs.define(eq=False)
class SeriesIds:
    """The ids of the series in a writing connection's journal."""

    _connection: sqlite3.Connection
    _ids: dict[Series, int]

    def known(self, series: Series) -> int | None:
        """Return the id of a series; None: the journal has no row for it."""
        return self._ids.get(series)

    def by_id(self) -> dict[int, Series]:
        """Return all series by their ids."""
        return {series_id: series for series, series_id in self._ids.items()}

    def make(self, series: Series) -> int:
        """Return the id of a series; insert a row for a series without one.

        Call this in a transaction.
        """
        series_id = self._ids.get(series)
        if series_id is None:
            sql = (
                "INSERT INTO series (trade_type, symbol, time_interval, is_compared)"
                " VALUES (?, ?, ?, 1)"
            )
            series_id = self._connection.execute(sql, attrs.astuple(series)).lastrowid
            assert series_id is not None
            self._ids[series] = series_id
        return series_id

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Forget the ids that the body makes if it fails: its transaction is rolled back."""
        before = dict(self._ids)
        try:
            yield
        except BaseException:
            self._ids = before
            raise


def check_version(path: Path, version: int) -> None:
    """Refuse the tables of a later kline_trio.

    Raises:
      ConfigError: this kline_trio is too old for the journal.
    """
    if version > JOURNAL_VERSION:
        problem = (
            f"{path} was written by a newer kline_trio (journal version {version}, this one"
            f" knows {JOURNAL_VERSION}): upgrade kline_trio"
        )
        raise ConfigError([problem])


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from a version to `JOURNAL_VERSION`, each step in one transaction.

    Raises:
      sqlite3.Error: the disk refused; the steps before that are done.
    """
    for number, step in enumerate(_STEPS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")


def show_as_current(connection: sqlite3.Connection) -> None:
    """Show the queries of a reader an earlier version's tables as this version has them.

    Temporary views and tables hide the journal's own on this connection. In them, a later column
    has its default value, and a later table is empty. No row is copied, so only the pages that a
    query needs are read.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as current:
        migrate(current, 0)
        for (table,) in current.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            columns = current.execute(f"PRAGMA table_info({table})").fetchall()
            present = {row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")}
            if len(present) == len(columns):
                continue
            shown = ", ".join(
                name if name in present else f"{default or 'NULL'} AS {name}"
                for _, name, _, _, default, _ in columns
            )
            kind, rows = ("VIEW", f"FROM main.{table}") if present else ("TABLE", "WHERE 0")
            connection.execute(f"CREATE TEMP {kind} {table} AS SELECT {shown} {rows}")


def open_tables(path: Path) -> tuple[JournalFile, sqlite3.Connection, SeriesIds]:
    """Open or create a journal, check it, migrate it to this version and empty its WAL into it.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DamagedError: its content is not what was written.
      DiskError: the file system cannot hold a WAL.
      OSError: the disk refused.
      sqlite3.Error: the same.
    """
    with contextlib.ExitStack() as undo:
        # Opened before SQLite opens it, and closed after.
        file = undo.enter_context(contextlib.closing(JournalFile.open(path)))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(connection.close)
        _prepare(connection, path)
        ids = _checked_ids(connection, path)
        undo.pop_all()
    file.note()
    return file, connection, SeriesIds(connection, ids)


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
    migrate(connection, version)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _checked_ids(connection: sqlite3.Connection, path: Path) -> dict[Series, int]:
    """Return the series' ids. SQLite's pages have no checksums, so refuse impossible values."""
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
