"""The exchange over TLS, with a certificate of the tests."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.server import Endpoints, serve, serve_stream

__all__ = ["open_tls_exchange"]


@asynccontextmanager
async def open_tls_exchange(
    exchange: Exchange, ssl_context: ssl.SSLContext
) -> AsyncIterator[Endpoints]:
    """Serve the exchange while the body runs; TLS is spoken, and nothing but TLS.

    Args:
        exchange: What is served.
        ssl_context: A server's, with a certificate for the loopback address.
    """

    async def serve_tls(exchange: Exchange, trade_type: str, stream: trio.SocketStream) -> None:
        # Without close_notify, as when a connection is dropped for good; HTTP bears it.
        secured = trio.SSLStream(stream, ssl_context, server_side=True, https_compatible=True)
        await serve_stream(exchange, trade_type, secured)

    async with trio.open_nursery() as serving:
        plain: Endpoints = await serving.start(partial(serve, exchange, handler=serve_tls))
        yield attrs.evolve(
            plain,
            websocket={name: f"wss{url[2:]}" for name, url in plain.websocket.items()},
            rest={name: f"https{url[4:]}" for name, url in plain.rest.items()},
        )
        serving.cancel_scope.cancel()
