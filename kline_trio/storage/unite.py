"""Stores into one: two that recorded the same, or one that is to be laid out in another way.

The new store is made under another name and gets its own at the end: one that is there is whole.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.candle import Series
from kline_trio.errors import ConfigError, DamagedError, StoreInUseError
from kline_trio.interval import Span
from kline_trio.storage.catalog import foreign_only, last_end_ms, log_damage, stored
from kline_trio.storage.disk import disk_errors, make_folders, sync_folder
from kline_trio.storage.held import lock_folder
from kline_trio.storage.journal.ledger import Gap, Reason, Revision, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import by_file
from kline_trio.storage.paths import HOUSE
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, begins_of, overlay, without_rows
from kline_trio.storage.universe import UniverseFile, unite_universes

__all__ = ["Disagreement", "UnitedSeries", "common_layout", "unite", "work_folder"]

_DAY_MS = 86_400_000
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
"""Of two values of one candle the one with more trades is kept, then the one with more volume, and
so on: what was cut short counts less, and the order of the stores does not count."""


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


def common_layout(stores: Sequence[Path]) -> Layout:
    """The layout that the stores remember.

    Raises:
      ConfigError: they remember different ones.
      DiskError: a journal cannot be read.
    """
    templates: set[str] = set()
    for path in stores:
        with journal_view(path) as journal:
            templates.update(filter(None, [journal.layout()]))
    if len(templates) > 1:
        told = " and ".join(repr(template) for template in sorted(templates))
        raise ConfigError([f"the stores are laid out as {told}: choose one with --layout"])
    return Layout(templates.pop() if templates else DEFAULT_LAYOUT)


def unite(
    stores: Sequence[Path],
    into: Path,
    layout: Layout,
    on_damage: Callable[[Path, DamagedError], None] = log_damage,
) -> Iterator[UnitedSeries]:
    """Writes all candles of the stores into a new one, series by series, files and journals.

    Of series and rows that several stores hold, see `_RANK`. The files that come out have the same
    bytes in whichever order the stores are named.

    Args:
      stores: their folders.
      into: the new store's folder.
      layout: how its files are named.
      on_damage: told of each file that cannot be opened and that no journal lists. It is passed
        over, and may be named again.

    Raises:
      ConfigError: the new store's place is taken, or a store is none.
      KlineTrioError: a store cannot be read; the new one is not there.
      DiskError: the disk refused; the new one is not there.
    """
    for path in stores:
        if not path.is_dir():
            raise ConfigError([f"there is no store {path}"])
    with work_folder(into) as work:
        store = Store.open(work, layout)
        try:
            tells = {path: foreign_only(path, on_damage) for path in stores}
            for one in sorted({one for path in stores for one in last_end_ms(path, tells[path])}):
                yield _united(one, tells, store)
            unite_universes(stores, UniverseFile.open(work))
        finally:
            store.close()


@contextlib.contextmanager
def work_folder(into: Path) -> Iterator[Path]:
    """Give an empty folder beside the place, and rename it to the place at the end.

    If the body fails, the folder is removed. One that a crash has left is swept. The folder is
    locked as long as it has its own name, so that nobody sweeps one in which somebody works.

    Raises:
      ConfigError: the place is taken.
      StoreInUseError: somebody else is making a store there.
      DiskError: the disk refused.
    """
    into = into.absolute()
    with contextlib.ExitStack() as held:
        with disk_errors(into):
            _refuse_taken(into)
            make_folders(into.parent)
            work = _locked(into, held)
        try:
            with disk_errors(into):
                # Again: whoever had the lock before may have finished.
                _refuse_taken(into)
                if any(work.iterdir()) and not (work / HOUSE).is_dir():
                    raise ConfigError([f"{work} is in the way: move it away"])
                _sweep(work)
                make_folders(work / HOUSE)
            yield work
            with disk_errors(into):
                os.replace(work, into)  # noqa: PTH105 - an empty folder there may go
        except BaseException:
            # A disk that fails must not hide why; what is left is swept the next time.
            with contextlib.suppress(OSError):
                _sweep(work)
                work.rmdir()
            raise
    with disk_errors(into):
        sync_folder(into.parent)


def _refuse_taken(into: Path) -> None:
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConfigError([f"{into} is there already: name a folder that is not, or is empty"])
    if into.is_mount():
        raise ConfigError([f"{into} is a disk's root: name a folder on it"])


def _locked(into: Path, held: contextlib.ExitStack) -> Path:
    """Make and lock the folder to work in."""
    work = into.with_name(f"{into.name}.unfinished")
    while True:
        make_folders(work)
        # Whoever had the lock renames or removes the folder at the end: then there is a new one.
        with contextlib.suppress(FileNotFoundError):
            folder = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, folder)
            try:
                lock_folder(folder)
            except BlockingIOError:
                text = f"another snapshot, merge or relayout into {into} runs: wait for its end"
                raise StoreInUseError(text) from None
            if os.path.samestat(os.fstat(folder), work.stat()):
                return work


def _sweep(work: Path) -> None:
    # Ours are empty, or have the house: it is made first, and swept last.
    house = work / HOUSE
    if house.is_dir():
        for path in work.iterdir():
            if path != house:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(house)


def _united(
    series: Series, stores: Mapping[Path, Callable[[Path, DamagedError], None]], store: Store
) -> UnitedSeries:
    table = without_rows(series)
    disagreements: list[Disagreement] = []
    # Of what waits in the journals: their own merges would have noted these.
    revisions: list[Revision] = []
    for path, tell in stores.items():
        with disk_errors(path):
            other = stored(path, [series], on_damage=tell)[series]
        if other is not None:
            revisions += other.revisions()
            better, found = _better(series, table, other.table())
            disagreements += found
            table = overlay(table, better)
    for place, piece in by_file(table, series, store.layout):
        store.take_in(piece, place, series)
    _unite_ledgers(series, tuple(stores), store, table, revisions)
    return UnitedSeries(series, table.num_rows, tuple(disagreements))


def _unite_ledgers(
    series: Series,
    stores: Sequence[Path],
    store: Store,
    table: pa.Table,
    waiting: Sequence[Revision],
) -> None:
    """What one of the stores accounts for is accounted for; what none has, is absent."""
    accounts: list[SeriesAccount] = []
    ledger: list[Gap] = []
    revisions: list[Revision] = []
    for path in stores:
        with journal_view(path) as journal:
            accounts += filter(None, [journal.accounts().get(series)])
            ledger += journal.gaps([series])
            revisions += [one for one in journal.revisions() if one.series == series]
    revisions += waiting
    if not accounts:
        store.journal.settle([], {}, revisions)
        return
    whole = Span(min(one.first_ms for one in accounts), max(one.watermark_ms for one in accounts))
    interval = series.interval
    times = begins_of(table)
    gaps = list(interval.gaps(whole, times)) if whole.from_ms < whole.to_ms else []
    known = [
        attrs.evolve(one, span=piece)
        for one in sorted(ledger, key=lambda one: one.state is State.PENDING)
        if one.state is not State.FILLED
        for gap in gaps
        for piece in one.span.common_with(gap)
    ]
    unknown = [Gap(series, gap, whole.to_ms, Reason.NOT_RECEIVED) for gap in gaps]
    filled = [
        attrs.evolve(one, span=piece)
        for one in ledger
        if one.state is State.FILLED
        for run in interval.runs(times)
        for piece in one.span.common_with(run)
    ]
    retired = [one.retired_ms for one in accounts]
    account = SeriesAccount(
        whole.from_ms,
        whole.to_ms,
        None if None in retired else max(ms for ms in retired if ms is not None),
    )
    store.journal.settle([*filled, *known, *unknown], {series: account}, revisions)


def _better(
    series: Series, table: pa.Table, other: pa.Table
) -> tuple[pa.Table, list[Disagreement]]:
    """The other's rows that the table lacks, or has with a lesser value; and where both differ."""
    at = pc.index_in(other[BEGIN], value_set=table[BEGIN].combine_chunks())
    shared = other.filter(pc.is_valid(at))
    mine = table.take(pc.drop_null(at))
    names = [name for name in table.column_names if name not in (BEGIN, END)]
    wins = np.zeros(shared.num_rows, bool)
    decided = np.zeros(shared.num_rows, bool)
    for name in _RANK:
        theirs_value, mine_value = shared[name].to_numpy(), mine[name].to_numpy()
        wins |= ~decided & (theirs_value > mine_value)
        decided |= theirs_value != mine_value
    found = []
    for row in np.flatnonzero(decided):
        values = [
            {name: columns[name][int(row)].as_py() for name in names}
            for columns in ((shared, mine) if wins[row] else (mine, shared))
        ]
        differ = [name for name in names if values[0][name] != values[1][name]]
        kept, dropped = ({name: one[name] for name in differ} for one in values)
        found.append(Disagreement(series, int(_ms(shared, BEGIN)[row]), kept, dropped))
    new = np.ones(other.num_rows, bool)
    new[pc.is_valid(at).to_numpy(zero_copy_only=False)] = wins
    return other.filter(pa.array(new)), found


def _ms(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = table[name].to_numpy().astype("datetime64[ms]").astype(np.int64)
    return times
