"""Candles appended one by one to a store, and to the original design's file."""

import enum
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import pandas as pd
import pyarrow as pa

from benchmarks.made_up import BTC, made_table, minutes, received
from benchmarks.spent import spending
from kline_trio.candle import Candle
from kline_trio.config import StoreConfig
from kline_trio.recorder.merger import MergeRule
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of

__all__ = ["Cost", "Layouts", "original_cost", "store_cost"]

_DAY = 1_440
_DEFAULTS = StoreConfig()
_RULE = MergeRule(_DEFAULTS.merge_seconds, _DEFAULTS.max_merge_seconds)


class Layouts(enum.Enum):
    """How many files a series has."""

    ONE_FILE = "one file"
    MONTHS = "months"
    DATES = "dates"

    @property
    def layout(self) -> Layout:
        """The template."""
        more = {"one file": "", "months": "/{month}.parquet", "dates": "/{date}.parquet"}
        return Layout(DEFAULT_LAYOUT + more[self.value])

    def stretches(self, *, quick: bool) -> tuple[list[int], int]:
        """At which minutes of a month it is measured, and for how many.

        What a merge costs follows from how full the newest file is, or its last row group; so it
        is the mean over one.
        """
        match self:
            case Layouts.ONE_FILE:
                days = (1, 12) if quick else (1, 5, 9, 13, 17, 21)
                return [day * _DAY for day in days], 61 if quick else 244
            case Layouts.MONTHS:
                days = (1, 15) if quick else (1, 6, 11, 16, 21, 26)
                return [day * _DAY for day in days], 61 if quick else 244
            case Layouts.DATES:
                return [2 * _DAY], _DAY


@attrs.frozen
class Cost:
    """What one candle cost, on the average of a stretch of time."""

    cpu_ms: float
    written_kb: float
    merge_minutes: float
    """How far apart merges were."""


def original_cost(history: int, count: int) -> Cost:
    """Of the original design: the whole file is written anew for each candle."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spot_BTCUSDT_1m.pqt"
        made_table(-history, history).to_pandas().to_parquet(path, compression="zstd")
        candles = minutes(0, count)
        with spending() as spent:
            for candle in candles:
                new = table_of(BTC, [candle]).to_pandas()
                whole = pd.concat([pd.read_parquet(path), new])
                whole = whole[~whole.index.duplicated(keep="last")].sort_index()
                whole.to_parquet(path, compression="zstd")
    return Cost(spent.cpu_seconds * 1e3 / count, spent.written_bytes / 1e3 / count, 1.0)


def store_cost(layout: Layouts, history: int, *, quick: bool) -> Cost:
    """Of this store, which holds so many minutes before the month that it is measured in."""
    begins, count = layout.stretches(quick=quick)
    cpu_seconds = written_bytes = 0.0
    merges = 0
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder), layout.layout)
        try:
            present = -history
            newest: FileEntry | None = None
            for begin in begins:
                newest = _fill(store, made_table(present, begin - present)) or newest
                candles = minutes(begin, count)
                with spending() as spent:
                    newest, done = _append(store, candles, newest)
                cpu_seconds += spent.cpu_seconds
                written_bytes += spent.written_bytes
                merges += done
                newest = _merge(store, newest)
                present = begin + count
        finally:
            store.close()
    total = count * len(begins)
    return Cost(cpu_seconds * 1e3 / total, written_bytes / 1e3 / total, total / max(1, merges))


def _fill(store: Store, rows: pa.Table) -> FileEntry | None:
    files = store.fill_in(rows, BTC) if rows.num_rows else []
    return files[-1] if files else None


def _append(
    store: Store, candles: Sequence[Candle], newest: FileEntry | None
) -> tuple[FileEntry | None, int]:
    """A candle a minute; the newest file after that, and how many merges there were."""
    merges = waiting = 0
    for candle in candles:
        store.journal.accept(received(BTC, [candle]))
        waiting += 1
        if _RULE.due_after_seconds(waiting, newest.rows if newest else 0) <= (waiting - 1) * 60:
            newest = _merge(store, newest)
            merges, waiting = merges + 1, 0
    return newest, merges


def _merge(store: Store, newest: FileEntry | None) -> FileEntry | None:
    for merge in plan_merges(store.layout, BTC, store.journal.take(BTC)):
        newest = store.write(merge, newest)
        store.journal.forget(newest, merge.pending)
    return newest
