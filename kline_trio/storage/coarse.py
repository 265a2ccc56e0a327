"""Coarser candles than the stored ones, for charts: a bounded number of points of any range.

The rows of one row group, or of as many candles, are in memory at a time. Arrow reads the columns,
and each is reduced where it lies.
"""

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Candle, Series, Source
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.catalog import files_named_after, open_files
from kline_trio.storage.changes import Changes
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import bounds_ms, read_groups
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.table import BEGIN, empty_table, overlay, values_of
from kline_trio.storage.widths import MONTH_MS, Width, widths_of

_ROWS_AT_ONCE = 32_768
"""As many as a row group has."""

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]
_Waiting = Sequence[tuple[Candle, Source]]


@attrs.frozen(eq=False)
class CoarseCandles:
    """Candles of one width in columns, by open time. A candle without a stored one is left out."""

    series: Series
    width: Width
    open_time_ms: _Integers
    open: _Floats
    """Of the first stored candle."""
    high: _Floats
    low: _Floats
    close: _Floats
    """Of the last stored candle."""
    volume: _Floats
    quote_volume: _Floats
    trade_num: _Integers
    candles: _Integers
    """How many stored candles each is made of."""

    @property
    def step_ms(self) -> int:
        """The length of each candle; of months it is their mean."""
        return self.width.duration_ms

    @property
    def is_coarse(self) -> bool:
        """Whether these are not the stored candles themselves."""
        return self.width.name != self.series.time_interval

    def __len__(self) -> int:
        return len(self.open_time_ms)


_SUMS = ("volume", "quote_volume", "trade_num", "candles")
_COLUMNS = [BEGIN, "open", "high", "low", "close", "volume", "quote_volume", "trade_num"]
_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(_COLUMNS, pa.float64()),
    BEGIN: pa.timestamp("ms", "UTC"),
    "trade_num": pa.int64(),
}
_SCHEMA = pa.schema(_TYPES)

_Columns = dict[str, npt.NDArray[Any]]
"""Those of `CoarseCandles`, with the numbers of the coarse candles in the place of times."""


def coarse_candles(
    store_path: Path, series: Series, from_ms: int, to_ms: int, most_points: int
) -> CoarseCandles:
    """Return the stored candles that open in `[from_ms, to_ms)`, or fewer and coarser ones.

    The finest width is chosen that cannot give too many. The journal's candles are among them. Of
    files, those are read that the journal lists; if it lists none, all that may be of the series.

    Args:
      store_path: the store's folder.
      series: the series; one that is not stored has no candles.
      from_ms: the first open time.
      to_ms: the end of the open times, exclusive.
      most_points: how many candles at most; at least one.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    with disk_errors(store_path):
        return _coarse(store_folder(store_path), series, from_ms, to_ms, most_points)


def _coarse(
    store_path: Path, series: Series, from_ms: int, to_ms: int, most_points: int
) -> CoarseCandles:
    with journal_view(store_path) as journal:
        waiting = journal.candles(series, from_ms, to_ms)
        paths = _listed_paths(store_path, series, from_ms, to_ms, journal)
    paths = files_named_after(store_path, [series]) if paths is None else paths
    # A candle that only covers `from_ms` opens earlier: it must not count as one more point.
    from_ms = series.interval.next_open_time_ms(from_ms)
    files = list(_bounds(paths, series, from_ms, to_ms))
    times = [candle.open_time_ms for candle, _ in waiting]
    first_ms = min([file.first_ms for file in files] + times[:1], default=0)
    last_ms = max([file.last_ms for file in files] + times[-1:], default=0)
    widths = widths_of(series.interval)
    width = next(one for one in widths if one.count(first_ms, last_ms) <= most_points)
    # What comes meanwhile may not make one more.
    tables = _tables(files, series, Span(first_ms, last_ms + 1), waiting)
    nothing = _wanted(empty_table(series))
    pieces = [_reduced(_columns(one, width)) for one in itertools.chain([nothing], tables)]
    # The first candle of a piece may be the last one of the piece before.
    whole = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    columns: dict[str, Any] = _reduced(whole)
    return CoarseCandles(series, width, width.open_times_ms(columns.pop(BEGIN)), **columns)


@attrs.frozen
class _File:
    """A file with candles in the wanted range."""

    path: Path
    first_ms: int
    """Its first open time that may be in the range."""
    last_ms: int


def _listed_paths(
    store_path: Path, series: Series, from_ms: int, to_ms: int, journal: JournalView
) -> list[Path] | None:
    """Return the listed files of a series that may have candles in a range; None: none is listed.

    To look for files costs a second if there are many thousands. None that is not listed is needed:
    until a merge lists its file, the journal has the candles.
    """
    template = journal.layout()
    layout = None if template is None else Layout(template)
    listed = journal.files([series])
    chosen = []
    for file in listed:
        place = None if layout is None else layout.place(series, file.path)
        if place is None or (place.from_ms < to_ms and place.to_ms > from_ms):
            chosen.append(store_path / file.path)
    return chosen if listed else None


def _bounds(paths: list[Path], series: Series, from_ms: int, to_ms: int) -> Iterator[_File]:
    for path, owner, file in open_files(paths):
        groups = range(file.num_row_groups) if owner == series else ()
        bounds = [
            bounds_ms(file, group, BEGIN)
            for group in groups
            if file.metadata.row_group(group).num_rows
        ]
        inside = [two for two in bounds if two[0] < to_ms and two[1] >= from_ms]
        if inside:
            first_ms, last_ms = min(inside)[0], max(last for _, last in inside)
            yield _File(path, max(first_ms, from_ms), min(last_ms, to_ms - 1))


def _tables(
    files: list[_File], series: Series, span: Span, waiting: _Waiting
) -> Iterator[pa.Table]:
    """Yield the stored rows in a span, by open time: those of the files with the journal's."""
    done = 0
    for some in _apart(files):
        whole = _rows_of(some[0], span) if len(some) == 1 else _rows_of_all(some, series, span)
        for table in whole:
            last_ms = int(values_of(table[BEGIN])[-1])
            end = bisect_right(waiting, last_ms, lo=done, key=lambda two: two[0].open_time_ms)
            yield _with_waiting(table, series, waiting[done:end])
            done = end
    if done < len(waiting):
        yield _with_waiting(_wanted(empty_table(series)), series, waiting[done:])


def _apart(files: list[_File]) -> Iterator[list[_File]]:
    """Yield the files by time, together with those that they overlap with.

    Files overlap only after a change of layout, or if another program wrote them.
    """
    some: list[_File] = []
    for file in sorted(files, key=lambda one: one.first_ms):
        if some and file.first_ms > max(one.last_ms for one in some):
            yield some
            some = []
        some.append(file)
    if some:
        yield some


def _rows_of(file: _File, span: Span) -> Iterator[pa.Table]:
    """Yield the rows of a file in a span, a row group at a time."""
    before_ms = span.from_ms - 1
    for path, _, parquet in open_files([file.path]):
        for group in range(parquet.num_row_groups):
            table = _rows(parquet, [group], path, span)
            if table.num_rows:
                first_ms, last_ms = (table[BEGIN][at].value for at in (0, -1))
                if first_ms <= before_ms:
                    raise DamagedError(f"{path} does not hold its candles in order, each once")
                yield table
                before_ms = last_ms


def _rows_of_all(files: list[_File], series: Series, span: Span) -> Iterator[pa.Table]:
    """Yield the rows in files that overlap, some time at a time; what begins later is newer."""
    length_ms = _ROWS_AT_ONCE * (series.interval.duration_ms or MONTH_MS)
    first_ms, end_ms = files[0].first_ms, max(file.last_ms for file in files) + 1
    for from_ms in range(first_ms, end_ms, length_ms):
        [part] = span.common_with(Span(from_ms, min(from_ms + length_ms, end_ms)))
        here = [one.path for one in files if one.first_ms < part.to_ms and one.last_ms >= from_ms]
        found = _wanted(empty_table(series))
        for path, _, parquet in open_files(here):
            found = overlay(found, _rows(parquet, list(range(parquet.num_row_groups)), path, part))
        if found.num_rows:
            yield found


def _rows(file: pq.ParquetFile, among: list[int], path: Path, span: Span) -> pa.Table:
    """Return the rows of some row groups of a file in a span; the groups outside are not read."""
    groups = []
    for group in among:
        if file.metadata.row_group(group).num_rows:
            first_ms, last_ms = bounds_ms(file, group, BEGIN)
            if first_ms < span.to_ms and last_ms >= span.from_ms:
                groups.append(group)
    if not groups:
        return pa.Table.from_batches([], _SCHEMA)
    table = _wanted(read_groups(file, groups, path, _COLUMNS))
    if any(column.null_count for column in table.columns):
        raise DamagedError(f"{path} holds candles without values")
    bounds = np.searchsorted(values_of(table[BEGIN]), [span.from_ms, span.to_ms]).tolist()
    return table.slice(bounds[0], bounds[1] - bounds[0])


def _wanted(table: pa.Table) -> pa.Table:
    """Return the wanted columns of a table, without metadata."""
    return table.select(_COLUMNS).cast(_SCHEMA)


def _with_waiting(table: pa.Table, series: Series, waiting: _Waiting) -> pa.Table:
    """Return the rows with those of the journal, as the next merge will leave them."""
    if not waiting:
        return table
    changes = Changes.of(series, waiting)
    replacing, filling = _wanted(changes.replacing), _wanted(changes.filling)
    return attrs.evolve(changes, replacing=replacing, filling=filling).over(table)


def _columns(table: pa.Table, width: Width) -> _Columns:
    """Return the rows as columns of coarse candles that are made of one candle each."""
    columns: _Columns = {name: values_of(table[name]) for name in _COLUMNS}
    columns[BEGIN] = width.numbers(columns[BEGIN])
    return {**columns, "candles": np.ones(table.num_rows, np.int64)}


def _reduced(columns: _Columns) -> _Columns:
    """Return one row for the rows of each number; they are in order."""
    numbers = columns[BEGIN]
    is_first = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    if len(firsts) == len(numbers):
        return columns
    lasts = np.append(firsts[1:], len(numbers)) - 1
    return {
        BEGIN: numbers[firsts],
        "open": columns["open"][firsts],
        "high": np.maximum.reduceat(columns["high"], firsts),
        "low": np.minimum.reduceat(columns["low"], firsts),
        "close": columns["close"][lasts],
        **{name: np.add.reduceat(columns[name], firsts) for name in _SUMS},
    }
