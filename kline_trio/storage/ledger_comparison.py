"""Which series a start compares with their ledger, and the looks at their files for that."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holes import Holdings, holdings, unlisted_files
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import disk_name

__all__ = ["LedgerComparison", "ledger_comparisons"]

logger = logging.getLogger(__name__)

_SERIES_AT_ONCE = 100
"""One job of a worker thread reads the files of as many series, and a stop waits for the job."""


@attrs.frozen
class LedgerComparison:
    """Some series of a store to compare with their ledger: `look`, then `Journal.compare`."""

    store_path: Path
    series: tuple[Series, ...]
    pending_in: Layout | None
    """None: the series were never compared, so read all their files and find missing candles.
    Else read only the files that this layout has pending candles in, and find stored ones."""
    unlisted: Mapping[Series, Collection[Path]]
    """The candle files that the journal's list lacks."""

    @property
    def is_first(self) -> bool:
        """Whether these series were never compared with the ledger."""
        return self.pending_in is None

    def look(self) -> list[Holdings]:
        """Read what the store holds of the series. Leave out those with nothing to compare.

        Raises:
          DiskError: the store cannot be read.
        """
        return [one for one in self._look(self.series) if self.is_first or one.stored_pending()]

    def look_again(self, series: Series) -> Holdings:
        """Read what the store holds of one of the series now.

        Raises:
          DiskError: the store cannot be read.
        """
        [look] = self._look((series,))
        return look

    def _look(self, among: Collection[Series]) -> list[Holdings]:
        with disk_errors(self.store_path):
            looks = holdings(self.store_path, _warn, among, self.unlisted, self.pending_in)
        if self.is_first:
            return looks
        # Some files stay closed, so no candle of theirs may count as missing: nothing is due.
        return [attrs.evolve(look, account=None) for look in looks]


def ledger_comparisons(store_path: Path, layout: Layout) -> list[LedgerComparison]:
    """Return what to compare at a start: first the series with pending candles, then those that
    were never compared.

    Args:
      store_path: the store's folder.
      layout: the store's.

    Raises:
      DiskError: the store cannot be read.
    """
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            is_new = journal.to_compare()
            every = journal.listed().values()
        listed = [PurePosixPath(disk_name(path)) for some in every for path, _ in some]
        if not is_new:
            return []
        unlisted = unlisted_files(store_path, listed, _warn)
    with_pending = [one for one in is_new if not is_new[one]]
    never_compared = [one for one in is_new if is_new[one]]
    return [
        LedgerComparison(
            store_path, tuple(series[begin : begin + _SERIES_AT_ONCE]), pending_in, unlisted
        )
        for series, pending_in in ((with_pending, layout), (never_compared, None))
        for begin in range(0, len(series), _SERIES_AT_ONCE)
    ]


def _warn(path: Path, error: DamagedError) -> None:
    logger.warning("%s; what it held counts as absent", error)
