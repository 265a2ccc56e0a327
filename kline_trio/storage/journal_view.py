"""The journal as a reader sees it: one moment of it, and never a byte changed."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import attrs

from kline_trio.candle import Candle, Series, Source
from kline_trio.errors import DiskError
from kline_trio.storage import held
from kline_trio.storage.disk import check_descriptors, disk_errors
from kline_trio.storage.file_list import FileEntry, merged_files
from kline_trio.storage.journal_tables import check_version
from kline_trio.storage.ledger import (
    Gap,
    Revision,
    SeriesAccount,
    absences,
    accounts,
    revisions,
    unfilled,
)
from kline_trio.storage.paths import journal_path, lock_path
from kline_trio.storage.waiting import CANDLE_COLUMNS

__all__ = ["JournalView", "journal_view"]

_CANDLES = (
    f"SELECT {{origin}}, {CANDLE_COLUMNS} FROM candle"  # noqa: S608 - ours
    " WHERE series_id = (SELECT id FROM series"
    " WHERE trade_type = ? AND symbol = ? AND time_interval = ?)"
    " AND open_time_ms >= ? AND open_time_ms < ? ORDER BY open_time_ms"
)
_OPEN_TIMES = """
SELECT trade_type, symbol, time_interval, open_time_ms
FROM candle JOIN series ON id = series_id ORDER BY series_id, open_time_ms
"""
_NEWEST = """
SELECT trade_type, symbol, time_interval, newest FROM (
  SELECT series.*, (SELECT max(open_time_ms) FROM candle WHERE series_id = id) AS newest
  FROM series
) WHERE newest IS NOT NULL
"""
_WAITING = """
SELECT open_time_ms FROM candle WHERE series_id = (SELECT id FROM series
WHERE trade_type = ? AND symbol = ? AND time_interval = ?) ORDER BY open_time_ms
"""
_LISTED = """
SELECT trade_type, symbol, time_interval, path, crc32
FROM file JOIN series ON id = series_id ORDER BY path
"""
_TO_COMPARE = """
SELECT trade_type, symbol, time_interval, NOT is_compared FROM series
WHERE NOT is_compared OR id IN (SELECT series_id FROM absence WHERE state = 'pending')
ORDER BY trade_type, symbol, time_interval
"""
_FILES_SINCE = 2
"""The first version of the journal that knows files and layout."""
_LEDGER_SINCE = 3
"""The first version that knows what is absent, and where candles came from."""
_HEARTBEAT_SINCE = 4
"""The first version in which a recorder keeps its pid and the exchange's time."""
_NO_INDEX = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL)
_COPY_ATTEMPTS = 20
_WAL_HEADER_BYTES = 32


@attrs.frozen
class JournalView:
    """The candles that were in the journal at one moment."""

    _connection: sqlite3.Connection | None
    _version: int = 0

    def candles(self, series: Series, start_ms: int, end_ms: int) -> list[tuple[Candle, Source]]:
        """Return the series' candles with `start_ms <= open time < end_ms`, by open time.

        Only an origin that `replaces` makes a candle win over a file that has it too.
        """
        # Before version 3 only the stream brought candles, and the table has no such column.
        origin = "origin" if self._version >= _LEDGER_SINCE else f"'{Source.STREAM}'"
        names = (series.trade_type, series.symbol, series.time_interval)
        rows = self._rows(_CANDLES.format(origin=origin), *names, start_ms, end_ms)
        return [(Candle(*values), Source(name)) for name, *values in rows]

    def newest_ms(self) -> dict[Series, int]:
        """The latest open time of each series that is in the journal."""
        return {Series(*names): newest_ms for *names, newest_ms in self._rows(_NEWEST)}

    def open_times(self) -> Iterator[tuple[Series, int]]:
        """Series and open time of every candle, series by series."""
        for *names, open_time_ms in self._rows(_OPEN_TIMES):
            yield Series(*names), open_time_ms

    def files(self) -> tuple[FileEntry, ...]:
        """What merges wrote, by path; nothing if an early kline_trio wrote the journal."""
        if self._connection is None or self._version < _FILES_SINCE:
            return ()
        return merged_files(self._connection)

    def layout(self) -> str | None:
        """The template by which the store's files are named; None if it is not known."""
        if self._connection is None or self._version < _FILES_SINCE:
            return None
        layout = next((layout for (layout,) in self._rows("SELECT layout FROM state")), None)
        return None if layout is None else str(layout)

    def absences(self) -> Iterator[Gap]:
        """What is or was absent, by series and time, as long as this view is open."""
        if self._connection is None or self._version < _LEDGER_SINCE:
            return iter(())
        return absences(self._connection)

    def revisions(self) -> tuple[Revision, ...]:
        """The candles of which two values came, by series and time."""
        if self._connection is None or self._version < _LEDGER_SINCE:
            return ()
        return tuple(revisions(self._connection))

    def accounts(self) -> dict[Series, SeriesAccount]:
        """Up to where each series is accounted for."""
        if self._connection is None or self._version < _LEDGER_SINCE:
            return {}
        return accounts(self._connection)

    def unfilled(self, among: Collection[Series] | None = None) -> Iterator[Gap]:
        """Give the pending and the closed absences, of all series or of some."""
        if self._connection is None or self._version < _LEDGER_SINCE:
            return iter(())
        return unfilled(self._connection, among)

    def waiting_ms(self, series: Series) -> list[int]:
        """Return the open times of the series' candles, in order."""
        names = (series.trade_type, series.symbol, series.time_interval)
        return [open_time_ms for (open_time_ms,) in self._rows(_WAITING, *names)]

    def listed(
        self, among: Collection[Series] | None = None
    ) -> dict[Series, list[tuple[str, int]]]:
        """Return path and CRC of each file that merges wrote, of all series or of some."""
        found: dict[Series, list[tuple[str, int]]] = {}
        if self._version >= _FILES_SINCE:
            wanted = None if among is None else {_names(one) for one in among}
            for *names, path, crc32 in self._rows(_LISTED):
                if wanted is None or tuple(names) in wanted:
                    found.setdefault(Series(*names), []).append((path, crc32))
        return found

    def to_compare(self) -> dict[Series, bool]:
        """Return the series that have pending rows (False), or were never compared with the
        ledger (True).
        """
        if self._version < _HEARTBEAT_SINCE:
            return {}
        return {Series(*names): bool(never) for *names, never in self._rows(_TO_COMPARE)}

    def pid(self) -> int | None:
        """Return the pid that a recorder keeps here while it runs."""
        rows = self._rows("SELECT pid FROM state") if self._version >= _HEARTBEAT_SINCE else []
        return next((pid for (pid,) in rows), None)

    def exchange_times(self) -> dict[str, tuple[int, int]]:
        """Return each market's last exchange time, and the local time when it was new.

        The market `""` is the recorder itself: its local time is that of the last heartbeat.
        """
        if self._version < _HEARTBEAT_SINCE:
            return {}
        rows = self._rows("SELECT trade_type, exchange_ms, local_ms FROM exchange_time")
        return {trade_type: (exchange_ms, local_ms) for trade_type, exchange_ms, local_ms in rows}

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the journal."""
        verdicts = [str(text) for (text,) in self._rows("PRAGMA quick_check")]
        return [] if verdicts == ["ok"] else verdicts

    def copy_to(self, path: Path) -> None:
        """Writes this moment of the journal to a file of its own, if there is a journal.

        Raises:
          sqlite3.Error: the disk refused.
        """
        if self._connection is not None:
            with contextlib.closing(sqlite3.connect(path)) as copy:
                self._connection.backup(copy)

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        return [] if self._connection is None else self._connection.execute(sql, values).fetchall()


@contextlib.contextmanager
def journal_view(store_path: Path) -> Iterator[JournalView]:
    """Opens one read transaction; it shows all that was accepted before, and not yet forgotten.

    Raises:
      ConfigError: a newer kline_trio wrote the journal.
      DiskError: it cannot be read.
    """
    journal = journal_path(store_path.absolute())
    with disk_errors(journal), contextlib.ExitStack() as stack:
        connection = None
        if journal.exists():
            lock = lock_path(journal.parents[1])
            held.refuse_special([*held.journal_parts(journal), lock])
            connection = None
            is_open_here = held.is_open_here(journal)
            if is_open_here or not _is_abandoned(lock):
                connection = _live(journal, stack)
            if connection is None and is_open_here:
                # To close a copy's source would drop the locks that this process has on it.
                raise DiskError(f"{journal} lacks the files that SQLite keeps beside it")
            connection = connection or _copied(journal, stack)
            [version] = connection.execute("PRAGMA user_version").fetchone()
            check_version(journal, version)
            if version == 0:
                # Caught before its tables were made.
                connection = None
            yield JournalView(connection, version)
        else:
            yield JournalView(None)


def _is_abandoned(lock: Path) -> bool:
    """Whether the last recorder is known to be dead.

    What a crash leaves of the wal-index can keep SQLite waiting for ten seconds for somebody to
    mend it. To ask for a lock instead would be to keep out a recorder that starts just now.
    """
    try:
        os.kill(int(lock.read_text(encoding="utf-8")), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        # Of another user, or nothing is known.
        return False
    return False


def _live(journal: Path, stack: contextlib.ExitStack) -> sqlite3.Connection | None:
    """A transaction on the journal itself; None where SQLite would need to write to have one.

    A read-only connection to a WAL database needs a wal-index, the -shm file. `readonly_shm` lets
    SQLite use one that is there, and rebuild it in memory where no recorder vouches for it, but
    neither write nor make one: it would belong to this reader's user, and lock the recorder out.
    (www.sqlite.org/wal.html, "Read-Only Databases"; `walBeginShmUnreliable` in wal.c.)
    """
    if not (_beside(journal, "-wal").exists() and _beside(journal, "-shm").exists()):
        return None
    try:
        return _transaction(f"{journal.as_uri()}?mode=ro&readonly_shm=1", stack)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _NO_INDEX:
            raise
        check_descriptors(journal)
        return None


def _copied(journal: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    """A transaction on a private copy: for folders without a wal-index, as backups and exports.

    `immutable=1` would need no copy, but leaves out the WAL, and with it accepted candles.
    A process that has the journal open must not come here: closing the file would drop SQLite's
    own POSIX locks on it.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kline_trio-")))
    copy = folder / journal.name
    wal, wal_copy = _beside(journal, "-wal"), _beside(copy, "-wal")
    for _ in range(_COPY_ATTEMPTS):
        # Database first: what a checkpoint moves into it meanwhile is still in the WAL, until the
        # WAL begins anew, which its header tells.
        before = _generation(journal, wal)
        shutil.copyfile(journal, copy)
        wal_copy.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(wal, wal_copy)
        if _generation(journal, wal) == before:
            return _transaction(f"{copy.as_uri()}?mode=rw", stack)
    raise DiskError(f"{journal} changes too fast to be copied: try again")


def _generation(journal: Path, wal: Path) -> object:
    with contextlib.suppress(FileNotFoundError), wal.open("rb") as file:
        header = file.read(_WAL_HEADER_BYTES)
        if header:
            return header
    status = journal.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _transaction(uri: str, stack: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    stack.callback(connection.close)
    connection.execute("BEGIN")
    # The first read decides which moment is seen, and whether it can be.
    connection.execute("PRAGMA user_version").fetchone()
    return connection


def _names(series: Series) -> tuple[str, str, str]:
    return series.trade_type, series.symbol, series.time_interval


def _beside(journal: Path, suffix: str) -> Path:
    return journal.with_name(journal.name + suffix)
