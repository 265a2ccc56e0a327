"""Gaps of a store: from its journal, or from the coverage of a copy that has none."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import Span
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import read_table
from kline_trio.storage.journal.ledger import GAP_COLUMNS, Gap, State, gap_of
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import coverage_path, journal_path
from kline_trio.storage.sidecar import TIME

_NAMES = ("trade_type", "symbol", "time_interval")
_COLUMNS = (
    *_NAMES,
    *(name.removesuffix("_ms") for name in GAP_COLUMNS.split(", ")),
)


def stored_gaps(
    store_path: Path, series: Series | None, within: Span, states: Collection[State], limit: int
) -> list[Gap]:
    """Return the gaps with a candle in a time, the latest first.

    Args:
      store_path: the store's folder.
      series: of this series only; None: of all.
      within: the time.
      states: gaps in these states only.
      limit: how many gaps at most.

    Raises:
      KlineTrioError: the journal, the coverage or the disk refuses.
    """
    if has_journal(store_path):
        with journal_view(store_path) as journal:
            return journal.gaps_between(series, within.from_ms, within.to_ms, limit, states=states)
    found = [
        one
        for one in _gaps_of_copy(store_path)
        if (series is None or one.series == series)
        and one.state in states
        and one.span.common_with(within)
    ]
    found.sort(key=lambda one: one.span.from_ms, reverse=True)
    return found[:limit]


def has_journal(store_path: Path) -> bool:
    """Return whether a store has a journal; a copy of the files alone has none.

    Raises:
      DiskError: the disk refuses.
    """
    with disk_errors(store_path):
        return journal_path(store_path.absolute()).exists()


def gaps_found_last(store_path: Path, limit: int) -> list[Gap]:
    """Return the gaps that were found last, the newest first.

    Raises:
      KlineTrioError: the journal, the coverage or the disk refuses.
    """
    if has_journal(store_path):
        with journal_view(store_path) as journal:
            return journal.newest_gaps(limit)
    found = sorted(_gaps_of_copy(store_path), key=lambda one: one.first_seen_ms, reverse=True)
    return found[:limit]


def coverage_columns(store_path: Path, names: Sequence[str]) -> list[list[Any]]:
    """Return columns of `coverage.parquet`, times in ms; empty ones if a store has no such file.

    Raises:
      DamagedError: the file has not these columns.
      DiskError: it cannot be read.
    """
    path = coverage_path(store_path)
    with disk_errors(path):
        if not path.exists():
            return [[] for _ in names]
        table = read_table(path)
    try:
        return [
            (one.cast(pa.int64()) if one.type == TIME else one).to_pylist()
            for one in table.select(list(names)).columns
        ]
    except KeyError as error:
        raise DamagedError(f"{path} has not the columns of a coverage: {error}") from error


def _gaps_of_copy(store_path: Path) -> Iterator[Gap]:
    columns = coverage_columns(store_path, _COLUMNS)
    try:
        for *names, begin, end, seen, reason, state, asked, by in zip(*columns, strict=True):
            # A pruned month is no gap, and a journal keeps it elsewhere.
            if state != State.IN_LAKE:
                yield gap_of(Series(*names), (begin, end, seen, reason, state, asked, by))
    except (ValueError, TypeError) as error:
        problem = f"it holds what kline_trio never writes: {error}"
        raise DamagedError(f"{coverage_path(store_path)} is damaged: {problem}") from error
