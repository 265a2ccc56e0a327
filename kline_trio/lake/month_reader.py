"""Read months that were pruned from a store, and refuse a lake that has less than it had then."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.counting import counted
from kline_trio.lake.errors import LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.reader import candles
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.spans import joined
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.table import BEGIN, values_of


def pruned_candles(in_lake: InLake) -> dict[Series, pa.Table]:
    """Return the candles of pruned months, by series and begin.

    Whole months are read, since only of these is it known how many candles the lake had.

    Raises:
      ConfigError: the address of a lake is none, or its endpoint cannot be used.
      LakeError: a lake cannot be read, is another one now, or has fewer candles of a month than
        when the month was pruned.
    """
    pieces: dict[Series, list[pa.Table]] = {}
    by_lake: dict[str, list[Pruned]] = {}
    for one in in_lake.months:
        by_lake.setdefault(one.lake, []).append(one)
    for lake, months in by_lake.items():
        if lake not in in_lake.addresses:
            raise LakeError(f"{in_lake}: its address is not known")
        address = LakeConfig.from_address(json.loads(in_lake.addresses[lake]))
        location = Location.from_config(address)
        table = _same_table(location, months)
        for series, rows in _of_lake(table, location, months):
            pieces.setdefault(series, []).append(rows)
    return {one: pa.concat_tables(some).sort_by(BEGIN) for one, some in pieces.items()}


def _same_table(location: Location, months: Sequence[Pruned]) -> LakeTable:
    """Return the table that the months were read back from."""
    url = location.table_url("candles")
    table = open_table(location, "candles")
    if table is None:
        raise LakeError(f"{url}: is gone, and the months that were pruned here with it")
    if table.id != months[0].lake:
        what = f"its table is {table.id}, not {months[0].lake}"
        raise LakeError(f"{url}: is another lake than the one with the pruned months: {what}")
    version, known = table.delta.version(), max(one.version for one in months)
    if version < known:
        raise LakeError(f"{url}: is at version {version:,}, and was at {known:,} when it was read")
    return table


def _of_lake(
    table: LakeTable, location: Location, months: Sequence[Pruned]
) -> Iterable[tuple[Series, pa.Table]]:
    kinds: dict[tuple[str, str], list[Pruned]] = {}
    for one in months:
        kinds.setdefault((one.series.trade_type, one.series.time_interval), []).append(one)
    for some in kinds.values():
        # What lies between two pruned months is not read.
        for run in joined(one.span for one in some):
            here = [one for one in some if one.span.common_with(run)]
            every = list(dict.fromkeys(one.series for one in here))
            found = candles(table, location, every, run.from_ms, run.to_ms)
            for series, mine in groupby(here, attrgetter("series")):
                for month in mine:
                    yield series, _whole(month, found, location)


def _whole(month: Pruned, found: Mapping[Series, pa.Table | None], location: Location) -> pa.Table:
    """Return the rows of a month. The lake may have more than it had, and never fewer."""
    rows, series = found[month.series], month.series
    count = 0
    if rows is not None:
        ends = [month.span.from_ms, month.span.to_ms]
        first, end = np.searchsorted(values_of(rows[BEGIN]), ends).tolist()
        rows, count = rows.slice(first, end - first), end - first
    if rows is None or count < month.rows:
        had = f"{counted(month.rows, 'candle')} of {InLake((month,)).months_text(series)}"
        raise LakeError(f"{location.url}: has {count:,} of {had}, which was pruned here")
    return rows
