"""The newest rows of the ledger, the revisions and the universe, as a page reads them."""

from collections.abc import Mapping
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.monitor.page.event_log import MOST_EVENTS
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import status_of
from kline_trio.storage.gaps import gaps_found_last
from kline_trio.storage.journal.ledger import Gap, Revision, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import universe_path
from kline_trio.storage.universe import StatusChange, status_changes

MOST_GAPS = 5_000
"""An outage of a large market is some thousand gaps, and one event."""


@attrs.frozen
class LedgerRows:
    """Rows that become events."""

    gaps: tuple[Gap, ...] = ()
    """The newest by the time when they were found."""
    revisions: tuple[Revision, ...] = ()
    """The newest."""
    revision_count: int = 0
    changes: tuple[StatusChange, ...] = ()
    """Of symbols; the newest."""
    accounts: Mapping[Series, SeriesAccount] = attrs.field(factory=dict)
    universe_stamp: str = ""
    """Changes with the universe's file."""

    @property
    def version(self) -> str:
        """Changes when a revision or the universe is new."""
        return f"{self.revision_count}-{self.universe_stamp}"

    @classmethod
    def read(
        cls, store_path: Path, before: "LedgerRows | None", *, is_ledger_known: bool
    ) -> "LedgerRows":
        """Read the rows of a store; the universe only if it has changed.

        Args:
          store_path: the store's folder.
          before: the rows of an earlier look.
          is_ledger_known: whether the gaps are the same as then.

        Raises:
          KlineTrioError: the journal or the disk refuses.
        """
        with journal_view(store_path) as journal:
            if before is not None and is_ledger_known:
                gaps, accounts = before.gaps, before.accounts
            else:
                gaps = tuple(gaps_found_last(store_path, MOST_GAPS))
                accounts = journal.accounts()
            count = journal.revision_count()
            if before is not None and before.revision_count == count:
                revisions = before.revisions
            else:
                revisions = tuple(journal.newest_revisions(MOST_EVENTS))
        path = universe_path(store_path)
        with disk_errors(path):
            status = status_of(path)
            stamp = "" if status is None else f"{status.st_size:x}-{status.st_mtime_ns:x}"
            if before is not None and before.universe_stamp == stamp:
                changes = before.changes
            else:
                changes = _newest_changes(store_path)
        return cls(gaps, revisions, count, changes, accounts, stamp)


def _newest_changes(store_path: Path) -> tuple[StatusChange, ...]:
    try:
        return tuple(status_changes(store_path)[-MOST_EVENTS:])
    except DamagedError:
        # `check` reports it; the page shows what can be read.
        return ()
