"""One WebSocket connection on a stream: what comes goes to its session, what is due goes out.

Frames go through wsproto itself, but for the events, which are too many for it.  trio-websocket
hides client pings and pongs, which count as messages here, and a server that shares its traps
would hide them from the recorder.
"""

import attrs
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
from kline_trio.simulator.rest import Response
from kline_trio.simulator.session import Close, Session, Turn

__all__ = ["CHUNK", "GONE", "serve_websocket", "text_frame"]

CHUNK = 65_536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when its peer has vanished; for a server that is everyday life."""
_CLOSE_WAIT_S = 2.0
"""How long the peer may take over its half of the closing handshake."""


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


async def serve_websocket(
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
            data = bytes(await line.stream.receive_some(CHUNK))
        except GONE:
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
        due_s = exchange.local_s(turn.next_due_ms)
        if turn.texts and due_s > now_s:
            due_s = max(due_s, now_s + exchange.gather_s)
        with trio.move_on_at(min(turn.wake_s, due_s)):
            await line.changed.wait()


def _queue(line: _Line, turn: Turn) -> None:
    if line.protocol.state is ConnectionState.OPEN:
        for text in turn.texts:
            line.outgoing += text_frame(text)
    if turn.ping is not None:
        _say(line, Ping(payload=turn.ping))
    if turn.close is not None and turn.close.code is not None:
        _say(line, CloseConnection(code=turn.close.code, reason=turn.close.reason))


async def _send(line: _Line, data: bytes, give_up_s: float) -> bool:
    """Send, waiting for a slow client until its pong is overdue; tell whether it worked."""
    with trio.move_on_at(give_up_s):
        try:
            await line.stream.send_all(data)
        except GONE:
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


def text_frame(text: str) -> bytes:
    """Return a whole text message as a server frames it (RFC 6455, 5.2), as wsproto would."""
    data = text.encode()
    if len(data) < 126:
        return b"\x81" + bytes((len(data),)) + data
    if len(data) < 1 << 16:
        return b"\x81\x7e" + len(data).to_bytes(2, "big") + data
    return b"\x81\x7f" + len(data).to_bytes(8, "big") + data
