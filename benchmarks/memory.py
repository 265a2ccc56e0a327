"""Memory of a recorder against the number of its series, and what one series more takes.

Each number has a process of its own, a fresh interpreter, that records from the sender over TLS.
Its resident memory is told when a minute's candles have been accepted and the first file of each
series has been written. Connections are in it, one for each 1,024 series.
"""

import argparse
import gc
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import attrs
import psutil
import trio

from benchmarks.load import open_load
from benchmarks.machine import conclude, verdict
from benchmarks.receiving import open_recording

__all__ = ["Held", "goals_met", "main"]

_SERIES = (100, 1_000, 3_000, 10_000)
_MOST_KB = 10
"""For each series."""
_LEAST_SPAN = 1_000
"""The memory of two equal processes is apart by as much as some hundred series take."""
_REST_SECONDS = 0.02
_LOOK_SECONDS = 0.5
_DISK = Path("/dev/shm")  # noqa: S108 - a folder in it is made, not a file of a known name
"""A disk in memory, if there is one: thousands of first files and their syncs take minutes."""


@attrs.frozen
class Held:
    """What the process of a recorder held."""

    series: int
    connections: int
    memory_mb: float


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a series takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the largest number")
    parser.add_argument("--series", type=int, metavar="N", action="append")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    print(f"{'series':>8} {'connections':>12} {'memory':>10}")
    table = []
    for series in options.series or (_SERIES[:-1] if options.quick else _SERIES):
        held = _in_a_fresh_process(series)
        table.append(held)
        print(f"{held.series:>8,} {held.connections:>12} {held.memory_mb:>7.1f} MB", flush=True)
    goals = goals_met(table)
    return conclude([attrs.asdict(held) for held in table], options.json, goals)


def _in_a_fresh_process(series: int) -> Held:
    # Not forked: a fork has the memory of its parent.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as processes:
        return processes.submit(_held, series).result()


def _held(series: int) -> Held:
    async def run(folder: Path) -> Held:
        with open_load(folder, streams=series, secure=True) as load:
            async with open_recording(
                folder, load, markets=1, streams=series, rest_seconds=_REST_SECONDS
            ) as recording:
                cost = await recording.cost_of("burst 1 60")
                while _files(folder) < series:  # noqa: ASYNC110 - files tell nobody
                    await trio.sleep(_LOOK_SECONDS)
                await recording.idle()
                gc.collect()
                return Held(series, cost.ready.connections, _memory_mb())

    disk = _DISK if _DISK.is_dir() else None
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        return trio.run(run, Path(folder))


def _files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.pqt"))


def _memory_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def goals_met(table: list[Held]) -> list[bool]:
    """Say what one series more takes, by least squares, and whether that is little enough."""
    numbers = [held.series for held in table]
    if max(numbers) - min(numbers) < _LEAST_SPAN:
        print(f"what a series takes: not judged, for less than {_LEAST_SPAN:,} are between them")
        return []
    line = statistics.linear_regression(numbers, [held.memory_mb for held in table])
    goals = [line.slope * 1e3 <= _MOST_KB]
    print(
        f"{line.intercept:.0f} MB, and {line.slope * 1e3:.1f} kB for each series (at most"
        f" {_MOST_KB}): {verdict(goals)}"
    )
    return goals
