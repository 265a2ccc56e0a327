"""Check a store: every file, page and row, its journal, its ledger, and its layout."""

import contextlib
import hashlib
import shlex
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, DamagedError, DiskError
from kline_trio.interval import Span, time_text
from kline_trio.program import program_name
from kline_trio.spans import common
from kline_trio.storage.catalog import EARLIEST_MS, LATEST_MS, candle_files, log_damage, open_files
from kline_trio.storage.changes import Changes
from kline_trio.storage.disk import RESOURCE_ERRORS, disk_errors
from kline_trio.storage.files import bounds_ms, chunks, open_parquet, owner_of, read_group
from kline_trio.storage.holdings import holdings
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.parquet import rewrite_file
from kline_trio.storage.paths import journal_path
from kline_trio.storage.row_faults import Fault, row_faults
from kline_trio.storage.simulated import simulated_hint
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN, schema, values_of

_MOST_LOOKS = 5
"""How often to read a file that a recorder replaces meanwhile."""
_OTHER_CRC = "its CRC is not the one that it was written with"
_WRITER = f"parquet-cpp-arrow version {pa.cpp_version}"
"""How pyarrow names itself in a footer."""
_NONSENSE = (ValueError, TypeError, OverflowError)
"""The errors that a journal's values raise if kline_trio did not write them."""


@attrs.frozen
class CheckedFile:
    """What a check found of one file, or of one series in the ledger."""

    path: Path
    faults: tuple[Fault, ...]
    rows: int = 0
    size_bytes: int = 0
    sha256: str | None = None
    """Of the bytes that were checked; None if it is no candle file of ours."""
    is_foreign: bool = False
    """Whether it is no candle file of ours, which is no fault."""
    series: Series | None = None
    """The series whose holes the faults are; None: the faults are of the file."""


@attrs.frozen
class _Known:
    """The journal's knowledge of the files."""

    files: dict[PurePosixPath, FileEntry] = attrs.field(factory=dict)
    layout: Layout | None = None
    waiting: dict[PurePosixPath, set[int]] = attrs.field(factory=dict)
    """The open times of the candles in the journal, by the file that they belong to."""
    absent: dict[Series, int] = attrs.field(factory=dict)
    """How many candles are pending or closed in the ledger, or in a month that was pruned."""


@attrs.frozen
class _Look:
    """What one reading of a file found."""

    found: CheckedFile
    crc32: int
    begins_ms: frozenset[int] = frozenset()
    """The open times of the rows that could be read."""
    owner: Series | None = None


def check(path: Path, on_step: OnStep = ignore_step) -> Iterator[CheckedFile]:
    """Check a store, a folder of candle files, or one file. A recorder may run beside it.

    Check each file: its CRC in the journal, the footer's seal, every page's checksum, columns,
    order, the interval's grid, the numbers of every candle, and its place in the layout. Then
    check that every file in the manifest is there, and the journal itself. Then check of
    each series that every candle due up to the watermark is a row, or pending or closed in the
    ledger.

    A file that differs from the manifest is no fault by itself: a kill can come after the
    file is in place and before it is listed. It is a fault if it is not byte for byte what a merge
    of its rows writes, or if it has fewer rows than listed and the ledger does not name them.

    Args:
      path: of the store, the folder or the file.
      on_step: called with each file, counted in bytes, and with what is waited for.

    Raises:
      ConfigError: there is nothing at the path, or a newer kline_trio wrote it.
      DiskError: the disk refused the folder; what it refuses of a file is a fault of that file.
    """
    path = path.absolute()
    on_step(Step("reading the list of files"))
    if path.is_file():
        files = [path]
    elif path.is_dir():
        with disk_errors(path):
            files = candle_files(path)
    else:
        raise ConfigError([f"there is no file or folder {path}{simulated_hint(path)}"])
    store_path = _store_of(path)
    sizes_bytes = [*map(_size_bytes, files)]
    on_step(Step("reading the journal"))
    known = _known(store_path)
    done, total = 0, sum(sizes_bytes)
    for file, size_bytes in zip(files, sizes_bytes, strict=True):
        on_step(Step(text_of(file.relative_to(store_path)), done, total, "byte"))
        yield _checked(file, store_path, known)
        done += size_bytes
    if path == store_path and journal_path(store_path).exists():
        on_step(Step("checking the journal"))
        yield _checked_journal(store_path, set(files))
        yield from _checked_ledger(store_path, on_step)


def _size_bytes(path: Path) -> int:
    """Return the size of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _store_of(path: Path) -> Path:
    """Return the store that the path is or is in; without a store, the folder."""
    for folder in (path, *path.parents):
        if journal_path(folder).exists():
            return folder
    return path.parent if path.is_file() else path


def _known(store_path: Path) -> _Known:
    # `_checked_journal` reports a journal that cannot be read or holds nonsense.
    with contextlib.suppress(DiskError, *_NONSENSE), journal_view(store_path) as journal:
        files = {file.path: file for file in journal.files()}
        template = journal.layout()
        if template is None:
            return _Known(files)
        absent: Counter[Series] = Counter()
        for one in journal.unfilled():
            absent[one.series] += one.series.interval.count(one.span)
        for month in journal.pruned():
            absent[month.series] += month.series.interval.count(month.span)
        layout = Layout(template)
        waiting: dict[PurePosixPath, set[int]] = {}
        for series in journal.newest_ms():
            for open_time_ms in journal.waiting_ms(series):
                place = layout.path(series, open_time_ms)
                waiting.setdefault(place, set()).add(open_time_ms)
        return _Known(files, layout, waiting, absent)
    return _Known()


def _checked_journal(store_path: Path, files: set[Path]) -> CheckedFile:
    """Check the journal, and that the files in its list are there."""
    path = journal_path(store_path)
    try:
        with journal_view(store_path) as journal:
            faults = [Fault(text) for text in journal.faults()]
            known = journal.files()
            template = journal.layout()
            layout = None if template is None else Layout(template)
            pruned: dict[Series, list[Span]] = {}
            for month in journal.pruned():
                month.series.interval.count(month.span)
                pruned.setdefault(month.series, []).append(month.span)
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
    faults += [
        Fault(f"it knows {text_of(one.path)}, which is gone")
        for one in known
        if (file := store_path / one.path) not in files
        and not file.is_file()
        and not _may_be_pruned(one, pruned.get(one.series, ()), layout)
    ]
    return CheckedFile(path, tuple(faults))


def _may_be_pruned(entry: FileEntry, pruned: Iterable[Span], layout: Layout | None) -> bool:
    """Return whether a file may be gone because its months were pruned, and not yet unlisted.

    If it held candles of other months as well, those are holes in the ledger's check.
    """
    place = None if layout is None else layout.place(entry.series, entry.path)
    return any(place is None or place.common_with(month) for month in pruned)


def _checked_ledger(store_path: Path, on_step: OnStep) -> Iterator[CheckedFile]:
    """Give the holes of each series that has any, one fault a hole."""
    # Damaged files are reported already, and so is a journal that cannot be read.
    with contextlib.suppress(DiskError, *_NONSENSE):
        if found := _holes(store_path, on_step):
            # While a recorder sets a damaged file aside, its rows vanish before the ledger names
            # them: only a hole that is found twice is one.
            again = _holes(store_path, on_step)
            for series in sorted(found.keys() & again.keys()):
                if holes := list(common(found[series], again[series])):
                    faults = tuple(_hole_fault(series, hole) for hole in holes)
                    yield CheckedFile(store_path, faults, series=series)


def _holes(store_path: Path, on_step: OnStep) -> dict[Series, tuple[Span, ...]]:
    every = holdings(store_path, lambda *_: None, on_step=on_step)
    return {one.series: holes for one in every if (holes := one.missing())}


def _hole_fault(series: Series, hole: Span) -> Fault:
    count = series.interval.count(hole)
    return Fault(
        f"{time_text(hole.from_ms)} to {time_text(hole.to_ms)}:"
        f" {counted(count, 'candle is', 'candles are')} neither stored nor in the ledger"
    )


def _waiting_faults(series: Series, journal: JournalView) -> list[Fault]:
    bad = [
        candle.open_time_ms
        for candle, _ in journal.candles(series, EARLIEST_MS, LATEST_MS)
        if not candle.is_possible(series.interval)
    ]
    if not bad:
        return []
    more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
    return [Fault(f"a waiting candle of {series} that cannot be: {bad[0]} ms{more}")]


def _checked(path: Path, store_path: Path, known: _Known) -> CheckedFile:
    place = PurePosixPath(path.relative_to(store_path))
    earlier = None
    for attempt in range(_MOST_LOOKS):
        if attempt:
            known = _known(store_path)
        try:
            before = path.stat()
            seen = _look(path, place, known.layout)
            is_replaced = path.stat().st_ino != before.st_ino
        except FileNotFoundError:
            return CheckedFile(path, (Fault("it was there a moment ago, and is gone"),))
        except OSError as error:
            if error.errno in RESOURCE_ERRORS:
                raise
            return CheckedFile(path, (Fault(f"cannot be read: {error.strerror or error}"),))
        if is_replaced:
            continue
        entry = known.files.get(place)
        if entry is None or entry.crc32 == seen.crc32:
            return seen.found
        if seen.found.is_foreign:
            return _faulty(seen.found, f"is no candle file; one of {entry.series} was written here")
        if not seen.found.faults and seen.begins_ms & known.waiting.get(place, set()):
            # In place, and not yet in the manifest: the next merge or start repeats it.
            return seen.found
        if earlier == (entry, seen.crc32):
            # Twice the same: no recorder is changing it.
            return _not_as_listed(path, seen, entry, known)
        earlier = (entry, seen.crc32)
    return _faulty(seen.found, "it never rests")


def _not_as_listed(path: Path, seen: _Look, entry: FileEntry, known: _Known) -> CheckedFile:
    """Judge a file that differs from its entry in the journal, and that no recorder is changing."""
    lost = entry.rows - seen.found.rows
    if seen.found.faults or seen.owner is None:
        return _faulty(seen.found, _OTHER_CRC)
    try:
        is_merged = _is_as_written(path, seen.owner, seen.crc32)
    except (DiskError, OSError) as error:
        if isinstance(error, OSError) and error.errno in RESOURCE_ERRORS:
            raise
        return _faulty(seen.found, f"{_OTHER_CRC}, and whether it is whole is not known: {error}")
    # None: another version of pyarrow wrote it. Only a merge adds rows to a file.
    if not (is_merged or (is_merged is None and lost < 0)):
        return _faulty(seen.found, _OTHER_CRC)
    if lost > known.absent.get(seen.owner, 0):
        gone = counted(lost, "that is", "that are")
        what = f"it had {counted(entry.rows, 'row')}, and the ledger does not tell of {gone} gone"
        return _faulty(seen.found, f"{_OTHER_CRC}: {what}")
    # A kill or a stop came after the file was in place, and before it was listed.
    return seen.found


def _is_as_written(path: Path, owner: Series, crc32: int) -> bool | None:
    """Return whether a merge of the file's rows would write exactly this file.

    The bytes of a file follow from its rows alone, so the rows are written once more, in a
    temporary folder. The checksums of pages and footer do not cover every byte; this does.

    Args:
      path: the file; all of its rows can be read.
      owner: whose candles it holds.
      crc32: of the whole file.

    Returns:
      None if another version of pyarrow wrote the file, so that nothing can be told.

    Raises:
      DiskError: the temporary folder has no room, or the file cannot be read.
      OSError: the same.
    """
    with tempfile.TemporaryDirectory(prefix="kline_trio-") as name:
        folder, place = Path(name), PurePosixPath(path.name)
        copy = folder / place
        shutil.copyfile(path, copy)
        with open_parquet(copy) as file:
            groups = [n for n in range(file.num_row_groups) if file.metadata.row_group(n).num_rows]
            if not groups:
                return False
            if file.metadata.created_by != _WRITER:
                return None
            # Merge its own last row: that changes no value and writes every row anew.
            last = read_group(file, groups[-1], copy).cast(schema(owner))
        row = last.slice(last.num_rows - 1)
        try:
            changes = Changes(owner, row, row.slice(0, 0))
            merged = rewrite_file(changes, place, folder, folder)
        except DiskError as error:
            raise DiskError(f"{path} cannot be written once more: {error}") from error
        return merged.crc32 == crc32


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
    """Return the faults of all rows that can be read, and the open times of these rows."""
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
                begins.append(values_of(table[BEGIN]))
                earlier_ms = int(begins[-1][-1])
        first_row += rows
    return faults, np.concatenate(begins)


def _place_faults(
    begins: npt.NDArray[np.int64], owner: Series, place: PurePosixPath, layout: Layout
) -> list[Fault]:
    # Rows are in order, so the first and the last row stand for those between.
    for begin_ms in [*begins[:1].tolist(), *begins[-1:].tolist()]:
        if 0 <= begin_ms < MAX_TIME_MS and (wanted := layout.path(owner, begin_ms)) != place:
            return [Fault(f"its row of {time_text(begin_ms)} belongs into {text_of(wanted)}")]
    return []


def settle_layout(store_path: Path, layout: Layout, journal: Journal) -> None:
    """Refuse a layout that is not the store's. If the journal has no layout yet, write it there.

    A damaged file does not count, and is named in the log.

    Raises:
      ConfigError: the store's files are laid out in another way.
      OSError: the disk refused.
      sqlite3.Error: the layout was not written.
    """
    known = journal.layout()
    if known is None:
        for path, owner, file in open_files(candle_files(store_path), log_damage):
            if file.num_row_groups:
                first_ms, _ = bounds_ms(file, 0, BEGIN)
                place = PurePosixPath(path.relative_to(store_path))
                if layout.path(owner, first_ms) != place:
                    raise _other_layout(store_path, f"has a file {text_of(place)}", layout)
        journal.remember_layout(layout.template)
    elif known != layout.template:
        raise _other_layout(store_path, f"is laid out as {known!r}", layout)


def _other_layout(store_path: Path, how: str, layout: Layout) -> ConfigError:
    into = store_path.with_name(f"{store_path.name}-relayout")
    command = shlex.join(
        ["relayout", str(store_path), "--layout", layout.template, "--into", str(into)]
    )
    problem = (
        f"{store_path} {how}, which is not {layout.template!r}. Change the layout back, or"
        f" write the store anew and swap the two: {program_name()} {command}"
    )
    return ConfigError([problem])
