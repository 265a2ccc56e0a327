"""Look whether the lake still has the months that were removed from a store."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from kline_trio.config.lake import LakeConfig
from kline_trio.counting import counted, noun
from kline_trio.interval import Span
from kline_trio.lake.errors import LakeDeniedError, LakeFileGoneError
from kline_trio.lake.location import Location
from kline_trio.lake.plan import month_of
from kline_trio.lake.query import between, counts, equal
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN

_MOST = 20
"""How many months are named."""


def lacking(location: Location, store_path: Path, on_step: OnStep = ignore_step) -> list[str]:
    """Return what is gone of the months that were removed from a store, by numbers of candles.

    This reads one column of the months' files, so a file that is gone shows, too. Months that were
    published to another lake before are looked for there.

    Args:
      location: the lake to which the store is published.
      store_path: the store's folder.
      on_step: called with each partition: there may be thousands.

    Returns:
      a text for each month, and for each partition or earlier lake that cannot be read; not more
      than some.

    Raises:
      LakeUnreachableError: the object store gives no answer, so that nothing is known.
      LakeDeniedError: it refuses these credentials for the lake.
      KlineTrioError: the journal cannot be read.
    """
    with journal_view(store_path) as journal:
        pruned, addresses, state = journal.pruned(), journal.lake_addresses(), journal.lake()
    by_lake: dict[str, list[Pruned]] = defaultdict(list)
    for one in pruned:
        by_lake[one.lake].append(one)
    found: list[str] = []
    for lake, months in by_lake.items():
        if state is not None and state.lake == lake:
            found += _lacking_in(location, lake, months, on_step)
            continue
        if lake not in addresses:
            found.append(f"the address of an earlier lake is not known, and {_removed(months)}")
            continue
        try:
            place = Location.from_config(LakeConfig.from_address(json.loads(addresses[lake])))
            found += _lacking_in(place, lake, months, on_step)
        except LakeDeniedError as error:
            # Its bucket may be gone. The lake of today is looked at all the same.
            found.append(f"{error}, and {_removed(months)}")
    if len(found) > _MOST:
        return [*found[:_MOST], f"and {counted(len(found) - _MOST, 'month')} more"]
    return found


def _lacking_in(
    location: Location, lake: str, months: Sequence[Pruned], on_step: OnStep
) -> Iterator[str]:
    table = open_table(location, "candles")
    if table is None or table.id != lake:
        what = "there is no lake any more" if table is None else "is another lake now"
        yield f"{location.url}: {what}, and {_removed(months)}"
        return
    version, known = table.delta.version(), max(one.version for one in months)
    if version < known:
        # An older copy may have older values. Reading refuses it, too.
        yield f"{location.url}: is at version {version:,}, and was at {known:,} when it was read"
    groups: dict[tuple[str, str, Span], list[Pruned]] = defaultdict(list)
    for one in months:
        groups[one.series.trade_type, one.series.time_interval, one.span].append(one)
    for done, (place, some) in enumerate(sorted(groups.items())):
        on_step(Step(f"counting {_name(place)} in the lake", done, len(groups), "partition"))
        yield from _lacking(location, table, place, some)


def _lacking(
    location: Location, table: LakeTable, place: tuple[str, str, Span], months: Sequence[Pruned]
) -> list[str]:
    trade_type, time_interval, span = place
    month = month_of(span.from_ms)
    within = (span.from_ms, span.to_ms)
    partition = {"trade_type": trade_type, "time_interval": time_interval, "month": month}
    conditions = [*equal(partition), *between(BEGIN, *within)]
    try:
        try:
            rows = counts(location, table, "symbol", conditions)
        except LakeFileGoneError:
            # A later version may not need the file.
            newest = open_table(location, "candles") or table
            rows = counts(location, newest, "symbol", conditions)
    except LakeFileGoneError as error:
        return [f"{_name(place)}: {error}"]
    return [
        f"{location.url}: {one.series} of {month}: {_gone(one.rows - there)} removed here"
        for one in months
        if (there := rows.get(one.series.symbol, 0)) < one.rows
    ]


def _name(place: tuple[str, str, Span]) -> str:
    trade_type, time_interval, span = place
    return f"{trade_type} {time_interval} of {month_of(span.from_ms)}"


def _removed(months: Sequence[Pruned]) -> str:
    return f"{counted(len(months), 'month was', 'months were')} removed here"


def _gone(count: int) -> str:
    gone = counted(count, "candle is", "candles are")
    return f"{gone} gone, which {noun(count, 'was', 'were')}"
