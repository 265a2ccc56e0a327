"""What a page needs of a store at one moment; it is read in a worker thread."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import attrs
import numpy as np

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.monitor.page.answers import tag_of
from kline_trio.monitor.page.event_log import Healing
from kline_trio.monitor.page.ledger_rows import LedgerRows
from kline_trio.monitor.page.summary import Totals
from kline_trio.storage.calendar import (
    Calendar,
    Counts,
    Due,
    ledger_stamp,
    ledger_version,
)
from kline_trio.storage.census import Census, census
from kline_trio.storage.status import Heartbeat

_ALL_TIME = np.array([0, MAX_TIME_MS])


@attrs.frozen
class Present:
    """The exchange's time, and what is due by then."""

    times_ms: Mapping[str, int]
    """The exchange's time by market; a market without one is left out."""
    due: Mapping[str, Due]
    """What is due after the watermarks, by market."""


FindPresent = Callable[[Heartbeat], Present]
"""Returns the present of a store. Call it before the ledger is read: then what is due is in the
ledger, or stored."""


@attrs.frozen(kw_only=True)
class Look:
    """A store at one moment."""

    calendar: Calendar
    stamp: Hashable
    """Of the ledger's files, when they were read."""
    due: Mapping[str, Due]
    spans: tuple[Span | None, ...]
    """From which to which candle those of each series are due; None: none is."""
    counts: tuple[Counts, ...]
    """Of each series, over all time."""
    totals: Totals
    markets: Mapping[str, Totals]
    """Of each market; without reasons."""
    heartbeat: Heartbeat
    rows: LedgerRows
    healing: Healing
    census: Census | None
    """What the disk holds; None: it was not asked for."""

    @property
    def version(self) -> str:
        """Changes when a cell of the calendar may have changed."""
        if not self.due:
            return self.calendar.version
        moments = sorted((name, *attrs.astuple(one)) for name, one in self.due.items())
        return f"{self.calendar.version}-{tag_of(repr(moments).encode())}"

    @property
    def events_version(self) -> str:
        """Changes when an event of the store may have changed."""
        return f"{self.calendar.version}-{self.rows.version}"

    @cached_property
    def places(self) -> Mapping[Series, int]:
        """The place of each series in the calendar."""
        return {one: place for place, one in enumerate(self.calendar.series)}

    @property
    def until_ms(self) -> int | None:
        """Up to when the candles of all markets count; None: some count up to the watermarks."""
        if self.markets.keys() - self.due.keys():
            return None
        return min((one.until_ms for one in self.due.values()), default=None)


def look_at(
    store_path: Path, find_present: FindPresent, before: Look | None, *, with_census: bool
) -> Look:
    """Read a store, but for what the look before has already.

    Args:
      store_path: the store's folder.
      find_present: what is due, and when.
      before: the look before; None: there was none.
      with_census: whether to count what the disk holds.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    heartbeat = Heartbeat.read(store_path)
    present = find_present(heartbeat)
    stamp = ledger_stamp(store_path)
    calendar = None if before is None else before.calendar
    is_same = before is not None and stamp == before.stamp
    if calendar is None or not (is_same or ledger_version(store_path) == calendar.version):
        calendar = Calendar.read(store_path)
    known = before if before is not None and before.calendar is calendar else None
    rows = LedgerRows.read(
        store_path, None if before is None else before.rows, is_ledger_known=known is not None
    )
    healing = Healing() if before is None else before.healing
    if known is None:
        healing = healing.after(rows.gaps, present.times_ms)
    if known is not None and known.due == present.due:
        spans, counts, totals, markets = known.spans, known.counts, known.totals, known.markets
    else:
        spans = tuple(calendar.spans(present.due))
        everyone = [[place] for place in range(len(calendar.series))]
        counts = tuple(run.counts for [run] in calendar.rows(everyone, _ALL_TIME, present.due))
        lacking = calendar.lacking_by_reason(range(len(counts)), present.due)
        totals = Totals.of(counts, {str(one): count for one, count in lacking.items()})
        markets = _by_market(calendar.series, counts)
    return Look(
        calendar=calendar,
        stamp=stamp,
        due=present.due,
        spans=spans,
        counts=counts,
        totals=totals,
        markets=markets,
        heartbeat=heartbeat,
        rows=rows,
        healing=healing,
        census=census(store_path, {}) if with_census else None,
    )


def _by_market(series: Sequence[Series], counts: Sequence[Counts]) -> dict[str, Totals]:
    by_market: dict[str, list[Counts]] = {}
    for one, of_series in zip(series, counts, strict=True):
        by_market.setdefault(one.trade_type, []).append(of_series)
    return {name: Totals.of(some, {}) for name, some in by_market.items()}
