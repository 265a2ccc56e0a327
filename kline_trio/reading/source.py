"""Where readers read: the folder of a store, or a lake."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span
from kline_trio.storage.arguments import store_folder
from kline_trio.storage.catalog import last_end_ms, series, stored
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.names import folder_path
from kline_trio.storage.paths import universe_path
from kline_trio.storage.reports import ledger, revision_table
from kline_trio.storage.universe import read_universe

_EXTRA = ("botocore", "deltalake", "obstore")
_TABLES = ("candles", "accounts")
"""A lake has at least one of these tables."""


class Absences(Protocol):
    """Why candles are missing."""

    def reasons(self, wanted: Series, gap: Span) -> list[str]:
        """Return the reasons in the ledger, in order. There is at least one text."""


class Source(Protocol):
    """A store or a lake. All its tables have times in milliseconds."""

    @property
    def name(self) -> str:
        """The folder or the address, as errors name it."""

    def series(self) -> list[Series]:
        """Return the series that have candles, in order."""

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        """Return the rows with open times in [from_ms, to_ms) of each series, by begin.

        A table has the columns of the series' files. None: there are no such rows, and perhaps no
        such series.
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


def source_of(path: str | os.PathLike[str]) -> Source:
    """Return the store or the lake that a caller's path means.

    Raises:
      KlineTrioError: there is no such folder or lake; or it is a lake that cannot be read, or the
        packages for lakes are not installed.
    """
    url = lake_url(path)
    if url is None:
        return _Store(store_folder(path))
    with lake_packages(url):
        from kline_trio.lake.reader import LakeSource

        return LakeSource.open(url)


def lake_url(path: str | os.PathLike[str]) -> str | None:
    """Return the address of the lake that a path means; None: it means no lake.

    A text with `://` is the address of a lake. A folder is one if it has a lake's tables.
    """
    if isinstance(path, str) and "://" in path:
        return path
    try:
        folder = folder_path(path).absolute()
        is_lake = any((folder / name / "_delta_log").is_dir() for name in _TABLES)
    except (OSError, ValueError):
        # Whoever opens it as a store says what is wrong with it.
        return None
    return str(folder) if is_lake else None


@contextmanager
def lake_packages(url: str) -> Iterator[None]:
    """Name the extra, if a package that lakes need is not installed.

    Raises:
      KlineTrioError: the body needs such a package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        problem = f"{url} is a lake, which needs the package {error.name}"
        raise KlineTrioError(f"{problem}: pip install 'kline-trio[lake]'") from error


@attrs.frozen
class _Store:
    """A store in a folder: its files, its journal and the ledger in it."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def series(self) -> list[Series]:
        return series(self.path)

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        with disk_errors(self.path):
            found = stored(self.path, wanted, from_ms, to_ms)
        return {one: look.table() if look else None for one, look in found.items()}

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
