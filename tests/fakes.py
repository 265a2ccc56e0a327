"""A scripted exchange over memory streams: fakes with full control of timing, in virtual time."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import attrs
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS, Market
from kline_trio.exchange.protocol import stream_name
from kline_trio.interval import Span
from kline_trio.recorder.environment import Environment, RecurringEvent
from kline_trio.recorder.event_sink import EventSink
from kline_trio.recorder.listener import Listener, Route
from kline_trio.recorder.series_set import SeriesSet

MINUTE_MS = 60_000
OPEN_MS = 1_700_000_040_000


def tell_time(clock: ExchangeClock, now_ms: int) -> None:
    """Make a clock believe that it is so late: a frame and the endpoint tell it."""
    clock.add_frame(now_ms)
    clock.confirm(now_ms)


def kline_frame(
    series: Series,
    *,
    open_time_ms: int = OPEN_MS,
    closed: bool = True,
    close: str = "3.0",
    event_time_ms: int | None = None,
) -> str:
    """A frame of a combined stream, as compact as the exchange's."""
    kline = {
        "t": open_time_ms,
        "T": series.interval.end_time_ms(open_time_ms) - 1,
        "s": series.symbol,
        "i": series.time_interval,
        "f": 1,
        "L": 7,
        "o": "2.0",
        "c": close,
        "h": "9.0",
        "l": "1.0",
        "v": "10",
        "n": 7,
        "x": closed,
        "q": "20.5",
        "V": "4",
        "Q": "8.25",
        "B": "0",
    }
    if event_time_ms is None:
        event_time_ms = open_time_ms + 59_000
    event = {"e": "kline", "E": event_time_ms, "s": series.symbol, "k": kline}
    frame = {"stream": stream_name(series), "data": event}
    return json.dumps(frame, separators=(",", ":"))


_Event = TypeVar("_Event", bound=Event)


@attrs.define(eq=False)
class Peer:
    """The server's end of one connection; it does only what its script says."""

    stream: trio.abc.Stream
    url: str
    nth: int = 0
    """Which of the host's addresses was asked for first."""
    protocol: WSConnection = attrs.field(factory=lambda: WSConnection(ConnectionType.SERVER))
    seen: list[Event] = attrs.field(factory=list)
    """All that came and was not waited for."""

    async def accept(self) -> Request:
        """Answer the handshake with 101."""
        request = await self.next_event(Request)
        await self._send(AcceptConnection())
        return request

    async def reject(
        self, status: int, headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b""
    ) -> None:
        """Answer the handshake with an HTTP error."""
        await self.next_event(Request)
        length = [(b"content-length", str(len(body)).encode())]
        await self._send(
            RejectConnection(status_code=status, headers=[*headers, *length], has_body=True)
        )
        await self._send(RejectData(data=body))

    async def subscribed(self) -> list[str]:
        """The stream names of the next SUBSCRIBE request, which is acknowledged."""
        request = await self.request()
        await self.reply(request["id"])
        names: list[str] = request["params"]
        return names

    async def request(self) -> dict[str, Any]:
        """The next request, not answered."""
        message = await self.next_event(TextMessage)
        request: dict[str, Any] = json.loads(message.data)
        return request

    async def reply(self, request_id: object) -> None:
        """Acknowledge a request."""
        await self.text(json.dumps({"result": None, "id": request_id}))

    async def text(self, text: str) -> None:
        """Send a whole text message."""
        await self._send(TextMessage(data=text))

    async def binary(self, data: bytes) -> None:
        """Send a binary frame."""
        await self._send(BytesMessage(data=data))

    async def candle(self, series: Series, **changes: object) -> None:
        """Send a kline frame."""
        await self.text(kline_frame(series, **changes))  # type: ignore[arg-type]

    async def ping(self, payload: bytes) -> None:
        """Send a ping."""
        await self._send(Ping(payload=payload))

    async def close(self, code: int, reason: str = "") -> None:
        """Send a CLOSE frame."""
        await self._send(CloseConnection(code=code, reason=reason))

    async def next_event(self, kind: type[_Event]) -> _Event:
        """Wait for an event of this kind; others are kept in `seen`."""
        while True:
            for event in self.protocol.events():
                if isinstance(event, kind):
                    return event
                self.seen.append(event)
            data = await self.stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the client is gone")
            self.protocol.receive_data(bytes(data))

    async def gone(self) -> list[Event]:
        """Wait until the client is gone; all that it sent meanwhile."""
        while True:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                break
            self.protocol.receive_data(bytes(data))
        self.seen += self.protocol.events()
        return self.seen

    async def _send(self, event: Event) -> None:
        await self.stream.send_all(self.protocol.send(event))


Script = Callable[[Peer], Awaitable[None]]


@attrs.define(eq=False)
class ScriptedExchange:
    """Serves each connection by the next script; the last script serves all further ones."""

    scripts: list[Script]
    peers: list[Peer] = attrs.field(factory=list)
    dialled_at: list[float] = attrs.field(factory=list)
    _waiting: list[Peer] = attrs.field(factory=list)
    _arrived: trio.Event = attrs.field(factory=trio.Event)

    async def dial(self, url: str, nth: int) -> trio.abc.Stream:
        """What a `Environment.dial` does."""
        await trio.lowlevel.checkpoint()
        client, server = trio.testing.memory_stream_pair()
        peer = Peer(server, url, nth)
        self.peers.append(peer)
        self.dialled_at.append(trio.current_time())
        self._waiting.append(peer)
        self._arrived.set()
        return client

    async def serve(self) -> None:
        """Play the scripts until cancelled; to be started in the test's own nursery."""
        scripts: Iterator[Script] = iter(self.scripts)
        script = next(scripts)
        async with trio.open_nursery() as served:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                while self._waiting:
                    served.start_soon(_play, script, self._waiting.pop(0))
                    script = next(scripts, script)


class TrustingClock(ExchangeClock):
    """Believes every event time at once."""

    def add_frame(self, event_time_ms: int, series: Series | None = None) -> None:
        pass

    async def accepted_span(self, event_time_ms: int) -> Span:
        return Span(0, MAX_TIME_MS)


def listener_of(
    exchange: ScriptedExchange,
    send: trio.MemorySendChannel[ReceivedCandle],
    environment: Environment,
    *,
    market: Market = MARKETS["spot"],
    urls: tuple[str, ...] = ("ws://one.test/stream",),
    config: ConnectionConfig | None = None,
) -> Listener:
    """A listener that believes the scripted exchange."""
    route = Route(urls, config or ConnectionConfig(), exchange.dial)
    sink = EventSink(send, TrustingClock(), SeriesSet(0), lambda _: None, environment.now)
    return Listener(market, route, environment, sink)


@attrs.define(eq=False)
class CountedBell(RecurringEvent):
    """Keeps when it was rung, by Trio's clock."""

    rings: list[float] = attrs.field(init=False, factory=list)

    def ring(self) -> None:
        self.rings.append(trio.current_time())
        super().ring()


async def _play(script: Script, peer: Peer) -> None:
    # The client may leave before the script is over.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await script(peer)


async def silence(peer: Peer) -> None:
    """A script: a server that accepts, acknowledges, and says nothing more."""
    await peer.accept()
    await peer.subscribed()
    await peer.gone()


async def vanish(peer: Peer) -> None:
    """A script: a server that closes at once."""
    await trio.aclose_forcefully(peer.stream)
