"""Which candles a changed file has lost: derived each time, never remembered.

The manifest keeps each file's size, modification time and inode. A file that differs, or is gone,
is no damage by itself: a kill between a rename and `forget` leaves a file that is newer than its
entry. Only a candle that is really absent becomes a gap:

    before a merge or an archive fill (files door)      at the start (files door)
      stat the file ── as listed ─▶ nothing is lost       stat each listed file ── as listed ─▶ done
            │ differs, gone, or cannot be read                  │ differs, or gone
            ▼                                                   ▼
      write the new file; read its times (`held`)         read its times (`held`)
            │                                                   │
            ▼                                                   ▼
    forget, keep_filled (commit door), one transaction   adopt (commit door), one transaction
      the entry := the new file                            the entry := the file as it is
            └────────────────────────┬──────────────────────────┘
                                     ▼
      due candles of the file − held − journal − ledger (pending or closed) = new gaps

A `filled` row says that there is a row in a file, so that its candles become gaps again. The
watermark never moves back. The gaps have a reason of their own: the stream did bring them. Those of
a retired series wait until it is recorded again.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pending import waiting_times_ms
from kline_trio.storage.layout import Layout

__all__ = ["ChangedFile", "LostCandles", "due_span", "gaps_left", "log_lost"]

logger = logging.getLogger(__name__)

_ACCOUNT = """
SELECT first_ms, watermark_ms, retired_ms FROM series WHERE id = ? AND watermark_ms IS NOT NULL
"""


@attrs.frozen
class ChangedFile:
    """A listed file that was not as listed, and what was found in its place."""

    listed: FileEntry
    now: FileEntry | None
    """None: the file is gone, or was moved to the quarantine."""


@attrs.frozen
class LostCandles:
    """Candles that a file should hold; they are gaps now."""

    path: PurePosixPath
    series: Series
    count: int


def gaps_left(
    connection: sqlite3.Connection,
    series: Series,
    series_id: int,
    path: PurePosixPath,
    layout: Layout,
    held: Iterable[Span],
    reached_ms: int,
) -> Iterator[Gap]:
    """Give the due candles of a file that are neither in it nor in the journal.

    `Ledger.note` leaves out what the ledger has as pending or closed.

    Args:
      connection: to the journal.
      series: whose file it is.
      series_id: the series' number in the journal.
      path: of the file, relative to the store's folder.
      layout: the store's.
      held: the candles in the file.
      reached_ms: as of `due_span`.
    """
    row = connection.execute(_ACCOUNT, [series_id]).fetchone()
    place = layout.place(series, path)
    if row is None or place is None:
        return
    account = SeriesAccount(*row)
    due = due_span(series, place, account, reached_ms)
    if due is None:
        return
    waiting = series.interval.runs(waiting_times_ms(connection, series_id, due))
    for span in due.without(joined([*held, *waiting])):
        yield Gap(series, span, account.watermark_ms, Reason.LOST_FROM_FILE)


def due_span(series: Series, place: Span, account: SeriesAccount, reached_ms: int) -> Span | None:
    """Return the due candles of a series that live in one file; None if there are none.

    Args:
      series: whose.
      place: of the file, as `Layout.place` gives it.
      account: as it is stored.
      reached_ms: the end of the newest candle that was merged by this process. The stored
        watermark may lag by minutes, and candles behind it were in the file that is lost.
    """
    until_ms = account.watermark_ms
    if account.retired_ms is None:
        until_ms = max(until_ms, reached_ms)
    from_ms = _first_open_ms(series, max(place.from_ms, account.first_ms))
    to_ms = _first_open_ms(series, min(place.to_ms, until_ms))
    return Span(from_ms, to_ms) if from_ms < to_ms else None


def _first_open_ms(series: Series, time_ms: int) -> int:
    """The first open time that is not before this moment."""
    open_ms = series.interval.open_time_ms(time_ms)
    return open_ms if open_ms == time_ms else series.interval.end_time_ms(open_ms)


def log_lost(lost: Iterable[LostCandles]) -> int:
    """Warn of each file that has lost candles; return how many candles that are."""
    count = 0
    for one in lost:
        count += one.count
        logger.warning(
            "%s: %s candles are no longer in %s; they are gaps now",
            one.series,
            f"{one.count:,}",
            one.path,
        )
    return count
