"""The ledger and the revisions of a store as tables.

`write_coverage` keeps the ledger as a file beside the candles, too.
"""

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from kline_trio.candle import Candle
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import read_table
from kline_trio.storage.journal.ledger import Reason, Revision, State
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.paths import coverage_path, journal_path, scratch
from kline_trio.storage.quarantine import move_to_quarantine
from kline_trio.storage.sidecar import TIME, as_table, as_tables, write_sidecar

_SERIES = dict.fromkeys(("trade_type", "symbol", "time_interval"), pa.string())
_GAP_COLUMNS: dict[str, pa.DataType] = {
    **_SERIES,
    **dict.fromkeys(("from", "to", "first_seen"), TIME),
    **dict.fromkeys(("reason", "state"), pa.string()),
    "asked": pa.int64(),
    "filled_by": pa.string(),
}
COVERAGE = pa.schema(_GAP_COLUMNS)
"""The columns of the ledger as a table, of which `ledger_rows` gives the rows."""
_REVISION_COLUMNS: dict[str, pa.DataType] = {
    **_SERIES,
    "candle_begin_time": TIME,
    **dict.fromkeys(("origin", "column"), pa.string()),
    **dict.fromkeys(("older", "newer"), pa.float64()),
    "kept": pa.string(),
}
REVISIONS = pa.schema(_REVISION_COLUMNS)
"""The columns of the revisions as a table, of which `differences` gives the rows."""


def ledger(store_path: Path) -> pa.Table:
    """Return the ledger by series and time; of a copy without a journal, as it was when copied.

    Raises:
      KlineTrioError: the journal or the file cannot be read.
    """
    with disk_errors(store_path):
        if not journal_path(store_path).exists() and coverage_path(store_path).exists():
            return read_table(coverage_path(store_path))
        with journal_view(store_path) as journal:
            return as_table(ledger_rows(journal), COVERAGE)


def ledger_rows(journal: JournalView) -> Iterator[tuple[Any, ...]]:
    """Give the gaps and the pruned months, by series and begin, with the columns of `COVERAGE`.

    Gaps of a pruned month stay, so that its rows overlap with theirs.
    """
    gaps, months = journal.gap_rows(), journal.pruned()
    # To merge rows of which there are none would cost as much as to read the others.
    return (
        heapq.merge(gaps, map(_month_row, months), key=itemgetter(0, 1, 2, 3)) if months else gaps
    )


def _month_row(one: Pruned) -> tuple[Any, ...]:
    times = (one.span.from_ms, one.span.to_ms, one.pruned_ms)
    return (*attrs.astuple(one.series), *times, str(Reason.PRUNED), str(State.IN_LAKE), 0, None)


def write_coverage(store_path: Path) -> int:
    """Write the ledger to a file of its own, for programs that read only files, or no SQLite.

    Returns:
      how many rows the file has.

    Raises:
      DiskError: the disk refused, or the journal cannot be read; the file is as it was.
    """
    target = coverage_path(store_path)
    with disk_errors(store_path):
        if target.is_dir():
            # A file can take any place but a folder's.
            move_to_quarantine(target, store_path)
        with journal_view(store_path) as journal:
            return write_sidecar(
                lambda: as_tables(ledger_rows(journal), COVERAGE),
                COVERAGE,
                target,
                scratch(store_path),
            )


def revision_table(several: Iterable[Revision]) -> pa.Table:
    """Return a row for each column that differs between the two values of each candle."""
    return as_table((row for one in several for row in differences(one)), REVISIONS)


def differences(one: Revision) -> Iterator[tuple[object, ...]]:
    """Give the rows of a revision, with the columns of `REVISIONS`."""
    series, kept = one.series, "newer" if one.is_newer_kept else "older"
    names = (*attrs.astuple(series), one.older.open_time_ms)
    for name in attrs.fields_dict(Candle):
        older, newer = getattr(one.older, name), getattr(one.newer, name)
        if older != newer:
            yield (*names, str(one.origin), name, float(older), float(newer), kept)
