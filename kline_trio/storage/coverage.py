"""What is absent and why, as a table: for researchers, and as a file beside the candles."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa

from kline_trio.candle import Candle, Series
from kline_trio.storage.arguments import (
    a_market,
    a_symbol,
    an_interval,
    store_folder,
    unknown_series,
)
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.disk import disk_errors, move_durably
from kline_trio.storage.files import open_parquet, read_whole
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import coverage_path, journal_path, new_quarantine, scratch
from kline_trio.storage.sidecar import TIME, as_table, as_tables, write_sidecar

if TYPE_CHECKING:
    # The recorder writes the ledger, and never loads pandas: a second of CPU, and 50 MB.
    import pandas as pd

__all__ = ["coverage", "coverage_table", "revisions", "write_coverage"]

_NAMES: list[tuple[str, pa.DataType]] = [
    ("trade_type", pa.string()),
    ("symbol", pa.string()),
    ("time_interval", pa.string()),
]
_COVERAGE = pa.schema(
    [
        *_NAMES,
        ("from", TIME),
        ("to", TIME),
        ("first_seen", TIME),
        ("reason", pa.string()),
        ("state", pa.string()),
        ("asked", pa.int64()),
        ("filled_by", pa.string()),
    ]
)


def coverage(
    path: str | os.PathLike[str],
    trade_type: str | None = None,
    symbol: str | None = None,
    time_interval: str | None = None,
) -> "pd.DataFrame":
    """The ledger: each range of candles that did not come by itself, by series and time.

    Candles of a series that are not in here are stored, up to a few seconds ago.

    Args:
      path: the store's folder; `~` is expanded.
      trade_type: of this market only.
      symbol: of this symbol only, in any case of its ASCII letters.
      time_interval: of this interval only.

    Returns:
      a row for each range. `from` is the begin of its first candle, `to` the end of its last,
      exclusive; `first_seen` is when it was found, by the exchange's clock; `reason` is why the
      candles are absent, or, where they were `filled`, why they had been; `state` is `pending`,
      `filled` or `closed`; `asked` is how often the exchange was asked and had none; `filled_by`
      is `stream`, `rest` or `archive`.

    Raises:
      KlineTrioError: there is no such folder, the store has no series of this symbol, or the
        journal cannot be read.
      ValueError: there is no such market or interval, or the symbol cannot be one.
    """
    asked = {
        "trade_type": None if trade_type is None else a_market(trade_type),
        "symbol": None if symbol is None else a_symbol(symbol),
        "time_interval": None if time_interval is None else an_interval(time_interval),
    }
    wanted = {column: value for column, value in asked.items() if value is not None}
    store_path = store_folder(path)
    frame: pd.DataFrame = _table(store_path).to_pandas()
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    if "symbol" in wanted and frame.empty:
        _check_known(store_path, wanted)
    return frame.reset_index(drop=True)


def _check_known(store_path: Path, wanted: Mapping[str, str]) -> None:
    """Refuse what the store has no series of: no row would say that all of it is stored."""
    with disk_errors(store_path), journal_view(store_path) as journal:
        known = {*journal.accounts(), *last_end_ms(store_path)}
    if not any(all(getattr(one, name) == wanted[name] for name in wanted) for one in known):
        raise unknown_series(store_path, " ".join(wanted.values()), sorted(map(str, known)))


def _table(store_path: Path) -> pa.Table:
    with disk_errors(store_path):
        if not journal_path(store_path).exists() and coverage_path(store_path).exists():
            # A copy of the files alone, with the ledger as it was when they were copied.
            with open_parquet(coverage_path(store_path)) as file:
                return read_whole(file, coverage_path(store_path))
        with journal_view(store_path) as journal:
            return coverage_table(journal.gap_rows())


def coverage_table(rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    """Return rows of `JournalView.gap_rows` as a table."""
    return as_table(rows, _COVERAGE)


def revisions(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """The candles of which two values came, with both, by series and time.

    Returns:
      a row for each column that differs: the series, `candle_begin_time`, `origin` (of the newer
      value: `stream`, `rest` or `archive`), `column`, `older`, `newer`, and which is `kept`.

    Raises:
      KlineTrioError: there is no such folder, or the journal cannot be read.
    """
    store_path = store_folder(path)
    with disk_errors(store_path), journal_view(store_path) as journal:
        rows = [row for one in journal.revisions() for row in _differences(one)]
    wanted = pa.schema(
        [
            *_NAMES,
            ("candle_begin_time", TIME),
            ("origin", pa.string()),
            ("column", pa.string()),
            ("older", pa.float64()),
            ("newer", pa.float64()),
            ("kept", pa.string()),
        ]
    )
    frame: pd.DataFrame = as_table(rows, wanted).to_pandas()
    return frame


def _differences(one: Revision) -> Iterable[tuple[object, ...]]:
    for name in attrs.fields_dict(Candle):
        older, newer = getattr(one.older, name), getattr(one.newer, name)
        if older != newer:
            kept = "newer" if one.is_newer_kept else "older"
            begin_ms = one.older.open_time_ms
            origin = str(one.origin)
            yield (*_names(one.series), begin_ms, origin, name, float(older), float(newer), kept)


def write_coverage(store_path: Path) -> int:
    """Puts the ledger into a file of its own, for who has only the files, or reads no SQLite.

    Returns:
      how many rows that was.

    Raises:
      DiskError: the journal cannot be read.
      OSError: the disk refused; the file is as it was.
    """
    target = coverage_path(store_path)
    if target.is_dir():
        # A file can take any place but a folder's.
        move_durably(target, new_quarantine(store_path) / target.name)
    with journal_view(store_path) as journal:
        return write_sidecar(
            lambda: as_tables(journal.gap_rows(), _COVERAGE),
            _COVERAGE,
            target,
            scratch(store_path),
        )


def _names(series: Series) -> tuple[str, str, str]:
    return series.trade_type, series.symbol, series.time_interval
