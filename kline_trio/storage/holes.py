"""Compare the rows of a store with its ledger: find the candles that neither accounts for."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.files import begins_ms, bounds_ms, damage
from kline_trio.storage.journal.ledger import Gap, SeriesAccount, State
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import disk_name
from kline_trio.storage.table import BEGIN, format_version, runs_of, values_of

__all__ = ["Holdings", "common", "holdings", "unlisted_files"]

_SEALED_SINCE = 2
"""The first format whose files carry a seal: this package wrote them, in order, no time twice."""

_Damaged = Callable[[Path, DamagedError], None]


@attrs.frozen
class Holdings:
    """What a store holds of one series, and what its ledger says, at one moment."""

    series: Series
    account: SeriesAccount | None
    """None: nothing is due."""
    rows: tuple[Span, ...]
    """The candles of files and journal, each once; in order, and no two touch."""
    absences: tuple[Gap, ...] = ()
    """The pending and the closed rows of the ledger, by time. A filled row explains no absence."""
    listed: tuple[tuple[str, int], ...] = ()
    """Path and CRC of each file of the series in the journal's list."""

    def due(self, until_ms: int | None = None) -> tuple[Span, ...]:
        """Return the candles that are due, as one span or none.

        Args:
          until_ms: count candles that end by this moment; None: up to the watermark.
        """
        if self.account is None:
            return ()
        interval = self.series.interval
        to_ms = self.account.watermark_ms if until_ms is None else until_ms
        from_ms, to_ms = self.account.first_ms, interval.open_time_ms(to_ms)
        return (Span(from_ms, to_ms),) if from_ms < to_ms else ()

    def missing(self, until_ms: int | None = None) -> tuple[Span, ...]:
        """Return the due candles that are no rows, and neither pending nor closed in the ledger.

        Args:
          until_ms: as for `due`.
        """
        known = joined([*self.rows, *(one.span for one in self.absences)])
        return tuple(hole for due in self.due(until_ms) for hole in due.without(known))

    def stored_pending(self) -> tuple[Span, ...]:
        """Return the candles that are pending in the ledger although they are stored."""
        pending = [one.span for one in self.absences if one.state is State.PENDING]
        return tuple(common(pending, self.rows))

    def count(self, spans: Iterable[Span]) -> int:
        """Return how many candles of the series the spans have."""
        return sum(map(self.series.interval.count, spans))


def common(some: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Give what lies in both; each is in order, and its spans do not overlap."""
    mine = theirs = 0
    while mine < len(some) and theirs < len(others):
        yield from some[mine].common_with(others[theirs])
        if some[mine].to_ms < others[theirs].to_ms:
            mine += 1
        else:
            theirs += 1


def holdings(
    store_path: Path,
    on_damage: _Damaged,
    among: Collection[Series] | None = None,
    unlisted: Mapping[Series, Collection[Path]] | None = None,
    near_pending: Layout | None = None,
) -> list[Holdings]:
    """Read rows and ledger of all series, or of some, from one snapshot.

    The journal comes first: a candle leaves it only after its file is in place, so the files that
    are read afterwards hold every candle that the journal had and has forgotten. Of most files
    only the footer is read: a sealed row group that has as many rows as its span has room for is
    whole. A recorder may run.

    Args:
      store_path: the store's folder.
      on_damage: called for each file, or row group, that cannot be read. Its rows do not count.
      among: these series only, by the files in the journal's list; None: all series and files.
      unlisted: with `among`, files that the list lacks.
      near_pending: with `among`, read only the files that this layout has pending candles in.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    with journal_view(store_path) as journal:
        found = _from_journal(journal, among)
    rows: dict[Series, list[Span]] = defaultdict(list)
    if among is None:
        paths = candle_files(store_path)
    else:
        listed = (
            store_path / path
            for one in found.values()
            for path in (PurePosixPath(disk_name(text)) for text, _ in one.listed)
            if near_pending is None or _may_hold(path, one, near_pending)
        )
        more = (path for one in found for path in (unlisted or {}).get(one, ()))
        paths = sorted({*listed, *more})
    for path in paths:
        with _telling(path, on_damage):
            for _, owner, file in open_files([path]):
                if among is None or owner in found:
                    rows[owner] += _rows_of(file, owner, path, on_damage)
    every = sorted({*found, *rows})
    nothing = {one: Holdings(one, None, ()) for one in every}
    return [_with_rows(found.get(one, nothing[one]), rows[one]) for one in every]


def unlisted_files(
    store_path: Path, listed: Collection[PurePosixPath], on_damage: _Damaged
) -> dict[Series, list[Path]]:
    """Return the candle files that the journal's list lacks, by series.

    Such a file is legal: a kill can come after the file is in place and before it is listed.
    """
    known = {store_path / path for path in listed}
    found: dict[Series, list[Path]] = defaultdict(list)
    for path in candle_files(store_path):
        if path not in known:
            with _telling(path, on_damage):
                for _, owner, _ in open_files([path]):
                    found[owner].append(path)
    return found


@contextlib.contextmanager
def _telling(path: Path, on_damage: _Damaged) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        on_damage(path, error)


def _from_journal(journal: JournalView, among: Collection[Series] | None) -> dict[Series, Holdings]:
    accounts = journal.accounts()
    absences: dict[Series, list[Gap]] = defaultdict(list)
    for one in journal.unfilled(among):
        absences[one.series].append(one)
    listed = journal.listed(among)
    waiting = {one: journal.waiting_ms(one) for one in among or journal.newest_ms()}
    every = {*accounts, *absences, *listed, *waiting} if among is None else set(among)
    return {
        one: Holdings(
            one,
            accounts.get(one),
            # A damaged journal may hold times that no candle has.
            tuple(one.interval.runs(filter(one.interval.is_open_time, waiting.get(one, ())))),
            tuple(absences.get(one, ())),
            tuple(listed.get(one, ())),
        )
        for one in every
    }


def _with_rows(known: Holdings, of_files: Iterable[Span]) -> Holdings:
    return attrs.evolve(known, rows=tuple(joined([*known.rows, *of_files])))


def _may_hold(path: PurePosixPath, known: Holdings, layout: Layout) -> bool:
    """Whether the file may hold pending candles; the paths of a series sort by time."""
    return any(
        layout.path(known.series, one.span.from_ms)
        <= path
        <= layout.path(known.series, one.span.to_ms - 1)
        for one in known.absences
        if one.state is State.PENDING
    )


def _rows_of(
    file: pq.ParquetFile, owner: Series, path: Path, on_damage: _Damaged
) -> Iterator[Span]:
    interval = owner.interval
    is_sealed = format_version(file.metadata.metadata) >= _SEALED_SINCE
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if not rows:
            continue
        try:
            if not is_sealed:
                yield from _any_rows(file, group, owner, path)
                continue
            first_ms, last_ms = bounds_ms(file, group, BEGIN)
            span = Span(first_ms, interval.end_time_ms(last_ms))
            if interval.count(span) == rows:
                yield span
            else:
                yield from runs_of(owner, begins_ms(file, group, path))
        except DamagedError as error:
            on_damage(path, error)


def _any_rows(file: pq.ParquetFile, group: int, owner: Series, path: Path) -> Iterator[Span]:
    """Give the rows of a group that another program may have written: in any order, of any time."""
    with damage(path):
        column = file.read_row_group(group, columns=[BEGIN], use_threads=False)[BEGIN]
    begins = np.unique(values_of(column.cast(pa.int64()).drop_null()))
    begins = begins[(begins >= 0) & (begins < MAX_TIME_MS)]
    interval = owner.interval
    if interval.duration_ms is None:
        on_grid = np.array([interval.is_open_time(int(ms)) for ms in begins], np.bool_)
    else:
        on_grid = (begins - interval.phase_ms) % interval.duration_ms == 0
    yield from runs_of(owner, begins[on_grid])
