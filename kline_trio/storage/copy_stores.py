"""Copy whole stores: snapshot one of them, or unite several in a layout of one's choice.

A new store is built under a temporary name and renamed last, so an existing store is complete.
"""

import contextlib
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.candle import Series
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.catalog import (
    candle_files,
    foreign_only,
    last_end_ms,
    log_damage,
    open_files,
    stored,
)
from kline_trio.storage.disk import (
    copy_durably,
    disk_errors,
    link,
    make_folders,
    sync_folder,
)
from kline_trio.storage.files import crc32_of
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.ledger import Gap, Reason, Revision, SeriesAccount, State
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.new_store import new_store
from kline_trio.storage.paths import INTERNAL, journal_path, universe_path
from kline_trio.storage.simulated import mark_copy
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, empty_table, open_times_ms, overlay
from kline_trio.storage.universe import UniverseFile, unite_universes

_LINK_ATTEMPTS = 100
_MERGE_SECONDS = 600
"""Longer than any merge takes from the end of its writing to its line in the journal."""
_RANK = (
    "trade_num",
    "volume",
    "quote_volume",
    "taker_buy_base_asset_volume",
    "taker_buy_quote_asset_volume",
    "high",
    "low",
    "open",
    "close",
)
"""Columns that decide between two values of a candle: the greater one of the first that differs is
kept. A candle that was cut short has fewer trades. The order of the stores does not matter."""


@attrs.frozen
class Snapshot:
    """What a snapshot holds."""

    files: int
    waiting: int
    """How many candles are in its journal."""
    copied: int = 0
    """How many of the files are copies, since the disk allows no hard links between the two."""
    damaged: tuple[str, ...] = ()
    """What is wrong with each new file that cannot be read; the snapshot has it all the same."""


@attrs.frozen
class Disagreement:
    """A candle of which two stores hold different values."""

    series: Series
    begin_time_ms: int
    kept: dict[str, float]
    """The values that differ, by column."""
    dropped: dict[str, float]


@attrs.frozen
class UnitedSeries:
    """A series that is whole in the new store."""

    series: Series
    rows: int
    disagreements: tuple[Disagreement, ...]


def snapshot(store_path: Path, into: Path, on_step: OnStep = ignore_step) -> Snapshot:
    """Make a store of hard links to all candle files and the universe, and a copy of the journal.

    On another disk, or one without hard links, files are copied. If it fails, nothing is left.

    A recorder may run: the journal is copied first, and a candle leaves it only after the file
    that holds it is in place, so each accepted candle is in the journal or in a file. Files are
    replaced and never changed, so a link keeps what it found.

    Args:
      store_path: the store's folder.
      into: the snapshot's.
      on_step: called with each file, and with what is waited for.

    Raises:
      ConfigError: there is no store, or the snapshot's place is taken, or inside the store.
      DiskError: the disk refused.
    """
    store_path, into = store_path.absolute(), into.absolute()
    if not (store_path / INTERNAL).is_dir():
        raise ConfigError([f"there is no store in {store_path}"])
    if into.is_relative_to(store_path):
        raise ConfigError([f"{into} is inside the store: name a folder beside it"])
    with new_store(into) as work:
        # The clock of the copy's disk need not be that of the store's.
        begun = min((work / INTERNAL).stat().st_mtime, time.time())
        on_step(Step("copying the journal"))
        with journal_view(store_path) as journal:
            journal.copy_to(journal_path(work))
        copied = _link_files(store_path, work, on_step)
        if universe_path(store_path).exists():
            _link(universe_path(store_path), universe_path(work))
        mark_copy([store_path], work)
        on_step(Step("listing the files that were replaced meanwhile"))
        with contextlib.closing(Journal.open(journal_path(work))) as made:
            # Files of months that were pruned since may be gone.
            pruned = _in_lake(store_path)
            made.keep_pruned(pruned.months, pruned.addresses)
            damaged = _list_young_files(made, work, begun - _MERGE_SECONDS)
            waiting = made.rows()
        on_step(Step("writing the names of the files to the disk"))
        files = candle_files(work)
        for folder in sorted({work, work / INTERNAL, *(path.parent for path in files)}):
            sync_folder(folder)
    problems = tuple(text.replace(str(work), str(store_path)) for text in damaged)
    return Snapshot(len(files), waiting, copied, problems)


def _in_lake(store_path: Path) -> InLake:
    with journal_view(store_path) as journal:
        return InLake.of(journal)


def _link_files(store_path: Path, work: Path, on_step: OnStep) -> int:
    """Link or copy all candle files into the snapshot. Return how many are copies."""
    on_step(Step("reading the list of files"))
    every = candle_files(store_path)
    copied = 0
    for done, path in enumerate(every):
        place = path.relative_to(store_path)
        on_step(Step(text_of(place), done, len(every), "file"))
        copied += not _link(path, work / place)
    return copied


def _link(path: Path, new: Path) -> bool:
    """Link or copy a file into the snapshot. Return whether it is a link."""
    make_folders(new.parent)
    for attempt in range(1, _LINK_ATTEMPTS + 1):
        try:
            is_link = link(path, new)
            if not is_link:
                copy_durably(path, new)
        except FileNotFoundError:
            # Set aside by the recorder since it was listed; or replaced in this very moment, when
            # the file that was found has no name any more, and none may be given to it.
            if path.exists() and attempt == _LINK_ATTEMPTS:
                raise
        else:
            return is_link
    return True


def _list_young_files(journal: Journal, work: Path, since: float) -> list[str]:
    """Bring the journal's manifest up to the files that were replaced after it was copied.

    Times are by the file system's own clock; reading more files than necessary does no harm.

    Returns:
      what is wrong with each file that cannot be read.
    """
    damaged: list[str] = []
    young = [path for path in candle_files(work) if path.stat().st_mtime >= since]
    known = {file.path: file for file in journal.files()}
    for path, owner, file in open_files(young, lambda _, error: damaged.append(str(error))):
        place = PurePosixPath(path.relative_to(work))
        rows = file.metadata.num_rows
        entry = FileEntry(place, owner, rows, path.stat().st_size, crc32_of(path))
        if known.get(place) != entry:
            journal.list_file(entry)
    return damaged


def common_layout(stores: Sequence[Path]) -> Layout:
    """Return the layout that the stores remember.

    Raises:
      ConfigError: they remember different ones.
      DiskError: a journal cannot be read.
    """
    templates: set[str] = set()
    for path in stores:
        with journal_view(path) as journal:
            templates.update(filter(None, [journal.layout()]))
    if len(templates) > 1:
        names = " and ".join(map(repr, sorted(templates)))
        raise ConfigError([f"the stores are laid out as {names}: choose one with --layout"])
    return Layout(templates.pop() if templates else DEFAULT_LAYOUT)


def unite(
    stores: Sequence[Path],
    into: Path,
    layout: Layout,
    on_damage: Callable[[Path, DamagedError], None] = log_damage,
    on_step: OnStep = ignore_step,
) -> Iterator[UnitedSeries]:
    """Write all candles of the stores into a new one, series by series, files and journals.

    If several stores hold different values of a candle, `_RANK` decides. The new files have the
    same bytes in whichever order the stores are named.

    Args:
      stores: their folders.
      into: the new store's folder.
      layout: how its files are named.
      on_damage: called with each file that cannot be opened and that no journal lists. The file is
        passed over, and may be named again.
      on_step: called with each series, and with what is waited for.

    Raises:
      ConfigError: the new store's place is taken, or a store is none.
      KlineTrioError: a store cannot be read; the new one is not there.
      DiskError: the disk refused; the new one is not there.
    """
    for path in stores:
        if not path.is_dir():
            raise ConfigError([f"there is no store {path}"])
    with new_store(into) as work, contextlib.closing(Store.open(work, layout)) as store:
        handlers = {path: foreign_only(path, on_damage) for path in stores}
        found = {one for path in stores for one in last_end_ms(path, handlers[path], on_step)}
        found |= {one.series for path in stores for one in _in_lake(path).months}
        for done, series in enumerate(sorted(found)):
            on_step(Step(str(series), done, len(found), "series"))
            yield _unite_series(series, handlers, store)
        on_step(Step("finishing the new store"))
        unite_universes(stores, UniverseFile.open(work))
        mark_copy(stores, work)


def _unite_series(
    series: Series, stores: Mapping[Path, Callable[[Path, DamagedError], None]], store: Store
) -> UnitedSeries:
    table = empty_table(series)
    disagreements: list[Disagreement] = []
    # Of the candles in the journals: their own merges would have noted these.
    revisions: list[Revision] = []
    for path, on_damage in stores.items():
        with disk_errors(path):
            other = stored(path, [series], on_damage=on_damage)[series]
        if other is not None:
            revisions += other.revisions()
            better, found = _better(series, table, other.table())
            disagreements += found
            table = overlay(table, better)
    store.journal.keep_filled(series, store.fill_in(table, series), [], [])
    _unite_ledgers(series, stores, store, open_times_ms(table), revisions)
    return UnitedSeries(series, table.num_rows, tuple(disagreements))


def _unite_ledgers(
    series: Series,
    stores: Iterable[Path],
    store: Store,
    begins: list[int],
    waiting: Sequence[Revision],
) -> None:
    """Keep each span that one of the stores accounts for; what none of them has becomes a gap."""
    accounts: list[SeriesAccount] = []
    ledger: list[Gap] = []
    revisions: list[Revision] = []
    lakes: list[InLake] = []
    for path in stores:
        with journal_view(path) as journal:
            lakes.append(InLake.of(journal, [series]))
            accounts += filter(None, [journal.accounts().get(series)])
            ledger += journal.gaps([series])
            revisions += [one for one in journal.revisions() if one.series == series]
    revisions += waiting
    months = _still_pruned(lakes, begins)
    pruned = joined(one.span for one in months)
    if not accounts:
        store.journal.settle([], {}, revisions)
        _keep_pruned(months, lakes, store)
        return
    whole = Span(min(one.first_ms for one in accounts), max(one.watermark_ms for one in accounts))
    spans = list(series.interval.gaps(whole, begins)) if whole.from_ms < whole.to_ms else []
    due = [piece for one in spans for piece in one.without(pruned)]
    filled, closed, pending = (
        [one for one in ledger if one.state is state]
        for state in (State.FILLED, State.CLOSED, State.PENDING)
    )
    gaps = [
        *_cut(filled, list(series.interval.runs(begins))),
        *_cut(closed, spans),
        # In a pruned month nothing is asked for any more.
        *_cut(pending, due),
        *(Gap(series, span, whole.to_ms, Reason.NOT_RECEIVED) for span in due),
    ]
    retired = [one.retired_ms for one in accounts]
    retired_ms = None if None in retired else max(ms for ms in retired if ms is not None)
    account = SeriesAccount(whole.from_ms, whole.to_ms, retired_ms)
    store.journal.settle(gaps, {series: account}, revisions)
    # After the gaps: none is added to a pruned month.
    _keep_pruned(months, lakes, store)


def _still_pruned(lakes: Iterable[InLake], begins: Sequence[int]) -> list[Pruned]:
    """Return the months that one of the stores has pruned, and of which the new one lacks candles.

    If another store has as many candles of a month as the lake had, it is stored again, and due:
    readers need not ask the lake for it. Of two months that overlap, the larger one counts, and
    what only the other one has is due.
    """
    found: dict[Span, Pruned] = {}
    for one in (one for some in lakes for one in some.months):
        known = found.get(one.span)
        if known is None or (known.rows, known.version) < (one.rows, one.version):
            found[one.span] = one
    pruned: list[Pruned] = []
    for one in sorted(found.values(), key=lambda one: one.span.from_ms - one.span.to_ms):
        held = bisect_left(begins, one.span.to_ms) - bisect_left(begins, one.span.from_ms)
        if held < one.rows and not any(other.span.common_with(one.span) for other in pruned):
            pruned.append(one)
    return pruned


def _keep_pruned(months: Sequence[Pruned], lakes: Iterable[InLake], store: Store) -> None:
    known = {lake: address for one in lakes for lake, address in one.addresses.items()}
    addresses = {one.lake: known[one.lake] for one in months if one.lake in known}
    store.journal.keep_pruned(months, addresses)


def _cut(gaps: Iterable[Gap], spans: Sequence[Span]) -> list[Gap]:
    """Return the parts of the gaps that lie in these spans."""
    return [
        attrs.evolve(gap, span=piece)
        for gap in gaps
        for span in spans
        for piece in gap.span.common_with(span)
    ]


def _better(
    series: Series, table: pa.Table, other: pa.Table
) -> tuple[pa.Table, list[Disagreement]]:
    """Return the other's rows that the table lacks or has with a lesser value, and where they
    differ.
    """
    at = pc.index_in(other[BEGIN], value_set=table[BEGIN].combine_chunks())
    theirs, mine = other.filter(pc.is_valid(at)), table.take(pc.drop_null(at))
    wins = np.zeros(theirs.num_rows, bool)
    decided = np.zeros(theirs.num_rows, bool)
    for name in _RANK:
        theirs_value, mine_value = theirs[name].to_numpy(), mine[name].to_numpy()
        wins |= ~decided & (theirs_value > mine_value)
        decided |= theirs_value != mine_value
    found = []
    for row in map(int, np.flatnonzero(decided)):
        kept, dropped = (
            {name: side[name][row].as_py() for name in table.column_names if name in _RANK}
            for side in ((theirs, mine) if wins[row] else (mine, theirs))
        )
        differ = [name for name in kept if kept[name] != dropped[name]]
        found.append(
            Disagreement(
                series,
                theirs[BEGIN][row].value,
                {name: kept[name] for name in differ},
                {name: dropped[name] for name in differ},
            )
        )
    new = np.ones(other.num_rows, bool)
    new[pc.is_valid(at).to_numpy(zero_copy_only=False)] = wins
    return other.filter(pa.array(new)), found
