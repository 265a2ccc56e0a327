"""Find what a store holds: its candle files, the series in them, and a series' times and rows.

Each look reads the journal first, in one transaction, and then the files. A candle leaves the
journal only after the file that holds it is in place, so a candle that is not in the journal any
more is in a file by then. Files first would lose what is merged in between.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Candle, Series, Source
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.changes import Changes
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import (
    begins_ms,
    bounds_ms,
    check_owner,
    open_parquet,
    owner_of,
    read_groups,
    span_of,
)
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import SUFFIXES, Layout
from kline_trio.storage.names import folder_path, text_of
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN, END, empty_table, overlay, runs_of, schema, values_of

EARLIEST_MS, LATEST_MS = -(2**63), 2**63 - 1
_FEW_SERIES = 64
"""Up to as many, files are chosen by the names of symbols."""

logger = logging.getLogger(__name__)

OnDamage = Callable[[Path, DamagedError], None]
"""Called with each file that cannot be read, and why. The file is left out."""


def log_damage(_: Path, error: DamagedError) -> None:
    """Warn of a damaged file, which is passed over."""
    logger.warning("%s; it is passed over", error)


def foreign_only(store_path: Path, on_damage: OnDamage) -> OnDamage:
    """Return an `on_damage` that raises if the journal lists the file: its rows would be lost.

    Raises:
      DiskError: the journal cannot be read.
    """
    with journal_view(store_path) as journal:
        listed = {store_path / file.path for file in journal.files()}

    def raise_if_listed(path: Path, error: DamagedError) -> None:
        if path in listed:
            raise error
        on_damage(path, error)

    return raise_if_listed


def candle_files(store_path: Path) -> list[Path]:
    """Return the Parquet files in the folder and below, by path, whoever wrote them."""
    # Twice, since some file systems can leave a name out of a listing while the file under it is
    # replaced. No file is replaced twice in the time that this takes.
    return sorted({*_scan(store_path), *_scan(store_path)})


def _scan(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_fail_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            # To open a pipe would block without end.
            if name.endswith(SUFFIXES) and not name.startswith(".") and path.is_file():
                yield path


def _fail_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def open_files(
    paths: list[Path], on_damage: OnDamage | None = None
) -> Iterator[tuple[Path, Series, pq.ParquetFile]]:
    """Open those of the files that are ours, each until the next one is asked for.

    Args:
      paths: of the files.
      on_damage: called for each file that cannot be opened; None: raise the error.
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


def series(path: str | os.PathLike[str]) -> list[Series]:
    """Return the series that the store holds candles of, in order.

    A damaged file that the journal does not list is named in the log and left out.

    Raises:
      KlineTrioError: there is no such folder, or a file of ours is damaged; its text names it.
    """
    store_path = store_folder(path)
    return sorted(last_end_ms(store_path, foreign_only(store_path, log_damage)))


def last_end_ms(
    path: str | os.PathLike[str],
    on_damage: OnDamage = log_damage,
    on_step: OnStep = ignore_step,
) -> dict[Series, int]:
    """Return the end of each stored series' newest candle; nothing if there is no store.

    Args:
      path: the store's folder.
      on_damage: called for each file that cannot be opened.
      on_step: called with each file, and with what is waited for.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    store_path = folder_path(path)
    on_step(Step("looking for series: reading the list of files"))
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            ends = {
                owner: owner.interval.end_time_ms(newest_ms)
                for owner, newest_ms in journal.newest_ms().items()
            }
        paths = candle_files(store_path)
        for done, (file_path, owner, file) in enumerate(open_files(paths, on_damage)):
            on_step(Step(f"looking for series: {file_path.name}", done, len(paths), "file"))
            for group in range(file.metadata.num_row_groups):
                _, end_ms = bounds_ms(file, group, END)
                ends[owner] = max(end_ms, ends.get(owner, end_ms))
    return ends


def stored_spans(
    store_path: Path, wanted: Mapping[Series, int], layout: Layout, on_damage: OnDamage
) -> dict[Series, list[Span]]:
    """Return the stored candles of each series from an open time on, as spans, in order.

    Only files that can hold such candles are opened: listed ones by their place in the layout, and
    files that the manifest does not list, as a kill between rename and `forget` leaves them.

    Args:
      store_path: the store's folder.
      wanted: the first open time of each series.
      layout: the store's.
      on_damage: called for each file that cannot be read.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    found: dict[Series, list[Span]] = {series: [] for series in wanted}
    with journal_view(store_path) as journal:
        for owner, from_ms in wanted.items():
            later = (ms for ms in journal.waiting_ms(owner) if ms >= from_ms)
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


def _may_hold(file: FileEntry, layout: Layout, from_ms: int) -> bool:
    place = layout.place(file.series, file.path)
    return place is None or place.to_ms > from_ms


def first_stored_ms(store_path: Path, series: Series, within: Span) -> int | None:
    """Return the open time of the first stored candle of a series in a span; None if none is.

    A file that cannot be read does not count. A month that was pruned counts by its begin.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            found = [ms for ms in journal.waiting_ms(series) if ms in within][:1]
            months = [one.span.from_ms for one in journal.pruned([series])]
            found += [ms for ms in months if ms in within][:1]
            listed = journal.files([series])
        # Files of a series sort by time.
        for entry in listed:
            path = store_path / entry.path
            with contextlib.suppress(FileNotFoundError, DamagedError):
                with open_parquet(path) as file:
                    if begins := list(_begins_within(file, path, within)):
                        return min(begins + found)
    return min(found, default=None)


def _begins_within(file: pq.ParquetFile, path: Path, within: Span) -> Iterator[int]:
    """Give the first open time within a span of each row group that has one."""
    for group in range(file.num_row_groups):
        first_ms, last_ms = bounds_ms(file, group, BEGIN)
        if first_ms in within:
            yield first_ms
        elif first_ms < within.from_ms <= last_ms:
            begins = begins_ms(file, group, path)
            inside = begins[(begins >= within.from_ms) & (begins < within.to_ms)]
            yield from inside[:1].tolist()


def stored_span(store_path: Path, series: Series) -> Span | None:
    """Return the time from the first to the last stored candle; None if none is stored.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            listed, waiting = journal.files([series]), journal.waiting_ms(series)
        spans = [Span(ms, series.interval.end_time_ms(ms)) for ms in (*waiting[:1], *waiting[-1:])]
        # Files of a series sort by time. A copy may have no journal that lists them.
        ends = {one.path: one for one in (*listed[:1], *listed[-1:])}
        paths = [store_path / path for path in ends] or files_named_after(store_path, [series])
        found = list(_spans_of_files(paths, series))
        if len(found) < len(ends):
            # One is damaged or gone: some other file is the first or the last.
            found = list(_spans_of_files([store_path / one.path for one in listed], series))
        spans += found
    if not spans:
        return None
    return Span(min(one.from_ms for one in spans), max(one.to_ms for one in spans))


def _spans_of_files(paths: list[Path], series: Series) -> Iterator[Span]:
    for _, owner, file in open_files(paths, log_damage):
        if owner == series and (span := span_of(file)) is not None:
            yield span


def held_spans(path: Path, owner: Series) -> tuple[Span, ...]:
    """Return the candles in a file of a series, as spans, in order.

    Raises:
      FileNotFoundError: there is none.
      DamagedError: it cannot be read, or is not of this series.
      OSError: the disk refused.
    """
    with open_parquet(path) as file:
        check_owner(file, path, owner)
        every = (begins_ms(file, group, path) for group in range(file.num_row_groups))
        return tuple(joined(run for begins in every for run in runs_of(owner, begins)))


@attrs.frozen
class Stored:
    """The rows of a series in the files and in the journal, as one look found them."""

    filed: pa.Table
    """The files' rows by begin."""
    pending: Changes
    """The journal's rows."""

    def table(self) -> pa.Table:
        """Return the rows as the next merge will leave them in the files."""
        return self.pending.over(self.filed)

    def revisions(self) -> list[Revision]:
        """Return the revisions that the next merge will note, where journal and files differ."""
        return self.pending.revisions(self.filed)


def stored_table(
    store_path: Path, wanted: Series, start_ms: int = EARLIEST_MS, end_ms: int = LATEST_MS
) -> pa.Table | None:
    """Return the rows of one series by begin; None as from `stored`.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    found = stored(store_path, [wanted], start_ms, end_ms)[wanted]
    return None if found is None else found.table()


def stored(
    store_path: Path,
    wanted: Collection[Series],
    start_ms: int = EARLIEST_MS,
    end_ms: int = LATEST_MS,
    on_damage: OnDamage | None = None,
    paths: list[Path] | None = None,
) -> dict[Series, Stored | None]:
    """Look the store through once for these series, in the files and in the journal.

    Args:
      store_path: the store's folder.
      wanted: the series.
      start_ms: the first open time.
      end_ms: the end of the open times, exclusive.
      on_damage: called for each file that cannot be opened; None: raise the error.
      paths: the files to look into; None: all that may hold the series.

    Returns:
      None for a series if no file is of the series and the journal has no row of it in the range.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    with journal_view(store_path) as journal:
        waiting = {one: journal.candles(one, start_ms, end_ms) for one in wanted}
    pieces: dict[Series, list[pa.Table]] = {one: [] for one in wanted}
    paths = files_named_after(store_path, wanted) if paths is None else paths
    for path, owner, file in open_files(paths, on_damage):
        if owner in pieces:
            pieces[owner].append(_rows(file, path, start_ms, end_ms).cast(schema(owner)))
    return {one: _stored(one, pieces[one], waiting[one]) for one in wanted}


def _stored(
    series: Series, pieces: list[pa.Table], waiting: Sequence[tuple[Candle, Source]]
) -> Stored | None:
    if not pieces and not waiting:
        return None
    # Two files hold the same candle only after a change of layout; what begins later is newer.
    filed = empty_table(series)
    for piece in sorted(filter(len, pieces), key=lambda piece: piece[BEGIN][0].value):
        filed = overlay(filed, piece)
    return Stored(filed, Changes.of(series, waiting))


def files_named_after(store_path: Path, wanted: Collection[Series]) -> list[Path]:
    """Return the files that may hold the series: each name of a series is in its files' paths."""
    kinds = {(one.trade_type, one.interval.file_name) for one in wanted}
    # To open a file that holds another symbol takes 0.4 ms, to look for a symbol in a path 50 ns.
    symbols = {one.symbol for one in wanted} if len(wanted) <= _FEW_SERIES else {""}

    def may_hold(name: str) -> bool:
        is_kind = any(market in name and time in name for market, time in kinds)
        return is_kind and any(symbol in name for symbol in symbols)

    files = candle_files(store_path)
    return [path for path in files if may_hold(text_of(path.relative_to(store_path)))]


def _rows(file: pq.ParquetFile, path: Path, start_ms: int, end_ms: int) -> pa.Table:
    groups = []
    for group in range(file.num_row_groups):
        first_ms, last_ms = bounds_ms(file, group, BEGIN)
        if first_ms < end_ms and last_ms >= start_ms:
            groups.append(group)
    if not groups:
        return file.schema_arrow.empty_table()
    table = read_groups(file, groups, path)
    # The rows are sorted, so the wanted ones are one slice, which copies nothing.
    first, end = np.searchsorted(values_of(table[BEGIN]), [start_ms, end_ms]).tolist()
    return table.slice(first, end - first)
