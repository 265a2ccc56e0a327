"""Compare the rows of a store with its ledger: find candles that are in neither."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import pyarrow.parquet as pq

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.spans import common, joined
from kline_trio.storage.catalog import OnDamage, candle_files, open_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import begins_ms, bounds_ms, must_be_sealed
from kline_trio.storage.journal.ledger import Gap, SeriesAccount, State
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.row_faults import is_on_grid
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN, runs_of

logger = logging.getLogger("kline_trio.storage.ledger_comparison")

_SERIES_AT_ONCE = 100
"""How many series a job of a worker thread reads the files of. A stop waits for the job."""


@attrs.frozen
class Holdings:
    """What a store holds of one series, and what its ledger says, at one moment."""

    series: Series
    account: SeriesAccount | None
    """None: nothing is due."""
    rows: tuple[Span, ...]
    """The candles of files and journal, each once; in order, and no two touch."""
    absences: tuple[Gap, ...] = ()
    """The pending and the closed rows of the ledger, by time. A filled row explains no gap."""
    listed: tuple[FileEntry, ...] = ()
    """The manifest's entries of the series."""
    pruned: tuple[Span, ...] = ()
    """The candles that the lake alone has; in order, and no two touch. None of them is due."""

    def due(self, until_ms: int | None = None) -> tuple[Span, ...]:
        """Return the candles that are due, as spans: in order, and no two touch.

        Args:
          until_ms: count candles that end by this moment; None: up to the watermark.
        """
        if self.account is None:
            return ()
        interval = self.series.interval
        to_ms = self.account.watermark_ms if until_ms is None else until_ms
        from_ms, to_ms = self.account.first_ms, interval.open_time_ms(to_ms)
        return tuple(Span(from_ms, to_ms).without(self.pruned)) if from_ms < to_ms else ()

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


def holdings(
    store_path: Path,
    on_damage: OnDamage,
    among: Collection[Series] | None = None,
    unlisted: Mapping[Series, Collection[Path]] | None = None,
    near_pending: Layout | None = None,
    on_step: OnStep = ignore_step,
) -> list[Holdings]:
    """Read rows and ledger of all series, or of some, from one snapshot.

    The journal comes first: a candle leaves it only after its file is in place, so the files that
    are read afterwards hold every candle that the journal had and has forgotten. Of most files
    only the footer is read: a sealed row group that has as many rows as its span has room for is
    whole. A recorder may run.

    Args:
      store_path: the store's folder.
      on_damage: called for each file, or row group, that cannot be read. Its rows do not count.
      among: these series only, by the files in the manifest; None: all series and files.
      unlisted: with `among`, files that the list lacks.
      near_pending: with `among`, read only the files that this layout has pending candles in.
      on_step: called with each file, and with what is waited for.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    on_step(Step("comparing the ledger: reading the list of files"))
    with journal_view(store_path) as journal:
        found = _from_journal(journal, among)
    rows: dict[Series, list[Span]] = defaultdict(list)
    if among is None:
        paths = candle_files(store_path)
    else:
        chosen = {path for one in found for path in (unlisted or {}).get(one, ())}
        for one in found.values():
            near = (file.path for file in one.listed if _may_hold(file.path, one, near_pending))
            chosen.update(store_path / path for path in near)
        paths = sorted(chosen)
    for done, (path, owner, file) in enumerate(open_files(paths, on_damage)):
        on_step(Step(f"comparing the ledger: {path.name}", done, len(paths), "file"))
        if among is None or owner in found:
            rows[owner] += _rows_of(file, owner, path, on_damage)
    every = sorted({*found, *rows})
    looks = [found.get(one, Holdings(one, None, ())) for one in every]
    looks = [attrs.evolve(one, rows=tuple(joined([*one.rows, *rows[one.series]]))) for one in looks]
    if not any(one.missing() for one in looks):
        return looks
    # A month that was pruned since the journal was read has lost its rows meanwhile.
    pruned = _pruned(store_path, every)
    return [attrs.evolve(one, pruned=pruned.get(one.series, ())) for one in looks]


def unlisted_files(
    store_path: Path, listed: Collection[PurePosixPath], on_damage: OnDamage
) -> dict[Series, list[Path]]:
    """Return the candle files that are not in the manifest, by series.

    Such a file is no fault: a kill can come after the rename and before the manifest is written.
    """
    known = {store_path / path for path in listed}
    found: dict[Series, list[Path]] = defaultdict(list)
    unknown = [path for path in candle_files(store_path) if path not in known]
    for path, owner, _ in open_files(unknown, on_damage):
        found[owner].append(path)
    return found


def _from_journal(journal: JournalView, among: Collection[Series] | None) -> dict[Series, Holdings]:
    accounts = journal.accounts()
    absences: dict[Series, list[Gap]] = defaultdict(list)
    for one in journal.unfilled(among):
        absences[one.series].append(one)
    listed: dict[Series, list[FileEntry]] = defaultdict(list)
    for file in journal.files(among):
        listed[file.series].append(file)
    waiting = {one: journal.waiting_ms(one) for one in among or journal.newest_ms()}
    pruned = _pruned_spans(journal.pruned(among))
    every = {*accounts, *absences, *listed, *waiting, *pruned} if among is None else set(among)
    return {
        one: Holdings(
            one,
            accounts.get(one),
            # A damaged journal may hold times that no candle has.
            tuple(one.interval.runs(filter(one.interval.is_open_time, waiting.get(one, ())))),
            tuple(absences.get(one, ())),
            tuple(listed.get(one, ())),
            pruned.get(one, ()),
        )
        for one in every
    }


def _pruned(store_path: Path, among: Collection[Series]) -> dict[Series, tuple[Span, ...]]:
    with journal_view(store_path) as journal:
        return _pruned_spans(journal.pruned(among))


def _pruned_spans(months: Iterable[Pruned]) -> dict[Series, tuple[Span, ...]]:
    by_series = groupby(months, attrgetter("series"))
    return {one: tuple(joined(month.span for month in some)) for one, some in by_series}


def _may_hold(path: PurePosixPath, known: Holdings, near_pending: Layout | None) -> bool:
    if near_pending is None:
        return True
    # The paths of a series sort by time.
    place = partial(near_pending.path, known.series)
    pending = (one.span for one in known.absences if one.state is State.PENDING)
    return any(place(one.from_ms) <= path <= place(one.to_ms - 1) for one in pending)


def _rows_of(
    file: pq.ParquetFile, owner: Series, path: Path, on_damage: OnDamage
) -> Iterator[Span]:
    interval = owner.interval
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if not rows:
            continue
        try:
            if not must_be_sealed(file):
                # Another program may have written it, with rows in any order.
                begins = np.unique(begins_ms(file, group, path))
                yield from runs_of(owner, begins[is_on_grid(begins, interval)])
                continue
            first_ms, last_ms = bounds_ms(file, group, BEGIN)
            span = Span(first_ms, interval.end_time_ms(last_ms))
            if interval.count(span) == rows:
                yield span
            else:
                yield from runs_of(owner, begins_ms(file, group, path))
        except DamagedError as error:
            on_damage(path, error)


@attrs.frozen
class LedgerComparison:
    """Some series of a store to compare with their ledger: `look`, then `Store.compare`."""

    store_path: Path
    series: tuple[Series, ...]
    pending_in: Layout | None
    """None: the series were never compared, so read all their files and find missing candles.
    Else read only the files that this layout has pending candles in, and find stored ones."""
    unlisted: Mapping[Series, Collection[Path]]
    """The candle files that are not in the manifest."""

    @property
    def is_first(self) -> bool:
        """Whether these series were never compared with the ledger."""
        return self.pending_in is None

    def look(self) -> list[Holdings]:
        """Read what the store holds of the series. Leave out those with nothing to compare.

        Raises:
          DiskError: the store cannot be read.
        """
        return [one for one in self._look(self.series) if self.is_first or one.stored_pending()]

    def look_again(self, series: Series) -> Holdings:
        """Read what the store holds of one of the series now.

        Raises:
          DiskError: the store cannot be read.
        """
        [look] = self._look((series,))
        return look

    def _look(self, among: Collection[Series]) -> list[Holdings]:
        with disk_errors(self.store_path):
            looks = holdings(self.store_path, _warn, among, self.unlisted, self.pending_in)
        if self.is_first:
            return looks
        # Some files stay closed, so no candle of theirs may count as missing: nothing is due.
        return [attrs.evolve(look, account=None) for look in looks]


def ledger_comparisons(store_path: Path, layout: Layout) -> list[LedgerComparison]:
    """Return what to compare at a start: first the series with pending candles, then those that
    were never compared.

    Args:
      store_path: the store's folder.
      layout: the store's.

    Raises:
      DiskError: the store cannot be read.
    """
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            is_new = journal.to_compare()
            listed = [file.path for file in journal.files()]
        if not is_new:
            return []
        unlisted = unlisted_files(store_path, listed, _warn)
    jobs = []
    for never_compared, pending_in in ((False, layout), (True, None)):
        chosen = tuple(one for one in is_new if is_new[one] == never_compared)
        for at in range(0, len(chosen), _SERIES_AT_ONCE):
            some = chosen[at : at + _SERIES_AT_ONCE]
            jobs.append(LedgerComparison(store_path, some, pending_in, unlisted))
    return jobs


def _warn(path: Path, error: DamagedError) -> None:
    logger.warning("%s; what it held counts as absent", error)
