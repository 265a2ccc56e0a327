"""Stop the recorder within two seconds of a start, after a pause, at random moments.

A first life records a little. After a pause of 30 minutes a second one starts and is stopped at a
random moment, politely or by cancellation. A last life settles everything. Then every due candle
must be a row or a gap of the ledger.
"""

import gc
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TypeVar

import attrs
import pyarrow as pa
import trio

from kline_trio.candle import Series
from kline_trio.config import Config, StoreConfig
from kline_trio.interval import Span
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.supervisor import open_recorder
from tests.cancellation.oracle import Contents, Lives, wrong_in
from tests.faulty_exchange import FaultyExchange
from tests.virtual import joined, on_a_fast_disk, run_seeded, slow_disk

__all__ = ["Stop", "calm", "campaign", "each_by_processes", "memory_folder"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

START_MS = 1_719_759_600_000  # 2024-06-30 15:00
PAUSE_MS = 30 * 60_000
LISTED = {
    "spot": ("ADAUSDT", "BNBUSDT", "BTCUSDT", "ETHUSDT", "LTCUSDT", "SOLUSDT"),
    "usdt_futures": ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"),
    "coin_futures": ("BTCUSD_PERP", "ETHUSD_PERP"),
}
STREAMS = tuple(Series(name, symbol, "1m") for name in LISTED for symbol in LISTED[name])
_CANCELLED_SHARE = 0.25
_SPEEDS = (60.0, 300.0, 600.0)
_LAST_DISK_SECONDS = 0.005
_FIRST_LIFE_S = 4.0
_FIRST_SPEED = 60.0


@attrs.frozen
class Stop:
    """What the seed decides."""

    seed: int
    after_s: float
    disk_seconds: float
    speed: float
    is_cancelled: bool
    drain_seconds: float
    last_life_s: float

    @classmethod
    def of(cls, seed: int) -> "Stop":
        """Draw a stop."""
        chance = Random(seed)
        disk_seconds = chance.choice((0.1, chance.uniform(0.01, 0.3)))
        # So that a start on a slow disk is hit in its later half, too.
        stretched = chance.choice((1.0, max(1.0, disk_seconds / 0.1)))
        return cls(
            seed=seed,
            after_s=chance.uniform(0.05, 1.55) * stretched,
            disk_seconds=disk_seconds,
            speed=chance.choice(_SPEEDS),
            is_cancelled=chance.random() < _CANCELLED_SHARE,
            drain_seconds=chance.choice((0.0, 0.0, 0.0, 0.5)),
            last_life_s=chance.uniform(1.4, 1.7),
        )

    def __str__(self) -> str:
        way = "cancelled" if self.is_cancelled else "stopped"
        return (
            f"seed {self.seed}: {way} after {self.after_s:.3f} s, disk {self.disk_seconds:.3f} s,"
            f" speed {self.speed:.0f}"
        )


@attrs.frozen
class Prepared:
    """A store of a first life, to be copied."""

    folder: Path
    end_ms: int
    first_ms: dict[Series, int]


def config_in(folder: Path, drain_seconds: float) -> Config:
    """Return the configuration of a life."""
    store = StoreConfig(path=folder / "data", drain_seconds=drain_seconds)
    return Config(streams=STREAMS, store=store)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Make a folder, in memory if there is room, while the body runs."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else None
    with TemporaryDirectory(prefix="kline_trio-cancellation-", dir=where) as name:
        yield Path(name)


def prepare(folder: Path) -> Prepared:
    """Record the first life."""
    exchange = FaultyExchange(start_ms=START_MS, speed=_FIRST_SPEED, listed=LISTED, forming=False)

    async def record() -> int:
        async with joined(exchange) as environment:
            async with open_recorder(config_in(folder, 1.0), environment):
                await trio.sleep(_FIRST_LIFE_S)
            return exchange.now_ms(trio.current_time())

    end_ms = run_seeded(0, record)
    accounts = Contents.of(folder / "data").accounts
    return Prepared(folder, end_ms, {one: accounts[one].first_ms for one in STREAMS})


def try_one(stop: Stop, prepared: Prepared, folder: Path) -> list[str]:
    """Stop once; return what is wrong."""
    shutil.copytree(prepared.folder, folder)
    exchange = FaultyExchange(
        start_ms=prepared.end_ms + PAUSE_MS, speed=stop.speed, listed=LISTED, forming=False
    )
    spans = [Span(START_MS, prepared.end_ms)]

    async def live(
        environment: Environment, seconds: float, drain_seconds: float, *, is_cancelled: bool
    ) -> None:
        from_ms = exchange.now_ms(trio.current_time())
        with trio.CancelScope() as outermost:
            async with open_recorder(config_in(folder, drain_seconds), environment):
                await trio.sleep(seconds)
                # From here on nothing is received.
                spans.append(Span(from_ms, exchange.now_ms(trio.current_time())))
                if is_cancelled:
                    outermost.cancel()
                    await trio.lowlevel.checkpoint()

    async def both() -> None:
        async with joined(
            exchange, seed=stop.seed, disk_seconds=stop.disk_seconds / 2
        ) as environment:
            await live(
                environment, stop.after_s, stop.drain_seconds, is_cancelled=stop.is_cancelled
            )
            # What is left over is settled on a fast disk: the last life is to be short.
            fast = slow_disk(Random(stop.seed), _LAST_DISK_SECONDS)
            environment = attrs.evolve(environment, on_disk=fast)
            await live(environment, stop.last_life_s, 0.0, is_cancelled=False)

    run_seeded(stop.seed, both)
    # The candle that forms and its grace; then, of each life, some jobs on its disk.
    begin_ms = 75_000 + round((0.5 + 8 * stop.disk_seconds) * 1_000 * stop.speed)
    end_ms = 75_000 + round(0.5 * 1_000 * stop.speed)
    # The auditor looks once a second, and then waits for the disk.
    unnamed_ms = round((1 + 4 * stop.disk_seconds) * 1_000 * stop.speed) if stop.is_cancelled else 0
    lives = Lives(spans, begin_ms, end_ms, unnamed_ms)
    wrong = list(wrong_in(Contents.of(folder / "data"), lives, prepared.first_ms))
    shutil.rmtree(folder)
    return wrong


@contextmanager
def calm() -> Iterator[None]:
    """Spend time on recorders only, while the body runs: it collects garbage itself."""
    threads, level = pa.cpu_count(), logging.root.manager.disable
    # A process has a core: threads of Arrow only cost their changes.
    pa.set_cpu_count(1)
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        gc.enable()
        pa.set_cpu_count(threads)


def each_by_processes(
    work: Callable[[_Part], _Result], parts: Iterable[_Part], jobs: int
) -> Iterator[_Result]:
    """Do parts in so many processes, in order; with one job in this process."""
    if jobs == 1:
        yield from map(work, parts)
        return
    # Not forked: this process may have threads.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, parts)


def _try_all(seeds: range) -> list[tuple[Stop, list[str]]]:
    with calm(), memory_folder() as folder, on_a_fast_disk():
        prepared = prepare(folder / "first")
        found = []
        for seed in seeds:
            gc.collect(seed % 10 and 1)
            stop = Stop.of(seed)
            wrong = try_one(stop, prepared, folder / "stopped")
            if wrong:
                found.append((stop, wrong))
        return found


def campaign(count: int, seed: int, jobs: int) -> int:
    """Stop so many times; print what is wrong; return after how many stops."""
    began = time.monotonic()
    chunk = max(1, min(50, count // max(1, jobs)))
    parts = [range(at, min(at + chunk, seed + count)) for at in range(seed, seed + count, chunk)]
    bad = done = 0
    for part, found in zip(parts, each_by_processes(_try_all, parts, jobs), strict=True):
        done += len(part)
        bad += len(found)
        print(f"{done:,} of {count:,} stops, {time.monotonic() - began:.0f} s", flush=True)
        for stop, wrong in found:
            print(f"{stop}: {len(wrong)} faults; {'; '.join(wrong[:2])}", flush=True)
    seconds = time.monotonic() - began
    print(f"{done:,} stops, {bad:,} left something wrong, {seconds:.0f} s, {os.cpu_count()} cores")
    return bad
