"""The pending candles, which wait for a merge into a file. A table of the journal."""

import functools
import itertools
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import attrs

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.storage.journal.schema import SeriesIds

_FIELDS = tuple(field.name for field in attrs.fields(Candle))
_values_of = operator.attrgetter(*_FIELDS)

CANDLE_COLUMNS = ", ".join(_FIELDS)
"""A candle's columns, in the order of `Candle`'s fields."""

_INTO = f"INTO candle (series_id, sequence, origin, {CANDLE_COLUMNS}) VALUES "
_ROW = f"(?, ?, ?{', ?' * len(_FIELDS)})"
_REPLACE = f"INSERT OR REPLACE {_INTO}{_ROW}"
_ROWS_A_STATEMENT = 64
"""Each statement releases the interpreter's lock and must get it back, so use few statements.
SQLite below 3.32 takes 999 values, which are 76 rows."""
_SAME_TIME = (
    f"SELECT {CANDLE_COLUMNS} FROM candle WHERE series_id = ? AND open_time_ms = ?"  # noqa: S608
    f" AND ({', '.join(_FIELDS[1:])}) IS NOT ({', '.join('?' * (len(_FIELDS) - 1))})"
)
_TAKE = (
    f"SELECT sequence, origin, {CANDLE_COLUMNS} FROM candle"  # noqa: S608 - ours
    " WHERE series_id = ? ORDER BY open_time_ms"
)
_PENDING = """
SELECT trade_type, symbol, time_interval, rows FROM (
  SELECT series_id, count(*) AS rows FROM candle GROUP BY series_id
) JOIN series ON id = series_id ORDER BY id
"""
_TIMES = """
SELECT open_time_ms FROM candle
WHERE series_id = ? AND open_time_ms >= ? AND open_time_ms < ? ORDER BY open_time_ms
"""
_REMOVE = "DELETE FROM candle WHERE series_id = ? AND open_time_ms = ? AND sequence = ?"


@attrs.frozen
class PendingCandle:
    """A candle in the journal."""

    sequence: int
    """Grows with every acceptance: a revision has a greater number than the revised candle."""
    candle: Candle
    origin: Source = Source.STREAM
    """If the origin does not replace, the candle replaces no row of a file."""


def numbered_rows(
    connection: sqlite3.Connection,
    ids: SeriesIds,
    candles: Iterable[tuple[Series, Candle]],
    origin: Source,
) -> list[tuple[object, ...]]:
    """Return the rows of candles, with the next sequence numbers."""
    [last] = connection.execute("SELECT last_sequence FROM state").fetchone()
    rows = [
        (ids.make(series), sequence, str(origin), *_values_of(candle))
        for sequence, (series, candle) in enumerate(candles, last + 1)
    ]
    connection.execute("UPDATE state SET last_sequence = ?", [last + len(rows)])
    return rows


def add_rows(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> Iterator[int]:
    """Insert the rows whose time is free; yield the indices of those that may not be inserted."""
    for begin in range(0, len(rows), _ROWS_A_STATEMENT):
        some = rows[begin : begin + _ROWS_A_STATEMENT]
        values = tuple(itertools.chain.from_iterable(some))
        added = connection.execute(_add_statement(len(some)), values).rowcount
        if added < len(some):
            yield from range(begin, begin + len(some))


def replace_row(connection: sqlite3.Connection, row: tuple[object, ...]) -> None:
    """Replace the row of the same time."""
    connection.execute(_REPLACE, row)


def differing_row(connection: sqlite3.Connection, series_id: int, candle: Candle) -> Candle | None:
    """Return the pending candle of the same time if it differs; else None."""
    open_time_ms, *values = _values_of(candle)
    older = connection.execute(_SAME_TIME, (series_id, open_time_ms, *values)).fetchone()
    return None if older is None else Candle(*older)


def pending_counts(connection: sqlite3.Connection) -> dict[Series, int]:
    """Return how many candles of each series are pending, in the order of the series' ids."""
    return {Series(*names): rows for *names, rows in connection.execute(_PENDING)}


def waiting_times_ms(connection: sqlite3.Connection, series_id: int, span: Span) -> Iterator[int]:
    """Yield the open times of a series' pending candles in a span, in order."""
    rows = connection.execute(_TIMES, [series_id, span.from_ms, span.to_ms])
    return (open_time_ms for (open_time_ms,) in rows)


def pending_candles(
    connection: sqlite3.Connection, series_id: int | None
) -> tuple[PendingCandle, ...]:
    """Return the pending candles of a series, by open time."""
    rows = connection.execute(_TAKE, [series_id])
    return tuple(
        PendingCandle(sequence, Candle(*values), Source(source))
        for sequence, source, *values in rows
    )


def remove_rows(
    connection: sqlite3.Connection, series_id: int, taken: Iterable[PendingCandle]
) -> None:
    """Remove exactly these candles; a revision since they were read stays."""
    connection.executemany(
        _REMOVE, [(series_id, item.candle.open_time_ms, item.sequence) for item in taken]
    )


@functools.cache
def _add_statement(rows: int) -> str:
    return f"INSERT OR IGNORE {_INTO}{', '.join([_ROW] * rows)}"
