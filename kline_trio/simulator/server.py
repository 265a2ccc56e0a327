"""The exchange on real or virtual streams: HTTP and WebSocket on one port, with Trio alone."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import h11
import trio
from wsproto.utilities import RemoteProtocolError

from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.rest import Request
from kline_trio.simulator.symbols import TRADE_TYPES
from kline_trio.simulator.websocket import CHUNK, GONE, serve_websocket

__all__ = ["Endpoints", "open_exchange", "serve", "serve_stream"]

STREAM_PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}


@attrs.frozen(kw_only=True)
class Endpoints:
    """Where the served markets are found, by trade type."""

    websocket: Mapping[str, str]
    """As in ``ws://127.0.0.1:9443/stream``."""
    rest: Mapping[str, str]
    """As in ``http://127.0.0.1:9443``."""

    @property
    def archive(self) -> str:
        """Where the published archives are found."""
        return self.rest["spot"]


async def serve_stream(exchange: Exchange, trade_type: str, stream: trio.abc.Stream) -> None:
    """Serve one connection to one market, HTTP or WebSocket, until either side ends it.

    The stream is closed on return.  A peer that vanishes or breaks the protocol ends its own
    connection and nothing else.  If cancelled, the stream is closed without farewell.
    """
    exchange.start(trio.current_time())
    try:
        handshake = await _serve_http(exchange, trade_type, stream)
        if handshake is not None:
            await serve_websocket(exchange, trade_type, stream, handshake)
    except (*GONE, h11.RemoteProtocolError, RemoteProtocolError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_exchange(exchange: Exchange) -> AsyncIterator[Endpoints]:
    """Serve the exchange on free loopback ports while the body runs; see `serve`."""
    async with trio.open_nursery() as serving:
        yield await serving.start(serve, exchange)
        serving.cancel_scope.cancel()


async def serve(
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    ports: Mapping[str, int] | None = None,
    handler: Callable[[Exchange, str, trio.SocketStream], Awaitable[None]] = serve_stream,
    task_status: trio.TaskStatus[Endpoints] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all three markets until cancelled, each on a TCP port of its own.

    Args:
        exchange: What is served; it runs from now on.
        host: A loopback address; nothing here is fit for a network.
        ports: A port for each trade type; 0, or none given, takes any that is free.
        handler: Serves one connection.
        task_status: Told the `Endpoints` as soon as all ports listen.

    Raises:
        OSError: A port cannot be had.
    """
    shown_host = f"[{host}]" if ":" in host else host
    async with trio.open_nursery() as nursery:
        bound: dict[str, int] = {}
        for trade_type in TRADE_TYPES:
            port = (ports or {}).get(trade_type, 0)
            serving = partial(handler, exchange, trade_type)
            listeners = await nursery.start(partial(trio.serve_tcp, serving, port, host=host))
            bound[trade_type] = listeners[0].socket.getsockname()[1]
        exchange.start(trio.current_time())
        task_status.started(
            Endpoints(
                websocket={
                    name: f"ws://{shown_host}:{port}{STREAM_PATHS[name]}"
                    for name, port in bound.items()
                },
                rest={name: f"http://{shown_host}:{port}" for name, port in bound.items()},
            )
        )


async def _serve_http(exchange: Exchange, trade_type: str, stream: trio.abc.Stream) -> bytes | None:
    """Answer plain requests; return the bytes of a WebSocket handshake, or None at the end."""
    connection = h11.Connection(h11.SERVER)
    seen = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = bytes(await stream.receive_some(CHUNK))
            seen += data
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            if any(name == b"upgrade" for name, _ in event.headers):
                return seen
            now_s = trio.current_time()
            request = Request(
                method=event.method.decode("ascii"),
                target=event.target.decode("ascii"),
                trade_type=trade_type,
                now_ms=exchange.now_ms(now_s),
                now_s=now_s,
            )
            await stream.send_all(_http_bytes(connection, request, exchange))
        elif isinstance(event, h11.ConnectionClosed) or connection.our_state is h11.MUST_CLOSE:
            return None
        elif event is h11.PAUSED:
            seen = connection.trailing_data[0]
            connection.start_next_cycle()


def _http_bytes(connection: h11.Connection, request: Request, exchange: Exchange) -> bytes:
    response = exchange.answer(request)
    body = b"" if request.method == "HEAD" else response.body
    headers = [*response.headers, ("content-length", str(len(response.body)))]
    parts = (
        connection.send(h11.Response(status_code=response.status, headers=headers)),
        connection.send(h11.Data(data=body)),
        connection.send(h11.EndOfMessage()),
    )
    return b"".join(part for part in parts if part)
