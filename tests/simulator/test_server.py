"""The exchange on streams: HTTP and WebSocket, frame by frame."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, Pong, RejectData, Request

from kline_trio.simulator import Endpoints, Replay, serve, serve_stream
from kline_trio.simulator.server import open_exchange, text_frame
from kline_trio.simulator.symbols import TRADE_TYPES
from tests.faulty_exchange import FaultyExchange, Refuse, wait_finished
from tests.faulty_exchange.tls import open_tls_exchange

from .support import (
    START_MS,
    AcceptConnection,
    Client,
    CloseConnection,
    Ping,
    RejectConnection,
    TextMessage,
    closes,
    connected,
    parsed,
    plain_exchange,
    request,
)

STREAM = "btcusdt@kline_1m"
OK = '{"result":null,"id":1}'


@asynccontextmanager
async def wire(trade_type: str = "spot", *faults: Refuse) -> AsyncIterator[trio.abc.Stream]:
    """Open a stream on which nothing has been said yet; the server must end by itself."""
    ours, theirs = memory_stream_pair()
    with trio.fail_after(3_600):
        async with trio.open_nursery() as nursery:
            exchange = plain_exchange(*faults)
            nursery.start_soon(partial(serve_stream, exchange, trade_type, theirs))
            yield ours


async def rest_of(stream: trio.abc.Stream) -> bytes:
    """Read to the end of a stream."""
    parts = b""
    while part := await stream.receive_some():
        parts += part
    return parts


# -- HTTP -----------------------------------------------------------------------------------


async def test_requests_follow_each_other_on_one_connection(autojump_clock: MockClock) -> None:
    """A connection is kept for the next request until the client says that it was the last."""
    async with wire() as stream:
        await stream.send_all(b"GET /api/v3/ping HTTP/1.1\r\nhost: x\r\n\r\n")
        last = b"GET /api/v3/time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        await stream.send_all(last)
        answers = await rest_of(stream)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b'{"serverTime":%d}' % START_MS in answers
    assert b"x-mbx-used-weight-1m: 2" in answers.lower()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HEAD /api/v3/ping HTTP/1.1", b"200"),
        (b"GET //[/ HTTP/1.1", b"404"),
        (b"GET /nonsense HTTP/1.1", b"404"),
        (b"DELETE /api/v3/ping HTTP/1.1", b"404"),
    ],
)
async def test_odd_requests_are_answered(sent: bytes, status: bytes) -> None:
    """No request, however odd, does more than get its answer."""
    async with wire() as stream:
        await stream.send_all(sent + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await rest_of(stream)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"POST /stream HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n",
    ],
)
async def test_what_is_no_request_ends_its_own_connection_only(sent: bytes) -> None:
    """TLS, broken HTTP and broken handshakes end the connection and raise nothing."""
    async with wire() as stream:
        await stream.send_all(sent)
        assert b"101" not in await rest_of(stream)


# -- handshakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trade_type", "target", "status"),
    [
        ("spot", "/", 404),
        ("spot", "/streams", 404),
        ("spot", "/market/stream", 404),
        ("coin_futures", "/market/stream", 404),
        ("usdt_futures", "/private/stream", 404),
        ("usdt_futures", "/wsbtcusdt@kline_1m", 404),
        ("spot", "/stream?streams=nonsense", 400),
        ("spot", "//[/stream", 400),
        ("spot", "/stream?streams=" + "a@b/" * 2_000, 414),
    ],
)
async def test_a_wrong_path_is_refused(trade_type: str, target: str, status: int) -> None:
    """A path that a market does not have, a bad stream or an endless URL gets its status."""
    async with wire(trade_type) as stream:
        client = Client(stream)
        await client.shake_hands(target)
        event = await client.next()
        assert isinstance(event, RejectConnection)
        assert event.status_code == status


async def test_a_scripted_refusal_has_headers_and_words() -> None:
    """A refused handshake is a whole HTTP answer, with the time to wait and the reason."""
    refuse = Refuse(trade_type="spot", from_ms=START_MS, until_ms=START_MS + 1_000, status=418)
    async with wire("spot", refuse) as stream:
        client = Client(stream)
        await client.shake_hands("/stream")
        event = await client.next()
        assert isinstance(event, RejectConnection)
        assert event.status_code == 418
        assert (b"retry-after", b"120") in list(event.headers)
        body = await client.next()
        assert isinstance(body, RejectData)
        assert b"IP banned until" in body.data


async def test_a_handshake_may_come_in_pieces() -> None:
    """A client that sends byte by byte is understood."""
    async with wire() as stream:
        client = Client(stream)
        for byte in client.protocol.send(Request(host="x", target="/stream")):
            await stream.send_all(bytes([byte]))
        assert isinstance(await client.next(), AcceptConnection)
        await stream.aclose()


# -- WebSocket ------------------------------------------------------------------------------


async def test_a_candle_closes_on_the_wire(autojump_clock: MockClock) -> None:
    """Subscribed by request, a stream brings its close as the exchange knows it."""
    exchange = plain_exchange()
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "spot", "/stream") as client:
            await client.say(request("SUBSCRIBE", STREAM))
            texts = await client.texts(lambda text: '"x":true' in text)
    assert texts[0] == OK
    candle = exchange.closed_candle("spot", "BTCUSDT", "1m", START_MS - 20_000)
    (kline,) = closes(texts)
    assert (kline["o"], kline["h"], kline["l"], kline["c"], kline["v"], kline["n"]) == (
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.trade_num,
    )


async def test_a_request_may_come_in_fragments(autojump_clock: MockClock) -> None:
    """A split message is one request, and binary ones are none."""
    text = request("SUBSCRIBE", STREAM)
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(), "spot", "/stream") as client:
            await client.send(BytesMessage(data=b"{}"))
            await client.send(TextMessage(data=text[:9], message_finished=False))
            await client.send(Ping(payload=b"between"))
            await client.send(TextMessage(data=text[9:]))
            assert await client.next() == Pong(payload=b"between")
            assert await client.texts(lambda _: True) == [OK]


async def test_a_breach_of_limits_is_closed_with_its_reason(autojump_clock: MockClock) -> None:
    """The close frame has 1008 and words; a peer that does not answer it is left after 2 s."""
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(), "spot", "/stream") as client:
            for _ in range(6):
                await client.say(request("SUBSCRIBE"))
            event = await client.next()
            while isinstance(event, TextMessage):
                event = await client.next()
            assert event == CloseConnection(code=1008, reason="Too many requests")
            assert await client.next() is None
            assert trio.current_time() == pytest.approx(2.0, abs=0.01)


async def test_a_close_is_answered_and_ends_it(autojump_clock: MockClock) -> None:
    """A client that closes gets its own code back, then the end of the stream, at once."""
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(), "spot", "/stream") as client:
            await client.send(CloseConnection(code=1000))
            event = await client.next()
            assert isinstance(event, CloseConnection)
            assert event.code == 1000
            assert await client.next() is None
            assert trio.current_time() < 0.1


@pytest.mark.parametrize("answers", [True, False])
async def test_pings_keep_a_connection_that_answers(
    answers: bool, autojump_clock: MockClock
) -> None:
    """With pongs a connection lives; without, it is closed a minute after its first ping."""
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(), "spot", "/stream") as client:
            event = await client.next()
            while isinstance(event, Ping) and trio.current_time() < 200:
                if answers:
                    await client.send(event.response())
                event = await client.next()
            if answers:
                assert isinstance(event, Ping)
            else:
                assert event == CloseConnection(code=1008, reason="Pong timeout")
                assert trio.current_time() == pytest.approx(80, abs=0.01)


async def test_broken_frames_end_their_connection_only(autojump_clock: MockClock) -> None:
    """A reserved opcode is answered with the protocol error's code."""
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(), "spot", "/stream") as client:
            await client.stream.send_all(b"\x83\x80\x00\x00\x00\x00")
            event = await client.next()
            assert isinstance(event, CloseConnection)
            assert event.code == 1002
            assert await client.next() is None


async def test_a_client_that_does_not_read_is_let_go(autojump_clock: MockClock) -> None:
    """The server waits for a reader until its first pong would be overdue, not for ever."""
    ours, theirs = lockstep_stream_pair()
    target = f"/stream?streams={STREAM}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_stream, plain_exchange(), "spot", theirs))
        client = Client(ours)
        await client.shake_hands(target)
        assert isinstance(await client.next(), AcceptConnection)
    assert trio.current_time() == pytest.approx(80, abs=0.01)


async def test_a_peer_that_vanishes_harms_no_one(autojump_clock: MockClock) -> None:
    """When one of two clients is gone without a word, the other goes on."""
    exchange = plain_exchange()
    target = f"/stream?streams={STREAM}"
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "spot", target) as stays:
            async with connected(nursery, exchange, "spot", target):
                await trio.sleep(10)
            assert closes(await stays.texts(lambda text: '"x":true' in text))


async def test_a_replay_wakes_all_who_wait_and_tells_of_its_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The last subscription starts the clock for every connection; the end is told once."""
    file = tmp_path / "um" / "BTCUSDT-1m-2025-01-01.csv"
    file.parent.mkdir()
    file.write_text("1735689600000,1.0,3.0,0.5,2.0,10,1735689659999,20,4,5,9,0\n")
    expected = {"usdt_futures": [STREAM], "coin_futures": ["btcusd_perp@kline_1m"]}
    exchange = plain_exchange(replay=Replay.from_files([file], expected))
    async with trio.open_nursery() as nursery:
        target = f"/market/stream?streams={STREAM}"
        async with connected(nursery, exchange, "usdt_futures", target) as early:
            await trio.sleep(30)
            async with connected(nursery, exchange, "coin_futures", "/stream") as late:
                await late.say(request("SUBSCRIBE", "btcusd_perp@kline_1m"))
                await wait_finished(exchange)
                assert trio.current_time() == pytest.approx(30 + 60.5, abs=0.1)
                await wait_finished(exchange)
                texts = await early.texts(lambda text: '"x":true' in text)
                assert [kline["c"] for kline in closes(texts)] == ["2.0"]


# -- sockets --------------------------------------------------------------------------------


async def test_all_of_it_works_on_loopback_sockets() -> None:
    """Each market listens on a port of its own and serves HTTP and WebSocket there."""
    exchange = plain_exchange(speed=600.0)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            endpoints: Endpoints = await nursery.start(serve, exchange)
            for trade_type in TRADE_TYPES:
                assert endpoints.rest[trade_type] in endpoints.websocket[trade_type].replace(
                    "ws://", "http://"
                )
                port = int(endpoints.rest[trade_type].rpartition(":")[2])
                path = endpoints.websocket[trade_type].partition(f":{port}")[2]
                http = await trio.open_tcp_stream("127.0.0.1", port)
                async with http:
                    get = b"GET /api/v3/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                    await http.send_all(get)
                    status = b"200" if trade_type == "spot" else b"404"
                    assert (await rest_of(http)).startswith(b"HTTP/1.1 " + status)
                socket = await trio.open_tcp_stream("127.0.0.1", port)
                async with socket:
                    client = Client(socket)
                    symbol = "btcusd_perp" if trade_type == "coin_futures" else "btcusdt"
                    await client.shake_hands(f"{path}?streams={symbol}@kline_1m")
                    assert isinstance(await client.next(), AcceptConnection)
                    texts = await client.texts(lambda text: '"x":true' in text)
                    assert len(closes(texts)) == 1
            nursery.cancel_scope.cancel()


async def test_it_speaks_tls_when_asked_to() -> None:
    """HTTP and WebSocket alike; who speaks plainly, or trusts another authority, gets nothing."""
    authority, stranger = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    exchange = plain_exchange(speed=600.0)

    async def opened(port: int, trusted: trustme.CA) -> trio.SSLStream[trio.SocketStream]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.configure_trust(context)
        return await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", port, ssl_context=context, https_compatible=True
        )

    with trio.fail_after(20):
        async with open_tls_exchange(exchange, server) as endpoints:
            for trade_type in TRADE_TYPES:
                assert endpoints.rest[trade_type].startswith("https://127.0.0.1:")
                assert endpoints.websocket[trade_type].startswith("wss://127.0.0.1:")
            assert endpoints.archive == endpoints.rest["spot"]
            port = int(endpoints.rest["spot"].rpartition(":")[2])
            async with await opened(port, authority) as http:
                await http.send_all(
                    b"GET /api/v3/time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                )
                assert (await rest_of(http)).startswith(b"HTTP/1.1 200")
            async with await opened(port, authority) as secured:
                client = Client(secured)
                await client.shake_hands(f"/stream?streams={STREAM}")
                assert isinstance(await client.next(), AcceptConnection)
                assert closes(await client.texts(lambda text: '"x":true' in text))
            async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
                await plain.send_all(b"GET /api/v3/time HTTP/1.1\r\nhost: x\r\n\r\n")
                assert b"200" not in await rest_of(plain)
            async with await opened(port, stranger) as wary:
                with pytest.raises(trio.BrokenResourceError):
                    await wary.send_all(b"GET")


async def test_the_exchange_runs_beside_other_work() -> None:
    """It serves while the body runs, and not a moment longer."""
    async with open_exchange(plain_exchange()) as endpoints:
        port = int(endpoints.rest["spot"].rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port):
            pass
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_taken_port_is_an_error_of_the_caller() -> None:
    """A port that cannot be had is said at once."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await serve(plain_exchange(), ports={"spot": port})


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
