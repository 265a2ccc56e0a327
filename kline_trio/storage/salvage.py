"""Replace a damaged journal by a new one with its readable rows, and keep the damaged one.

A kill at any step does no harm, and the next start goes on: the new journal is whole and durable
under a name of its own before the damaged one is moved, and takes its name last.
"""

import contextlib
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series, Source
from kline_trio.counting import counted
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.disk import disk_errors, is_damage, make_folders, replace_durably, sync_file
from kline_trio.storage.held import journal_parts
from kline_trio.storage.journal.ledger import FetchResult, Gap, gap_of
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pending import CANDLE_COLUMNS
from kline_trio.storage.journal.pruned import PRUNED_COLUMNS, Pruned
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import disk_name
from kline_trio.storage.paths import journal_path, recovered_path, scratch
from kline_trio.storage.quarantine import move_to_quarantine, new_quarantine

logger = logging.getLogger(__name__)

_ONE_WAY = (
    f"SELECT {{}}, {CANDLE_COLUMNS} FROM candle"  # noqa: S608 - ours
    " WHERE series_id = ? ORDER BY open_time_ms {}"
)
_FILES = "SELECT path, series_id, rows, size_bytes, crc32 FROM file"
_ORIGINS = frozenset(map(str, Source))
_LABEL = datetime(1970, 1, 1, tzinfo=UTC)


def open_journal(store_path: Path) -> Journal:
    """Open the store's journal. If it is damaged, replace it by one with its readable rows.

    Raises:
      ConfigError: a newer kline_trio wrote it.
      DiskError: the disk refused.
    """
    path = journal_path(store_path)
    with disk_errors(path):
        if recovered_path(store_path).is_file():
            _finish_salvage(store_path)
    try:
        return Journal.open(path)
    except DamagedError as error:
        with disk_errors(path):
            if path.is_file():
                rescued, aside = _salvage(store_path)
                read = counted(rescued, "candle was read", "candles were read")
                logger.error("%s; %s from it, it is in %s", error, read, aside)
            else:
                aside = _set_parts_aside(store_path)
                logger.error("%s; moved to %s, a new one begins", error, aside)
            return Journal.open(path)


def close_journal(journal: Journal, store_path: Path) -> None:
    """Close the journal. If its file was deleted or replaced meanwhile, write the file anew.

    A file that stands in its place is moved to the quarantine.

    Raises:
      DiskError: the disk refused.
    """
    path = journal_path(store_path)
    with disk_errors(path):
        try:
            is_taken_away = journal.file.is_taken_away
            if is_taken_away:
                _write_anew(journal, store_path)
        finally:
            journal.close()
        if is_taken_away:
            journal.file.remove_beside()
            aside = _finish_salvage(store_path)
            left = f"; what stood there is in {aside}" if any(aside.glob("*")) else ""
            logger.error("%s was taken away; all that it held was written anew%s", path, left)


def _write_anew(journal: Journal, store_path: Path) -> None:
    """Copy an open journal to the recovered one, which `_finish_salvage` puts into place."""
    made = scratch(store_path) / "recovered.sqlite"
    make_folders(made.parent)
    _unlink_all(made)
    journal.copy_to(made)
    with made.open("rb") as file:
        sync_file(file)
    replace_durably(made, recovered_path(store_path))


def _salvage(store_path: Path) -> tuple[int, Path]:
    """Put a new journal with all readable rows in the place of the damaged one.

    Returns:
      how many candles the new one has, and the folder that the damaged journal is in.

    Raises:
      OSError: the disk refused; the damaged journal is untouched, or the next start goes on.
      sqlite3.Error: the same.
    """
    made = scratch(store_path) / "recovered.sqlite"
    _unlink_all(made)
    with _copy_opened(store_path) as damaged, contextlib.closing(Journal.open(made)) as journal:
        series = dict(_series(damaged))
        rescued = 0
        for series_id, one in series.items():
            candles = _candles(damaged, series_id, one)
            _take_over(journal, one, candles)
            rescued += len(candles)
        for path, series_id, *numbers in _readable(damaged, _FILES):
            if series_id in series and isinstance(path, str):
                merged = FileEntry(PurePosixPath(disk_name(path)), series[series_id], *numbers)
                journal.list_file(merged)
        journal.settle(_absences(damaged, series), {})
        # After the gaps: none is added to a pruned month.
        journal.keep_pruned(list(_pruned(damaged, series)), dict(_addresses(damaged)))
        for (layout,) in _readable(damaged, "SELECT layout FROM state"):
            with contextlib.suppress(ValueError, TypeError):
                journal.remember_layout(Layout(layout).template)
        # The file is about to be moved without its WAL, and closing may leave the WAL behind.
        journal.fold_in()
    replace_durably(made, recovered_path(store_path))
    return rescued, _finish_salvage(store_path)


def _finish_salvage(store_path: Path) -> Path:
    """Move the damaged journal away, and put the recovered one in its place.

    Returns:
      the folder that the damaged journal is in.
    """
    # All of it, before the new one comes: SQLite would play an old WAL into it.
    aside = _set_parts_aside(store_path)
    replace_durably(recovered_path(store_path), journal_path(store_path))
    return aside


def _set_parts_aside(store_path: Path) -> Path:
    """Move the journal and what SQLite keeps beside it to one folder of the quarantine."""
    folder = new_quarantine(store_path)
    for part in journal_parts(journal_path(store_path)):
        if part.exists():
            move_to_quarantine(part, store_path, folder)
    return folder


@contextlib.contextmanager
def _copy_opened(store_path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy, since SQLite would fold the WAL into the damaged original."""
    journal = journal_path(store_path)
    copy = scratch(store_path) / "damaged.sqlite"
    _unlink_all(copy)
    for part, new in zip(journal_parts(journal)[:2], journal_parts(copy), strict=False):
        if part.is_file():
            shutil.copyfile(part, new)
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            yield connection
    finally:
        _unlink_all(copy)


def _unlink_all(path: Path) -> None:
    for part in journal_parts(path):
        part.unlink(missing_ok=True)


def _series(damaged: sqlite3.Connection) -> Iterator[tuple[int, Series]]:
    sql = "SELECT id, trade_type, symbol, time_interval FROM series"
    for series_id, *names in _readable(damaged, sql):
        with contextlib.suppress(ValueError, TypeError):
            yield series_id, Series(*names)


def _candles(
    damaged: sqlite3.Connection, series_id: int, series: Series
) -> list[tuple[Source, Candle]]:
    """Return the readable rows of a series. A damaged page ends the walk from either side."""
    columns = {row[1] for row in _readable(damaged, "PRAGMA table_info(candle)")}
    # Before version 3 there was the stream only.
    origin_column = "origin" if "origin" in columns else "'stream'"
    found: dict[int, tuple[Source, Candle]] = {}
    for direction in ("ASC", "DESC"):
        sql = _ONE_WAY.format(origin_column, direction)
        for origin, *values in _readable(damaged, sql, series_id):
            candle = Candle(*values)
            if candle.is_possible(series.interval) and origin in _ORIGINS:
                found.setdefault(candle.open_time_ms, (Source(origin), candle))
    return [found[open_time_ms] for open_time_ms in sorted(found)]


def _take_over(journal: Journal, series: Series, candles: Sequence[tuple[Source, Candle]]) -> None:
    """Put candles into a new journal, so that those that only filled gaps replace nothing."""
    for origin in Source:
        mine = tuple(candle for one, candle in candles if one is origin)
        if mine and origin.replaces:
            journal.accept([ReceivedCandle(series, candle, _LABEL) for candle in mine], origin)
        elif mine:
            end_ms = series.interval.end_time_ms(mine[-1].open_time_ms)
            journal.refill([FetchResult(series, Span(mine[0].open_time_ms, end_ms), mine, origin)])


def _absences(damaged: sqlite3.Connection, series: Mapping[int, Series]) -> Iterator[Gap]:
    """Give the readable gaps. Accounts are left out: the next start derives them from the files."""
    for series_id, *row in _readable(damaged, "SELECT * FROM absence"):
        with contextlib.suppress(KeyError, ValueError):
            gap = gap_of(series[series_id], row)
            ends_ms = gap.span.from_ms, gap.span.to_ms
            if (
                all(isinstance(number, int) for number in (*ends_ms, gap.first_seen_ms, gap.asked))
                and 0 <= gap.span.from_ms < gap.span.to_ms < MAX_TIME_MS
                and all(map(gap.series.interval.is_open_time, ends_ms))
            ):
                yield gap


def _pruned(damaged: sqlite3.Connection, series: Mapping[int, Series]) -> Iterator[Pruned]:
    """Give the readable months that a lake alone has."""
    sql = f"SELECT series_id, {PRUNED_COLUMNS} FROM pruned"  # noqa: S608 - ours
    for series_id, from_ms, to_ms, lake, version, rows, checksum, at_ms in _readable(damaged, sql):
        numbers, texts = (from_ms, to_ms, version, rows, at_ms), (lake, checksum)
        if (
            series_id in series
            and all(isinstance(one, int) and one >= 0 for one in numbers)
            and all(isinstance(one, str) for one in texts)
            and from_ms < to_ms < MAX_TIME_MS
            and all(map(series[series_id].interval.is_open_time, (from_ms, to_ms)))
        ):
            span = Span(from_ms, to_ms)
            yield Pruned(series[series_id], span, lake, version, rows, checksum, at_ms)


def _addresses(damaged: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Give the readable addresses of lakes."""
    for lake, address in _readable(damaged, "SELECT lake, address FROM lake_address"):
        if isinstance(lake, str) and isinstance(address, str):
            with contextlib.suppress(ValueError):
                json.loads(address)
                yield lake, address


def _readable(damaged: sqlite3.Connection, sql: str, *values: int) -> Iterator[tuple[Any, ...]]:
    """Give the rows up to where the damage begins. If the disk refuses, raise."""
    try:
        yield from damaged.execute(sql, values)
    except (UnicodeDecodeError, OverflowError):
        pass
    except sqlite3.Error as error:
        # A plain error is a missing table, or text that is not UTF-8.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code != sqlite3.SQLITE_ERROR and not is_damage(error):
            raise
