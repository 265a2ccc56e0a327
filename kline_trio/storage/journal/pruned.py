"""Pruned months: candles that were removed here, since the lake has them. Tables of the journal.

A month of a series is pruned only after each of its candles was read back from the lake. From then
on nothing of it is due, and no gap is ever added to it. The row is written before the first file is
touched: after a kill in between, the candles are here and in the lake.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.journal.schema import SeriesIds

PRUNED_COLUMNS = "from_ms, to_ms, lake, version, rows, checksum, pruned_ms"
_SERIES = "trade_type, symbol, time_interval"
_OF_SERIES = "trade_type = ? AND symbol = ? AND time_interval = ?"
_MONTHS = f"""
SELECT {_SERIES}, {PRUNED_COLUMNS} FROM pruned JOIN series ON id = series_id
WHERE {{}} ORDER BY {_SERIES}, from_ms
"""  # noqa: S608 - ours
_TOUCHED = """
SELECT from_ms, to_ms FROM pruned WHERE series_id = ? AND from_ms < ? AND to_ms > ? ORDER BY from_ms
"""
_PUT = (
    f"INSERT OR REPLACE INTO pruned (series_id, {PRUNED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
)
# A month has more due candles if its series is recorded again, or wanted from an earlier time on.
_REMOVE_PARTS = "DELETE FROM pruned WHERE series_id = ? AND from_ms >= ? AND to_ms <= ?"
_PUT_ADDRESS = "INSERT OR REPLACE INTO lake_address VALUES (?, ?)"
_IS_SETTLED = """
SELECT lake IS ?4
  AND NOT EXISTS (
    SELECT 1 FROM candle WHERE series_id = ?1 AND open_time_ms >= ?2 AND open_time_ms < ?3
  )
  AND NOT EXISTS (SELECT 1 FROM unpublished WHERE series_id = ?1 AND from_ms < ?3 AND to_ms > ?2)
  AND NOT EXISTS (
    SELECT 1 FROM absence
    WHERE series_id = ?1 AND state = 'pending' AND from_ms < ?3 AND to_ms > ?2
  )
FROM state
"""


@attrs.frozen
class Pruned:
    """A month of a series that was removed from its files, since the lake has it."""

    series: Series
    span: Span
    """The due candles that open in the month, in UTC."""
    lake: str
    """The id of the lake."""
    version: int
    """Of the lake's table of candles, in which they were read back."""
    rows: int
    """How many candles of the month the lake had then."""
    checksum: str
    """Of these candles, as `candle_checksum` gives it."""
    pruned_ms: int
    """When, in the exchange's time."""


def pruned_months(
    connection: sqlite3.Connection, among: Collection[Series] | None = None
) -> Iterator[Pruned]:
    """Give the pruned months of all series, or of some, by series and time."""
    for wanted in [()] if among is None else map(attrs.astuple, sorted(among)):
        found = connection.execute(_MONTHS.format(_OF_SERIES if wanted else "1"), wanted)
        for *names, from_ms, to_ms, lake, version, rows, checksum, at_ms in found:
            span = Span(from_ms, to_ms)
            yield Pruned(Series(*names), span, lake, version, rows, checksum, at_ms)


def lake_addresses(connection: sqlite3.Connection) -> dict[str, str]:
    """Return by the id of each lake with pruned months its address, as JSON."""
    return dict(connection.execute("SELECT lake, address FROM lake_address").fetchall())


@attrs.define(eq=False)
class PrunedMonths:
    """The tables on a writing connection; every change is part of a transaction of the journal."""

    _connection: sqlite3.Connection
    _ids: SeriesIds
    changes: int = attrs.field(init=False)
    """A number that differs after each change; 0: there never was one."""

    def __attrs_post_init__(self) -> None:
        [self.changes] = self._connection.execute("SELECT count(*) FROM pruned").fetchone()

    def within(self, series: Series, span: Span) -> list[Span]:
        """Return the pruned months of a series that share a candle with a span, by time."""
        values = [self._ids.known(series), span.to_ms, span.from_ms]
        return [Span(*row) for row in self._connection.execute(_TOUCHED, values)]

    def prune(self, months: Iterable[Pruned], address: str) -> list[Pruned]:
        """Keep that the lake alone has months. Pass over those that may have changed.

        A month may have changed since it was read back if candles of it wait for a file or for the
        lake, or if it has a pending gap; or the journal has another lake now.

        Args:
          months: as they were read back.
          address: of the lake, as JSON.

        Returns:
          the months that are pruned now.
        """
        kept = [one for one in months if self._is_settled(one)]
        self.put(kept, {one.lake: address for one in kept})
        return kept

    def put(self, months: Iterable[Pruned], addresses: Mapping[str, str]) -> None:
        """Insert months, and the addresses of their lakes; replace what is known of them."""
        for one in months:
            series, span, *values = attrs.astuple(one, recurse=False)
            row = [self._ids.make(series), *attrs.astuple(span), *values]
            self._connection.execute(_REMOVE_PARTS, row[:3])
            self._connection.execute(_PUT, row)
            self.changes += 1
        self._connection.executemany(_PUT_ADDRESS, addresses.items())

    def _is_settled(self, month: Pruned) -> bool:
        values = [self._ids.known(month.series), month.span.from_ms, month.span.to_ms, month.lake]
        [is_settled] = self._connection.execute(_IS_SETTLED, values).fetchone()
        return bool(is_settled)
