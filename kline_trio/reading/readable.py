"""Where readers read: the folder of a store, or a lake."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.reading.address import lake_packages, lake_url
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.catalog import last_end_ms, series, stored
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import universe_path
from kline_trio.storage.reports import ledger, revision_table
from kline_trio.storage.universe import read_universe


class Absences(Protocol):
    """Why candles are missing."""

    def reasons(self, wanted: Series, gap: Span) -> list[str]:
        """Return the reasons in the ledger, in order. There is at least one text."""


class Readable(Protocol):
    """A store or a lake. All its tables have times in milliseconds."""

    @property
    def name(self) -> str:
        """The folder or the address, as errors name it."""

    def series(self) -> list[Series]:
        """Return the series that have candles, in order. A store's may have pruned months alone."""

    def last_end_ms(self) -> dict[Series, int]:
        """Return the end of each series' newest candle."""

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        """Return the rows with open times in [from_ms, to_ms) of each series, by begin.

        A table has the columns of the series' files. None: there are no such rows, and perhaps no
        such series.
        """

    def in_lake(self, wanted: Collection[Series]) -> InLake:
        """Return the months of some series that are in a lake alone. To be called after `tables`.

        A month can be pruned while it is read: then it is among these. A lake has no such months.
        """

    def absences(self, wanted: Collection[Series]) -> Absences:
        """Return why candles of some series are missing. To be called before `tables`."""

    def coverage(self, wanted: Mapping[str, str]) -> pa.Table:
        """Return the ledger by series and time, of the series with some names."""

    def accounted(self) -> set[Series]:
        """Return the series that the ledger knows, or that have candles."""

    def revisions(self) -> pa.Table:
        """Return each column that differs between two values of a candle, by series and time."""

    def universe(self) -> pa.Table:
        """Return each change of the markets' symbols, in the order in which they were seen."""


def readable(path: str | os.PathLike[str]) -> Readable:
    """Return the store or the lake that a caller's path means.

    Raises:
      KlineTrioError: there is no such folder or lake; or it is a lake that cannot be read, or the
        packages for lakes are not installed.
    """
    url = lake_url(path)
    if url is None:
        return readable_store(store_folder(path))
    with lake_packages():
        from kline_trio.lake.reader import ReadableLake

        return ReadableLake.open(url)


def readable_store(path: Path) -> Readable:
    """Return the store in a folder, whether there is one or not."""
    return _ReadableStore(path)


@attrs.frozen
class _ReadableStore:
    """A store in a folder: its files, its journal and the ledger in it."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def series(self) -> list[Series]:
        pruned = (one.series for one in InLake.read(self.path).months)
        return sorted({*series(self.path), *pruned})

    def last_end_ms(self) -> dict[Series, int]:
        return last_end_ms(self.path)

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        with disk_errors(self.path):
            found = stored(self.path, wanted, from_ms, to_ms)
        return {one: look.table() if look else None for one, look in found.items()}

    def in_lake(self, wanted: Collection[Series]) -> InLake:
        return InLake.read(self.path, wanted)

    def absences(self, _: Collection[Series]) -> Absences:
        return _StoreAbsences(self.path)

    def coverage(self, wanted: Mapping[str, str]) -> pa.Table:
        table = ledger(self.path)
        if not wanted:
            return table
        # Imported here: it makes hundreds of functions.
        import pyarrow.compute as pc

        for name, value in wanted.items():
            table = table.filter(pc.equal(table[name], pa.scalar(value)))
        return table

    def accounted(self) -> set[Series]:
        with journal_view(self.path) as journal:
            return {*journal.accounts(), *last_end_ms(self.path)}

    def revisions(self) -> pa.Table:
        with journal_view(self.path) as journal:
            return revision_table(journal.revisions())

    def universe(self) -> pa.Table:
        path = universe_path(self.path)
        with disk_errors(path):
            return read_universe(path)


@attrs.frozen
class _StoreAbsences:
    path: Path

    def reasons(self, wanted: Series, gap: Span) -> list[str]:
        with journal_view(self.path) as journal:
            unfilled = list(journal.unfilled([wanted]))
        found = sorted({str(one.reason) for one in unfilled if one.span.common_with(gap)})
        return found or ["not in the ledger"]
