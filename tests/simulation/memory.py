"""Months of many streams in virtual time: memory, file descriptors and tasks stay what they were.

`python -m tests.simulation.memory --days 30 --streams 500` prints a line for each virtual day, and
ends with 1 if the memory of the process, exchange included, grows by more than 1 MB a week after
the second day, or if its descriptors or tasks grow in number.
"""

import argparse
import gc
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import attrs
import numpy as np
import psutil
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config, ConnectionConfig, StoreConfig
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.storage.layout import Layout
from kline_trio.storage.memory import trim_heap, use_system_memory
from tests.faulty_exchange import Drop, Fault, FaultyExchange, Shutdown, plausible_symbols
from tests.virtual import joined, on_a_fast_disk

START_MS = 1_704_067_200_000  # 2024-01-01
DAY_MS = 86_400_000
SPEED = 600.0
DAY_SECONDS = DAY_MS / 1_000 / SPEED
MOST_MB_A_WEEK = 1.0
FIRST_DAY = 2
"""From when on it counts."""
_LAYOUT = Layout("{trade_type}_{symbol}_{time_interval}.pqt/{date}.parquet")


@attrs.frozen
class Sample:
    """What the process holds at the end of a virtual day."""

    day: int
    memory_mb: float
    descriptors: int
    tasks: int
    recorded: int


@attrs.define
class Result:
    """What came of a run."""

    samples: list[Sample] = attrs.field(factory=list)

    @property
    def mb_a_week(self) -> float:
        """The slope of the memory, by least squares, from the second day on."""
        late = [one for one in self.samples if one.day >= FIRST_DAY]
        days, megabytes = [one.day for one in late], [one.memory_mb for one in late]
        return float(np.polyfit(days, megabytes, 1)[0]) * 7

    @property
    def leaks_nothing(self) -> bool:
        """Whether there are as many descriptors and tasks at the end of each day."""
        late = [one for one in self.samples if one.day >= FIRST_DAY]
        return len({(one.descriptors, one.tasks) for one in late}) == 1

    @property
    def is_flat(self) -> bool:
        """Whether nothing grows."""
        return self.mb_a_week < MOST_MB_A_WEEK and self.leaks_nothing


def run(days: int, streams: int, interval: str, seed: int, *, show: bool = False) -> Result:
    """Record so many streams for so many virtual days."""
    use_system_memory()
    # In memory, and without syncs: this run is about what the process holds.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="kline_trio-", dir=memory if memory.is_dir() else None))
    try:
        with on_a_fast_disk():
            clock = trio.testing.MockClock(autojump_threshold=0)
            return trio.run(_record, days, streams, interval, seed, folder, show, clock=clock)
    finally:
        shutil.rmtree(folder)


async def _record(
    days: int, streams: int, interval: str, seed: int, folder: Path, show: bool
) -> Result:
    symbols = plausible_symbols("spot", streams)
    exchange = FaultyExchange(
        seed=seed,
        start_ms=START_MS,
        speed=SPEED,
        listed={"spot": symbols},
        faults=list(_troubles(days)),
        forming=False,
        gather_s=0.05,
    )
    config = Config(
        streams=tuple(Series("spot", symbol, interval) for symbol in symbols),
        store=StoreConfig(
            path=folder / "data", layout=_LAYOUT, merge_seconds=120.0, max_merge_seconds=600.0
        ),
        # A connection grows about as old as it may, a day of the exchange's time.
        connection=ConnectionConfig(
            stall_seconds=30.0, max_age_hours=DAY_SECONDS / 3_600, read_pause_seconds=0.0
        ),
        completeness=CompletenessConfig(grace_seconds=95.0),
    )
    result = Result()
    process = psutil.Process()
    async with (
        joined(exchange, seed=seed) as environment,
        open_recorder(config, environment) as recorder,
    ):
        candles = recorder.candles()
        began = time.monotonic()
        for day in range(1, days + 1):
            # Of the day's end nothing is under way any more.
            await trio.sleep_until(day * DAY_SECONDS + 0.9 * DAY_SECONDS)
            gc.collect()
            trim_heap()  # as the recorder does each minute, for it is not always as long ago
            sample = Sample(
                day,
                process.memory_info().rss / 1e6,
                process.num_fds(),
                trio.lowlevel.current_statistics().tasks_living,
                candles.lost,
            )
            result.samples.append(sample)
            if show:
                print(sample, f"{time.monotonic() - began:.0f} s", flush=True)
    return result


def _troubles(days: int) -> list[Fault]:
    faults: list[Fault] = []
    for day in range(days):
        at_ms = START_MS + day * DAY_MS
        faults.append(Drop(trade_type="spot", at_ms=at_ms + DAY_MS // 3))
        faults.append(Shutdown(trade_type="spot", at_ms=at_ms + DAY_MS // 2))
    return faults


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--interval", default="5m")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    result = run(asked.days, asked.streams, asked.interval, asked.seed, show=True)
    print(f"{result.mb_a_week:+.2f} MB a week after day {FIRST_DAY}; flat: {result.is_flat}")
    return 0 if result.is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
