"""Looking a store over: every file, every page, every row, against all that can be known of it."""

import contextlib
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import ConfigError, DamagedError, DiskError
from kline_trio.storage.catalog import candle_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import open_parquet, owner_of, read_group
from kline_trio.storage.journal import MergedFile
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.places import HOUSE, journal_path
from kline_trio.storage.table import BEGIN, END

__all__ = ["CheckedFile", "Fault", "check"]

_Numbers = npt.NDArray[np.float64]
_Times = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

_MOST_ROWS_A_KIND = 5
"""How many rows are named that have the same thing wrong with them; the rest is counted."""
_LOOKS = 5
"""How often a file is looked at that a recorder replaces meanwhile."""
_CHUNK_BYTES = 1 << 20
_PRICES = ("open", "high", "low", "close")
_VOLUMES = (
    "volume",
    "quote_volume",
    "taker_buy_base_asset_volume",
    "taker_buy_quote_asset_volume",
)


@attrs.frozen
class Fault:
    """Something that is wrong with a file."""

    what: str
    row: int | None = None
    """Counted from 0; None for the file as a whole."""
    begin_time_ms: int | None = None
    """The row's."""


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


@attrs.frozen
class _Known:
    """What the journal says of the files."""

    files: dict[PurePosixPath, MergedFile] = attrs.field(factory=dict)
    layout: Layout | None = None
    waiting: frozenset[PurePosixPath] = frozenset()
    """The files that candles in the journal belong to."""


def check(path: Path) -> Iterator[CheckedFile]:
    """Checks a store, a folder of candle files, or one file; it works beside a recorder.

    Of each file: its CRC in the journal, the footer's seal, every page's checksum, columns, order,
    the interval's grid, the numbers of every candle, and that its place is the layout's. Then
    that every file which the journal knows is there, and the journal itself.

    Raises:
      ConfigError: there is nothing at the path.
      DiskError: the disk refused.
    """
    if path.is_file():
        store_path, files = path.parent, [path]
    elif path.is_dir():
        store_path = path
        files = candle_files(path)
    else:
        raise ConfigError([f"there is no file or folder {path}"])
    known = _known(store_path)
    for file in files:
        yield _checked(file, store_path, known)
    if path.is_dir() and (store_path / HOUSE).is_dir():
        yield _checked_journal(store_path, set(files))


def _known(store_path: Path) -> _Known:
    # A journal that cannot be read has a line of its own among the findings.
    with contextlib.suppress(DiskError), journal_view(store_path) as journal:
        template = journal.layout()
        if template is None:
            return _Known({file.path: file for file in journal.files()})
        layout = Layout(template)
        waiting = frozenset(
            layout.path(series, open_time_ms) for series, open_time_ms in journal.open_times()
        )
        return _Known({file.path: file for file in journal.files()}, layout, waiting)
    return _Known()


def _checked_journal(store_path: Path, files: set[Path]) -> CheckedFile:
    """The journal, and what it knows of files that are not there."""
    faults = []
    try:
        with disk_errors(store_path), journal_view(store_path) as journal:
            faults = [Fault(text) for text in journal.faults()]
            known = journal.files()
    except DiskError as error:
        return CheckedFile(journal_path(store_path), (Fault(str(error)),))
    gone = [file.path for file in known if store_path / file.path not in files]
    faults += [
        Fault(f"it knows {one}, which is gone") for one in gone if not (store_path / one).is_file()
    ]
    return CheckedFile(journal_path(store_path), tuple(faults))


def _checked(path: Path, store_path: Path, known: _Known) -> CheckedFile:
    place = PurePosixPath(path.relative_to(store_path))
    for look in range(_LOOKS):
        if look:
            known = _known(store_path)
        with disk_errors(path):
            try:
                before = path.stat()
                found, crc32 = _look(path, place, known.layout)
                replaced = path.stat().st_ino != before.st_ino
            except FileNotFoundError:
                return CheckedFile(path, (Fault("it was there a moment ago, and is gone"),))
        told = known.files.get(place)
        if replaced:
            continue
        if told is None or told.crc32 == crc32 or found.is_foreign:
            return found
        if place in known.waiting and not found.faults:
            # Renamed into place, and not yet told to the journal: the next merge, or the next
            # start, repeats it.
            return found
    fault = Fault(
        "its CRC is not the one that it was written with" if not replaced else "it never rests"
    )
    return attrs.evolve(found, faults=(fault, *found.faults))


def _look(path: Path, place: PurePosixPath, layout: Layout | None) -> tuple[CheckedFile, int]:
    crc32, sha256, size_bytes = 0, hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc32 = zlib.crc32(chunk, crc32)
            sha256.update(chunk)
            size_bytes += len(chunk)
    faults: list[Fault] = []
    rows = 0
    owner: Series | None = None
    try:
        with open_parquet(path) as parquet:
            owner = owner_of(parquet, path)
            if owner is None:
                return CheckedFile(path, (), size_bytes=size_bytes, is_foreign=True), crc32
            last_ms = -1
            for group in range(parquet.num_row_groups):
                table = read_group(parquet, group, path)
                if not table.num_rows:
                    continue
                faults += _row_faults(table, owner, rows, last_ms)
                rows += table.num_rows
                begins = _times(table, BEGIN)
                last_ms = int(begins[-1])
                if layout is not None:
                    faults += _place_faults(begins, owner, place, layout, rows - table.num_rows)
    except (DamagedError, ConfigError) as error:
        faults.append(Fault(str(error).removeprefix(f"{path} ")))
    return CheckedFile(path, tuple(faults), rows, size_bytes, sha256.hexdigest()), crc32


def _place_faults(
    begins: _Times, owner: Series, place: PurePosixPath, layout: Layout, first_row: int
) -> list[Fault]:
    # Begins grow, so what holds of the first and the last row holds of those between.
    for row in (0, len(begins) - 1):
        wanted = layout.path(owner, int(begins[row]))
        if wanted != place:
            return [Fault(f"belongs into {wanted}", first_row + row, int(begins[row]))]
    return []


def _times(table: pa.Table, name: str) -> _Times:
    times: _Times = table[name].to_numpy().astype("datetime64[ms]").astype(np.int64)
    return times


def _row_faults(table: pa.Table, owner: Series, first_row: int, last_ms: int) -> list[Fault]:
    for name in table.column_names:
        if table[name].null_count:
            return [Fault(f"{name} has {table[name].null_count:,} empty values")]
    begins, ends = _times(table, BEGIN), _times(table, END)
    faults = []
    for what, mask in _masks(table, owner, begins, ends, last_ms):
        rows = np.flatnonzero(mask)
        faults += [
            Fault(what, first_row + int(row), int(begins[row])) for row in rows[:_MOST_ROWS_A_KIND]
        ]
        if len(rows) > _MOST_ROWS_A_KIND:
            faults.append(Fault(f"{what}: {len(rows) - _MOST_ROWS_A_KIND:,} rows more"))
    return faults


def _masks(
    table: pa.Table, owner: Series, begins: _Times, ends: _Times, last_ms: int
) -> Iterator[tuple[str, _Mask]]:
    """Each thing that can be wrong with a row, and the rows that it is wrong with."""
    earlier = np.concatenate(([last_ms], begins[:-1]))
    yield "is there twice", begins == earlier
    yield "is not in order", begins < earlier
    opens, wanted_ends = _calendar(owner, begins)
    yield f"does not begin on the grid of {owner.time_interval}", begins != opens
    yield f"does not end {owner.time_interval} after its begin", ends != wanted_ends
    numbers: dict[str, _Numbers] = {name: table[name].to_numpy() for name in (*_PRICES, *_VOLUMES)}
    finite = np.logical_and.reduce([np.isfinite(values) for values in numbers.values()])
    yield "has a number that is none", ~finite
    negative = np.logical_or.reduce([values < 0 for values in numbers.values()])
    yield "has a negative number", negative | (table["trade_num"].to_numpy() < 0)
    lowest = np.minimum(numbers["open"], numbers["close"])
    highest = np.maximum(numbers["open"], numbers["close"])
    yield "has a low above its open or close", numbers["low"] > lowest
    yield "has a high below its open or close", numbers["high"] < highest


def _calendar(owner: Series, begins: _Times) -> tuple[_Times, _Times]:
    """The open time of the candle that covers each moment, and the end that it should have."""
    interval = owner.interval
    if interval.duration_ms is not None:
        opens = begins - (begins - interval.phase_ms) % interval.duration_ms
        return opens, begins + interval.duration_ms
    months = [interval.open_time_ms(int(begin)) for begin in begins]
    ends = [interval.end_time_ms(int(begin)) for begin in begins]
    return np.array(months, np.int64), np.array(ends, np.int64)
