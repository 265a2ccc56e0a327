"""Rows about series: a list, one with its neighbours, its gaps, revisions and files.

The functions that take a store's folder read it, in a worker thread.
"""

from collections.abc import Iterator
from pathlib import Path

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.monitor.page.calendar_rows import Folding
from kline_trio.monitor.page.look import Look
from kline_trio.monitor.page.parameters import key_of
from kline_trio.monitor.page.summary import percent_of
from kline_trio.storage.catalog import files_named_after, log_damage, open_files, stored_span
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.gaps import has_journal
from kline_trio.storage.journal.ledger import Gap, Revision
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.names import text_of

SERIES_COLUMNS = (
    "series", "state", "first_ms", "last_ms", "percent", "due", "stored", "refilled", "pending",
    "absent", "unaccounted",
)  # fmt: skip
GAP_COLUMNS = (
    "series", "from_ms", "to_ms", "candles", "reason", "state", "asked", "filled_by",
    "first_seen_ms",
)  # fmt: skip
REVISION_COLUMNS = ("series", "open_time_ms", "origin", "column", "older", "newer", "kept")
FILE_COLUMNS = ("path", "rows", "size_bytes", "crc32")

Row = dict[str, object]


def series_rows(look: Look, folding: Folding) -> list[Row]:
    """Return a row for each series that the words of a search match, in order."""
    series = look.calendar.series
    return [series_row(look, place) for place, one in enumerate(series) if folding.has(one)]


def series_row(look: Look, place: int) -> Row:
    """Return the row of a series of the calendar, with the keys of `SERIES_COLUMNS`."""
    series, counts, span = look.calendar.series[place], look.counts[place], look.spans[place]
    values = (
        key_of(series),
        counts.state.name.lower(),
        None if span is None else span.from_ms,
        None if span is None else span.to_ms,
        percent_of(counts.stored, counts.due),
        counts.due,
        counts.stored,
        counts.refilled,
        counts.pending,
        counts.absent,
        counts.unaccounted,
    )
    return dict(zip(SERIES_COLUMNS, values, strict=True))


def summary_of(look: Look, series: Series, store_path: Path) -> Row:
    """Return what there is to know of a series, but for its candles.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    place, every = look.places[series], look.calendar.series
    counts, account = look.counts[place], look.rows.accounts.get(series)
    held = stored_span(store_path, series)
    files = _files(store_path, series)
    return {
        **series_row(look, place),
        "trade_type": series.trade_type,
        "symbol": series.symbol,
        "interval": series.time_interval,
        "interval_ms": series.interval.duration_ms,
        "reasons": [str(one) for one in counts.reasons],
        "account": None if account is None else attrs.asdict(account),
        "files": len(files),
        "file_rows": sum(rows for _, rows, _, _ in files),
        "file_bytes": sum(size for _, _, size, _ in files),
        "candles_from_ms": None if held is None else held.from_ms,
        "candles_to_ms": None if held is None else held.to_ms,
        "previous": key_of(every[place - 1]) if place else None,
        "next": key_of(every[place + 1]) if place + 1 < len(every) else None,
    }


def gap_row(gap: Gap) -> Row:
    """Return the row of a gap, with the keys of `GAP_COLUMNS`."""
    values = (
        key_of(gap.series),
        gap.span.from_ms,
        gap.span.to_ms,
        gap.series.interval.count(gap.span),
        str(gap.reason),
        str(gap.state),
        gap.asked,
        None if gap.filled_by is None else str(gap.filled_by),
        gap.first_seen_ms,
    )
    return dict(zip(GAP_COLUMNS, values, strict=True))


def revision_rows(one: Revision) -> Iterator[Row]:
    """Give a row for each column that differs, with the keys of `REVISION_COLUMNS`."""
    kept = "newer" if one.is_newer_kept else "older"
    for name in attrs.fields_dict(Candle):
        older, newer = getattr(one.older, name), getattr(one.newer, name)
        if older != newer:
            values = (
                key_of(one.series),
                one.older.open_time_ms,
                str(one.origin),
                name,
                older,
                newer,
                kept,
            )
            yield dict(zip(REVISION_COLUMNS, values, strict=True))


def file_rows(store_path: Path, series: Series) -> list[Row]:
    """Return the files of a series, by path, with the keys of `FILE_COLUMNS`.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    return [dict(zip(FILE_COLUMNS, row, strict=True)) for row in _files(store_path, series)]


def _files(store_path: Path, series: Series) -> list[tuple[str, int, int, str | None]]:
    """Return the files as the manifest lists them, or as a copy without a journal has them."""
    with disk_errors(store_path):
        if has_journal(store_path):
            with journal_view(store_path) as journal:
                return [
                    (text_of(one.path), one.rows, one.size_bytes, f"{one.crc32:08x}")
                    for one in journal.files([series])
                ]
        found = open_files(files_named_after(store_path, [series]), log_damage)
        return [
            (text_of(path.relative_to(store_path)), file.metadata.num_rows, size, None)
            for path, owner, file in found
            if owner == series and (size := path.stat().st_size)
        ]
