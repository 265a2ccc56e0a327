"""The ledger: gaps with their reasons, and revisions of values. Tables of the journal.

Each due candle of a series up to its watermark is stored or part of a gap. Gaps never overlap.
"""

import enum
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.storage.journal.pruned import PrunedMonths
from kline_trio.storage.journal.schema import REVISION_COLUMNS, SeriesIds


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
    """They were due, and neither stored nor in the ledger, until a comparison found them."""
    PRUNED = "pruned"
    """They were removed here, after they were read back from the lake."""


class State(enum.StrEnum):
    """What became of a gap."""

    PENDING = "pending"
    """The gap filler still asks for it."""
    FILLED = "filled"
    CLOSED = "closed"
    """Nothing asks for it any more."""
    IN_LAKE = "in lake"
    """A month that was pruned. It is no row of the table of gaps: `pruned.py` keeps it."""


@attrs.frozen
class Gap:
    """Consecutive candles of one series that did not come."""

    series: Series
    span: Span
    first_seen_ms: int
    """In the exchange's time."""
    reason: Reason
    state: State = State.PENDING
    asked: int = 0
    """How often the exchange was asked for the candles."""
    filled_by: Source | None = None


@attrs.frozen
class SeriesAccount:
    """Up to where a series is accounted for."""

    first_ms: int
    """Open time of the first due candle."""
    watermark_ms: int
    """Each due candle that opens before this moment is stored or part of a gap."""
    retired_ms: int | None = None
    """The moment from which the series is no longer recorded; None: it is recorded."""


@attrs.frozen
class Revision:
    """Two different values of one candle."""

    series: Series
    older: Candle
    newer: Candle
    origin: Source
    """Of the newer value."""
    is_newer_kept: bool


@attrs.frozen
class FetchResult:
    """The answer to a request for the candles of a gap."""

    series: Series
    span: Span
    """The requested candles."""
    candles: tuple[Candle, ...]
    """By open time, all inside the span."""
    origin: Source
    closes: Reason | None = None
    """The reason to close what the answer lacks; None: it stays pending."""

    def after_asking(self, lacking: Gap) -> Gap:
        """Return the new row for a gap that the answer lacks."""
        if lacking.state is not State.PENDING:
            return lacking
        asked = attrs.evolve(lacking, asked=lacking.asked + 1)
        if self.closes is None:
            return asked
        if lacking.reason is Reason.ARCHIVE_QUIET:
            # Rows that REST does not confirm are better than none.
            return attrs.evolve(lacking, reason=Reason.ARCHIVE_ALONE, asked=0)
        return attrs.evolve(asked, reason=self.closes, state=State.CLOSED)


GAP_COLUMNS = "from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by"
"""The columns of a gap, for `gap_of`."""

_GAPS = f"""
SELECT {GAP_COLUMNS} FROM absence WHERE series_id = ?1 AND {{}} ORDER BY from_ms
"""  # noqa: S608 - ours
# Gaps never overlap, so of the rows that begin before the span only the last can reach into it.
_TOUCHED = """
from_ms < ?3 AND to_ms > ?2 AND from_ms >= coalesce(
  (SELECT max(from_ms) FROM absence WHERE series_id = ?1 AND from_ms <= ?2), ?2)
"""
_QUEUE = f"""
SELECT series_id, {GAP_COLUMNS} FROM absence INDEXED BY pending_absence
WHERE state = 'pending' AND to_ms <= ?1 AND (to_ms < ?1 OR series_id > ?2)
ORDER BY to_ms DESC, series_id LIMIT ?3
"""  # noqa: S608 - ours
_EVER_MS = 2**62
_LAST = """
SELECT id, (SELECT to_ms FROM absence WHERE series_id = id ORDER BY from_ms DESC LIMIT 1)
FROM series
"""
_INSERT = f"INSERT INTO absence (series_id, {GAP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_REVISE = f"""
INSERT INTO revision
  (rowid, series_id, open_time_ms, origin, is_newer_kept, {", ".join(REVISION_COLUMNS)})
VALUES (?, ?, ?, ?, ?{", ?" * len(REVISION_COLUMNS)})
"""  # noqa: S608 - ours


def accounts(connection: sqlite3.Connection) -> dict[Series, SeriesAccount]:
    """Return the account of each series that has one."""
    rows = connection.execute(
        "SELECT trade_type, symbol, time_interval, first_ms, watermark_ms, retired_ms FROM series"
        " WHERE watermark_ms IS NOT NULL"
    )
    return {Series(*row[:3]): SeriesAccount(*row[3:]) for row in rows}


def put_accounts(
    connection: sqlite3.Connection, ids: SeriesIds, accounts: Mapping[Series, SeriesAccount]
) -> None:
    """Write accounts, each in the place of the one before."""
    connection.executemany(
        "UPDATE series SET first_ms = ?, watermark_ms = ?, retired_ms = ? WHERE id = ?",
        [(*attrs.astuple(one), ids.make(series)) for series, one in accounts.items()],
    )


def gap_of(series: Series, row: Sequence[Any]) -> Gap:
    """Return the gap of a row of `GAP_COLUMNS`.

    Raises:
      ValueError: it has a word that no gap has.
    """
    from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by = row
    if state == State.IN_LAKE:
        raise ValueError("a month that was pruned is no gap")
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
    """The tables on a writing connection; every change is part of a transaction of the journal."""

    _connection: sqlite3.Connection
    _ids: SeriesIds
    _pruned: PrunedMonths
    changes: int = attrs.field(init=False)
    """A number that differs after each change of a gap; 0: there never was one."""
    _last_ms: dict[Series, int] = attrs.field(init=False)
    """No gap of a series ends after this moment, so most candles need no look into the table."""

    def __attrs_post_init__(self) -> None:
        [self.changes] = self._connection.execute("SELECT count(*) FROM absence").fetchone()
        series = self._ids.by_id()
        rows = self._connection.execute(_LAST)
        # A flipped bit can make two rows of one series, of which the ids have one.
        self._last_ms = {series[one]: to_ms or 0 for one, to_ms in rows if one in series}

    def pending(self, series: Series) -> list[Gap]:
        """Return the pending gaps of a series, by time."""
        return self._gaps(series, "state = 'pending'")

    def queue(self, most: int, after: Gap | None) -> list[Gap]:
        """Return pending gaps of all series, the newest first.

        Args:
          most: how many gaps at most.
          after: the last gap of the previous page; None: start with the newest gap.
        """
        key: tuple[int, int | None] = (_EVER_MS, -1)
        if after is not None:
            key = (after.span.to_ms, self._ids.known(after.series))
        series = self._ids.by_id()
        rows = self._connection.execute(_QUEUE, [*key, most])
        return [gap_of(series[row[0]], row[1:]) for row in rows]

    def touching(self, series: Series, span: Span) -> list[Gap]:
        """Return the gaps of a series, of every state, that share a candle with a span, by time."""
        return self._gaps(series, _TOUCHED, span.from_ms, span.to_ms)

    def may_reach(self, series: Series, open_time_ms: int) -> bool:
        """Return whether a gap of a series may contain this candle; False is certain."""
        return open_time_ms < self._last_ms.get(series, 0)

    def add(self, gap: Gap) -> tuple[Span, ...]:
        """Insert a gap. Pruned months, and pending and closed gaps inside its span, stay.

        In a pruned month the filled gaps stay, too: the lake has the candles that filled them.

        Returns:
          the parts of the span that are a gap only now.
        """
        series = gap.series
        # Also if the transaction fails: too late a moment only costs a look into the table.
        self._last_ms[series] = max(self._last_ms.get(series, 0), gap.span.to_ms)
        due = tuple(gap.span.without(self._pruned.within(series, gap.span)))
        return tuple(new for span in due for new in self._add(attrs.evolve(gap, span=span)))

    def _add(self, gap: Gap) -> tuple[Span, ...]:
        touched = self.touching(gap.series, gap.span)
        # The candles that filled these are gone again, as with a file that was damaged.
        filled = [old for old in touched if old.state is State.FILLED]
        pieces = [(old, span) for old in filled for span in old.span.without([gap.span])]
        self._replace(filled, (attrs.evolve(old, span=span) for old, span in pieces))
        added = tuple(gap.span.without(old.span for old in touched if old not in filled))
        self._replace((), (attrs.evolve(gap, span=span) for span in added))
        return added

    def change(self, series: Series, span: Span, how: Callable[[Gap], Gap]) -> None:
        """Change the unfilled gaps inside a span; the parts outside it stay as they are."""
        touched = [one for one in self.touching(series, span) if one.state is not State.FILLED]
        changed: list[Gap] = []
        for old in touched:
            [inside] = old.span.common_with(span)
            pieces = [(piece, old) for piece in old.span.without([inside])]
            pieces = sorted([*pieces, (inside, how(old))], key=lambda pair: pair[0])
            changed += [attrs.evolve(now, span=piece) for piece, now in pieces]
        self._replace(touched, changed)

    def fill(self, series: Series, span: Span, origin: Source) -> None:
        """Set the unfilled gaps inside a span to filled by a source."""
        self.change(
            series, span, lambda gap: attrs.evolve(gap, state=State.FILLED, filled_by=origin)
        )

    def change_pending(self, series: Series, span: Span, **fields: Any) -> None:  # noqa: ANN401
        """Change these fields of the pending gaps inside a span."""

        def changed(gap: Gap) -> Gap:
            return attrs.evolve(gap, **fields) if gap.state is State.PENDING else gap

        self.change(series, span, changed)

    def reopen(self, series: Series) -> list[Gap]:
        """Set the gaps that were closed as delisted to pending; return them.

        Pruned months stay as they are.
        """
        return self._reopen(series, Reason.NOT_CONFIGURED, "reason = 'delisted'")

    def rewind(self, series: Series, from_ms: int, now_ms: int) -> None:
        """Delete the gaps from a moment on; set gaps that were closed after now to pending."""
        later = self.touching(series, Span(from_ms, _EVER_MS))
        kept = [(one, span) for one in later for span in one.span.common_with(Span(0, from_ms))]
        self._replace(later, (attrs.evolve(one, span=span) for one, span in kept))
        self.changes += 1
        self._reopen(series, Reason.NOT_RECEIVED, "first_seen_ms > ?2", now_ms)

    def _reopen(self, series: Series, reason: Reason, condition: str, *values: int) -> list[Gap]:
        """Set the closed gaps of a series that meet a condition to pending; return them."""
        closed = self._gaps(series, f"state = 'closed' AND {condition}", *values)
        pruned = self._pruned.within(series, Span(0, _EVER_MS))
        reopened = [
            attrs.evolve(one, span=span, reason=reason, state=State.PENDING, asked=0)
            for one in closed
            for span in one.span.without(pruned)
        ]
        kept = [
            attrs.evolve(one, span=span)
            for one in closed
            for month in pruned
            for span in one.span.common_with(month)
        ]
        self._replace(closed, [*reopened, *kept])
        return reopened

    def add_revision(self, revision: Revision) -> None:
        """Insert a revision; its number is the one after the greatest."""
        self._insert_revision(None, revision)

    def add_restored(self, revisions: Sequence[Revision]) -> None:
        """Insert the revisions of a lake, in the order of arrival, with numbers that end at 0.

        So the revisions to come, from 1 on, are the first that this store's recorder publishes.
        """
        for number, revision in enumerate(revisions, 1 - len(revisions)):
            self._insert_revision(number, revision)

    def _insert_revision(self, number: int | None, revision: Revision) -> None:
        (open_time_ms, *older), (_, *newer) = map(attrs.astuple, (revision.older, revision.newer))
        origin, series_id = str(revision.origin), self._ids.make(revision.series)
        values = [series_id, open_time_ms, origin, revision.is_newer_kept, *older, *newer]
        self._connection.execute(_REVISE, [number, *values])

    def _gaps(self, series: Series, condition: str, *values: int) -> list[Gap]:
        """Return the gaps of a series that meet a condition, by time; its values begin at `?2`."""
        sql = _GAPS.format(condition)
        rows = self._connection.execute(sql, [self._ids.known(series), *values])
        return [gap_of(series, row) for row in rows]

    def _replace(self, old: Iterable[Gap], new: Iterable[Gap]) -> None:
        # Delete all before the first insert: an inserted row may merge with its neighbour.
        for one in old:
            self._delete(one)
        for one in new:
            self._insert(one)

    def _insert(self, gap: Gap) -> None:
        """Insert a row; merge it with adjacent rows that differ in their span only."""
        adjacent = self.touching(gap.series, Span(gap.span.from_ms - 1, gap.span.to_ms + 1))
        for other in adjacent:
            if _alike(other, gap):
                self._delete(other)
                gap = attrs.evolve(
                    gap,
                    span=Span(
                        min(gap.span.from_ms, other.span.from_ms),
                        max(gap.span.to_ms, other.span.to_ms),
                    ),
                    first_seen_ms=min(gap.first_seen_ms, other.first_seen_ms),
                    asked=max(gap.asked, other.asked),
                )
        self.changes += 1
        series_id, span = self._ids.make(gap.series), gap.span
        values = (span.from_ms, span.to_ms, gap.first_seen_ms, str(gap.reason), str(gap.state))
        by = str(gap.filled_by) if gap.filled_by else None
        self._connection.execute(_INSERT, [series_id, *values, gap.asked, by])

    def _delete(self, gap: Gap) -> None:
        self._connection.execute(
            "DELETE FROM absence WHERE series_id = ? AND from_ms = ?",
            [self._ids.known(gap.series), gap.span.from_ms],
        )


def _alike(one: Gap, other: Gap) -> bool:
    """Whether two adjacent gaps can be one row.

    The time at which a gap was found does not separate rows, or an outage of a day would be 1,440
    rows. How often it was asked for separates pending rows: that number decides when one is closed.
    """
    if one.state is State.FILLED:
        return one == attrs.evolve(other, span=one.span)
    asked_alike = one.state is State.CLOSED or one.asked == other.asked
    return asked_alike and (one.reason, one.state) == (other.reason, other.state)
