"""Which candles are absent and why, and which values were revised: tables of the journal.

A series' due candles up to its watermark are each stored or in here; nothing overlaps.
"""

import enum
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span

__all__ = [
    "LEDGER_TABLES",
    "QUEUE_TABLES",
    "FetchResult",
    "Gap",
    "Ledger",
    "Reason",
    "Revision",
    "SeriesAccount",
    "State",
    "absences",
    "accounts",
    "put_heartbeat",
    "revisions",
    "unfilled",
]


class Reason(enum.StrEnum):
    """Why candles were or are absent."""

    NOT_RECEIVED = "not received"
    """The stream did not bring them, or the disk had no room."""
    RECORDER_DOWN = "recorder was down"
    NOT_CONFIGURED = "not configured then"
    NOT_LISTED = "not listed yet"
    DELISTED = "delisted"
    EXCHANGE_HAD_NONE = "the exchange had none"
    ARCHIVE_LACKS = "the archive lacks it"
    ARCHIVE_QUIET = "the archive is quiet"
    """Its rows have no trades, and those around many: REST is asked."""
    ARCHIVE_ALONE = "the archive alone has it"
    """Its rows are quiet, and REST refuses or has none: the archive's rows are taken."""
    REFUSED = "refused"
    OFF_THE_GRID = "off the grid"
    """The exchange has rows for them, whose times or numbers cannot be."""
    LOST_FROM_FILE = "lost from its file"
    """Their file was damaged, deleted or replaced."""
    FOUND_MISSING = "found missing"
    """They were due, neither stored nor in the ledger, until somebody compared the two."""


class State(enum.StrEnum):
    """What became of an absence."""

    PENDING = "pending"
    """It is still asked for."""
    FILLED = "filled"
    CLOSED = "closed"
    """It is asked for no more."""


@attrs.frozen
class Gap:
    """Candles of one series, one after the other, that did not come."""

    series: Series
    span: Span
    first_seen_ms: int
    """In the exchange's time."""
    reason: Reason
    state: State = State.PENDING
    asked: int = 0
    """How often the exchange was asked for them."""
    filled_by: Source | None = None


@attrs.frozen
class SeriesAccount:
    """Up to where a series is accounted for."""

    first_ms: int
    """The first candle that counts."""
    watermark_ms: int
    """Of candles that open before this each is stored or an absence."""
    retired_ms: int | None = None
    """Since when the series is not recorded any more, if it is not."""


@attrs.frozen
class Revision:
    """A candle of which two values came."""

    series: Series
    older: Candle
    newer: Candle
    origin: Source
    """Of the newer value."""
    is_newer_kept: bool


@attrs.frozen
class FetchResult:
    """What a question for absent candles of a series brought."""

    series: Series
    span: Span
    """Which candles were asked for."""
    candles: tuple[Candle, ...]
    """By open time, and all of the span."""
    origin: Source
    closes: Reason | None = None
    """Why what the answer lacks is not to be asked for again; None: it is."""

    def after_asking(self, lacking: Gap) -> Gap:
        """What the answer lacks, after the question was asked."""
        if lacking.state is not State.PENDING:
            return lacking
        asked = attrs.evolve(lacking, asked=lacking.asked + 1)
        if self.closes is None:
            return asked
        if lacking.reason is Reason.ARCHIVE_QUIET:
            # Rows that REST does not confirm are better than none.
            return attrs.evolve(lacking, reason=Reason.ARCHIVE_ALONE, asked=0)
        return attrs.evolve(asked, reason=self.closes, state=State.CLOSED)


_VALUES = tuple(field.name for field in attrs.fields(Candle))[1:]
_PAIRS = tuple(f"{age}_{name}" for age in ("older", "newer") for name in _VALUES)

LEDGER_TABLES = f"""
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
  {", ".join(f"{name} NOT NULL" for name in _PAIRS)}
);
"""
"""What version 3 of the journal adds. The columns of a series are those of an `SeriesAccount`; the
columns of values have no type, so that numbers stay as they are."""

QUEUE_TABLES = """
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
"""What version 4 of the journal adds: an index of pending absences, newest first; the status of
each listed file; which series were compared with the ledger; and the recorder's last heartbeat."""

_COLUMNS = "from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by"
# Nothing overlaps, so that of all rows that begin before the span only the last can reach into it.
_TOUCHED = f"""
SELECT {_COLUMNS} FROM absence WHERE series_id = ?1 AND from_ms < ?3 AND to_ms > ?2
AND from_ms >= coalesce(
  (SELECT max(from_ms) FROM absence WHERE series_id = ?1 AND from_ms <= ?2), ?2)
ORDER BY from_ms
"""  # noqa: S608 - ours
_BEFORE = f"""
SELECT {_COLUMNS} FROM absence WHERE series_id = ? AND from_ms < ? ORDER BY from_ms DESC LIMIT 1
"""  # noqa: S608 - ours
_AT = f"SELECT {_COLUMNS} FROM absence WHERE series_id = ? AND from_ms = ?"  # noqa: S608 - ours
_ALL = f"""
SELECT trade_type, symbol, time_interval, {_COLUMNS} FROM absence JOIN series ON id = series_id
ORDER BY trade_type, symbol, time_interval, from_ms
"""  # noqa: S608 - ours
_UNFILLED = f"""
SELECT trade_type, symbol, time_interval, {_COLUMNS} FROM absence JOIN series ON id = series_id
WHERE state <> 'filled' {{}} ORDER BY trade_type, symbol, time_interval, from_ms
"""  # noqa: S608 - ours
_OF_SERIES = "AND trade_type = ? AND symbol = ? AND time_interval = ?"
_PENDING = f"""
SELECT {_COLUMNS} FROM absence WHERE series_id = ? AND state = 'pending' ORDER BY from_ms
"""  # noqa: S608 - ours
_QUEUE = f"""
SELECT series_id, {_COLUMNS} FROM absence INDEXED BY pending_absence
WHERE state = 'pending' AND to_ms <= ?1 AND (to_ms < ?1 OR series_id > ?2)
ORDER BY to_ms DESC, series_id LIMIT ?3
"""  # noqa: S608 - ours
_EVER_MS = 2**62
_LAST = "SELECT to_ms FROM absence WHERE series_id = ? ORDER BY from_ms DESC LIMIT 1"
_DELISTED = f"""
SELECT {_COLUMNS} FROM absence
WHERE series_id = ? AND reason = '{Reason.DELISTED}' AND state = '{State.CLOSED}' ORDER BY from_ms
"""  # noqa: S608 - ours
_CLOSED_LATER = f"""
SELECT {_COLUMNS} FROM absence
WHERE series_id = ? AND first_seen_ms > ? AND state = '{State.CLOSED}' ORDER BY from_ms
"""  # noqa: S608 - ours
_INSERT = f"INSERT INTO absence (series_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_REVISIONS = f"""
SELECT trade_type, symbol, time_interval, origin, is_newer_kept, open_time_ms, {", ".join(_PAIRS)}
FROM revision JOIN series ON id = series_id
ORDER BY trade_type, symbol, time_interval, open_time_ms, revision.rowid
"""  # noqa: S608 - ours
_REVISE = f"INSERT INTO revision VALUES (?, ?, ?, ?{', ?' * len(_PAIRS)})"  # noqa: S608 - ours


def accounts(connection: sqlite3.Connection) -> dict[Series, SeriesAccount]:
    """Those of all series that have one, as a connection to a present journal sees them."""
    rows = connection.execute(
        "SELECT trade_type, symbol, time_interval, first_ms, watermark_ms, retired_ms FROM series"
        " WHERE watermark_ms IS NOT NULL"
    )
    return {Series(*row[:3]): SeriesAccount(*row[3:]) for row in rows}


def put_heartbeat(
    connection: sqlite3.Connection, pid: int | None, exchange_ms: Mapping[str, int], local_ms: int
) -> None:
    """Keep the recorder's pid, each market's exchange time, and the local time.

    A market's local time stays as it is while its exchange time does: so a reader can tell since
    when an exchange is silent.
    """
    connection.execute("UPDATE state SET pid = ?", [pid])
    for trade_type, now_ms in {**exchange_ms, "": local_ms}.items():
        key = "SELECT exchange_ms FROM exchange_time WHERE trade_type = ?"
        if connection.execute(key, [trade_type]).fetchone() != (now_ms,):
            connection.execute(
                "INSERT OR REPLACE INTO exchange_time VALUES (?, ?, ?)",
                [trade_type, now_ms, local_ms],
            )


def absences(connection: sqlite3.Connection) -> Iterator[Gap]:
    """All of them, by series and time, as a connection to a present journal sees them."""
    for *names, from_ms, to_ms, seen_ms, reason, state, asked, by in connection.execute(_ALL):
        yield _absence(Series(*names), (from_ms, to_ms, seen_ms, reason, state, asked, by))


def unfilled(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> Iterator[Gap]:
    """Give the pending and the closed absences, of all series or of some, by series and time."""
    if among is None:
        rows = connection.execute(_UNFILLED.format(""))
        yield from (_absence(Series(*row[:3]), row[3:]) for row in rows)
        return
    for one in sorted(among):
        names = (one.trade_type, one.symbol, one.time_interval)
        for row in connection.execute(_UNFILLED.format(_OF_SERIES), names):
            yield _absence(one, row[3:])


def revisions(connection: sqlite3.Connection) -> Iterator[Revision]:
    """All of them, by series and time, and in the order in which they came."""
    for row in connection.execute(_REVISIONS):
        names, (origin, is_newer_kept, open_time_ms), values = row[:3], row[3:6], row[6:]
        older, newer = values[: len(_VALUES)], values[len(_VALUES) :]
        yield Revision(
            Series(*names),
            Candle(open_time_ms, *older),
            Candle(open_time_ms, *newer),
            Source(origin),
            bool(is_newer_kept),
        )


def _absence(series: Series, row: Sequence[Any]) -> Gap:
    from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by = row
    return Gap(
        series,
        Span(from_ms, to_ms),
        first_seen_ms,
        Reason(reason),
        State(state),
        asked,
        Source(filled_by) if filled_by else None,
    )


@attrs.define(eq=False)
class Ledger:
    """The tables by a writing connection; every change is part of a transaction of the journal."""

    _connection: sqlite3.Connection
    changes: int = attrs.field(init=False)
    """A number that differs after each change of what is absent; 0 while nothing ever was."""

    def __attrs_post_init__(self) -> None:
        [self.changes] = self._connection.execute("SELECT count(*) FROM absence").fetchone()

    def pending(self, series: Series, series_id: int | None) -> Iterator[Gap]:
        """What of a series is still asked for, by time."""
        for row in self._connection.execute(_PENDING, [series_id]):
            yield _absence(series, row)

    def queue(self, ids: Mapping[Series, int], most: int, after: Gap | None) -> list[Gap]:
        """Return pending absences of all series, the newest first.

        Args:
          ids: the series' numbers in the journal.
          most: how many rows at most.
          after: the last row of the read before; None: from the newest row on.
        """
        series = {series_id: one for one, series_id in ids.items()}
        key = (_EVER_MS, -1) if after is None else (after.span.to_ms, ids[after.series])
        rows = self._connection.execute(_QUEUE, [*key, most])
        return [_absence(series[row[0]], row[1:]) for row in rows]

    def touching(self, series: Series, series_id: int | None, span: Span) -> list[Gap]:
        """Return the series' absences that have a candle in common with a span, by time."""
        return [_absence(series, row) for row in self._touched(series_id, span)]

    def last_ms(self, series_id: int | None) -> int:
        """Return the end of the series' newest absence; 0 if it has none."""
        row = self._connection.execute(_LAST, [series_id]).fetchone()
        return 0 if row is None else int(row[0])

    def note(self, series_id: int, absence: Gap) -> tuple[Span, ...]:
        """Take a new absence down; what of its span is absent already stays as it is.

        Returns:
          what of the span is a gap only now.
        """
        touched = [_absence(absence.series, row) for row in self._touched(series_id, absence.span)]
        # What filled these is gone again, as with a file that was damaged.
        filled = [old for old in touched if old.state is State.FILLED]
        for old in filled:
            self._delete(series_id, old.span)
        for old in filled:
            for span in old.span.without([absence.span]):
                self._insert(series_id, attrs.evolve(old, span=span))
        taken = [old.span for old in touched if old.state is not State.FILLED]
        named = tuple(absence.span.without(taken))
        for span in named:
            self._insert(series_id, attrs.evolve(absence, span=span))
        return named

    def change(self, series: Series, series_id: int, span: Span, how: Callable[[Gap], Gap]) -> None:
        """Changes what of the span is absent and not filled; the rest of those rows stays."""
        touched = [_absence(series, row) for row in self._touched(series_id, span)]
        touched = [old for old in touched if old.state is not State.FILLED]
        # All out before any goes in again: what is inserted may become one row with its neighbour.
        for old in touched:
            self._delete(series_id, old.span)
        for old in touched:
            [inside] = old.span.common_with(span)
            pieces = [(piece, old) for piece in old.span.without([inside])]
            for piece, now in sorted([*pieces, (inside, how(old))], key=lambda pair: pair[0]):
                self._insert(series_id, attrs.evolve(now, span=piece))

    def reopen(self, series: Series, series_id: int) -> list[Gap]:
        """What of a series was closed as delisted is asked for anew; gives what that was."""
        closed = [_absence(series, row) for row in self._connection.execute(_DELISTED, [series_id])]

        def anew(one: Gap) -> Gap:
            return attrs.evolve(one, reason=Reason.NOT_CONFIGURED, state=State.PENDING, asked=0)

        for one in closed:
            self.change(series, series_id, one.span, anew)
        return [anew(one) for one in closed]

    def find(self, series: Series, series_id: int, span: Span) -> None:
        """Set what is pending of a span to filled: it is stored, and by whom is not known."""

        def found(one: Gap) -> Gap:
            is_pending = one.state is State.PENDING
            return attrs.evolve(one, state=State.FILLED) if is_pending else one

        self.change(series, series_id, span, found)

    def rewind(self, series: Series, series_id: int, from_ms: int, now_ms: int) -> None:
        """Forget what is absent from a moment on, and ask anew for what was closed after now."""
        later = [*self._touched(series_id, Span(from_ms, _EVER_MS))]
        for one in (_absence(series, row) for row in later):
            self._delete(series_id, one.span)
            for span in one.span.common_with(Span(0, from_ms)):
                self._insert(series_id, attrs.evolve(one, span=span))
        self.changes += 1
        rows = self._connection.execute(_CLOSED_LATER, [series_id, now_ms]).fetchall()
        for one in (_absence(series, row) for row in rows):
            anew = attrs.evolve(one, state=State.PENDING, reason=Reason.NOT_RECEIVED, asked=0)
            self._delete(series_id, one.span)
            self._insert(series_id, anew)

    def revise(self, series_id: int, revision: Revision) -> None:
        """Takes a revision down."""
        older, newer = attrs.astuple(revision.older), attrs.astuple(revision.newer)
        self._connection.execute(
            _REVISE,
            [
                series_id,
                older[0],
                str(revision.origin),
                revision.is_newer_kept,
                *older[1:],
                *newer[1:],
            ],
        )

    def _touched(self, series_id: int | None, span: Span) -> list[tuple[Any, ...]]:
        return self._connection.execute(_TOUCHED, [series_id, span.from_ms, span.to_ms]).fetchall()

    def _insert(self, series_id: int, absence: Gap) -> None:
        """Adds a row, as one with those right before and after it if all else is the same."""
        span = absence.span
        before = self._connection.execute(_BEFORE, [series_id, span.from_ms]).fetchone()
        after = self._connection.execute(_AT, [series_id, span.to_ms]).fetchone()
        for row in filter(None, (before, after)):
            other = _absence(absence.series, row)
            touches = other.span.to_ms == span.from_ms or other.span.from_ms == span.to_ms
            if touches and _alike(other, absence):
                self._delete(series_id, other.span)
                span = Span(
                    min(span.from_ms, other.span.from_ms), max(span.to_ms, other.span.to_ms)
                )
                absence = attrs.evolve(
                    absence,
                    first_seen_ms=min(absence.first_seen_ms, other.first_seen_ms),
                    asked=max(absence.asked, other.asked),
                )
        self.changes += 1
        values = (span.from_ms, span.to_ms, absence.first_seen_ms, str(absence.reason))
        by = str(absence.filled_by) if absence.filled_by else None
        self._connection.execute(
            _INSERT, [series_id, *values, str(absence.state), absence.asked, by]
        )

    def _delete(self, series_id: int, span: Span) -> None:
        self._connection.execute(
            "DELETE FROM absence WHERE series_id = ? AND from_ms = ?", [series_id, span.from_ms]
        )


def _alike(one: Gap, other: Gap) -> bool:
    """Whether two that touch can be one row.

    The time at which a gap was found does not separate rows, or an outage of a day would be 1,440
    rows. How often it was asked for separates pending rows, since that decides when it is closed.
    """
    if one.state is State.FILLED:
        return one == attrs.evolve(other, span=one.span)
    asked_alike = one.state is State.CLOSED or one.asked == other.asked
    return asked_alike and (one.reason, one.state) == (other.reason, other.state)
