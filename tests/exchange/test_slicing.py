"""However the network slices and delays what is sent, the same candles are delivered."""

import json
from random import Random
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import TextMessage

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.exchange.connection import Connection, ConnectionCallbacks, ConnectionOptions
from kline_trio.exchange.connection_events import (
    CloseReason,
    ConnectionEvent,
    Disconnected,
    FirstCandle,
    Ready,
    SilentStreams,
)
from kline_trio.exchange.protocol import CandleClosed, stream_name
from kline_trio.exchange.subscription import Subscription
from kline_trio.interval import Span
from tests.fakes import MINUTE_MS, OPEN_MS, Peer, ScriptedExchange, kline_frame
from tests.fuzzing.frames import CONTINUATION, PING, TEXT, wire

BTC = Series("spot", "BTCUSDT", "1m")
CHINESE = Series("spot", "币安人生USDT", "1m")
SERIES = (BTC, CHINESE)
STALL_SECONDS = 30.0
MINUTES = 6


@attrs.define(eq=False)
class Slow(trio.abc.Stream):
    """A network in between: pieces of the sizes that are its turn, each after a pause."""

    stream: trio.abc.Stream
    sizes: tuple[int, ...]
    pauses: tuple[float, ...]
    turn: int = 0
    left: bytes = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At most as much as the turn's size, even if the caller would take more."""
        self.turn += 1
        await trio.sleep(self.pauses[self.turn % len(self.pauses)])
        if not self.left:
            self.left = bytes(await self.stream.receive_some(max_bytes))
        size = self.sizes[self.turn % len(self.sizes)]
        piece, self.left = self.left[:size], self.left[size:]
        return piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """In pieces too: a server has no right to find whole requests in a read."""
        data = bytes(data)
        while data:
            self.turn += 1
            size = self.sizes[self.turn % len(self.sizes)]
            await self.stream.send_all(data[:size])
            await trio.lowlevel.checkpoint()
            data = data[size:]

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


def said(dice: Random) -> bytes:
    """Some minutes of two streams: forming and closed, whole and in fragments, and pings."""
    frames = []
    for minute in range(MINUTES):
        for series in SERIES:
            opened = OPEN_MS + minute * MINUTE_MS
            forming = kline_frame(series, open_time_ms=opened, closed=False).encode()
            frames += [wire(TEXT, forming)] * dice.randint(1, 3)
            frames.append(wire(PING, forming[: dice.choice([0, 4, 125])]))
            closed = kline_frame(series, open_time_ms=opened, close=f"{minute + 1}.5").encode()
            cut = dice.randrange(len(closed))
            frames += (
                [wire(TEXT, closed)]
                if dice.random() < 0.7
                else [
                    wire(TEXT, closed[:cut], fin=False),
                    wire(PING, b'"x":false'),
                    wire(CONTINUATION, closed[cut:]),
                ]
            )
            frames += [wire(TEXT, forming)] * dice.randint(0, 2)
    return b"".join(frames)


async def whole_request(peer: Peer) -> dict[str, Any]:
    """The next request, of which wsproto gives each slice as it comes."""
    text = ""
    while True:
        event = await peer.next_event(TextMessage)
        text += event.data
        if event.message_finished:
            request: dict[str, Any] = json.loads(text)
            return request


async def heard_of(
    data: bytes, sizes: tuple[int, ...], pauses: tuple[float, ...]
) -> tuple[list[CandleClosed], list[ConnectionEvent], Disconnected]:
    """What a connection delivers and tells of what a server sends through such a network."""
    delivered: list[CandleClosed] = []
    told: list[ConnectionEvent] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        request = await whole_request(peer)
        assert request["params"] == [stream_name(series) for series in SERIES]
        await peer.reply(request["id"])
        await peer.stream.send_all(data)
        await peer.close(1001, "done")
        await peer.gone()

    exchange = ScriptedExchange([script])

    async def dial(url: str, nth: int) -> trio.abc.Stream:
        return Slow(await exchange.dial(url, nth), sizes, pauses)

    async def believe(_: int) -> Span:
        return Span(0, MAX_TIME_MS)

    async def deliver(event: CandleClosed) -> None:
        await trio.lowlevel.checkpoint()
        delivered.append(event)

    subscription = Subscription()
    subscription.subscribe({stream_name(series): series for series in SERIES})
    callbacks = ConnectionCallbacks(
        deliver=deliver,
        report=told.append,
        on_event_time=lambda *_: None,
        on_delivered_up_to=lambda _: None,
        accepted_span=believe,
    )
    options = ConnectionOptions(
        messages_per_second=5, connect_seconds=STALL_SECONDS, stall_seconds=STALL_SECONDS
    )
    connection = Connection(subscription, callbacks, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.serve)
        ended = await connection.run(dial, "ws://exchange.test/stream")
        nursery.cancel_scope.cancel()
    return delivered, told, ended


def assert_all_is_delivered(
    data: bytes, sizes: tuple[int, ...], pauses: tuple[float, ...] = (0.0,)
) -> None:
    """Each close of both streams once, and nothing to complain of.

    In order of time, for of what one read brings, closes in the usual spelling come first.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    delivered, told, ended = trio.run(heard_of, data, sizes, pauses, clock=clock)
    assert sorted(
        (event.candle.open_time_ms, SERIES.index(event.series), event.candle.close)
        for event in delivered
    ) == [
        (OPEN_MS + minute * MINUTE_MS, number, minute + 1.5)
        for minute in range(MINUTES)
        for number in range(len(SERIES))
    ]
    assert [one for one in told if not isinstance(one, Ready)] == [FirstCandle()]
    assert ended == Disconnected(
        CloseReason.LOST, "the exchange closed it: 1001 'done'", had_candle=True
    )


# They run Trio themselves: Hypothesis calls each many times, and each time is a new world.


@pytest.mark.parametrize("size", [1, 2, 3, 7, 125, 4_096, 65_536])
def test_slices_of_one_size_deliver_the_same(size: int) -> None:
    """Down to single bytes, also of the handshake and of our requests."""
    assert_all_is_delivered(said(Random(size)), (size,))


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=9),
    st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.2]), min_size=1, max_size=7),
    st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_any_slices_and_pauses_deliver_the_same(
    sizes: list[int], pauses: list[float], seed: int
) -> None:
    """The pauses are short enough for some data frame to end within `stall_seconds`."""
    if sum(sizes) / len(sizes) < 20:
        pauses = [pause / 50 for pause in pauses]
    assert_all_is_delivered(said(Random(seed)), tuple(sizes), tuple(pauses))


@pytest.mark.parametrize("seconds", [0.05, 5.0])
def test_latency_alone_is_no_stall(seconds: float) -> None:
    """As long as it is shorter than the patience, it only delays."""
    assert_all_is_delivered(said(Random(1)), (2_000,), (seconds,))


@pytest.mark.parametrize(("pause_seconds", "is_life"), [(0.05, True), (0.2, False)])
def test_only_a_frame_that_has_ended_is_life(pause_seconds: float, is_life: bool) -> None:
    """Byte by byte one takes 18 seconds, within the patience, or 70, and then is a stall."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    delivered, told, ended = trio.run(
        heard_of, said(Random(2)), (1,), (pause_seconds,), clock=clock
    )
    assert ended.why is (CloseReason.LOST if is_life else CloseReason.STALLED)
    assert len(delivered) == is_life * MINUTES * len(SERIES)
    names = tuple(stream_name(series) for series in SERIES)
    heard = [one for one in told if not isinstance(one, Ready)]
    assert heard == [FirstCandle() if is_life else SilentStreams(names, STALL_SECONDS)]
