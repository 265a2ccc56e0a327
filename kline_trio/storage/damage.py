"""Which candles a changed file has lost: derived each time, never remembered (pure).

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
watermark never moves back.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.file_list import MergedFile
from kline_trio.storage.layout import Layout
from kline_trio.storage.ledger import Account

__all__ = ["ChangedFile", "LostCandles", "due_span", "log_lost", "lost_spans", "place_of"]

logger = logging.getLogger(__name__)

_WIDTHS = {"date": 10, "month": 7, "year": 4}
"""The placeholders of time, finest first, and how many characters each becomes."""
_FIRST_DAY = "0000-01-01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVER = Span(0, MAX_TIME_MS)


@attrs.frozen
class ChangedFile:
    """A listed file that was not as listed, and what was found in its place."""

    listed: MergedFile
    now: MergedFile | None
    """None: the file is gone, or was moved to the quarantine."""


@attrs.frozen
class LostCandles:
    """Candles that a file should hold; they are gaps now."""

    path: PurePosixPath
    series: Series
    count: int


def place_of(layout: Layout, series: Series, path: PurePosixPath) -> Span | None:
    """Return the stretch of open times whose candles live in this file.

    The ends need not be open times of the series.

    Args:
      layout: the store's.
      series: whose file it is.
      path: relative to the store's folder.

    Returns:
      None if the path is not one that the layout gives to the series.
    """
    finest = next((name for name in _WIDTHS if f"{{{name}}}" in layout.template), None)
    if finest is None:
        return _EVER if layout.path(series, 0) == path else None
    # Whatever the time is, its texts have these widths: the place of the finest is known.
    before = layout.template.partition(f"{{{finest}}}")[0].format_map(
        {
            "trade_type": series.trade_type,
            "symbol": series.symbol,
            "time_interval": series.interval.file_name,
            **{name: "?" * width for name, width in _WIDTHS.items()},
        }
    )
    text = str(path)[len(before) :][: _WIDTHS[finest]]
    try:
        first = date.fromisoformat(text + _FIRST_DAY[len(text) :])
        span = Span(_ms(first), _ms(_next(first, finest)))
        return span if layout.path(series, span.from_ms) == path else None
    except (ValueError, OverflowError):
        return None


def _next(first: date, period: str) -> date:
    days = {"date": 1, "month": 31, "year": 366}[period]
    later = first + timedelta(days=days)
    return {"date": later, "month": later.replace(day=1), "year": later.replace(month=1, day=1)}[
        period
    ]


def _ms(day: date) -> int:
    return int((datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH).total_seconds()) * 1000


def due_span(series: Series, place: Span, account: Account, reached_ms: int) -> Span | None:
    """Return the due candles of a series that live in one file; None if there are none.

    Args:
      series: whose.
      place: of the file, as `place_of` gives it.
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


def lost_spans(due: Span, held: Iterable[Span], waiting: Iterable[Span]) -> tuple[Span, ...]:
    """Return the due candles that are neither in the file nor in the journal.

    Args:
      due: which candles live in the file.
      held: which candles it holds.
      waiting: which candles the journal holds.
    """
    return tuple(due.without(joined([*held, *waiting])))


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
