"""What the symbols of the markets were, and when they became so: what was tradable on a day.

The file `.kline_trio/universe.parquet` has a row for each change that was seen, the first sight of
a symbol and its vanishing included. It only grows: what it says of a moment stays true.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.listing import GONE, TRADING, Listing
from kline_trio.storage.arguments import a_market, store_folder
from kline_trio.storage.disk import disk_errors, move_durably
from kline_trio.storage.files import open_parquet, read_whole
from kline_trio.storage.paths import new_quarantine, scratch, universe_path
from kline_trio.storage.sidecar import TIME, as_table, write_sidecar

if TYPE_CHECKING:
    # The recorder writes the file, and never loads pandas: half a second of CPU, and 40 MB.
    import pandas as pd

__all__ = ["Sighting", "UniverseFile", "changes", "unite_universes", "universe", "unlisted"]

logger = logging.getLogger(__name__)

_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("time", TIME),
    ("trade_type", pa.string()),
    ("symbol", pa.string()),
    ("status", pa.string()),
    ("contract_type", pa.string()),
    ("base", pa.string()),
    ("quote", pa.string()),
    ("margin", pa.string()),
    ("tick_size", pa.string()),
    ("onboard_date", TIME),
    ("delivery_date", TIME),
]
"""Those after the first two are the fields of a Listing, in their order."""
_WEEK_MS = 7 * 86_400_000
_SCHEMA = pa.schema(_COLUMNS)


_FIELDS = tuple(attrs.fields_dict(Listing))


@attrs.frozen
class Sighting:
    """What a symbol was found to be, or to have become."""

    time_ms: int
    """When it was seen, in the exchange's time: the change lies between the look before and it."""
    trade_type: str
    listing: Listing


def changes(
    trade_type: str, known: Mapping[str, Listing], seen: Mapping[str, Listing], now_ms: int
) -> tuple[Sighting, ...]:
    """What is new since the last look at a market's list, by symbol.

    Args:
      trade_type: the market.
      known: the list as it was last seen, by symbol.
      seen: as it is now.
      now_ms: the exchange's time.
    """
    now = {name: one for name, one in seen.items() if known.get(name) != one}
    gone = {name: attrs.evolve(one, status=GONE) for name, one in known.items() if name not in seen}
    return tuple(Sighting(now_ms, trade_type, one) for _, one in sorted({**now, **gone}.items()))


@attrs.define(eq=False)
class UniverseFile:
    """The file, as the one recorder of a store keeps it; all of it is in memory too."""

    store_path: Path
    latest: dict[str, dict[str, Listing]]
    """The list of each market as it was last seen, by symbol; what is gone is not in it."""
    _table: pa.Table

    @classmethod
    def open(cls, store_path: Path) -> "UniverseFile":
        """What is there of a store that is open, and so locked; nothing, if nothing is.

        A file that cannot be read is moved to the quarantine, and a new one is begun.

        Raises:
          DiskError: the disk refuses.
        """
        path = universe_path(store_path)
        with disk_errors(path):
            try:
                table = _read(path)
                return cls(store_path, _latest(table, path), table)
            except DamagedError as error:
                aside = new_quarantine(store_path) / path.relative_to(store_path)
                move_durably(path, aside)
                logger.error("%s; moved to %s, a new one begins with what is seen", error, aside)
                return cls(store_path, {}, pa.Table.from_batches([], _SCHEMA))

    @property
    def rows(self) -> int:
        """How many changes it holds."""
        return self._table.num_rows

    def changed_ms(self) -> dict[tuple[str, str], int]:
        """When a change of it was last seen, of every symbol that ever was, by market and name."""
        times, trade_types, symbols, *_ = _lists(self._table)
        return dict(zip(zip(trade_types, symbols, strict=True), times, strict=True))

    def entered_ms(self) -> dict[tuple[str, str], int]:
        """Since when a symbol is in the list, anew after it was gone, by market and name."""
        found: dict[tuple[str, str], int] = {}
        gone: set[tuple[str, str]] = set()
        for time_ms, trade_type, symbol, status in zip(*_lists(self._table)[:4], strict=True):
            key = (trade_type, symbol)
            if key not in found or (key in gone and status != GONE):
                found[key] = time_ms
            (gone.add if status == GONE else gone.discard)(key)
        return found

    def most_trading(self) -> dict[str, int]:
        """How many symbols of each market traded at most, in the week before its last change."""
        rows = list(zip(*_lists(self._table)[:4], strict=True))
        last_ms = {trade_type: time_ms for time_ms, trade_type, *_ in rows}
        trading: dict[str, set[str]] = {name: set() for name in last_ms}
        most = dict.fromkeys(last_ms, 0)
        for time_ms, trade_type, symbol, status in rows:
            now = trading[trade_type]
            before = len(now)
            (now.add if status == TRADING else now.discard)(symbol)
            if time_ms >= last_ms[trade_type] - _WEEK_MS:
                most[trade_type] = max(most[trade_type], before, len(now))
        return most

    def append(self, sightings: Sequence[Sighting]) -> None:
        """Adds rows; when it returns, they survive a power cut. Without rows nothing is written.

        Raises:
          DiskError: the file is as it was.
        """
        if not sightings:
            return
        rows = [(one.time_ms, one.trade_type, *attrs.astuple(one.listing)) for one in sightings]
        table = pa.concat_tables([self._table, as_table(rows, _SCHEMA)]).combine_chunks()
        path = universe_path(self.store_path)
        with disk_errors(path):
            write_sidecar(lambda: [table], _SCHEMA, path, scratch(self.store_path))
        self._table = table
        for one in sightings:
            _note(self.latest, one.trade_type, one.listing)


def _read(path: Path) -> pa.Table:
    try:
        with open_parquet(path) as file:
            table = read_whole(file, path)
    except FileNotFoundError:
        return pa.Table.from_batches([], _SCHEMA)
    try:
        # A later version may have written more columns.
        return table.select(_SCHEMA.names).cast(_SCHEMA)
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} has not the columns of a universe: {error}") from error


def _latest(table: pa.Table, path: Path) -> dict[str, dict[str, Listing]]:
    columns = _lists(table)
    _, trade_types, symbols, *_ = columns
    last = {names: row for row, names in enumerate(zip(trade_types, symbols, strict=True))}
    found: dict[str, dict[str, Listing]] = {}
    for row in last.values():
        _, trade_type, *values = (column[row] for column in columns)
        _note(found, trade_type, _listing(values, path))
    return found


def _lists(table: pa.Table) -> list[list[Any]]:
    """The columns' values, times in milliseconds."""
    return [
        (column.cast(pa.int64()) if column.type == TIME else column).to_pylist()
        for column in table.columns
    ]


def _listing(values: Sequence[Any], path: Path) -> Listing:
    try:
        return Listing(**dict(zip(_FIELDS, values, strict=True)))
    except (TypeError, ValueError) as error:
        raise DamagedError(f"{path} holds what can be no symbol: {error}") from error


def unite_universes(stores: Iterable[Path], into: UniverseFile) -> None:
    """Writes what several recorders saw as if one had seen it all.

    Each row is true of its moment, whoever saw it; so in order of time they tell one story, in
    which what repeats the state before says nothing.

    Raises:
      DiskError: a file cannot be read, or the new one not be written.
    """
    seen: set[Sighting] = set()
    for store_path in stores:
        path = universe_path(store_path)
        with disk_errors(path):
            for time_ms, trade_type, *values in zip(*_lists(_read(path)), strict=True):
                seen.add(Sighting(time_ms, trade_type, _listing(values, path)))
    state: dict[tuple[str, str], Listing] = {}
    rows = []
    for one in sorted(seen, key=_order):
        names = one.trade_type, one.listing.symbol
        if state.get(names) != one.listing:
            state[names] = one.listing
            rows.append(one)
    into.append(rows)


def _order(one: Sighting) -> tuple[object, ...]:
    # By all that it holds: the order in which the stores are named must not count.
    values = attrs.astuple(one.listing)
    return one.time_ms, one.trade_type, *((value is not None, value) for value in values)


def _note(latest: dict[str, dict[str, Listing]], trade_type: str, listing: Listing) -> None:
    market = latest.setdefault(trade_type, {})
    if listing.status == GONE:
        market.pop(listing.symbol, None)
    else:
        market[listing.symbol] = listing


def unlisted(store_path: Path, every: Iterable[Series]) -> dict[Series, str | None]:
    """Return the series whose symbol was in no list of its market that a recorder has seen.

    Each comes with the listed symbol most like it, if one is. Of a market whose list no recorder
    has seen, nothing is known, and nothing returned.

    Raises:
      DiskError: the file cannot be read.
    """
    path = universe_path(store_path)
    with disk_errors(path):
        _, trade_types, symbols, *_ = _lists(_read(path))
    listed: dict[str, set[str]] = {}
    for trade_type, symbol in zip(trade_types, symbols, strict=True):
        listed.setdefault(trade_type, set()).add(symbol)
    return {
        one: next(iter(get_close_matches(one.symbol, names, n=1, cutoff=0.8)), None)
        for one in every
        if (names := listed.get(one.trade_type)) and one.symbol not in names
    }


def universe(
    path: str | os.PathLike[str],
    at: str | date | None = None,
    trade_type: str | None = None,
) -> "pd.DataFrame":
    """What the symbols of the markets were: each change that was seen, or the state at a moment.

    It tells what a recorder saw, and of before its first look nothing: a symbol's first row is
    from when it was first seen, which is later than its listing where that was before. A change is
    seen at the look after it. Of a market that no recorder ever looked at there are no rows.

    Args:
      path: the store's folder; `~` is expanded.
      at: None: all rows, in the order in which they were seen. A date (its first moment), a
        datetime or a text; UTC if it names no zone: the last row of each symbol up to then, by
        market and symbol.
      trade_type: of this market only.

    Returns:
      `time`, when it was seen, in the exchange's time; `trade_type`, `symbol`; and in the
      exchange's words `status` (`GONE` where it had vanished from the list), `contract_type`,
      `base`, `quote`, `margin`, `tick_size` (decimal text), `onboard_date`, `delivery_date`; null
      is what a market does not tell of. With `at` also `is_trading`: the status was `TRADING`, and
      the delivery date, as far as it was known, still to come.

    Raises:
      KlineTrioError: there is no such folder, or the file cannot be read.
      ValueError: `at` is no time, or there is no such market.
    """
    import pandas as pd

    from kline_trio.storage.arguments import moment_ms

    at_ms = None if at is None else moment_ms("at", at)
    market = None if trade_type is None else a_market(trade_type)
    file_path = universe_path(store_folder(path))
    with disk_errors(file_path):
        frame: pd.DataFrame = _read(file_path).to_pandas()
    if market is not None:
        frame = frame[frame["trade_type"] == market]
    if at_ms is not None:
        moment = pd.Timestamp(at_ms, unit="ms", tz="UTC")
        frame = frame[frame["time"] <= moment]
        frame = frame.drop_duplicates(["trade_type", "symbol"], keep="last")
        frame = frame.sort_values(["trade_type", "symbol"])
        # A comparison with no date is False.
        is_over = frame["delivery_date"] <= moment
        frame["is_trading"] = (frame["status"] == TRADING) & ~is_over
    return frame.reset_index(drop=True)
