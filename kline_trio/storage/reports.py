"""What is missing, what was revised and which symbols there were: tables for researchers.

`write_coverage` keeps the ledger as a file beside the candles, too.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa

from kline_trio.candle import Candle
from kline_trio.listing import TRADING
from kline_trio.storage.arguments import (
    a_market,
    a_symbol,
    an_interval,
    moment_ms,
    store_folder,
    unknown_series,
)
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import read_table
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import coverage_path, journal_path, scratch, universe_path
from kline_trio.storage.quarantine import move_to_quarantine
from kline_trio.storage.sidecar import TIME, as_table, as_tables, write_sidecar
from kline_trio.storage.universe import read_universe

if TYPE_CHECKING:
    # The recorder writes the ledger, and never loads pandas: a second of CPU, and 50 MB.
    import pandas as pd

_SERIES = dict.fromkeys(("trade_type", "symbol", "time_interval"), pa.string())
_GAP_COLUMNS: dict[str, pa.DataType] = {
    **_SERIES,
    **dict.fromkeys(("from", "to", "first_seen"), TIME),
    **dict.fromkeys(("reason", "state"), pa.string()),
    "asked": pa.int64(),
    "filled_by": pa.string(),
}
COVERAGE = pa.schema(_GAP_COLUMNS)
"""The columns of the ledger as a table, of which `JournalView.gap_rows` has the rows."""
_REVISION_COLUMNS: dict[str, pa.DataType] = {
    **_SERIES,
    "candle_begin_time": TIME,
    **dict.fromkeys(("origin", "column"), pa.string()),
    **dict.fromkeys(("older", "newer"), pa.float64()),
    "kept": pa.string(),
}
_REVISIONS = pa.schema(_REVISION_COLUMNS)


def coverage(
    path: str | os.PathLike[str],
    trade_type: str | None = None,
    symbol: str | None = None,
    time_interval: str | None = None,
) -> "pd.DataFrame":
    """Return the ledger: each range of candles that the stream did not bring, by series and time.

    Candles of a series that are in no range are stored, up to a few seconds ago.

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
    checks = (
        ("trade_type", a_market, trade_type),
        ("symbol", a_symbol, symbol),
        ("time_interval", an_interval, time_interval),
    )
    wanted = {column: check(value) for column, check, value in checks if value is not None}
    store_path = store_folder(path)
    frame: pd.DataFrame = _ledger(store_path).to_pandas()
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    if "symbol" in wanted and frame.empty:
        _check_known(store_path, wanted)
    return frame.reset_index(drop=True)


def _ledger(store_path: Path) -> pa.Table:
    with disk_errors(store_path):
        if not journal_path(store_path).exists() and coverage_path(store_path).exists():
            # A copy of the files alone, with the ledger as it was when they were copied.
            return read_table(coverage_path(store_path))
        with journal_view(store_path) as journal:
            return as_table(journal.gap_rows(), COVERAGE)


def _check_known(store_path: Path, wanted: Mapping[str, str]) -> None:
    """Refuse names that no series of the store has: no rows would mean that all is stored."""
    with journal_view(store_path) as journal:
        known = {*journal.accounts(), *last_end_ms(store_path)}
    if not any(all(getattr(one, name) == wanted[name] for name in wanted) for one in known):
        raise unknown_series(store_path, " ".join(wanted.values()), sorted(map(str, known)))


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
                lambda: as_tables(journal.gap_rows(), COVERAGE),
                COVERAGE,
                target,
                scratch(store_path),
            )


def revisions(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """Return the candles of which two values came, with both, by series and time.

    Returns:
      a row for each column that differs: the series, `candle_begin_time`, `origin` (of the newer
      value: `stream`, `rest` or `archive`), `column`, `older`, `newer`, and which is `kept`.

    Raises:
      KlineTrioError: there is no such folder, or the journal cannot be read.
    """
    store_path = store_folder(path)
    with journal_view(store_path) as journal:
        rows = [row for one in journal.revisions() for row in _differences(one)]
    frame: pd.DataFrame = as_table(rows, _REVISIONS).to_pandas()
    return frame


def _differences(one: Revision) -> Iterator[tuple[object, ...]]:
    series, kept = one.series, "newer" if one.is_newer_kept else "older"
    names = (*attrs.astuple(series), one.older.open_time_ms)
    for name in attrs.fields_dict(Candle):
        older, newer = getattr(one.older, name), getattr(one.newer, name)
        if older != newer:
            yield (*names, str(one.origin), name, float(older), float(newer), kept)


def universe(
    path: str | os.PathLike[str],
    at: str | date | None = None,
    trade_type: str | None = None,
) -> "pd.DataFrame":
    """Return what the symbols of the markets were: each change, or the state at a moment.

    The rows are what recorders saw. A symbol's first row is from when it was first seen, which is
    later than its listing if it was listed before the first look. A change is seen at the next
    look. A market that no recorder looked at has no rows.

    Args:
      path: the store's folder; `~` is expanded.
      at: None: all rows, in the order in which they were seen. A date (its first moment), a
        datetime or a text; UTC if it names no zone: the last row of each symbol up to then, by
        market and symbol.
      trade_type: of this market only.

    Returns:
      `time`, when the row was seen, in the exchange's time; `trade_type`, `symbol`; and in the
      exchange's words `status` (`GONE` where the symbol had vanished from the list),
      `contract_type`, `base`, `quote`, `margin`, `tick_size` (decimal text), `onboard_date`,
      `delivery_date`; null is what a market does not publish. With `at` also `is_trading`: the
      status was `TRADING`, and the delivery date, if known, still to come.

    Raises:
      KlineTrioError: there is no such folder, or the file cannot be read.
      ValueError: `at` is no time, or there is no such market.
    """
    import pandas as pd

    at_ms = None if at is None else moment_ms("at", at)
    market = None if trade_type is None else a_market(trade_type)
    file_path = universe_path(store_folder(path))
    with disk_errors(file_path):
        frame: pd.DataFrame = read_universe(file_path).to_pandas()
    if market is not None:
        frame = frame[frame["trade_type"] == market]
    if at_ms is not None:
        moment = pd.Timestamp(at_ms, unit="ms", tz="UTC")
        frame = frame[frame["time"] <= moment]
        frame = frame.drop_duplicates(["trade_type", "symbol"], keep="last")
        frame = frame.sort_values(["trade_type", "symbol"])
        # A comparison with no date is False.
        is_over = frame["delivery_date"] <= moment
        frame["is_trading"] = (frame["status"] == TRADING) & ~is_over
    return frame.reset_index(drop=True)
