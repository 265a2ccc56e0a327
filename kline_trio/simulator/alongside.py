"""The built-in exchange beside other work, for as long as that takes."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.server import Endpoints, serve

__all__ = ["open_exchange"]


@asynccontextmanager
async def open_exchange(
    exchange: Exchange, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Endpoints]:
    """Serve the exchange on free loopback ports while the body runs; see `serve`."""
    async with trio.open_nursery() as serving:
        yield await serving.start(partial(serve, exchange, ssl_context=ssl_context))
        serving.cancel_scope.cancel()
