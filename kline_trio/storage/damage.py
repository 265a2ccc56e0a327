"""Find candle files that have changed, and the candles that they have lost.

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

A `filled` row of the ledger says that a file has the candles, so they become gaps again if the
file has lost them. The watermark never moves back. The gaps have a reason of their own, since the
stream did bring the candles. Gaps of a retired series wait until it is recorded again.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import Series
from kline_trio.counting import counted, noun
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.catalog import OnDamage, held_spans
from kline_trio.storage.files import check_owner, crc32_of, open_parquet, status_of
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.journal.manifest import FileEntry, is_as_listed

logger = logging.getLogger(__name__)


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


def changed_files(
    store_path: Path, listed: Iterable[FileEntry], on_damage: OnDamage
) -> list[ChangedFile]:
    """Return the listed files that are not as listed, with what is in their place.

    Each file costs a `stat`; only those that differ are opened. An entry of an earlier version has
    no modification time: its file is opened once, and counts as listed if its size, its number of
    rows and the checksum of its footer agree. To read each such file whole for its CRC would cost
    an hour for 100 GB at the first start; `check` does that.

    Args:
      store_path: the store's folder.
      listed: entries of the manifest.
      on_damage: called for each file that cannot be read; moves it away.

    Raises:
      OSError: the disk refused.
    """
    changed = []
    for entry in listed:
        path = store_path / entry.path
        now = None
        try:
            status = status_of(path)
            if entry.modified_ns is not None and is_as_listed(entry, status):
                continue
            now = None if status is None else _entry_of(path, entry, status)
        except FileNotFoundError:
            pass  # deleted in this moment
        except DamagedError as error:
            on_damage(path, error)
        changed.append(ChangedFile(entry, now))
    return changed


def _entry_of(path: Path, entry: FileEntry, status: os.stat_result) -> FileEntry:
    now = attrs.evolve(entry, modified_ns=status.st_mtime_ns, inode=status.st_ino)
    with open_parquet(path) as file:
        check_owner(file, path, entry.series)
        rows = file.metadata.num_rows
    is_alike = (status.st_size, rows) == (entry.size_bytes, entry.rows)
    if is_alike and entry.modified_ns is None:
        return now
    spans = held_spans(path, entry.series)
    # The CRC of a copy as long as the original, as of a backup, stays: `check` verifies it.
    crc32 = entry.crc32 if is_alike else crc32_of(path)
    return attrs.evolve(now, rows=rows, size_bytes=status.st_size, crc32=crc32, held=spans)


def due_span(
    series: Series, place: Span, account: SeriesAccount, reached_ms: int
) -> tuple[Span, ...]:
    """Return the due candles of a series that belong into one file: one span, or none.

    Args:
      series: of the file.
      place: of the file, as `Layout.place` gives it.
      account: of the series, as the journal has it.
      reached_ms: the end of the newest candle that was merged by this process. The stored
        watermark may lag by minutes, and candles behind it were in the file that is lost.
    """
    until_ms = account.watermark_ms
    if account.retired_ms is None:
        until_ms = max(until_ms, reached_ms)
    from_ms = series.interval.next_open_time_ms(max(place.from_ms, account.first_ms))
    to_ms = series.interval.next_open_time_ms(min(place.to_ms, until_ms))
    return (Span(from_ms, to_ms),) if from_ms < to_ms else ()


def log_lost(lost: Iterable[LostCandles]) -> int:
    """Warn of each file that has lost candles; return how many candles that are."""
    count = 0
    for one in lost:
        count += one.count
        logger.warning(
            "%s: %s no longer in %s; %s now",
            one.series,
            counted(one.count, "candle is", "candles are"),
            one.path,
            noun(one.count, "it is a gap", "they are gaps"),
        )
    return count
