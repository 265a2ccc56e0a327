"""The recorder and the built-in exchange in one virtual time, joined at the four seams."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import httpx2
import pytest
import trio
import trio.testing
from trio._core import _run

from kline_trio.recorder import archive_source
from kline_trio.recorder.environment import Environment
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.rest import Request
from kline_trio.simulator.server import serve_stream
from kline_trio.storage import disk
from kline_trio.storage.journal import schema

_Result = TypeVar("_Result")

WALL_CLOCK_MS = 1_719_759_600_000
"""What the recorder's own clock says all the time."""
MARKET_OF_HOST = {
    "stream.binance.com": "spot",
    "api.binance.com": "spot",
    "data.binance.vision": "spot",
    "fstream.binance.com": "usdt_futures",
    "fapi.binance.com": "usdt_futures",
    "dstream.binance.com": "coin_futures",
    "dapi.binance.com": "coin_futures",
}
"""The default hosts, so that a test needs no endpoints."""


@attrs.define
class Transport(httpx2.AsyncBaseTransport):
    """Answers REST requests by the exchange's pure `answer`."""

    exchange: Exchange

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(0.01)
        now_s = trio.current_time()
        answer = self.exchange.answer(
            Request(
                method=request.method,
                target=request.url.raw_path.decode(),
                trade_type=MARKET_OF_HOST[request.url.host],
                now_ms=self.exchange.now_ms(now_s),
                now_s=now_s,
            )
        )
        return httpx2.Response(
            answer.status, headers=list(answer.headers), stream=httpx2.ByteStream(answer.body)
        )


def slow_disk(random: Random, most_seconds: float = 0.05) -> Callable[..., Any]:
    """A door to the disk that works at once, and takes a seeded virtual time all the same."""

    async def on_disk(job: Callable[..., object], *arguments: object) -> object:
        # Shielded, as a job in a thread is: so commits and merges overlap as they do in life.
        with trio.CancelScope(shield=True):
            await trio.sleep(random.random() * most_seconds)
            result = job(*arguments)
            await trio.sleep(random.random() * most_seconds)
        return result

    return on_disk


@asynccontextmanager
async def joined(
    exchange: Exchange, *, seed: int = 0, disk_seconds: float = 0.05
) -> AsyncIterator[Environment]:
    """Seams that lead to the exchange while the body runs.

    Args:
      exchange: what the recorder reaches.
      seed: of the disk's delays and of the jitter.
      disk_seconds: how long a job waits at most before it works, and again after it.
    """
    async with trio.open_nursery() as serving:

        async def dial(url: str, nth: int) -> trio.abc.Stream:
            await trio.sleep(0.01)
            client, server = trio.testing.memory_stream_pair()
            trade_type = MARKET_OF_HOST[urlsplit(url).hostname or ""]
            serving.start_soon(serve_stream, exchange, trade_type, server)
            return client

        exchange.start(trio.current_time())
        yield Environment(
            dial=dial,
            http_transport=Transport(exchange),
            on_disk=slow_disk(Random(seed), disk_seconds),
            wall_clock=lambda: WALL_CLOCK_MS / 1_000,
            random=Random(seed),
        )
        serving.cancel_scope.cancel()


def no_sync(*_: object) -> None:
    """Stand in for a sync."""


@contextmanager
def on_a_fast_disk(*, least_archive_candles: int | None = None) -> Iterator[None]:
    """Store without syncs while the body runs: for runs about logic, not about crashes.

    Args:
      least_archive_candles: how many candles make an archive file worth its while; None: as usual.
    """
    settings = schema._SETTINGS.replace("synchronous = FULL", "synchronous = OFF")
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(schema, "_SETTINGS", settings)
        patches.setattr(disk, "_sync", no_sync)
        patches.setattr(os, "fsync", no_sync)
        if least_archive_candles is not None:
            patches.setattr(archive_source, "_LEAST_CANDLES", least_archive_candles)
        yield


def run_seeded(
    seed: int,
    main: Callable[..., Awaitable[_Result]],
    *arguments: Any,  # noqa: ANN401 - as trio.run
    instruments: Sequence[trio.abc.Instrument] = (),
) -> _Result:
    """Run a program in virtual time. The order of its tasks follows from the seed."""
    # Trio has no public way; Hypothesis does the same under pytest-trio.
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        _run._r.seed(seed)
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(main, *arguments, clock=clock, instruments=instruments)
