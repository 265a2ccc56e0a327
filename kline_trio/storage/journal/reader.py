"""Read the journal of a store in one transaction, beside a recorder, and change no byte of it."""

import contextlib
import hashlib
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
from kline_trio.interval import Span
from kline_trio.storage import held
from kline_trio.storage.disk import check_descriptors, disk_errors
from kline_trio.storage.journal.heartbeat import exchange_times, heartbeat_pid
from kline_trio.storage.journal.ledger import (
    GAP_COLUMNS,
    Gap,
    Reason,
    Revision,
    SeriesAccount,
    State,
    accounts,
    gap_of,
)
from kline_trio.storage.journal.manifest import FileEntry, Totals, listed_files, totals
from kline_trio.storage.journal.outbox import LakeState, Unpublished, lake_state, unpublished
from kline_trio.storage.journal.pending import CANDLE_COLUMNS
from kline_trio.storage.journal.pruned import Pruned, lake_addresses, pruned_months
from kline_trio.storage.journal.schema import (
    JOURNAL_VERSION,
    REVISION_COLUMNS,
    VALUE_COLUMNS,
    check_version,
    show_as_current,
)
from kline_trio.storage.paths import journal_path, lock_path

_SERIES = "trade_type, symbol, time_interval"
_OF_SERIES = "trade_type = ? AND symbol = ? AND time_interval = ?"
_CANDLES = (
    f"SELECT origin, {CANDLE_COLUMNS} FROM candle"  # noqa: S608 - ours
    f" WHERE series_id = (SELECT id FROM series WHERE {_OF_SERIES})"
    " AND open_time_ms >= ? AND open_time_ms < ? ORDER BY open_time_ms"
)
_NEWEST = f"""
SELECT {_SERIES}, newest FROM (
  SELECT series.*, (SELECT max(open_time_ms) FROM candle WHERE series_id = id) AS newest
  FROM series
) WHERE newest IS NOT NULL
"""  # noqa: S608 - ours
_WAITING = f"""
SELECT open_time_ms FROM candle
WHERE series_id = (SELECT id FROM series WHERE {_OF_SERIES}) ORDER BY open_time_ms
"""  # noqa: S608 - ours
_TO_COMPARE = f"""
SELECT {_SERIES}, NOT is_compared FROM series
WHERE NOT is_compared OR id IN (SELECT series_id FROM absence WHERE state = 'pending')
ORDER BY {_SERIES}
"""  # noqa: S608 - ours
_GAPS = f"""
SELECT {_SERIES}, {GAP_COLUMNS} FROM absence JOIN series ON id = series_id
WHERE {{}} ORDER BY {_SERIES}, from_ms
"""  # noqa: S608 - ours
_ABSENCES = f"""
SELECT {_SERIES}, reason, state, sum(to_ms - from_ms)
FROM absence JOIN series ON id = series_id WHERE state <> 'filled'
GROUP BY series_id, reason, state
"""  # noqa: S608 - ours
_LATE = f"""
SELECT DISTINCT {_SERIES} FROM absence JOIN series ON id = series_id
WHERE state = 'pending' AND trade_type = ? AND from_ms >= ?
"""  # noqa: S608 - ours
_SOME_GAPS = f"""
SELECT {_SERIES}, {GAP_COLUMNS} FROM absence JOIN series ON id = series_id WHERE {{}}
ORDER BY {{}}, {_SERIES} LIMIT ?
"""  # noqa: S608 - ours
_REVISIONS = f"""
SELECT {_SERIES}, origin, is_newer_kept, open_time_ms, {", ".join(REVISION_COLUMNS)}
FROM revision JOIN series ON id = series_id
"""  # noqa: S608 - ours
_ID_OF_SERIES = f"(SELECT id FROM series WHERE {_OF_SERIES})"  # noqa: S608 - ours
_IDS = f"SELECT id, {_SERIES} FROM series"  # noqa: S608 - ours
_ACCOUNTS = f"SELECT id, {_SERIES}, first_ms, watermark_ms, retired_ms FROM series"  # noqa: S608
_COLUMNS_OF_GAPS = """
SELECT series_id, from_ms, to_ms, reason, state, filled_by FROM absence
ORDER BY series_id, from_ms
"""
_LEDGER_SUMS = """
SELECT state, reason, filled_by, count(*), sum(series_id), sum(from_ms / 1000), sum(to_ms / 1000)
FROM absence GROUP BY state, reason, filled_by ORDER BY state, reason, filled_by
"""
_PRUNED_SUMS = """
SELECT count(*), sum(series_id), sum(from_ms / 1000), sum(to_ms / 1000) FROM pruned
"""
_NO_INDEX = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL)
_COPY_ATTEMPTS = 20
_WAL_HEADER_BYTES = 32


@attrs.frozen
class JournalView:
    """The journal at one moment, in the tables of this version."""

    _connection: sqlite3.Connection

    def candles(self, series: Series, start_ms: int, end_ms: int) -> list[tuple[Candle, Source]]:
        """Return the series' candles with `start_ms <= open time < end_ms`, by open time.

        Only a candle with an origin that `replaces` wins over the same candle in a file.
        """
        rows = self._rows(_CANDLES, *attrs.astuple(series), start_ms, end_ms)
        return [(Candle(*values), Source(name)) for name, *values in rows]

    def newest_ms(self) -> dict[Series, int]:
        """Return the latest open time of each series with candles in the journal."""
        return {Series(*names): newest_ms for *names, newest_ms in self._rows(_NEWEST)}

    def waiting_ms(self, series: Series) -> list[int]:
        """Return the open times of the series' candles, in order."""
        return [open_time_ms for (open_time_ms,) in self._rows(_WAITING, *attrs.astuple(series))]

    def files(self, among: Collection[Series] | None = None) -> tuple[FileEntry, ...]:
        """Return the manifest's entries of all series, or of some, by path."""
        return listed_files(self._connection, among)

    def layout(self) -> str | None:
        """Return the template of the store's file names; None: not known."""
        return next((layout for (layout,) in self._rows("SELECT layout FROM state")), None)

    def gaps(self, among: Collection[Series] | None = None) -> Iterator[Gap]:
        """Yield the gaps of every state, of all series or of some, by series and time."""
        return self._gaps("1", among)

    def unfilled(self, among: Collection[Series] | None = None) -> Iterator[Gap]:
        """Yield the pending and the closed gaps, of all series or of some, by series and time."""
        return self._gaps("state <> 'filled'", among)

    def _gaps(self, condition: str, among: Collection[Series] | None) -> Iterator[Gap]:
        for names in [()] if among is None else map(attrs.astuple, sorted(among)):
            sql = _GAPS.format(f"{condition} AND {_OF_SERIES}" if names else condition)
            for row in self._connection.execute(sql, names):
                yield gap_of(Series(*row[:3]), row[3:])

    def absences(self) -> Iterator[tuple[Series, Reason, State, int]]:
        """Yield how many milliseconds of each series are absent, by reason and state."""
        for *names, reason, state, duration_ms in self._rows(_ABSENCES):
            yield Series(*names), Reason(reason), State(state), duration_ms

    def late_since(self, trade_type: str, since_ms: int) -> list[Series]:
        """Return the series of a market with a pending gap that begins at a time or later."""
        return [Series(*names) for names in self._rows(_LATE, trade_type, since_ms)]

    def lake(self) -> LakeState | None:
        """Return what the journal knows of its lake; None: it never had one."""
        return lake_state(self._connection)

    def unpublished(self) -> Unpublished:
        """Return what has to be published to the lake."""
        return unpublished(self._connection)

    def pruned(self, among: Collection[Series] | None = None) -> list[Pruned]:
        """Return the months that the lake alone has, of all series or of some, in order."""
        return list(pruned_months(self._connection, among))

    def lake_addresses(self) -> dict[str, str]:
        """Return by the id of each lake with pruned months its address, as JSON."""
        return lake_addresses(self._connection)

    def rows(self) -> int:
        """Return how many candles wait for their merge."""
        return int(self._rows("SELECT count(*) FROM candle")[0][0])

    def totals(self) -> Totals:
        """Return the sums over all files."""
        return totals(self._connection)

    def gap_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield all gaps as plain rows: the three names of the series, then `GAP_COLUMNS`."""
        return self._connection.execute(_GAPS.format("1"))

    def series_by_id(self) -> dict[int, Series]:
        """Return all series by their ids in this journal."""
        return {series_id: Series(*names) for series_id, *names in self._rows(_IDS)}

    def gap_columns(self) -> Iterator[tuple[Any, ...]]:
        """Yield what a count of gaps needs, by series' id and time.

        A row is the id of the series, the gap's span as two times, its reason, state and source.
        """
        return self._connection.execute(_COLUMNS_OF_GAPS)

    def ledger_version(self) -> str:
        """Return a short text that differs after each change of an account or of a gap.

        It differs after a month was pruned, too.
        How often a gap was asked for makes no difference. The cost is one pass over the gaps.
        """
        accounts = self._rows(_ACCOUNTS)
        sums = repr((accounts, self._rows(_LEDGER_SUMS), self._rows(_PRUNED_SUMS)))
        return hashlib.blake2b(sums.encode(), digest_size=8).hexdigest()

    def gaps_between(
        self,
        series: Series | None,
        from_ms: int,
        to_ms: int,
        limit: int,
        *,
        states: Collection[State] = tuple(State),
    ) -> list[Gap]:
        """Return the gaps with a candle in `[from_ms, to_ms)`, the latest first.

        Args:
          series: of this series only; None: of all.
          from_ms: the begin of the range.
          to_ms: its end, exclusive.
          limit: how many gaps at most.
          states: gaps in these states only.
        """
        names = () if series is None else attrs.astuple(series)
        conditions = [
            "from_ms < ?",
            "to_ms > ?",
            f"state IN ({', '.join('?' * len(states))})",
        ]
        if series is not None:
            conditions.append(f"series_id = {_ID_OF_SERIES}")
        sql = _SOME_GAPS.format(" AND ".join(conditions), "from_ms DESC")
        return self._some_gaps(sql, to_ms, from_ms, *map(str, states), *names, limit)

    def newest_gaps(self, limit: int) -> list[Gap]:
        """Return the gaps that were found last, the newest first; at most `limit`."""
        return self._some_gaps(_SOME_GAPS.format("1", "first_seen_ms DESC"), limit)

    def _some_gaps(self, sql: str, *values: str | int) -> list[Gap]:
        return [gap_of(Series(*row[:3]), row[3:]) for row in self._rows(sql, *values)]

    def revisions(self) -> tuple[Revision, ...]:
        """Return the candles with two values, by series and time, then in the order of arrival."""
        order = f"ORDER BY {_SERIES}, open_time_ms, revision.rowid"
        return tuple(map(_revision_of, self._rows(f"{_REVISIONS} {order}")))

    def revisions_of(self, series: Series, limit: int) -> list[Revision]:
        """Return the candles of a series with two values, the last that came first.

        Args:
          series: the series.
          limit: how many revisions at most.
        """
        sql = f"{_REVISIONS} WHERE series_id = {_ID_OF_SERIES} ORDER BY revision.rowid DESC LIMIT ?"
        return [_revision_of(row) for row in self._rows(sql, *attrs.astuple(series), limit)]

    def revisions_between(self, series: Series, within: Span) -> list[Revision]:
        """Return the revisions of candles that open in a span, in the order of arrival."""
        sql = f"{_REVISIONS} WHERE series_id = {_ID_OF_SERIES} AND open_time_ms >= ?"
        sql += " AND open_time_ms < ? ORDER BY revision.rowid"
        names = attrs.astuple(series)
        return [_revision_of(row) for row in self._rows(sql, *names, within.from_ms, within.to_ms)]

    def revisions_after(self, number: int) -> Iterator[tuple[int, Revision]]:
        """Yield the revisions with a greater number, in the order of arrival, with the numbers."""
        sql = _REVISIONS.replace("SELECT", "SELECT revision.rowid,", 1)
        rows = self._connection.execute(f"{sql} WHERE revision.rowid > ? ORDER BY 1", [number])
        for rowid, *row in rows:
            yield rowid, _revision_of(tuple(row))

    def newest_revisions(self, limit: int) -> list[Revision]:
        """Return the candles of all series with two values, the last that came first."""
        sql = f"{_REVISIONS} ORDER BY revision.rowid DESC LIMIT ?"
        return [_revision_of(row) for row in self._rows(sql, limit)]

    def revision_count(self) -> int:
        """Return how many revisions there are."""
        return int(self._rows("SELECT count(*) FROM revision")[0][0])

    def accounts(self) -> dict[Series, SeriesAccount]:
        """Return the account of each series that has one."""
        return accounts(self._connection)

    def to_compare(self) -> dict[Series, bool]:
        """Return the series that have pending rows (False), or were never compared with the
        ledger (True).
        """
        return {Series(*names): bool(never) for *names, never in self._rows(_TO_COMPARE)}

    def pid(self) -> int | None:
        """Return the pid of the running recorder; None: it ended in an orderly way."""
        return heartbeat_pid(self._connection)

    def exchange_times(self) -> dict[str, tuple[int, int]]:
        """Return each market's last exchange time, and the local time when it was new.

        The market `""` is the recorder itself: its local time is that of the last heartbeat.
        """
        return exchange_times(self._connection)

    def faults(self) -> list[str]:
        """Return what SQLite finds wrong with the journal."""
        verdicts = [str(text) for (text,) in self._rows("PRAGMA quick_check")]
        return [] if verdicts == ["ok"] else verdicts

    def copy_to(self, path: Path) -> None:
        """Write this moment of the journal to a file of its own.

        Raises:
          sqlite3.Error: the disk refused.
        """
        with contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()


def _revision_of(row: tuple[Any, ...]) -> Revision:
    *names, origin, is_newer_kept, open_time_ms = row[:6]
    older, newer = row[6 : 6 + len(VALUE_COLUMNS)], row[6 + len(VALUE_COLUMNS) :]
    values = Candle(open_time_ms, *older), Candle(open_time_ms, *newer)
    return Revision(Series(*names), *values, Source(origin), bool(is_newer_kept))


@contextlib.contextmanager
def journal_view(store_path: Path) -> Iterator[JournalView]:
    """Open one read transaction on all that is accepted and not yet forgotten.

    A store without a journal has an empty one. The journal of an earlier version is read in place.

    Raises:
      ConfigError: a newer kline_trio wrote the journal.
      DiskError: it cannot be read.
    """
    journal = journal_path(store_path.absolute())
    with disk_errors(journal), contextlib.ExitStack() as stack:
        if journal.exists():
            connection = _opened(journal, stack)
        else:
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(":memory:")))
        [version] = connection.execute("PRAGMA user_version").fetchone()
        check_version(journal, version)
        if version < JOURNAL_VERSION:
            show_as_current(connection)
        yield JournalView(connection)


def _opened(journal: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    lock = lock_path(journal.parents[1])
    held.refuse_special([*held.journal_parts(journal), lock])
    connection = None
    is_open_here = held.is_open_here(journal)
    if is_open_here or not _is_abandoned(lock):
        connection = _live(journal, stack)
    if connection is None and is_open_here:
        # To close a copy's source would drop the locks that this process has on it.
        raise DiskError(f"{journal} lacks the files that SQLite keeps beside it")
    return connection or _copied(journal, stack)


def _is_abandoned(lock: Path) -> bool:
    """Whether the last recorder is known to be dead.

    The wal-index that a crash leaves can keep SQLite waiting for ten seconds for its repair. Asking
    for the lock instead could keep out a recorder that starts at this moment.
    """
    try:
        os.kill(int(lock.read_text(encoding="utf-8")), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        # A process of another user, or no pid is known.
        return False
    return False


def _live(journal: Path, stack: contextlib.ExitStack) -> sqlite3.Connection | None:
    """Begin a transaction on the journal itself; None: SQLite would have to write for one.

    A read-only connection to a WAL database needs a wal-index, the -shm file. `readonly_shm` lets
    SQLite use an existing one, and rebuild it in memory if no recorder runs, but neither write nor
    create one: a new one would belong to this reader's user, and lock the recorder out.
    (www.sqlite.org/wal.html, "Read-Only Databases"; `walBeginShmUnreliable` in wal.c.)
    """
    _, wal, shm, _ = held.journal_parts(journal)
    if not (wal.exists() and shm.exists()):
        return None
    try:
        return _transaction(f"{journal.as_uri()}?mode=ro&readonly_shm=1", stack)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _NO_INDEX:
            raise
        check_descriptors(journal)
        return None


def _copied(journal: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    """Begin a transaction on a private copy: for folders without a wal-index, such as backups.

    `immutable=1` would need no copy, but leaves out the WAL, and with it accepted candles.
    A process that has the journal open must not call this: closing the file would drop SQLite's own
    POSIX locks on it.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kline_trio-")))
    copy = folder / journal.name
    wal, wal_copy = held.journal_parts(journal)[1], held.journal_parts(copy)[1]
    for _ in range(_COPY_ATTEMPTS):
        # Database first: a checkpoint copies pages into it that stay in the WAL until the WAL
        # begins anew with another header.
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
    connection = stack.enter_context(
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None))
    )
    connection.execute("BEGIN")
    # The first read fixes the moment, and fails if there is none.
    connection.execute("PRAGMA user_version").fetchone()
    return connection
