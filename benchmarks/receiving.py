"""The recorder's real path from the socket to accepted candles, and what it costs."""

import logging
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx2
import trio

from benchmarks.load import Load, Ready, Sent
from benchmarks.made_up import START_MS
from benchmarks.peers.counting import symbols
from kline_trio.candle import Series
from kline_trio.config import Config, ConnectionConfig, EndpointConfig, StoreConfig
from kline_trio.config.lake import LakeConfig
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.storage.memory import use_system_memory

__all__ = ["Cost", "Recording", "open_recording"]

_TRADE_TYPES = ("spot", "usdt_futures", "coin_futures")
_IDLE_SHARE = 0.05


@attrs.frozen
class Cost:
    """What the recorder's process used until the last candle was accepted."""

    ready: Ready
    sent: Sent
    cpu_seconds: float
    wall_seconds: float
    context_switches: int

    @property
    def frame_us(self) -> float:
        """Microseconds of CPU for each frame."""
        return self.cpu_seconds * 1e6 / self.ready.frames

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.wall_seconds


@attrs.define(eq=False)
class Recording:
    """A recorder at work in this process, and the sender that feeds it."""

    load: Load
    recorder: Recorder
    config: Config

    async def cost_of(self, command: str) -> Cost:
        """Have frames sent, and wait until every closed candle among them is accepted."""
        await self.idle()
        ready = await trio.to_thread.run_sync(self.load.ready, command)
        candles = self.recorder.candles(waiting=ready.closed)
        switches = _context_switches()
        self.load.go()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(ready.closed):
            await anext(candles)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        switches = _context_switches() - switches
        assert not candles.lost
        return Cost(ready, await trio.to_thread.run_sync(self.load.sent), cpu, wall, switches)

    async def idle(self) -> None:
        """Wait until first candles are merged, and nothing else goes on."""
        while True:
            cpu, wall = time.process_time(), time.perf_counter()
            await trio.sleep(0.5)
            used = (time.process_time() - cpu) / (time.perf_counter() - wall)
            if used < _IDLE_SHARE:
                return


@asynccontextmanager
async def open_recording(
    folder: Path,
    load: Load,
    *,
    markets: int,
    streams: int,
    rest_seconds: float,
    publish_seconds: float | None = None,
) -> AsyncIterator[Recording]:
    """Record from the sender into the folder: so many markets with so many series each.

    With `publish_seconds`, also publish to a lake in the folder, each so many seconds.
    """
    use_system_memory()  # as the program does
    series = tuple(
        Series(trade_type, symbol, "1m")
        for trade_type in _TRADE_TYPES[:markets]
        for symbol in symbols(streams)
    )
    host = EndpointConfig(websocket=(load.url + "/stream",), rest=("https://rest.invalid",))
    lake = LakeConfig()
    if publish_seconds is not None:
        lake = LakeConfig(url=folder / "lake", publish_seconds=publish_seconds)
    config = Config(
        streams=series,
        lake=lake,
        endpoints=dict.fromkeys(_TRADE_TYPES, host),
        # Merges come after acceptance; only those of first candles are made, before measuring.
        store=StoreConfig(path=folder / "data", merge_seconds=3_600, drain_seconds=0),
        # It may take a while until the sender has its frames ready.
        connection=ConnectionConfig(
            ca_file=folder / "ca.pem",
            proxy="direct",
            read_pause_seconds=rest_seconds,
            stall_seconds=600,
        ),
    )
    # A table is being printed.
    logging.getLogger("kline_trio").setLevel(logging.ERROR)
    environment = Environment(http_transport=_Rest(tuple(one.symbol for one in series)))
    async with open_recorder(config, environment) as recorder:
        await trio.to_thread.run_sync(load.subscribed)
        yield Recording(load, recorder, config)


@attrs.frozen
class _Rest(httpx2.AsyncBaseTransport):
    """What little of REST the recorder asks for."""

    symbols: tuple[str, ...]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        path = request.url.path
        if path.endswith("/time"):
            return httpx2.Response(200, json={"serverTime": START_MS})
        if path.endswith("/exchangeInfo"):
            listed = [{"symbol": symbol, "status": "TRADING"} for symbol in set(self.symbols)]
            return httpx2.Response(200, json={"symbols": listed})
        return httpx2.Response(200, json=[])


def _context_switches() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw
