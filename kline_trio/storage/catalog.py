"""What a store holds, by its files' own words."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import attrs
import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.damage import ChangedFile
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import (
    begins_ms,
    bounds_ms,
    check_owner,
    crc32_of,
    open_parquet,
    owner_of,
    status_of,
)
from kline_trio.storage.journal.manifest import FileEntry, is_as_listed
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import SUFFIXES, Layout
from kline_trio.storage.names import disk_name, folder_path
from kline_trio.storage.table import BEGIN, END, runs_of

__all__ = [
    "candle_files",
    "changed_files",
    "first_stored_ms",
    "foreign_only",
    "held_spans",
    "last_end_ms",
    "log_damage",
    "open_files",
    "series",
    "stored_spans",
]

logger = logging.getLogger(__name__)

_Damaged = Callable[[Path, DamagedError], None]


def log_damage(_: Path, error: DamagedError) -> None:
    """Warn of a damaged file, which is passed over."""
    logger.warning("%s; it is passed over", error)


def foreign_only(store_path: Path, on_damage: _Damaged) -> _Damaged:
    """Return an `on_damage` that raises if the journal lists the file: what it held would be lost.

    Raises:
      DiskError: the journal cannot be read.
    """
    with journal_view(store_path) as journal:
        listed = {store_path / file.path for file in journal.files()}

    def tell(path: Path, error: DamagedError) -> None:
        if path in listed:
            raise error
        on_damage(path, error)

    return tell


def series(path: str | os.PathLike[str]) -> list[Series]:
    """The series that the store holds candles of, in order.

    A damaged file that the journal does not list is named in the log, and passed over.

    Raises:
      KlineTrioError: there is no such folder, or a file of ours is damaged; its text names it.
    """
    store_path = store_folder(path)
    return sorted(last_end_ms(store_path, foreign_only(store_path, log_damage)))


def last_end_ms(
    path: str | os.PathLike[str], on_damage: _Damaged = log_damage
) -> dict[Series, int]:
    """The end of each stored series' newest candle; nothing if there is no store.

    Args:
      path: the store's folder.
      on_damage: told of each file that cannot be opened, which is passed over.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    store_path = folder_path(path)
    with disk_errors(store_path):
        # The journal first, as in `read`.
        with journal_view(store_path) as journal:
            ends = {
                owner: owner.interval.end_time_ms(newest_ms)
                for owner, newest_ms in journal.newest_ms().items()
            }
        for _, owner, file in open_files(candle_files(store_path), on_damage):
            for group in range(file.metadata.num_row_groups):
                _, end_ms = bounds_ms(file, group, END)
                ends[owner] = max(end_ms, ends.get(owner, end_ms))
    return ends


def stored_spans(
    store_path: Path,
    wanted: Mapping[Series, int],
    layout: Layout,
    on_damage: _Damaged,
) -> dict[Series, list[Span]]:
    """The stored candles of each series from an open time on, as spans, in order.

    Only files that can hold such candles are opened: listed ones by their place in the layout, and
    files that the manifest does not list, as a kill between rename and `forget` leaves them.

    Args:
      store_path: the store's folder.
      wanted: from where on, for each series.
      layout: the store's.
      on_damage: told of each file that cannot be read, which is passed over.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    found: dict[Series, list[Span]] = {series: [] for series in wanted}
    # The journal first, as in `read`.
    with journal_view(store_path) as journal:
        for owner, times in groupby(journal.open_times(), key=itemgetter(0)):
            if owner in wanted:
                later = (ms for _, ms in times if ms >= wanted[owner])
                found[owner] += owner.interval.runs(later)
        # By the same moment of the journal: a candle that has left it is in a file listed here.
        old = {
            store_path / file.path
            for file in journal.files()
            if not (file.series in wanted and _may_hold(file, layout, wanted[file.series]))
        }
    for path in sorted({*candle_files(store_path)} - old):
        try:
            for _, owner, file in open_files([path]):
                from_ms = wanted.get(owner, MAX_TIME_MS)
                for group in range(file.num_row_groups):
                    if bounds_ms(file, group, BEGIN)[1] >= from_ms:
                        begins = begins_ms(file, group, path)
                        found[owner] += runs_of(owner, begins[begins >= from_ms])
        except DamagedError as error:
            on_damage(path, error)
    return {series: joined(spans) for series, spans in found.items()}


def first_stored_ms(store_path: Path, series: Series, within: Span) -> int | None:
    """Return the open time of the first stored candle of a series in a span; None if none is.

    A file that cannot be read does not count.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    with disk_errors(store_path):
        # The journal first, as in `read`.
        with journal_view(store_path) as journal:
            waiting = journal.waiting_ms(series)
            listed = journal.listed([series]).get(series, [])
        found = [ms for ms in waiting if within.from_ms <= ms < within.to_ms][:1]
        # Files of a series sort by time.
        for name, _ in sorted(listed):
            path = store_path / disk_name(name)
            with contextlib.suppress(FileNotFoundError, DamagedError):
                with open_parquet(path) as file:
                    if begins := list(_begins_within(file, path, within)):
                        return min(begins + found)
    return min(found, default=None)


def _begins_within(file: pq.ParquetFile, path: Path, within: Span) -> Iterator[int]:
    """Yield the first open time within a span of each row group that has one."""
    for group in range(file.num_row_groups):
        first_ms, last_ms = bounds_ms(file, group, BEGIN)
        if within.from_ms <= first_ms < within.to_ms:
            yield first_ms
        elif first_ms < within.from_ms <= last_ms:
            begins = begins_ms(file, group, path)
            inside = begins[(begins >= within.from_ms) & (begins < within.to_ms)]
            yield from inside[:1].tolist()


def _may_hold(file: FileEntry, layout: Layout, from_ms: int) -> bool:
    place = layout.place(file.series, file.path)
    return place is None or place.to_ms > from_ms


def held_spans(path: Path, owner: Series) -> tuple[Span, ...]:
    """The candles in a file, as spans, in order.

    Raises:
      FileNotFoundError: there is none.
      DamagedError: it cannot be read, or is not of this series.
      OSError: the disk refused.
    """
    with open_parquet(path) as file:
        return _spans(file, path, owner)


def _spans(file: pq.ParquetFile, path: Path, owner: Series) -> tuple[Span, ...]:
    check_owner(file, path, owner)
    spans: list[Span] = []
    for group in range(file.num_row_groups):
        spans += runs_of(owner, begins_ms(file, group, path))
    return tuple(joined(spans))


def changed_files(
    store_path: Path, listed: Iterable[FileEntry], on_damage: _Damaged
) -> list[ChangedFile]:
    """Return the listed files that are not as listed, with what is in their place.

    Each file costs a `stat`; only those that differ are opened. Entries of earlier versions have
    no modification time: such a file is opened once, and counts as right if its size, its number
    of rows and the checksum of its footer agree. To read each of them whole for its CRC would cost
    an hour for 100 GB at the first start; `check` does that.

    Args:
      store_path: the store's folder.
      listed: entries of the manifest.
      on_damage: told of each file that cannot be read, and moves it away.

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
            now = None if status is None else _looked_at(path, entry, status)
        except FileNotFoundError:
            pass  # deleted in this moment
        except DamagedError as error:
            on_damage(path, error)
        changed.append(ChangedFile(entry, now))
    return changed


def _looked_at(path: Path, entry: FileEntry, status: os.stat_result) -> FileEntry:
    now = attrs.evolve(entry, modified_ns=status.st_mtime_ns, inode=status.st_ino)
    with open_parquet(path) as file:
        check_owner(file, path, entry.series)
        rows = file.metadata.num_rows
        is_alike = (status.st_size, rows) == (entry.size_bytes, entry.rows)
        if is_alike and entry.modified_ns is None:
            return now
        spans = _spans(file, path, entry.series)
    # The CRC of a copy as long as the original, as of a backup, stays: `check` verifies it.
    crc32 = entry.crc32 if is_alike else crc32_of(path)
    return attrs.evolve(now, rows=rows, size_bytes=status.st_size, crc32=crc32, held=spans)


def candle_files(store_path: Path) -> list[Path]:
    """The Parquet files in the folder and below, by path, whoever wrote them."""
    # Twice, since some file systems can leave a name out of a listing while the file under it is
    # replaced. No file is replaced twice in the time that this takes.
    return sorted({*_scan(store_path), *_scan(store_path)})


def _scan(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_fail_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            # A pipe of that name would be waited for without end.
            if name.endswith(SUFFIXES) and not name.startswith(".") and path.is_file():
                yield path


def _fail_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def open_files(
    paths: list[Path], on_damage: _Damaged | None = None
) -> Iterator[tuple[Path, Series, pq.ParquetFile]]:
    """Opens those of the files that are ours, each until the next one is asked for.

    Args:
      paths: of the files.
      on_damage: told of each file that cannot be opened, which is passed over; None: it raises.
    """
    for path in paths:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open_parquet(path))
                owner = owner_of(file, path)
            except FileNotFoundError:
                # Moved away since it was listed.
                continue
            except DamagedError as error:
                if on_damage is None:
                    raise
                on_damage(path, error)
                continue
            if owner is not None:
                yield path, owner, file
