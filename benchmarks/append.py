"""What one more minute costs in CPU and bytes written, against the history that a series has.

The store accepts and merges as the recorder does, by `kline_trio.recorder.merge_rule`; the
original design reads the file, appends, drops duplicates, and writes it anew for every candle.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa

from benchmarks.machine import footer, machine
from benchmarks.made_up import MINUTE_MS, START_MS, minutes, received
from kline_trio.candle import Candle, Series
from kline_trio.config import StoreConfig
from kline_trio.recorder.merge_rule import MergeRule
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import News, bring_in, plan_merges
from kline_trio.storage.places import scratch
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, table_of

__all__ = ["main"]

_BTC = Series("spot", "BTCUSDT", "1m")
_ONE_FILE = Layout(DEFAULT_LAYOUT)
_MONTHS = Layout(DEFAULT_LAYOUT + "/{month}.parquet")
_DAY = 1_440
_MONTH = 29 * _DAY
_HISTORIES = {"a day": _DAY, "a month": _MONTH, "a year": 365 * _DAY, "5 years": 1_826 * _DAY}
_DEFAULTS = StoreConfig()
_RULE = MergeRule(_DEFAULTS.merge_seconds, _DEFAULTS.max_merge_seconds)


@attrs.frozen
class Cost:
    """What one candle cost, on the average of a stretch of time."""

    cpu_ms: float
    written_kb: float
    merge_minutes: float
    """How far apart merges were."""


def main(arguments: list[str]) -> int:
    """Print the table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks append", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a day and a month, few candles")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    names = ("a day", "a month") if options.quick else tuple(_HISTORIES)
    print(
        f"{'history':>8}  {'layout':<8} {'merges':>12} {'CPU/candle':>11} {'written':>10}"
        f" {'6 series, a day':>24} {'2,500 series, a day':>26}"
    )
    table = []
    for name in names:
        for layout, cost in _contestants(_HISTORIES[name], quick=options.quick):
            table.append({"history": name, "layout": layout, **attrs.asdict(cost)})
            print(
                f"{name:>8}  {layout:<8} every {cost.merge_minutes:2.0f} min {cost.cpu_ms:8.2f} ms"
                f" {cost.written_kb:7,.0f} kB {_daily(cost, 6)} {_daily(cost, 2_500)}",
                flush=True,
            )
    found = machine()
    print(footer(found))
    if options.json is not None:
        result = {"machine": found, "table": table}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _daily(cost: Cost, series: int) -> str:
    candles = series * _DAY
    return f"{cost.cpu_ms * candles / 1e3:11,.1f} s {cost.written_kb * candles / 1e6:9,.1f} GB"


def _contestants(history: int, *, quick: bool) -> list[tuple[str, Cost]]:
    stretch = 61 if quick else 244
    return [
        ("original", _measured(history, 2 if quick else 5, _original)),
        ("one file", _measured(history, stretch, _store(_ONE_FILE))),
        ("months", _mean_over_a_month(history, stretch)),
    ]


def _mean_over_a_month(history: int, stretch: int) -> Cost:
    # Only the newest month is ever touched: how many years lie before it is of no account, how
    # much of it is there is. So a long history is the mean over the days of a month.
    begins = [history] if history < _MONTH else range(_DAY, _MONTH - stretch, _MONTH // 6)
    costs = [_measured(begin, stretch, _store(_MONTHS)) for begin in begins]
    return Cost(
        *(
            sum(getattr(cost, field.name) for cost in costs) / len(costs)
            for field in attrs.fields(Cost)
        )
    )


_Appended = Callable[[list[Candle]], float]
"""Appends the candles; how many minutes merges were apart."""


def _measured(history: int, count: int, prepare: Callable[[Path, pa.Table], _Appended]) -> Cost:
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        append = prepare(Path(folder), _history(history))
        candles = minutes(history, count)
        written = process.io_counters().write_chars
        used = time.process_time()
        apart = append(candles)
        used = time.process_time() - used
        written = process.io_counters().write_chars - written
    return Cost(used * 1e3 / count, written / 1e3 / count, apart)


def _history(rows: int) -> pa.Table:
    """So many minutes: a month of values, over and over, at times that go on."""
    block = table_of(_BTC, minutes(0, min(rows, _MONTH)))
    whole = pa.concat_tables([block] * (rows // len(block) + 1)).slice(0, rows)
    begins = START_MS + np.arange(rows) * MINUTE_MS
    for name, times in ((BEGIN, begins), (END, begins + MINUTE_MS)):
        at = whole.schema.get_field_index(name)
        column = pa.array(times).cast(whole.schema.field(at).type)
        whole = whole.set_column(at, whole.schema.field(at), column)
    return whole


def _original(folder: Path, history: pa.Table) -> _Appended:
    path = folder / "spot_BTCUSDT_1m.pqt"
    history.to_pandas().to_parquet(path, compression="zstd")

    def append(candles: list[Candle]) -> float:
        for candle in candles:
            new = table_of(_BTC, [candle]).to_pandas()
            whole = pd.concat([pd.read_parquet(path), new])
            whole = whole[~whole.index.duplicated(keep="last")].sort_index()
            whole.to_parquet(path, compression="zstd")
        return 1.0

    return append


def _store(layout: Layout) -> Callable[[Path, pa.Table], _Appended]:
    def prepare(folder: Path, history: pa.Table) -> _Appended:
        store = Store.open(folder, layout)
        path = layout.path(_BTC, START_MS)
        file_rows = bring_in(
            News(history, history.slice(0, 0)), path, _BTC, folder, scratch(folder)
        ).rows

        def append(candles: list[Candle]) -> float:
            nonlocal file_rows
            merges = waiting = 0
            for candle in candles:
                store.accept(received(_BTC, [candle]))
                waiting += 1
                if _RULE.due_after_seconds(waiting, file_rows) <= (waiting - 1) * 60:
                    file_rows = _merge(store)
                    merges, waiting = merges + 1, 0
            store.close()
            return len(candles) / max(1, merges)

        return append

    return prepare


def _merge(store: Store) -> int:
    [merge] = plan_merges(store.layout, _BTC, store.take(_BTC))
    merged = store.write(merge)
    store.forget(merged, merge.pending)
    return merged.rows
