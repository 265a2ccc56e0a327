"""Looking a store over: every file, every page, every row, against all that can be known of it."""

import contextlib
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import ConfigError, DamagedError, DiskError
from kline_trio.interval import Span
from kline_trio.storage.as_written import is_as_written
from kline_trio.storage.catalog import candle_files
from kline_trio.storage.disk import RESOURCE_ERRORS, disk_errors
from kline_trio.storage.file_list import FileEntry
from kline_trio.storage.files import chunks, open_parquet, owner_of, read_group
from kline_trio.storage.holes import common, holdings
from kline_trio.storage.journal_view import JournalView, journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.paths import journal_path
from kline_trio.storage.row_faults import Fault, begins_ms, row_faults
from kline_trio.storage.table import BEGIN

__all__ = ["CheckedFile", "Fault", "check"]

_LOOKS = 5
"""How often a file is looked at that a recorder replaces meanwhile."""
_OTHER_CRC = "its CRC is not the one that it was written with"
_EVER_MS = (1 << 63) - 1
_NONSENSE = (ValueError, TypeError, OverflowError)
"""What values raise that no journal of ours holds."""


@attrs.frozen
class CheckedFile:
    """What was found of one file."""

    path: Path
    faults: tuple[Fault, ...]
    rows: int = 0
    size_bytes: int = 0
    sha256: str | None = None
    """Of the bytes that were checked; None of what is no candle file of ours."""
    is_foreign: bool = False
    """It is no candle file of ours, which is no fault."""
    series: Series | None = None
    """The series whose holes the faults are; None: they are a file's."""


@attrs.frozen
class _Known:
    """What the journal says of the files."""

    files: dict[PurePosixPath, FileEntry] = attrs.field(factory=dict)
    layout: Layout | None = None
    waiting: dict[PurePosixPath, set[int]] = attrs.field(factory=dict)
    """The open times of the candles in the journal, by the file that they belong to."""
    absent: dict[Series, int] = attrs.field(factory=dict)
    """How many candles are pending or closed in the ledger."""


@attrs.frozen
class _Look:
    """One look at one file."""

    found: CheckedFile
    crc32: int
    begins_ms: frozenset[int] = frozenset()
    """Of its rows, as far as they could be read."""
    owner: Series | None = None


def check(path: Path) -> Iterator[CheckedFile]:
    """Checks a store, a folder of candle files, or one file; it works beside a recorder.

    Of each file: its CRC in the journal, the footer's seal, every page's checksum, columns, order,
    the interval's grid, the numbers of every candle, and that its place is the layout's. Then
    that every file which the journal knows is there, and the journal itself. Then, of each series,
    that every candle that is due up to the watermark is a row, or pending or closed in the ledger.

    A file that differs from the journal's list is no fault by itself: a kill can come after the
    file is in place and before it is listed. It is one if it is not byte for byte what a merge of
    its rows writes, or if it has fewer rows than are listed and the ledger does not tell why.

    Raises:
      ConfigError: there is nothing at the path, or a newer kline_trio wrote it.
      DiskError: the disk refused the folder; what it refuses of a file is a fault of that file.
    """
    path = path.absolute()
    if path.is_file():
        files = [path]
    elif path.is_dir():
        with disk_errors(path):
            files = candle_files(path)
    else:
        raise ConfigError([f"there is no file or folder {path}"])
    store_path = _store_of(path)
    known = _known(store_path)
    for file in files:
        yield _checked(file, store_path, known)
    if path == store_path and journal_path(store_path).exists():
        yield _checked_journal(store_path, set(files))
        yield from _checked_ledger(store_path)


def _store_of(path: Path) -> Path:
    """The store that the path is in or is; a file's folder, or the folder itself, without one."""
    for folder in (path, *path.parents):
        if journal_path(folder).exists():
            return folder
    return path.parent if path.is_file() else path


def _known(store_path: Path) -> _Known:
    # A journal that cannot be read, or holds nonsense, has a line of its own among the findings.
    with contextlib.suppress(DiskError, *_NONSENSE), journal_view(store_path) as journal:
        files = {file.path: file for file in journal.files()}
        template = journal.layout()
        if template is None:
            return _Known(files)
        absent: Counter[Series] = Counter()
        for one in journal.unfilled():
            absent[one.series] += one.series.interval.count(one.span)
        layout = Layout(template)
        waiting: dict[PurePosixPath, set[int]] = {}
        for series, open_time_ms in journal.open_times():
            place = layout.path(series, open_time_ms)
            waiting.setdefault(place, set()).add(open_time_ms)
        return _Known(files, layout, waiting, absent)
    return _Known()


def _checked_journal(store_path: Path, files: set[Path]) -> CheckedFile:
    """The journal, and what it knows of files that are not there."""
    path = journal_path(store_path)
    try:
        with disk_errors(path), journal_view(store_path) as journal:
            faults = [Fault(text) for text in journal.faults()]
            known = journal.files()
            template = journal.layout()
            if template is not None:
                Layout(template)
            for series in journal.newest_ms():
                faults += _waiting_faults(series, journal)
            for series, account in journal.accounts().items():
                series.interval.open_time_ms(account.first_ms)
                series.interval.open_time_ms(account.watermark_ms)
            for absence in journal.unfilled():
                absence.series.interval.count(absence.span)
    except DiskError as error:
        return CheckedFile(path, (Fault(str(error)),))
    except _NONSENSE as error:
        return CheckedFile(path, (Fault(f"holds what kline_trio never writes: {error}"),))
    gone = [file.path for file in known if store_path / file.path not in files]
    faults += [
        Fault(f"it knows {text_of(one)}, which is gone")
        for one in gone
        if not (store_path / one).is_file()
    ]
    return CheckedFile(path, tuple(faults))


def _checked_ledger(store_path: Path) -> Iterator[CheckedFile]:
    """Give the holes of each series that has any, one fault a hole."""
    # Damaged files are told already, and so is a journal that cannot be read or holds nonsense.
    with contextlib.suppress(DiskError, *_NONSENSE):
        found = _holes(store_path)
        if found:
            # Where a recorder sets a damaged file aside, its rows vanish before we see that the
            # ledger names them.
            again = _holes(store_path)
            for series in sorted(found.keys() & again.keys()):
                holes = list(common(found[series], again[series]))
                if holes:
                    faults = tuple(_hole_fault(series, hole) for hole in holes)
                    yield CheckedFile(store_path, faults, series=series)


def _holes(store_path: Path) -> dict[Series, tuple[Span, ...]]:
    every = holdings(store_path, lambda *_: None)
    return {one.series: holes for one in every if (holes := one.missing())}


def _hole_fault(series: Series, hole: Span) -> Fault:
    count = series.interval.count(hole)
    return Fault(
        f"{_time(hole.from_ms)} to {_time(hole.to_ms)}: {count:,}"
        f" candle{'s are' if count > 1 else ' is'} neither stored nor in the ledger"
    )


def _waiting_faults(series: Series, journal: JournalView) -> list[Fault]:
    bad = [
        candle.open_time_ms
        for candle, _ in journal.candles(series, -_EVER_MS, _EVER_MS)
        if not candle.is_possible(series.interval)
    ]
    more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
    return [Fault(f"a waiting candle of {series} that cannot be: {bad[0]} ms{more}")] if bad else []


def _checked(path: Path, store_path: Path, known: _Known) -> CheckedFile:
    place = PurePosixPath(path.relative_to(store_path))
    earlier = None
    for look in range(_LOOKS):
        if look:
            known = _known(store_path)
        try:
            before = path.stat()
            seen = _look(path, place, known.layout)
            replaced = path.stat().st_ino != before.st_ino
        except FileNotFoundError:
            return CheckedFile(path, (Fault("it was there a moment ago, and is gone"),))
        except OSError as error:
            if error.errno in RESOURCE_ERRORS:
                raise
            return CheckedFile(path, (Fault(f"cannot be read: {error.strerror or error}"),))
        if replaced:
            continue
        told = known.files.get(place)
        if told is None or told.crc32 == seen.crc32:
            return seen.found
        if seen.found.is_foreign:
            return _faulty(seen.found, f"is no candle file; one of {told.series} was written here")
        if not seen.found.faults and seen.begins_ms & known.waiting.get(place, set()):
            # Renamed into place, and not yet told to the journal: the next merge, or the next
            # start, repeats it.
            return seen.found
        if earlier == (told, seen.crc32):
            # Nobody is at it.
            return _not_as_listed(path, seen, told, known)
        earlier = (told, seen.crc32)
    return _faulty(seen.found, "it never rests")


def _not_as_listed(path: Path, seen: _Look, told: FileEntry, known: _Known) -> CheckedFile:
    """Judge a file that is not the one in the journal's list, and that nobody is changing."""
    lost = told.rows - seen.found.rows
    if seen.found.faults or seen.owner is None:
        return _faulty(seen.found, _OTHER_CRC)
    try:
        is_merged = is_as_written(path, seen.owner, seen.crc32)
    except (DiskError, OSError) as error:
        if isinstance(error, OSError) and error.errno in RESOURCE_ERRORS:
            raise
        return _faulty(seen.found, f"{_OTHER_CRC}, and whether it is whole is not known: {error}")
    # None: by another version of pyarrow. More rows than listed are a merge's work.
    if not (is_merged or (is_merged is None and lost < 0)):
        return _faulty(seen.found, _OTHER_CRC)
    if lost > known.absent.get(seen.owner, 0):
        what = f"it had {told.rows:,} rows, and the ledger does not tell of {lost:,} that are gone"
        return _faulty(seen.found, f"{_OTHER_CRC}: {what}")
    # A kill or a stop came after it was put into place, and before it was listed.
    return seen.found


def _faulty(file: CheckedFile, what: str) -> CheckedFile:
    return attrs.evolve(file, faults=(Fault(what), *file.faults), is_foreign=False)


def _look(path: Path, place: PurePosixPath, layout: Layout | None) -> _Look:
    crc32, sha256, size_bytes = 0, hashlib.sha256(), 0
    with path.open("rb") as file:
        for chunk in chunks(file):
            crc32 = zlib.crc32(chunk, crc32)
            sha256.update(chunk)
            size_bytes += len(chunk)
    faults: list[Fault] = []
    rows, begins, owner = 0, np.empty(0, np.int64), None
    try:
        with open_parquet(path) as parquet:
            owner = owner_of(parquet, path)
            if owner is None:
                return _Look(CheckedFile(path, (), size_bytes=size_bytes, is_foreign=True), crc32)
            rows = parquet.metadata.num_rows
            faults, begins = _content(parquet, owner, path)
            if layout is not None:
                faults += _place_faults(begins, owner, place, layout)
    except (DamagedError, ConfigError) as error:
        faults.append(Fault(_without_path(error, path)))
    found = CheckedFile(path, tuple(faults), rows, size_bytes, sha256.hexdigest())
    return _Look(found, crc32, frozenset(begins.tolist()), owner)


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path} ")


def _content(
    parquet: pq.ParquetFile, owner: Series, path: Path
) -> tuple[list[Fault], npt.NDArray[np.int64]]:
    """The faults of all rows that can be read, and those rows' begins where they have them."""
    faults: list[Fault] = []
    begins = [np.empty(0, np.int64)]
    first_row, earlier_ms = 0, None
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        try:
            table = read_group(parquet, group, path)
        except DamagedError as error:
            what = _without_path(error, path)
            faults.append(Fault(f"rows {first_row:,} to {first_row + rows - 1:,}: it {what}"))
            earlier_ms = None
        else:
            faults += row_faults(table, owner, first_row, earlier_ms)
            if rows and not table[BEGIN].null_count:
                begins.append(begins_ms(table))
                earlier_ms = int(begins[-1][-1])
        first_row += rows
    return faults, np.concatenate(begins)


def _place_faults(
    begins: npt.NDArray[np.int64], owner: Series, place: PurePosixPath, layout: Layout
) -> list[Fault]:
    # Where begins grow, what holds of the first and the last holds of those between.
    for begin_ms in (int(begin) for begin in begins[[0, -1]]) if len(begins) else ():
        if 0 <= begin_ms < MAX_TIME_MS and layout.path(owner, begin_ms) != place:
            wanted = layout.path(owner, begin_ms)
            return [Fault(f"its row of {_time(begin_ms)} belongs into {text_of(wanted)}")]
    return []


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
