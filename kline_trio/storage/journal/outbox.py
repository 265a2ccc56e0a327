"""The outbox: which accepted candles have not been published to the lake. Tables of the journal.

The order of acceptance is the watermark. `state.published_sequence` is the last sequence number of
which everything is published. Candles with a greater number that are still in the journal are
unpublished, and so are the spans in the table `unpublished`: candles that left the journal for
their files, that an archive filled, or whose revisions changed.

A journal without a lake keeps no spans, and costs nothing.
"""

import sqlite3
from collections.abc import Iterable, Mapping

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.journal.schema import SeriesIds

EVER = Span(0, MAX_TIME_MS)
"""All candles of a series."""

_TOUCHED = """
SELECT from_ms, to_ms, sequence FROM unpublished
WHERE series_id = ?1 AND from_ms <= ?3 AND to_ms >= ?2
"""
_DELETE = "DELETE FROM unpublished WHERE series_id = ? AND from_ms = ? AND sequence = ?"
_INSERT = "INSERT INTO unpublished (series_id, from_ms, to_ms, sequence) VALUES (?, ?, ?, ?)"
_SPANS = """
SELECT trade_type, symbol, time_interval, from_ms, to_ms
FROM unpublished JOIN series ON id = series_id ORDER BY trade_type, symbol, time_interval, from_ms
"""
_WAITING = """
SELECT trade_type, symbol, time_interval, open_time_ms FROM candle JOIN series ON id = series_id
WHERE sequence > ? ORDER BY trade_type, symbol, time_interval, open_time_ms
"""


@attrs.frozen
class LakeState:
    """What the journal knows of its lake."""

    recorder: str
    """The name of this recorder in the lake."""
    lake: str
    """The id of the lake: another lake lacks everything."""
    published_sequence: int


@attrs.frozen
class Unpublished:
    """What has to be published, as one look at the journal found it."""

    sequence: int
    """The last sequence number that the look saw."""
    spans: Mapping[Series, tuple[Span, ...]]
    """By series, in the order of time; no two spans touch."""


def lake_state(connection: sqlite3.Connection) -> LakeState | None:
    """Return what the journal knows of its lake; None: it never had one."""
    row = connection.execute("SELECT recorder, lake, published_sequence FROM state").fetchone()
    return None if row is None or row[1] is None else LakeState(*row)


def unpublished(connection: sqlite3.Connection) -> Unpublished:
    """Return what has to be published, in one transaction of a reader."""
    sql = "SELECT last_sequence, published_sequence FROM state"
    # A file without tables has no state.
    last, published = connection.execute(sql).fetchone() or (0, 0)
    spans: dict[Series, list[Span]] = {}
    for *names, from_ms, to_ms in connection.execute(_SPANS):
        spans.setdefault(Series(*names), []).append(Span(from_ms, to_ms))
    times: dict[Series, list[int]] = {}
    for *names, open_time_ms in connection.execute(_WAITING, [published]):
        times.setdefault(Series(*names), []).append(open_time_ms)
    for series, begins in times.items():
        spans.setdefault(series, []).extend(series.interval.runs(begins))
    return Unpublished(last, {one: tuple(joined(spans[one])) for one in sorted(spans)})


@attrs.define(eq=False)
class Outbox:
    """The table on a writing connection; every change is part of a transaction of the journal."""

    _connection: sqlite3.Connection
    _ids: SeriesIds
    state: LakeState | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.state = lake_state(self._connection)

    def begin(
        self, recorder: str, lake: str, stored: Iterable[Series], *, is_published: bool = False
    ) -> None:
        """Publish to a lake from now on. If the journal knows another one, everything is due.

        Call `reload` after the transaction.

        Args:
          recorder: the name of this recorder in the lake.
          lake: the id of the lake.
          stored: the series of the store.
          is_published: whether the lake has everything already.
        """
        if self.state is not None and self.state.lake == lake:
            return
        kept = recorder if self.state is None else self.state.recorder
        one = self._connection
        one.execute("UPDATE state SET recorder = ?, lake = ?", [kept, lake])
        one.execute("DELETE FROM unpublished")
        sequence = self._next_sequence()
        one.execute("UPDATE state SET published_sequence = ?", [sequence])
        if is_published:
            return
        ids = {*self._ids.by_id(), *map(self._ids.make, stored)}
        rows = [(series_id, EVER.from_ms, EVER.to_ms, sequence) for series_id in ids]
        one.executemany(_INSERT, rows)

    def reload(self) -> None:
        """Read the state again, after a transaction."""
        self.state = lake_state(self._connection)

    def left_journal(self, series: Series, taken: Iterable[PendingCandle]) -> None:
        """Keep that candles of the journal, which are in a file now, may be unpublished."""
        if self.state is None:
            return
        late = [one for one in taken if one.sequence > self.state.published_sequence]
        if late:
            sequence = max(one.sequence for one in late)
            for span in series.interval.runs(one.candle.open_time_ms for one in late):
                self._add(series, span, sequence)

    def changed(self, series: Series, spans: Iterable[Span]) -> None:
        """Keep that candles have changed which the journal's rows do not show."""
        if self.state is None:
            return
        spans = tuple(spans)
        if spans:
            sequence = self._next_sequence()
            for span in spans:
                self._add(series, span, sequence)

    def revised(self, revision: Revision) -> None:
        """Keep that a candle has one more revision, if its value was replaced."""
        if revision.is_newer_kept:
            begin_ms, interval = revision.newer.open_time_ms, revision.series.interval
            self.changed(revision.series, [Span(begin_ms, interval.end_time_ms(begin_ms))])

    def published(self, spans: Mapping[Series, Iterable[Span]], sequence: int) -> None:
        """Remove spans that are in the lake, but for what has changed after a sequence number."""
        for series, some in spans.items():
            series_id = self._ids.make(series)
            for span in some:
                touched = self._touched(series_id, span)
                for from_ms, to_ms, newest in touched:
                    if newest <= sequence:
                        self._connection.execute(_DELETE, [series_id, from_ms, newest])
                        for rest in Span(from_ms, to_ms).without([span]):
                            values = [series_id, rest.from_ms, rest.to_ms, newest]
                            self._connection.execute(_INSERT, values)

    def all_published(self, sequence: int) -> None:
        """Keep that everything up to a sequence number is in the lake. Call `reload` after."""
        one = self._connection
        one.execute("DELETE FROM unpublished WHERE sequence <= ?", [sequence])
        sql = "UPDATE state SET published_sequence = ?1 WHERE published_sequence < ?1"
        one.execute(sql, [sequence])

    def _add(self, series: Series, span: Span, sequence: int) -> None:
        """Insert a span; join it with those that it touches.

        Spans of a publication that is still under way, which may be years long, stay alone.
        """
        assert self.state is not None
        series_id = self._ids.make(series)
        from_ms, to_ms = span.from_ms, span.to_ms
        for other_from_ms, other_to_ms, other in self._touched(series_id, span):
            if other > self.state.published_sequence:
                self._connection.execute(_DELETE, [series_id, other_from_ms, other])
                from_ms, to_ms = min(from_ms, other_from_ms), max(to_ms, other_to_ms)
                # The joined span is published again as a whole, which changes nothing in the lake.
                sequence = max(sequence, other)
        self._connection.execute(_INSERT, [series_id, from_ms, to_ms, sequence])

    def _touched(self, series_id: int, span: Span) -> list[tuple[int, int, int]]:
        rows = self._connection.execute(_TOUCHED, [series_id, span.from_ms, span.to_ms])
        return rows.fetchall()

    def _next_sequence(self) -> int:
        one = self._connection
        one.execute("UPDATE state SET last_sequence = last_sequence + 1")
        [sequence] = one.execute("SELECT last_sequence FROM state").fetchone()
        return int(sequence)
