"""The universe: which symbols each market listed, and what each of them was, at any moment.

The file `.kline_trio/universe.parquet` has a row for each change that a recorder saw, the first
sight of a symbol and its vanishing included. Rows are only appended.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.listing import GONE, TRADING, Listing
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import read_table
from kline_trio.storage.paths import scratch, universe_path
from kline_trio.storage.quarantine import move_to_quarantine
from kline_trio.storage.sidecar import TIME, as_table, write_sidecar

logger = logging.getLogger(__name__)

_TEXTS = ("trade_type", "symbol", "status", "contract_type", "base", "quote", "margin", "tick_size")
_COLUMNS: dict[str, pa.DataType] = {
    "time": TIME,
    **dict.fromkeys(_TEXTS, pa.string()),
    "onboard_date": TIME,
    "delivery_date": TIME,
}
"""The columns after the first two are the fields of a Listing, in their order."""
UNIVERSE = pa.schema(_COLUMNS)
"""The columns of a universe as a table."""
_FIELDS = tuple(attrs.fields_dict(Listing))
_WEEK_MS = 7 * 86_400_000


@attrs.frozen
class Sighting:
    """What a symbol was found to be, or to have become."""

    time_ms: int
    """When it was seen, in the exchange's time. The change came after the look before this time."""
    trade_type: str
    listing: Listing


def changes(
    trade_type: str, known: Mapping[str, Listing], seen: Mapping[str, Listing], now_ms: int
) -> tuple[Sighting, ...]:
    """Return what is new since the last look at a market's list, by symbol.

    Args:
      trade_type: the market.
      known: the list as it was last seen, by symbol.
      seen: as it is now.
      now_ms: the exchange's time.
    """
    now = {name: one for name, one in seen.items() if known.get(name) != one}
    gone = {name: attrs.evolve(one, status=GONE) for name, one in known.items() if name not in seen}
    return tuple(Sighting(now_ms, trade_type, one) for _, one in sorted({**now, **gone}.items()))


@attrs.frozen
class StatusChange:
    """A change of a symbol's status, as a recorder saw it."""

    time_ms: int
    """When it was seen, in the exchange's time."""
    trade_type: str
    symbol: str
    was: str | None
    """None: the symbol was new in the list, or in it again."""
    status: str
    """In the exchange's words; `GONE` if the symbol is not in the list any more."""


@attrs.define(eq=False)
class UniverseFile:
    """The file as the one recorder of a store keeps it. All rows are in memory, too."""

    store_path: Path
    latest: dict[str, dict[str, Listing]]
    """The list of each market as it was last seen, by symbol; without symbols that are gone."""
    _table: pa.Table

    @classmethod
    def open(cls, store_path: Path) -> "UniverseFile":
        """Read the file of a store that this process has locked; without a file, begin one.

        A file that cannot be read is moved to the quarantine, and a new one is begun.

        Raises:
          DiskError: the disk refuses.
        """
        path = universe_path(store_path)
        with disk_errors(path):
            try:
                table = read_universe(path)
                return cls(store_path, _latest(table, path), table)
            except DamagedError as error:
                aside = move_to_quarantine(path, store_path)
                logger.error("%s; moved to %s, a new one begins with what is seen", error, aside)
                return cls(store_path, {}, pa.Table.from_batches([], UNIVERSE))

    def changed_ms(self) -> dict[tuple[str, str], int]:
        """Return when the last change of each symbol was seen, by market and symbol."""
        return {(market, symbol): ms for ms, market, symbol, _ in self._statuses()}

    def entered_ms(self) -> dict[tuple[str, str], int]:
        """Return since when each symbol is in the list, or in it again, by market and symbol."""
        found: dict[tuple[str, str], int] = {}
        gone: set[tuple[str, str]] = set()
        for time_ms, trade_type, symbol, status in self._statuses():
            key = (trade_type, symbol)
            if key not in found or (key in gone and status != GONE):
                found[key] = time_ms
            (gone.add if status == GONE else gone.discard)(key)
        return found

    def most_trading(self) -> dict[str, int]:
        """Return how many symbols of each market traded at most in the week before its last row."""
        last_ms = {trade_type: time_ms for time_ms, trade_type, *_ in self._statuses()}
        trading: dict[str, set[str]] = {name: set() for name in last_ms}
        most = dict.fromkeys(last_ms, 0)
        for time_ms, trade_type, symbol, status in self._statuses():
            now = trading[trade_type]
            before = len(now)
            (now.add if status == TRADING else now.discard)(symbol)
            if time_ms >= last_ms[trade_type] - _WEEK_MS:
                most[trade_type] = max(most[trade_type], before, len(now))
        return most

    def _statuses(self) -> Iterator[tuple[int, str, str, str]]:
        """Give time, market, symbol and status of each row."""
        return _rows(self._table.select(UNIVERSE.names[:4]))

    def append(self, sightings: Sequence[Sighting]) -> None:
        """Add rows. When it returns, they survive a power cut. Without rows nothing is written.

        Raises:
          DiskError: the file is as it was.
        """
        if not sightings:
            return
        table = pa.concat_tables([self._table, universe_table(sightings)]).combine_chunks()
        path = universe_path(self.store_path)
        with disk_errors(path):
            write_sidecar(lambda: [table], UNIVERSE, path, scratch(self.store_path))
        self._table = table
        for one in sightings:
            _note(self.latest, one.trade_type, one.listing)


def read_universe(path: Path) -> pa.Table:
    """Return the rows of a universe's file; no rows if there is no file.

    Raises:
      DamagedError: the file cannot be read, or lacks columns.
      OSError: the disk refused.
    """
    try:
        table = read_table(path)
    except FileNotFoundError:
        return pa.Table.from_batches([], UNIVERSE)
    try:
        # A later version may have written more columns.
        return table.select(UNIVERSE.names).cast(UNIVERSE)
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} has not the columns of a universe: {error}") from error


def status_changes(store_path: Path) -> list[StatusChange]:
    """Return the changes of status after the first list of each market, in the order of sight.

    Raises:
      DamagedError: the file cannot be read.
      OSError: the disk refused.
    """
    known: dict[tuple[str, str], str] = {}
    first_ms: dict[str, int] = {}
    found = []
    for time_ms, trade_type, symbol, status in _rows(
        read_universe(universe_path(store_path)).select(UNIVERSE.names[:4])
    ):
        was = known.get((trade_type, symbol))
        known[trade_type, symbol] = status
        if time_ms > first_ms.setdefault(trade_type, time_ms) and was != status:
            is_new = was in (None, GONE)
            found.append(StatusChange(time_ms, trade_type, symbol, None if is_new else was, status))
    return found


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Give the rows as values; times are milliseconds."""
    columns = (
        (column.cast(pa.int64()) if column.type == TIME else column).to_pylist()
        for column in table.columns
    )
    return zip(*columns, strict=True)


def _latest(table: pa.Table, path: Path) -> dict[str, dict[str, Listing]]:
    last = {row[1:3]: row for row in _rows(table)}
    found: dict[str, dict[str, Listing]] = {}
    for _, trade_type, *values in last.values():
        _note(found, trade_type, _listing(values, path))
    return found


def _listing(values: Sequence[Any], place: str | Path) -> Listing:
    try:
        return Listing(**dict(zip(_FIELDS, values, strict=True)))
    except (TypeError, ValueError) as error:
        raise DamagedError(f"{place} holds what can be no symbol: {error}") from error


def _note(latest: dict[str, dict[str, Listing]], trade_type: str, listing: Listing) -> None:
    market = latest.setdefault(trade_type, {})
    if listing.status == GONE:
        market.pop(listing.symbol, None)
    else:
        market[listing.symbol] = listing


def unite_universes(stores: Iterable[Path], into: UniverseFile) -> None:
    """Write the rows of several stores as if one recorder had seen all changes.

    Raises:
      DiskError: a file cannot be read, or the new one not be written.
    """
    several = {}
    for store_path in stores:
        path = universe_path(store_path)
        with disk_errors(path):
            several[str(path)] = read_universe(path)
    into.append(united(several))


def united(several: Mapping[str, pa.Table]) -> list[Sighting]:
    """Return the rows of several universes as if one recorder had seen all changes.

    Each row is true of its moment, whichever recorder saw it. So the rows are put in order of
    time, and a row that repeats the state before is left out.

    Args:
      several: tables as `read_universe` returns them, by the name of their place.

    Raises:
      DamagedError: a table holds what can be no symbol.
    """
    seen = {
        Sighting(time_ms, trade_type, _listing(values, place))
        for place, table in several.items()
        for time_ms, trade_type, *values in _rows(table)
    }
    state: dict[tuple[str, str], Listing] = {}
    rows = []
    for one in sorted(seen, key=_order):
        names = one.trade_type, one.listing.symbol
        if state.get(names) != one.listing:
            state[names] = one.listing
            rows.append(one)
    return rows


def universe_table(sightings: Iterable[Sighting]) -> pa.Table:
    """Return sightings as rows of a universe."""
    rows = ((one.time_ms, one.trade_type, *attrs.astuple(one.listing)) for one in sightings)
    return as_table(rows, UNIVERSE)


def _order(one: Sighting) -> tuple[object, ...]:
    # By all that it holds: the order in which the stores are named must not count.
    values = attrs.astuple(one.listing)
    return one.time_ms, one.trade_type, *((value is not None, value) for value in values)


def unlisted(store_path: Path, every: Iterable[Series]) -> dict[Series, str | None]:
    """Return the series whose symbol was in no list of its market that a recorder has seen.

    Each comes with the listed symbol most like it, if there is one. If no recorder has seen the
    list of a market, its series are left out.

    Raises:
      DiskError: the file cannot be read.
    """
    path = universe_path(store_path)
    listed: dict[str, set[str]] = {}
    with disk_errors(path):
        for _, trade_type, symbol, *_ in _rows(read_universe(path)):
            listed.setdefault(trade_type, set()).add(symbol)
    return {
        one: next(iter(get_close_matches(one.symbol, names, n=1, cutoff=0.8)), None)
        for one in every
        if (names := listed.get(one.trade_type)) and one.symbol not in names
    }
