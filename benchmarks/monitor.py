"""What the monitor costs a recorder: the reading of statistics, and the scrapes of Prometheus.

The same recorder receives frames as fast as it can, in turn without and with the monitor; with it,
a snapshot is made each second, and one of all series each five. The least of several runs of each
kind is compared. Then nothing is sent to a recorder of many series, and a process of its own
scrapes it each five seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio

from benchmarks.load import open_load
from benchmarks.machine import conclude, verdict
from benchmarks.receiving import Recording, open_recording
from kline_trio.config.monitor import MonitorConfig
from kline_trio.monitor.service import Monitor

__all__ = ["Cost", "goals_met", "main"]

_RECEIVING_STREAMS = 500
_IDLE_STREAMS = 2_500
_SCRAPE_SECONDS = 5.0
_MOST_SLOWER = 0.02
_MOST_OF_A_CORE = 0.02
_PORT = 18_787
_SCRAPER = """
import sys, time, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while True:
    opener.open(sys.argv[1], timeout=10).read()
    time.sleep(float(sys.argv[2]))
"""


@attrs.frozen
class Cost:
    """What was measured without the monitor and with it."""

    what: str
    without: float
    with_monitor: float


def main(arguments: list[str]) -> int:
    """Print the table; 1 if the monitor costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks monitor", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer runs, shorter ones, and fewer series"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 2.0) if options.quick else (8, 30.0)
    streams = _RECEIVING_STREAMS if options.quick else _IDLE_STREAMS
    table = [
        _in_a_folder(_RECEIVING_STREAMS, _Receive(rounds)),
        _in_a_folder(streams, _Idle(streams, seconds, per_symbol=False)),
        _in_a_folder(streams, _Idle(streams, seconds, per_symbol=True)),
    ]
    print(f"{'':<52} {'without':>8} {'with':>8}")
    for cost in table:
        print(f"{cost.what:<52} {cost.without:>8.3f} {cost.with_monitor:>8.3f}")
    goals = goals_met(table)
    return conclude([attrs.asdict(cost) for cost in table], options.json, goals)


def _in_a_folder(streams: int, measure: "_Receive | _Idle") -> Cost:
    async def run(folder: Path) -> Cost:
        with open_load(folder, streams=streams, secure=False) as load:
            async with open_recording(
                folder, load, markets=1, streams=streams, rest_seconds=0.02
            ) as recording:
                await recording.cost_of("burst 1 60")
                return await measure.cost(recording)

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(run, Path(folder))


@attrs.frozen
class _Receive:
    """CPU for each frame while frames come as fast as they are taken."""

    rounds: int

    async def cost(self, recording: Recording) -> Cost:
        plain, watched = [], []
        for _ in range(self.rounds):
            plain.append((await recording.cost_of("burst 12 60")).frame_us)
            async with _monitor(recording, per_symbol=False), trio.open_nursery() as readers:
                readers.start_soon(_read_all_series, recording)
                watched.append((await recording.cost_of("burst 12 60")).frame_us)
                readers.cancel_scope.cancel()
        return Cost("µs for each frame, one in 60 closed", min(plain), min(watched))


@attrs.frozen
class _Idle:
    """The share of a core that a recorder takes while nothing is sent."""

    streams: int
    seconds: float
    per_symbol: bool

    async def cost(self, recording: Recording) -> Cost:
        await recording.idle()
        plain = await self._share()
        async with _monitor(recording, per_symbol=self.per_symbol) as address:
            with _scraper(f"http://{address}/metrics"):
                scraped = await self._share()
        labels = ", a label for each series" if self.per_symbol else ""
        return Cost(f"of a core, {self.streams:,} series{labels}", plain, scraped)

    async def _share(self) -> float:
        cpu, wall = time.process_time(), time.perf_counter()
        await trio.sleep(self.seconds)
        return (time.process_time() - cpu) / (time.perf_counter() - wall)


@asynccontextmanager
async def _monitor(recording: Recording, *, per_symbol: bool) -> AsyncIterator[str]:
    """Watch and serve a recorder; yield the address."""
    address = f"127.0.0.1:{_PORT}"
    settings = MonitorConfig(address=address, per_symbol=per_symbol)
    config = attrs.evolve(recording.config, monitor=settings)
    async with trio.open_nursery() as nursery:
        monitor = Monitor(recording.recorder, config, time.time, is_simulated=False)
        nursery.start_soon(monitor.run)
        yield address
        nursery.cancel_scope.cancel()


async def _read_all_series(recording: Recording) -> None:
    while True:
        await trio.sleep(_SCRAPE_SECONDS)
        recording.recorder.statistics(series=True)


@contextmanager
def _scraper(url: str) -> Iterator[None]:
    command = [sys.executable, "-c", _SCRAPER, url, str(_SCRAPE_SECONDS)]
    with subprocess.Popen(command) as process:  # noqa: S603 - ourselves
        try:
            yield
            assert process.poll() is None, "the scraper has ended: a scrape failed"
        finally:
            process.kill()


def goals_met(table: list[Cost]) -> list[bool]:
    """Say of each goal whether it is met; what labels for each series cost is only shown."""
    receive, idle, labelled = table
    slower = receive.with_monitor / receive.without - 1
    goals = [slower <= _MOST_SLOWER]
    print(f"receive: {slower:+.1%}, at most {_MOST_SLOWER:+.0%}: {verdict(goals)}")
    more = idle.with_monitor - idle.without
    goals.append(more < _MOST_OF_A_CORE)
    limit = f"under {_MOST_OF_A_CORE:.0%}: {verdict(goals[-1:])}"
    print(f"{idle.what}: {more:.2%} more, {limit}")
    print(f"{labelled.what}: {labelled.with_monitor - labelled.without:.2%} more: not judged")
    return goals
