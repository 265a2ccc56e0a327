"""The exchange on real or virtual streams: HTTP and WebSocket on one port, Trio and nothing else.

WebSocket frames go through wsproto itself.  trio-websocket hides client pings and pongs, which
count as messages here, and a server that shares its traps would hide them from the recorder.
"""

import ssl
from collections.abc import Mapping
from functools import partial

import attrs
import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
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
from kline_trio.simulator.session import Close, Session, Turn
from kline_trio.simulator.symbols import TRADE_TYPES

__all__ = ["Endpoints", "serve", "serve_stream", "wait_finished"]

STREAM_PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}
_CHUNK = 65_536
_CLOSE_WAIT_S = 2.0
"""How long the peer may take over its half of the closing handshake."""
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when its peer has vanished; for a server that is everyday life."""


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


async def serve(
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    ports: Mapping[str, int] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Endpoints] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all three markets until cancelled, each on a TCP port of its own.

    Args:
        exchange: What is served; it runs from now on.
        host: A loopback address; nothing here is fit for a network.
        ports: A port for each trade type; 0, or none given, takes any that is free.
        ssl_context: A server's, with a certificate for ``host``; TLS is spoken then, and nothing
            but TLS.
        task_status: Told the `Endpoints` as soon as all ports listen.

    Raises:
        OSError: A port cannot be had.
    """
    shown_host = f"[{host}]" if ":" in host else host
    secure = "s" if ssl_context is not None else ""
    async with trio.open_nursery() as nursery:
        bound: dict[str, int] = {}
        for trade_type in TRADE_TYPES:
            port = (ports or {}).get(trade_type, 0)
            handler = partial(_serve_socket, exchange, trade_type, ssl_context)
            listeners = await nursery.start(partial(trio.serve_tcp, handler, port, host=host))
            bound[trade_type] = listeners[0].socket.getsockname()[1]
        exchange.start(trio.current_time())
        task_status.started(
            Endpoints(
                websocket={
                    name: f"ws{secure}://{shown_host}:{port}{STREAM_PATHS[name]}"
                    for name, port in bound.items()
                },
                rest={name: f"http{secure}://{shown_host}:{port}" for name, port in bound.items()},
            )
        )


async def serve_stream(exchange: Exchange, trade_type: str, stream: trio.abc.Stream) -> None:
    """Serve one connection to one market, HTTP or WebSocket, until either side ends it.

    The stream is closed on return.  A peer that vanishes or breaks the protocol ends its own
    connection and nothing else.  If cancelled, the stream is closed without farewell.
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


async def _serve_socket(
    exchange: Exchange,
    trade_type: str,
    ssl_context: ssl.SSLContext | None,
    stream: trio.SocketStream,
) -> None:
    if ssl_context is None:
        await serve_stream(exchange, trade_type, stream)
    else:
        # Without close_notify, as when a connection is dropped for good; HTTP bears it.
        secured = trio.SSLStream(stream, ssl_context, server_side=True, https_compatible=True)
        await serve_stream(exchange, trade_type, secured)


async def wait_finished(exchange: Exchange) -> None:
    """Wait until the exchange's replay is over and every frame has been handed to the sockets."""
    over = trio.Event()
    exchange.on_finished(over.set, trio.current_time())
    await over.wait()


async def _serve_http(exchange: Exchange, trade_type: str, stream: trio.abc.Stream) -> bytes | None:
    """Answer plain requests; return the bytes of a WebSocket handshake, or None at the end."""
    connection = h11.Connection(h11.SERVER)
    seen = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = bytes(await stream.receive_some(_CHUNK))
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


@attrs.define(eq=False)
class _Line:
    """What the two tasks of one WebSocket connection share."""

    exchange: Exchange
    stream: trio.abc.Stream
    protocol: WSConnection
    session: Session
    outgoing: bytearray
    changed: trio.Event
    parts: list[str] = attrs.field(factory=list)
    """What has come of a message that its sender splits."""
    ended: bool = False
    """The peer has closed; what is outgoing is all that is left to do."""


async def _serve_websocket(
    exchange: Exchange, trade_type: str, stream: trio.abc.Stream, handshake: bytes
) -> None:
    protocol = WSConnection(ConnectionType.SERVER)
    protocol.receive_data(handshake)
    request = next(event for event in protocol.events() if isinstance(event, Handshake))
    line: _Line | None = None

    def wake() -> None:
        if line is not None:
            line.changed.set()

    session = exchange.connect(trade_type, request.target, trio.current_time(), wake)
    if isinstance(session, Response):
        await stream.send_all(_refusal_bytes(protocol, session))
        return
    line = _Line(
        exchange,
        stream,
        protocol,
        session,
        bytearray(protocol.send(AcceptConnection())),
        trio.Event(),
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, line)
            await _write(line)
            nursery.cancel_scope.cancel()
    finally:
        exchange.disconnect(session, trio.current_time())


def _refusal_bytes(protocol: WSConnection, response: Response) -> bytes:
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    rejection = RejectConnection(status_code=response.status, headers=headers, has_body=True)
    return protocol.send(rejection) + protocol.send(RejectData(data=response.body))


async def _read(line: _Line) -> None:
    """Hand what the client sends to its session, until there is no more."""
    while not line.ended:
        try:
            data = bytes(await line.stream.receive_some(_CHUNK))
        except _GONE:
            data = b""
        if not data:
            line.outgoing.clear()
            line.ended = True
        else:
            _take_in(line, data)
        line.changed.set()


def _take_in(line: _Line, data: bytes) -> None:
    session, protocol = line.session, line.protocol
    try:
        protocol.receive_data(data)
        for event in protocol.events():
            now_s = trio.current_time()
            if isinstance(event, TextMessage):
                line.parts.append(event.data)
                if event.message_finished:
                    _take_message(line, now_s)
            elif isinstance(event, Ping):
                session.receive_control(now_s)
                _say(line, event.response())
            elif isinstance(event, Pong):
                session.receive_control(now_s, bytes(event.payload))
            elif isinstance(event, CloseConnection):
                # still open: wsproto words in this way that the peer broke the protocol
                if protocol.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
                    line.outgoing += protocol.send(event.response())
                line.ended = True
    except RemoteProtocolError as error:
        if error.event_hint is not None and protocol.state is ConnectionState.OPEN:
            line.outgoing += protocol.send(error.event_hint)
        line.ended = True


def _take_message(line: _Line, now_s: float) -> None:
    text = "".join(line.parts)
    line.parts.clear()
    for reply in line.session.receive(text, now_s, line.exchange.now_ms(now_s)):
        _say(line, TextMessage(data=reply))
    line.exchange.start(now_s)


def _say(line: _Line, event: TextMessage | Ping | Pong | CloseConnection) -> None:
    if line.protocol.state is ConnectionState.OPEN:
        line.outgoing += line.protocol.send(event)


async def _write(line: _Line) -> None:
    """Send what is due when it is due, and nothing else; return when the connection is over."""
    exchange, session = line.exchange, line.session
    while True:
        line.changed = trio.Event()
        now_s = trio.current_time()
        turn = None if line.ended else session.poll(now_s, exchange.now_ms(now_s))
        if turn is not None:
            _queue(line, turn)
        data = bytes(line.outgoing)
        line.outgoing.clear()
        give_up_s = session.give_up_s
        if turn is None or turn.close is not None:
            give_up_s = now_s + _CLOSE_WAIT_S
        if data and not await _send(line, data, give_up_s):
            return
        if turn is None:
            return
        exchange.handed_over(session, trio.current_time())
        if turn.close is not None:
            await _farewell(line, turn.close)
            return
        if not data:
            due_s = exchange.local_s(turn.next_due_ms)
            with trio.move_on_at(min(turn.wake_s, due_s)):
                await line.changed.wait()


def _queue(line: _Line, turn: Turn) -> None:
    for text in turn.texts:
        _say(line, TextMessage(data=text))
    if turn.ping is not None:
        _say(line, Ping(payload=turn.ping))
    if turn.close is not None and turn.close.code is not None:
        _say(line, CloseConnection(code=turn.close.code, reason=turn.close.reason))


async def _send(line: _Line, data: bytes, give_up_s: float) -> bool:
    """Send, waiting for a slow client until its pong is overdue; tell whether it worked."""
    with trio.move_on_at(give_up_s):
        try:
            await line.stream.send_all(data)
        except _GONE:
            return False
        return True
    return False


async def _farewell(line: _Line, close: Close) -> None:
    """Give the peer a moment for its half of the closing handshake, if there is one."""
    if close.code is not None:
        with trio.move_on_after(_CLOSE_WAIT_S):
            while not line.ended:
                line.changed = trio.Event()
                await line.changed.wait()
