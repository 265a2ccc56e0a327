"""Streamed answers: to readers that read, and to those that are slow, gone or hostile."""

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import attrs
import pytest
import trio
import trio.testing

from kline_trio.monitor.http_message import Request, Response, SendChunk
from kline_trio.monitor.http_server import MOST_CONNECTIONS, MOST_STREAMS, HttpServer
from kline_trio.monitor.http_stream import end_unheard
from tests.exchange.test_tls import NAME, client_context, serving
from tests.monitor.http import Client, head_of, joined, served, server_of, until

HEAD = head_of("GET", "/stream")


@attrs.define(eq=False)
class Source:
    """Streams what a test wants, and counts the streams that live."""

    chunks: list[bytes] = attrs.field(factory=list)
    goes_on: bool = True
    seconds: float = 5.0
    """Between two chunks, once the list is at its end."""
    living: int = 0
    begun: int = 0

    async def handle(self, request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        if request.path != "/stream":
            return Response(body=b"other")
        return Response(content_type="text/event-stream", stream=self.stream)

    async def stream(self, send: SendChunk) -> None:
        self.living += 1
        self.begun += 1
        try:
            for chunk in self.chunks:
                await send(chunk)
            while self.goes_on:
                await send(b": heartbeat\n\n")
                await trio.sleep(self.seconds)
        finally:
            self.living -= 1


async def test_chunks_come_when_they_are_sent(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(chunks=[b"data: 1\n\n", b"", b"data: 2\n\n"])
    async with joined(server_of(source.handle)) as client:
        await client.send(HEAD)
        head = await client.head()
        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream"
        assert head.headers["transfer-encoding"] == "chunked"
        assert head.headers["cache-control"] == "no-store"
        assert head.headers["x-content-type-options"] == "nosniff"
        assert "content-length" not in head.headers
        began = trio.current_time()
        assert [await client.chunk() for _ in range(3)] == [
            b"data: 1\n\n",
            b"data: 2\n\n",
            b": heartbeat\n\n",
        ]
        assert trio.current_time() == began
        # There is no deadline for the whole.
        for _ in range(1_000):
            assert await client.chunk() == b": heartbeat\n\n"
        assert trio.current_time() == pytest.approx(began + 5_000)


async def test_the_end_of_a_stream_ends_the_connection() -> None:
    source = Source(chunks=[b"only"], goes_on=False)
    server = server_of(source.handle)
    async with joined(server) as client:
        await client.send(HEAD)
        assert (await client.head()).headers["connection"] == "close"
        assert await client.chunk() == b"only"
        assert await client.chunk() == b""
        assert await client.rest() == b""
    assert (source.living, server.connections) == (0, 0)


async def test_a_client_of_http_1_0_reads_to_the_end() -> None:
    async with joined(server_of(Source(chunks=[b"ab", b"cd"], goes_on=False).handle)) as client:
        await client.send("GET /stream HTTP/1.0\r\n\r\n")
        assert "transfer-encoding" not in (await client.head()).headers
        assert await client.rest() == b"abcd"


async def test_a_head_begins_no_stream() -> None:
    source = Source()
    async with joined(server_of(source.handle)) as client:
        answer = await client.ask("HEAD", "/stream")
        assert answer.headers["content-type"] == "text/event-stream"
        assert (await client.ask("GET", "/other")).body == b"other"
    assert source.begun == 0


async def leave(client: Client) -> None:
    await client.stream.aclose()


async def reset(client: Client) -> None:
    await client.reset()


async def end_sending(client: Client) -> None:
    assert isinstance(client.stream, trio.SocketStream)
    await client.stream.send_eof()


async def talk(client: Client) -> None:
    await client.send(HEAD)


@pytest.mark.parametrize("go", [leave, reset, end_sending, talk])
async def test_a_reader_that_goes_is_noticed_at_once(
    go: Callable[[Client], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing is sent: the next chunk would come in an hour."""
    source = Source(seconds=3_600)
    server = server_of(source.handle)
    async with served(server) as connect:
        for _ in range(3 * MOST_STREAMS):
            client = await connect()
            await client.send(HEAD)
            assert await client.head()
            await go(client)
            with trio.fail_after(5):
                await until(lambda: not (source.living or server.connections))
            await client.stream.aclose()
    assert source.begun == 3 * MOST_STREAMS
    assert not caplog.records


async def test_a_reader_that_does_not_read_is_given_up_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    source = Source()
    server = server_of(source.handle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, far)
        client = Client(near)
        await client.send(HEAD)
        assert await client.head()
        await client.chunk()
        began = trio.current_time()
        with trio.fail_after(60):
            await until(lambda: server.connections == 0)
    assert trio.current_time() - began == pytest.approx(15, abs=0.1)
    assert source.living == 0


async def test_a_reader_of_a_byte_a_second_is_given_up_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    source = Source(chunks=[b"x" * 1_000] * 100)
    server = server_of(source.handle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, far)
        await near.send_all(HEAD.encode())

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                while await near.receive_some(1):  # noqa: ASYNC110 - it is no condition
                    await trio.sleep(1)

        nursery.start_soon(drip)
        with trio.fail_after(60):
            await until(lambda: server.connections == 0)
        nursery.cancel_scope.cancel()
    assert source.living == 0


async def test_large_chunks_to_a_dead_reader_delay_nobody_and_end_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over real sockets, whose buffers take some megabytes."""
    monkeypatch.setattr("kline_trio.monitor.http_stream._WRITE_SECONDS", 1.0)
    source = Source(chunks=[bytes(1_000_000)] * 100)
    server = server_of(source.handle)
    async with served(server) as connect:
        dead = await connect()
        await dead.send(HEAD)
        async with (await connect()).stream as other:
            for _ in range(20):
                with trio.fail_after(1):
                    assert (await Client(other).ask()).body == b"other"
            with trio.fail_after(20):
                await until(lambda: source.living == 0 and source.begun == 1)
            assert (await Client(other).ask()).body == b"other"
        await dead.stream.aclose()


async def test_streams_leave_connections_for_other_readers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = Source()
    server = server_of(source.handle)
    async with AsyncExitStack() as stack:
        many = []
        for number in range(MOST_CONNECTIONS):
            client = await stack.enter_async_context(joined(server))
            many.append(client)
            if number < MOST_STREAMS:
                await client.send(HEAD)
                assert (await client.head()).status == 200
                continue
            answer = await client.ask("GET", "/stream")
            assert answer.status == 503
            assert answer.headers["retry-after"] == "10"
            assert (await client.ask("GET", "/metrics")).body == b"other"
        # Streams are not idle: a new connection takes the place of another one.
        newest = await stack.enter_async_context(joined(server))
        assert (await newest.ask("GET", "/metrics")).body == b"other"
        assert source.living == MOST_STREAMS
        await many[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await newest.send(HEAD)
        assert (await newest.head()).status == 200


@pytest.mark.parametrize(("connections", "streams"), [(64, 32), (500, 32), (16, 8), (3, 1), (1, 0)])
def test_the_most_streams_are_half_of_the_connections(connections: int, streams: int) -> None:
    server = HttpServer(Source().handle, lambda: 0.0, connections)
    assert server.most_streams == streams


async def test_a_bug_in_a_stream_ends_its_connection_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(request: Request) -> Response:
        await trio.lowlevel.checkpoint()

        async def fail(send: SendChunk) -> None:
            await send(b"begin")
            raise ValueError("a bug")

        return Response(stream=fail if request.path == "/stream" else None)

    server = server_of(handle)
    async with served(server) as connect:
        async with (await connect()).stream as stream:
            client = Client(stream)
            await client.send(HEAD)
            await client.head()
            assert await client.chunk() == b"begin"
            # There is no last chunk: the reader sees that this is not the end.
            assert await client.rest() == b""
        async with (await connect()).stream as stream:
            assert (await Client(stream).ask("GET", "/")).status == 200
    assert [one.levelno for one in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


async def test_a_server_that_ends_ends_its_streams() -> None:
    source = Source()
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(source.handle).serve, far)
        client = Client(near)
        await client.send(HEAD)
        await client.head()
        await client.chunk()
        assert source.living == 1
        nursery.cancel_scope.cancel()
    assert source.living == 0
    assert await client.rest() == b""


async def test_a_stream_over_tls_flows_and_its_reader_is_noticed_to_go() -> None:
    source = Source(chunks=[b"one"], seconds=3_600)
    server = server_of(source.handle)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            await server.serve(serving(stream))

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        for _ in range(3):
            port = listener.socket.getsockname()[1]
            plain = await trio.open_tcp_stream("127.0.0.1", port)
            stream = trio.SSLStream(
                plain, client_context(), server_hostname=NAME, https_compatible=True
            )
            client = Client(stream)
            await client.send(HEAD)
            await client.head()
            assert [await client.chunk() for _ in range(2)] == [b"one", b": heartbeat\n\n"]
            await plain.aclose()
            with trio.fail_after(5):
                await until(lambda: not (source.living or server.connections))
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux can be asked to")
async def test_a_reader_whose_network_has_gone_is_given_up_by_the_system() -> None:
    """A write to it succeeds, into the system's buffer, for many minutes."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        async with stream:
            end_unheard(serving(stream))
            option = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert option == 20_000
