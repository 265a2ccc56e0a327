"""The exchange on real or virtual streams: HTTP and WebSocket on one port, with Trio alone.

Frames go through wsproto, except events, which are too many for it.  trio-websocket would hide
client pings and pongs, which count as messages here, and a server that shares its traps would
hide them from the recorder.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import Request as Handshake
from wsproto.utilities import RemoteProtocolError

from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.session import Close, Session, Step
from kline_trio.simulator.symbols import TRADE_TYPES

_CHUNK_BYTES = 65_536
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when its peer has vanished, which a server must expect."""
_CLOSE_WAIT_S = 2.0
"""How long the peer may take over its half of the closing handshake."""
_STREAM_PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}


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
    connection and nothing else.  If cancelled, the stream is closed without a handshake.
    """
    exchange.start(trio.current_time())
    try:
        handshake = await _serve_http(exchange, trade_type, stream)
        if handshake is not None:
            await _serve_websocket(exchange, trade_type, stream, handshake)
    except (*_GONE, h11.RemoteProtocolError, RemoteProtocolError):
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
    ports: Mapping[str, int] | None = None,
    handler: Callable[[Exchange, str, trio.SocketStream], Awaitable[None]] = serve_stream,
    task_status: trio.TaskStatus[Endpoints] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all three markets on the loopback until cancelled, each on a TCP port of its own.

    Nothing here is fit for a network.

    Args:
        exchange: What is served; it runs from now on.
        ports: A port for each trade type; 0, or none given, takes any that is free.
        handler: Serves one connection.
        task_status: Receives the `Endpoints` as soon as all ports listen.

    Raises:
        OSError: A port cannot be had.
    """
    async with trio.open_nursery() as nursery:
        bound: dict[str, int] = {}
        for trade_type in TRADE_TYPES:
            port = (ports or {}).get(trade_type, 0)
            serving = partial(handler, exchange, trade_type)
            listeners = await nursery.start(
                partial(trio.serve_tcp, serving, port, host="127.0.0.1")
            )
            bound[trade_type] = listeners[0].socket.getsockname()[1]
        exchange.start(trio.current_time())
        task_status.started(
            Endpoints(
                websocket={
                    name: f"ws://127.0.0.1:{port}{_STREAM_PATHS[name]}"
                    for name, port in bound.items()
                },
                rest={name: f"http://127.0.0.1:{port}" for name, port in bound.items()},
            )
        )


async def _serve_http(exchange: Exchange, trade_type: str, stream: trio.abc.Stream) -> bytes | None:
    """Answer plain requests; return the bytes of a WebSocket handshake, or None at the end."""
    connection = h11.Connection(h11.SERVER)
    seen = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = bytes(await stream.receive_some(_CHUNK_BYTES))
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


async def _serve_websocket(
    exchange: Exchange, trade_type: str, stream: trio.abc.Stream, handshake: bytes
) -> None:
    """Serve a connection of which ``handshake`` has come; the stream is left open.

    Raises:
        wsproto.utilities.RemoteProtocolError: It is no handshake.
        trio.BrokenResourceError: The peer vanished during the handshake.
    """
    protocol = WSConnection(ConnectionType.SERVER)
    protocol.receive_data(handshake)
    request = next(event for event in protocol.events() if isinstance(event, Handshake))
    connection = _Connection(exchange, stream, protocol)
    now_s = trio.current_time()
    session = exchange.connect(trade_type, request.target, now_s, connection.wake)
    if isinstance(session, Response):
        await stream.send_all(_refusal_bytes(protocol, session))
        return
    connection.outgoing += protocol.send(AcceptConnection())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read, session)
            await connection.write(session)
            nursery.cancel_scope.cancel()
    finally:
        exchange.disconnect(session, trio.current_time())


def _refusal_bytes(protocol: WSConnection, response: Response) -> bytes:
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    rejection = RejectConnection(status_code=response.status, headers=headers, has_body=True)
    return protocol.send(rejection) + protocol.send(RejectData(data=response.body))


@attrs.define(eq=False)
class _Connection:
    """One WebSocket connection, which has a task that reads and one that writes."""

    exchange: Exchange
    stream: trio.abc.Stream
    protocol: WSConnection
    outgoing: bytearray = attrs.field(factory=bytearray)
    changed: trio.Event = attrs.field(factory=trio.Event)
    parts: list[str] = attrs.field(factory=list)
    """What has come of a message that its sender splits."""
    ended: bool = False
    """The peer has closed; what is outgoing is all that is left to do."""

    def wake(self) -> None:
        """Have the writer look again at what is due."""
        self.changed.set()

    async def read(self, session: Session) -> None:
        """Hand what the client sends to its session, until there is no more."""
        while not self.ended:
            try:
                data = bytes(await self.stream.receive_some(_CHUNK_BYTES))
            except _GONE:
                data = b""
            if not data:
                self.outgoing.clear()
                self.ended = True
            else:
                self._receive(session, data)
            self.changed.set()

    def _receive(self, session: Session, data: bytes) -> None:
        protocol = self.protocol
        try:
            protocol.receive_data(data)
            for event in protocol.events():
                now_s = trio.current_time()
                if isinstance(event, TextMessage):
                    self.parts.append(event.data)
                    if event.message_finished:
                        self._receive_message(session, now_s)
                elif isinstance(event, Ping):
                    session.receive_control(now_s)
                    self._queue(event.response())
                elif isinstance(event, Pong):
                    session.receive_control(now_s, bytes(event.payload))
                elif isinstance(event, CloseConnection):
                    # still open: wsproto words in this way that the peer broke the protocol
                    if protocol.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
                        self.outgoing += protocol.send(event.response())
                    self.ended = True
        except RemoteProtocolError as error:
            if error.event_hint is not None:
                self._queue(error.event_hint)
            self.ended = True

    def _receive_message(self, session: Session, now_s: float) -> None:
        text = "".join(self.parts)
        self.parts.clear()
        for reply in session.receive(text, now_s, self.exchange.now_ms(now_s)):
            self._queue(TextMessage(data=reply))
        self.exchange.start(now_s)

    def _queue(self, event: Event) -> None:
        if self.protocol.state is ConnectionState.OPEN:
            self.outgoing += self.protocol.send(event)

    async def write(self, session: Session) -> None:
        """Send what is due when it is due, and nothing else, until the connection is over."""
        exchange = self.exchange
        while True:
            self.changed = trio.Event()
            now_s = trio.current_time()
            step = None if self.ended else session.poll(now_s, exchange.now_ms(now_s))
            if step is not None:
                self._queue_step(step)
            data = bytes(self.outgoing)
            self.outgoing.clear()
            give_up_s = session.keep_alive.give_up_s
            if step is None or step.close is not None:
                give_up_s = now_s + _CLOSE_WAIT_S
            if data and not await self._send(data, give_up_s):
                return
            if step is None:
                return
            exchange.handed_over(session, trio.current_time())
            if step.close is not None:
                await self._await_close(step.close)
                return
            due_s = exchange.local_s(step.next_due_ms)
            if step.texts and due_s > now_s:
                due_s = max(due_s, now_s + exchange.gather_s)
            with trio.move_on_at(min(step.wake_s, due_s)):
                await self.changed.wait()

    def _queue_step(self, step: Step) -> None:
        if self.protocol.state is ConnectionState.OPEN:
            for text in step.texts:
                self.outgoing += text_frame(text)
        if step.ping is not None:
            self._queue(Ping(payload=step.ping))
        if step.close is not None and step.close.code is not None:
            self._queue(CloseConnection(code=step.close.code, reason=step.close.reason))

    async def _send(self, data: bytes, give_up_s: float) -> bool:
        """Send, waiting for a slow client until its pong is overdue. Return whether it worked."""
        with trio.move_on_at(give_up_s), suppress(*_GONE):
            await self.stream.send_all(data)
            return True
        return False

    async def _await_close(self, close: Close) -> None:
        """Give the peer a moment for its half of the closing handshake, if there is one."""
        if close.code is not None:
            with trio.move_on_after(_CLOSE_WAIT_S):
                while not self.ended:
                    self.changed = trio.Event()
                    await self.changed.wait()


def text_frame(text: str) -> bytes:
    """Return a whole text message as a server frames it (RFC 6455, 5.2), as wsproto would."""
    data = text.encode()
    if len(data) < 126:
        return b"\x81" + bytes((len(data),)) + data
    if len(data) < 1 << 16:
        return b"\x81\x7e" + len(data).to_bytes(2, "big") + data
    return b"\x81\x7f" + len(data).to_bytes(8, "big") + data
