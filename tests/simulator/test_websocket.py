"""Frames by hand, and events that wait for each other."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from kline_trio.simulator.websocket import text_frame
from tests.faulty_exchange import FaultyExchange

from .support import START_MS, closes, connected, parsed, plain_exchange, request

SYMBOLS = [f"{letter}USDT" for letter in "ABCDEFGH"]


def framed_by_wsproto(text: str) -> bytes:
    server, client = WSConnection(ConnectionType.SERVER), WSConnection(ConnectionType.CLIENT)
    server.receive_data(client.send(Request(host="x", target="/")))
    assert len(list(server.events())) == 1
    server.send(AcceptConnection())
    return server.send(TextMessage(data=text))


@given(st.text(max_size=200))
def test_a_frame_is_what_wsproto_makes_of_it(text: str) -> None:
    """Byte for byte, with text of any script."""
    assert text_frame(text) == framed_by_wsproto(text)


@pytest.mark.parametrize("length", [0, 125, 126, 127, 65_535, 65_536, 100_000])
def test_frames_of_every_length_are_framed_right(length: int) -> None:
    """All three forms of a length, on both sides of their borders."""
    assert text_frame("x" * length) == framed_by_wsproto("x" * length)


async def arrivals(exchange: FaultyExchange) -> tuple[list[str], set[float]]:
    """Return the closes of a minute, and the moments at which any came."""
    texts: list[str] = []
    moments: set[float] = set()
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "usdt_futures", "/market/stream") as client:
            streams = [f"{symbol.lower()}@kline_1m" for symbol in SYMBOLS]
            await client.say(request("SUBSCRIBE", *streams))
            await client.texts(lambda text: "result" in text)
            while len(texts) < len(streams):
                texts += await client.texts(lambda _: True)
                moments.add(trio.current_time())
    return texts, moments


@pytest.mark.parametrize(("gather_s", "most"), [(0.0, 8), (0.5, 3)])
async def test_events_wait_for_each_other_if_they_may(
    gather_s: float, most: int, autojump_clock: MockClock
) -> None:
    """The same frames in the same order, in fewer moments; the first is never late."""
    exchange = FaultyExchange(
        seed=4,
        start_ms=START_MS,
        speed=1.0,
        listed={"usdt_futures": SYMBOLS},
        forming=False,
        gather_s=gather_s,
    )
    texts, moments = await arrivals(exchange)
    assert len(closes(texts)) == 8
    dues = [parsed(text)["data"]["E"] for text in texts]
    assert dues == sorted(dues)
    soon = [moment for moment in moments if moment < 42]
    assert len(soon) <= most
    assert min(moments) == pytest.approx((dues[0] - START_MS) / 1000, abs=0.01)


async def test_a_reply_does_not_wait_for_events(autojump_clock: MockClock) -> None:
    """Only events rest; who asks is answered at once."""
    exchange = plain_exchange()
    exchange.gather_s = 5.0
    async with trio.open_nursery() as nursery:
        target = "/stream?streams=btcusdt@kline_1s"
        async with connected(nursery, exchange, "spot", target) as client:
            await client.texts(lambda text: "kline" in text)
            asked = trio.current_time()
            await client.say(request("LIST_SUBSCRIPTIONS"))
            await client.texts(lambda text: "result" in text)
            assert trio.current_time() == asked
