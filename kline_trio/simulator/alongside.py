"""The built-in exchange beside other work, for as long as that takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.server import Endpoints, serve

__all__ = ["open_exchange"]


@asynccontextmanager
async def open_exchange(exchange: Exchange) -> AsyncIterator[Endpoints]:
    """Serve the exchange on free loopback ports while the body runs."""
    async with trio.open_nursery() as serving:
        yield await serving.start(serve, exchange)
        serving.cancel_scope.cancel()
