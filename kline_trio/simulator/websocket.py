"""One WebSocket connection on a stream: what comes goes to its session, what is due goes out.

Frames go through wsproto itself, but for the events, which are too many for it.  trio-websocket
hides client pings and pongs, which count as messages here, and a server that shares its traps
would hide them from the recorder.
"""

from contextlib import suppress

import attrs
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

from kline_trio.simulator.connection_limits import Close
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.rest import Response
from kline_trio.simulator.session import Session, Turn

__all__ = ["CHUNK", "GONE", "serve_websocket", "text_frame"]

CHUNK = 65_536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when its peer has vanished; for a server that is everyday life."""
_CLOSE_WAIT_S = 2.0
"""How long the peer may take over its half of the closing handshake."""


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
                data = bytes(await self.stream.receive_some(CHUNK))
            except GONE:
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
            turn = None if self.ended else session.poll(now_s, exchange.now_ms(now_s))
            if turn is not None:
                self._queue_turn(turn)
            data = bytes(self.outgoing)
            self.outgoing.clear()
            give_up_s = session.keep_alive.give_up_s
            if turn is None or turn.close is not None:
                give_up_s = now_s + _CLOSE_WAIT_S
            if data and not await self._send(data, give_up_s):
                return
            if turn is None:
                return
            exchange.handed_over(session, trio.current_time())
            if turn.close is not None:
                await self._await_close(turn.close)
                return
            due_s = exchange.local_s(turn.next_due_ms)
            if turn.texts and due_s > now_s:
                due_s = max(due_s, now_s + exchange.gather_s)
            with trio.move_on_at(min(turn.wake_s, due_s)):
                await self.changed.wait()

    def _queue_turn(self, turn: Turn) -> None:
        if self.protocol.state is ConnectionState.OPEN:
            for text in turn.texts:
                self.outgoing += text_frame(text)
        if turn.ping is not None:
            self._queue(Ping(payload=turn.ping))
        if turn.close is not None and turn.close.code is not None:
            self._queue(CloseConnection(code=turn.close.code, reason=turn.close.reason))

    async def _send(self, data: bytes, give_up_s: float) -> bool:
        """Send, waiting for a slow client until its pong is overdue; tell whether it worked."""
        with trio.move_on_at(give_up_s), suppress(*GONE):
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
