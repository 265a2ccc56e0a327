"""The recorder and the built-in exchange in one virtual time, joined at the four seams."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx2
import trio
import trio.testing

from kline_trio.recorder.seams import Seams
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.rest import Request
from kline_trio.simulator.server import serve_stream

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
async def joined(exchange: Exchange, *, seed: int = 0) -> AsyncIterator[Seams]:
    """Seams that lead to the exchange while the body runs."""
    async with trio.open_nursery() as serving:

        async def dial(url: str, nth: int) -> trio.abc.Stream:
            await trio.sleep(0.01)
            client, server = trio.testing.memory_stream_pair()
            trade_type = MARKET_OF_HOST[urlsplit(url).hostname or ""]
            serving.start_soon(serve_stream, exchange, trade_type, server)
            return client

        exchange.start(trio.current_time())
        yield Seams(
            dial=dial,
            http_transport=Transport(exchange),
            on_disk=slow_disk(Random(seed)),
            wall_clock=lambda: 1_719_759_600.0,
            random=Random(seed),
        )
        serving.cancel_scope.cancel()
