"""What publishing to a lake costs: a month of many series at once, and then each hour.

A recorder's publisher runs its child process as it always does, into a folder. First a month of 500
series goes into an empty lake, with values of the published archives; then an hour of 2,500 series,
into the same lake. CPU is that of both processes, memory the child's peak.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import attrs
import trio

from benchmarks.archives import DATA
from benchmarks.lake_rows import months, stored_table, symbol_name
from benchmarks.machine import conclude
from benchmarks.made_up import MINUTE_MS, START_MS, minutes, received
from benchmarks.spent import spending
from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.interval import Span
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.publisher import Publisher
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.store import Store

__all__ = ["Cost", "goals_met", "main"]

_MONTH, _HOUR = 30 * 1_440, 60
_LEAST_ROWS = 400_000
"""Of a second of CPU, in the month."""
_MOST_CORE = 0.05
"""Of each hour."""
_MOST_MB = 512


@attrs.frozen
class Cost:
    """What one publication cost."""

    what: str
    rows: int
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    """Of the process that publishes, and of those before it."""

    @property
    def rows_a_second(self) -> float:
        """Candles a second of CPU."""
        return self.rows / self.cpu_seconds


def main(arguments: list[str]) -> int:
    """Print the table; 1 if publishing costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks publish", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 series, then 100")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with klines/ in it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    many, hourly = (10, 100) if options.quick else (500, 2_500)
    with tempfile.TemporaryDirectory() as folder:
        table = trio.run(_measure, Path(folder), options.data, many, hourly)
    for one in table:
        cpu = f"{one.cpu_seconds:>7.1f} s of CPU, {one.rows_a_second:>9,.0f} candles a second"
        print(f"{one.what:<28} {one.rows:>11,} candles {cpu}  {one.peak_mb:>5.0f} MB")
    goals = [] if options.quick else goals_met(table)
    return conclude([attrs.asdict(one) for one in table], options.json, goals)


async def _measure(folder: Path, data: Path, many: int, hourly: int) -> list[Cost]:
    some = months(data)
    store = Store.open(folder / "data", Layout(DEFAULT_LAYOUT + "/{month}.parquet"))
    commits, merges = (SerialExecutor(trio.to_thread.run_sync) for _ in range(2))
    lake = LakeConfig(url=folder / "lake")
    publisher = Publisher(Storage(store, commits, merges), lake)
    await publisher.publish()  # an empty lake
    month_span = Span(START_MS, START_MS + _MONTH * MINUTE_MS)
    for number, series in enumerate(_series(many)):
        merged = store.fill_in(stored_table(some, number, "1m", 0, _MONTH), series)
        store.journal.keep_filled(series, merged, [month_span], ())
    month = await _published(publisher, f"a month of {many:,} series")
    accounts = {}
    for number, series in enumerate(_series(hourly)):
        store.journal.accept(received(series, minutes(_MONTH, _HOUR, seed=number)))
        until_ms = START_MS + (_MONTH + _HOUR) * MINUTE_MS
        accounts[series] = SeriesAccount(month_span.to_ms, until_ms)
    store.journal.settle([], accounts)
    hour = await _published(publisher, f"an hour of {hourly:,} series")
    store.close()
    return [month, hour]


async def _published(publisher: Publisher, what: str) -> Cost:
    rows = publisher.rows
    with spending() as spent:
        await publisher.publish()
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    return Cost(what, publisher.rows - rows, spent.cpu_seconds, spent.wall_seconds, peak)


def _series(count: int) -> list[Series]:
    return [Series("spot", symbol_name(number), "1m") for number in range(count)]


def goals_met(table: list[Cost]) -> list[bool]:
    """Say which goals are met: rate, memory, and the share of a core."""
    month, hour = table
    share = hour.cpu_seconds / 3_600
    print(f"an hour costs {share:.2%} of a core", end=" ")
    return [
        month.rows_a_second >= _LEAST_ROWS,
        max(month.peak_mb, hour.peak_mb) <= _MOST_MB,
        share <= _MOST_CORE,
    ]
