"""Which gaps a changed file leaves, by the tables of the journal; `damage` has the whole way."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.damage import due_span, lost_spans, place_of
from kline_trio.storage.layout import Layout
from kline_trio.storage.ledger import Absence, Account, Reason
from kline_trio.storage.waiting import waiting_times_ms

__all__ = ["gaps_left"]

_ACCOUNT = """
SELECT first_ms, watermark_ms, retired_ms FROM series WHERE id = ? AND watermark_ms IS NOT NULL
"""


def gaps_left(
    connection: sqlite3.Connection,
    series: Series,
    series_id: int,
    path: PurePosixPath,
    layout: Layout,
    held: Sequence[Span],
    reached_ms: int,
) -> Iterator[Absence]:
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
    place = place_of(layout, series, path)
    if row is None or place is None:
        return
    account = Account(*row)
    due = due_span(series, place, account, reached_ms)
    if due is None:
        return
    waiting = series.interval.runs(waiting_times_ms(connection, series_id, due))
    for span in lost_spans(due, held, waiting):
        yield Absence(series, span, account.watermark_ms, Reason.NOT_RECEIVED)
