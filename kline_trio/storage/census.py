"""Count what a store holds and lacks, beside the recorder that writes it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Interval
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.journal.manifest import Totals
from kline_trio.storage.journal.reader import journal_view

_MONTH_MS = 2_629_746_000
"""A mean month: the ledger's rows of months are summed up, and months differ."""


@attrs.frozen
class Absences:
    """What a series lacks, by the ledger."""

    pending: int = 0
    """How many candles are still asked for."""
    closed: Mapping[str, int] = attrs.field(factory=dict)
    """How many candles nothing asks for any more, by reason. Pruned months count as before: the
    exchange had none of these, and a number that sinks would tell of a repair."""
    is_late: bool = False
    """Whether a candle is pending that opened since the recorder's start."""


@attrs.frozen
class Census:
    """What a store holds and lacks at one moment."""

    absences: Mapping[Series, Absences]
    """Of the series with a gap that was not filled."""
    journal_rows: int
    """How many candles wait for their merge."""
    files: Totals
    free_bytes: int
    """What the file system has left."""


def census(store_path: Path, began_ms: Mapping[str, int]) -> Census:
    """Count what the store holds and lacks. A recorder may write meanwhile.

    Args:
      store_path: the store's folder.
      began_ms: by market, the exchange time at which the recorder began.

    Raises:
      KlineTrioError: the journal cannot be read, or the disk refuses.
    """
    with disk_errors(store_path), journal_view(store_path) as journal:
        pending: dict[Series, int] = {}
        closed: dict[Series, dict[str, int]] = {}
        for series, reason, state, duration_ms in journal.absences():
            count = _candles(series.interval, duration_ms)
            if state is State.PENDING:
                pending[series] = pending.get(series, 0) + count
            else:
                closed.setdefault(series, {})[str(reason)] = count
        late = {
            one
            for trade_type, moment_ms in began_ms.items()
            for one in journal.late_since(trade_type, moment_ms)
        }
        rows, totals = journal.rows(), journal.totals()
        free = shutil.disk_usage(store_path).free
    absences = {
        series: Absences(pending.get(series, 0), closed.get(series, {}), series in late)
        for series in pending.keys() | closed.keys()
    }
    return Census(absences, rows, totals, free)


def _candles(interval: Interval, duration_ms: int) -> int:
    return round(duration_ms / (interval.duration_ms or _MONTH_MS))
