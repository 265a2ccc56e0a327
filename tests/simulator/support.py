"""Real data, and a client that speaks WebSocket to the simulator over memory streams."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from kline_trio.simulator import Exchange, Replay, serve_stream
from kline_trio.simulator.session import Session, Step
from tests.faulty_exchange import Fault, FaultyExchange

DATA = Path(__file__).parents[2] / "../shared/data"
START_MS = 1_700_000_000_000
"""2023-11-14 22:13:20 UTC: twenty seconds into a minute."""


def real(pattern: str) -> list[Path]:
    """Return real data files, or skip the test loudly."""
    found = sorted(DATA.glob(pattern))
    if not found:
        pytest.skip(f"REAL DATA ABSENT: {DATA / pattern}")
    return found


def recorded_frames(file: Path) -> Iterator[str]:
    """Give the frame texts of a recorded or quoted file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        at = line.find("{")
        if at >= 0:
            yield line[at:]


def parsed(text: str) -> Any:  # noqa: ANN401 - as JSON is
    """Decode JSON, whatever its shape."""
    return msgspec.json.decode(text)


def klines(texts: Iterable[str]) -> list[Any]:
    """Return the ``k`` of every kline event, wrapped or bare."""
    events = [parsed(text) for text in texts]
    events = [event.get("data", event) for event in events]
    return [event["k"] for event in events if event.get("e") == "kline"]


def closes(texts: Iterable[str]) -> list[Any]:
    """Return the ``k`` of every closing kline event."""
    return [kline for kline in klines(texts) if kline["x"]]


def plain_exchange(
    *faults: Fault,
    speed: float = 1.0,
    replay: Replay | None = None,
    omitted_close_share: float = 0.0,
) -> FaultyExchange:
    """Return an exchange at `START_MS`, whose clock runs as fast as ours unless told otherwise."""
    return FaultyExchange(
        start_ms=START_MS,
        speed=speed,
        faults=faults,
        replay=replay,
        omitted_close_share=omitted_close_share,
    )


def request(method: str, *params: object, request_id: object = 1) -> str:
    """Return the text of a request."""
    content = {"method": method, "params": list(params), "id": request_id}
    return msgspec.json.encode(content).decode()


class Peer:
    """A session driven by hand: no socket, local and exchange time as the test says.

    Args:
        exchange: At speed 1, so that one clock serves for both times.
        trade_type: The market.
        target: What the handshake asks for.
    """

    def __init__(self, exchange: FaultyExchange, trade_type: str, target: str) -> None:
        self.exchange = exchange
        session = exchange.connect(trade_type, target, 0.0)
        assert isinstance(session, Session)
        self.session = session
        self.lag_ms = exchange.connection(session).lag_ms
        self.now_s = 0.0
        self.turns: list[Step] = []
        self.gives_pongs = False

    def ask(self, text: str) -> list[str]:
        """Send a text now and return the replies."""
        return self.session.receive(text, self.now_s, self.exchange.now_ms(self.now_s))

    def until(self, now_s: float) -> list[str]:
        """Let time pass as the server would, and return the texts sent meanwhile."""
        texts: list[str] = []
        while True:
            turn = self.session.poll(self.now_s, self.exchange.now_ms(self.now_s))
            self.turns.append(turn)
            texts += turn.texts
            if turn.ping is not None and self.gives_pongs:
                self.session.receive_control(self.now_s, turn.ping)
                continue
            due_s = min(turn.wake_s, self.exchange.local_s(turn.next_due_ms))
            if turn.close is not None or (due_s > now_s and not turn.texts):
                self.now_s = now_s
                return texts
            self.now_s = max(self.now_s, due_s) if not turn.texts else self.now_s


class Client:
    """One end of a WebSocket connection; it answers no ping by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def shake_hands(self, target: str) -> None:
        await self.send(Request(host="simulator", target=target))

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.protocol.send(event))

    async def say(self, text: str) -> None:
        await self.send(TextMessage(data=text))

    async def next(self) -> Event | None:
        """Return the next event of any kind, None when the stream has ended."""
        while not self._events:
            data = await self.stream.receive_some(65_536)
            if not data:
                return None
            self.protocol.receive_data(bytes(data))
            self._events += self.protocol.events()
        return self._events.pop(0)

    async def texts(self, until: Callable[[str], bool]) -> list[str]:
        """Collect texts up to and with the first that ``until`` likes; pings are answered."""
        texts: list[str] = []
        while True:
            event = await self.next()
            if isinstance(event, Ping):
                await self.send(event.response())
            elif isinstance(event, TextMessage):
                texts.append(event.data)
                if until(event.data):
                    return texts
            else:
                return texts


@asynccontextmanager
async def connected(
    nursery: trio.Nursery, exchange: Exchange, trade_type: str, target: str
) -> AsyncIterator[Client]:
    """Open a WebSocket connection to the exchange over memory streams."""
    ours, theirs = memory_stream_pair()
    nursery.start_soon(partial(serve_stream, exchange, trade_type, theirs))
    client = Client(ours)
    await client.shake_hands(target)
    assert isinstance(await client.next(), AcceptConnection)
    yield client
    await trio.aclose_forcefully(ours)


__all__ = [
    "DATA",
    "START_MS",
    "AcceptConnection",
    "Client",
    "CloseConnection",
    "Peer",
    "Ping",
    "RejectConnection",
    "TextMessage",
    "closes",
    "connected",
    "klines",
    "parsed",
    "plain_exchange",
    "real",
    "recorded_frames",
    "request",
]
