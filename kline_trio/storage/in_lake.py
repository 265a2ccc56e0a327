"""The months of a store that a lake alone has: which they are, and which lake that is.

The journal has a month as pruned before the first of its rows is removed. So a reader that looks
for the months after it has read the rows sees each month of which it can have missed rows.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span, time_text
from kline_trio.spans import joined
from kline_trio.storage.gaps import coverage_columns, has_journal
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import JournalView, journal_view

_MOST_SERIES_NAMED = 3
_UNKNOWN = "a lake of which the store has no address"
_COVERAGE = ("trade_type", "symbol", "time_interval", "from", "to", "first_seen", "state")


@attrs.frozen
class InLake:
    """Pruned months, and the lakes that have them."""

    months: tuple[Pruned, ...] = ()
    """By series and time."""
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    """By the id of each lake, as JSON."""

    @classmethod
    def of(cls, journal: JournalView, among: Collection[Series] | None = None) -> "InLake":
        """Return the months of all series, or of some, by a journal."""
        months = tuple(journal.pruned(among))
        return cls(months, journal.lake_addresses() if months else {})

    @classmethod
    def read(cls, store_path: Path, among: Collection[Series] | None = None) -> "InLake":
        """Return the months of all series, or of some, in a store.

        A copy of the files without a journal has them in `coverage.parquet`, and knows no lake.

        Raises:
          KlineTrioError: the journal, the coverage or the disk refuses.
        """
        if has_journal(store_path):
            with journal_view(store_path) as journal:
                return cls.of(journal, among)
        rows = zip(*coverage_columns(store_path, _COVERAGE), strict=True)
        months = (
            Pruned(Series(*names), Span(from_ms, to_ms), "", 0, 0, "", seen_ms)
            for *names, from_ms, to_ms, seen_ms, state in rows
            if state == State.IN_LAKE
        )
        return cls(tuple(one for one in months if among is None or one.series in among))

    def touching(self, span: Span) -> "InLake":
        """Return the months with a candle in a span."""
        months = tuple(one for one in self.months if one.span.common_with(span))
        return attrs.evolve(self, months=months)

    def only(self, is_wanted: Callable[[Series], bool]) -> "InLake":
        """Return the months of some series."""
        return attrs.evolve(self, months=tuple(one for one in self.months if is_wanted(one.series)))

    def of_series(self, series: Series) -> list[Span]:
        """Return the pruned candles of a series as spans, in order; none touch."""
        return joined(one.span for one in self.months if one.series == series)

    def url(self, lake: str) -> str:
        """Return where a lake is: an `s3://` address, or a folder."""
        try:
            address = json.loads(self.addresses[lake])
            return str(address.get("url") or address["folder"])
        except (KeyError, ValueError, AttributeError):
            return _UNKNOWN

    def urls(self) -> list[str]:
        """Return where the lakes of the months are, each once, in order."""
        return sorted({self.url(one.lake) for one in self.months})

    def __str__(self) -> str:
        """Return the months in words: their series, and where they are."""
        by_series = [(one, list(some)) for one, some in groupby(self.months, attrgetter("series"))]
        named = [f"{one} {_months(some)}" for one, some in by_series[:_MOST_SERIES_NAMED]]
        if more := len(by_series) - len(named):
            named.append(f"months of {more:,} more series")
        return f"{'; '.join(named)}: in the lake alone, {' and '.join(self.urls())}"

    def months_text(self, series: Series) -> str:
        """Return a series and its months in words."""
        return f"{series} {_months(one for one in self.months if one.series == series)}"

    def after_ms(self) -> int:
        """Return the end of the last month."""
        return max(one.span.to_ms for one in self.months)


def _months(months: Iterable[Pruned]) -> str:
    """Return months of a series in words, as `2024-01 to 2024-03, 2024-07`."""
    runs: list[list[Pruned]] = []
    for one in months:
        if runs and runs[-1][-1].span.to_ms >= one.span.from_ms:
            runs[-1].append(one)
        else:
            runs.append([one])
    texts = []
    for run in runs:
        first, last = (time_text(one.span.from_ms)[:7] for one in (run[0], run[-1]))
        texts.append(first if first == last else f"{first} to {last}")
    return ", ".join(texts)
