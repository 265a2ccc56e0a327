"""The HTTP server against readers that are slow, dead, broken or hostile."""

import logging
import socket
import struct
from contextlib import AsyncExitStack, suppress

import h11
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from kline_trio.monitor import http_server
from kline_trio.monitor.http_message import Request, Response
from kline_trio.monitor.http_server import MOST_CONNECTIONS
from tests.exchange.test_tls import serving
from tests.monitor.http import Client, hello, joined, served, server_of, steps_timed, until

HEAD = "GET / HTTP/1.1\r\nHost: localhost\r\n"
MOST_STEP_SECONDS = 0.02
"""Of CPU time; far above what was measured, and far below what a recorder could feel."""


async def test_a_get_is_answered_with_its_length_and_is_not_kept_by_caches() -> None:
    async with joined(server_of()) as client:
        answer = await client.ask("GET", "/metrics?a=1")
    assert (answer.status, answer.body) == (200, b"GET /metrics?a=1\n")
    assert answer.headers["content-length"] == "17"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["date"] == "Mon, 21 Sep 2026 14:13:20 GMT"


async def test_a_head_has_the_headers_of_a_get_and_no_body() -> None:
    async with joined(server_of()) as client:
        answer = await client.ask("HEAD", "/x")
        assert answer.headers["content-length"] == str(len(b"HEAD /x\n"))
        # What follows is the next answer, and not a body.
        assert (await client.ask("GET", "/y")).body == b"GET /y\n"


async def test_a_connection_is_kept_until_the_client_closes_it() -> None:
    async with joined(server_of()) as client:
        for number in range(100):
            assert (await client.ask("GET", f"/{number}")).body == f"GET /{number}\n".encode()
        answer = await client.ask("GET", "/last", "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_client_of_http_1_0_is_answered_once() -> None:
    async with joined(server_of()) as client:
        await client.send("GET /old HTTP/1.0\r\n\r\n")
        assert (await client.read()).body == b"GET /old\n"
        assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with joined(server_of()) as client:
        many = [f"GET /{n} HTTP/1.1\r\nHost: localhost\r\n\r\n" for n in range(200)]
        await client.send("".join(many))
        for number in range(200):
            assert (await client.read()).body == f"GET /{number}\n".encode()


async def test_a_client_that_closes_its_sending_half_gets_its_answer() -> None:
    async with served(server_of()) as connect:
        client = await connect()
        async with client.stream:
            assert isinstance(client.stream, trio.SocketStream)
            await client.send(HEAD + "\r\n")
            await client.stream.send_eof()
            assert (await client.read()).status == 200
            assert await client.rest() == b""


@pytest.mark.parametrize(
    "body",
    ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_body_is_not_read_and_ends_the_connection(method: str, body: str) -> None:
    async def refuse_posts(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(status=405 if request.method == "POST" else 200)

    async with joined(server_of(refuse_posts)) as client:
        await client.send(f"{method} / HTTP/1.1\r\nHost: localhost\r\n{body}")
        answer = await client.read()
        # The handler's refusal says more than that of a body.
        assert answer.status == (405 if method == "POST" else 413)
        assert await client.rest() == b""


@pytest.mark.parametrize("method", ["OPTIONS", "CONNECT", "TRACE", "DELETE", "X-YZ"])
async def test_other_methods_are_the_handlers_business(method: str) -> None:
    async def refuse(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(status=405, body=request.method.encode())

    async with joined(server_of(refuse)) as client:
        for _ in range(2):
            answer = await client.ask(method, "localhost:1" if method == "CONNECT" else "/")
            assert (answer.status, answer.body) == (405, method.encode())


async def test_a_switch_of_protocols_is_not_made() -> None:
    async with joined(server_of()) as client:
        answer = await client.ask("GET", "/", "Connection: Upgrade", "Upgrade: websocket")
        assert answer.status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (HEAD + "A: b\r\n" * 4_000, 431),
    ],
)
async def test_what_is_no_request_is_answered_and_ends_the_connection(
    sent: str, status: int
) -> None:
    async with joined(server_of()) as client:
        await client.send(sent)
        answer = await client.read()
        assert answer.status == status
        assert await client.rest() == b""


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"GET / HTTP/1.1\r\n", b"\x00"])
@example([b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", b"1"])
def test_whatever_is_sent_the_server_returns(parts: list[bytes]) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server_of().serve, far)
            for part in parts:
                try:
                    await near.send_all(part)
                except trio.BrokenResourceError:
                    break
            with trio.fail_after(60):
                await Client(near).rest()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_megabyte_of_headers_is_neither_read_nor_kept() -> None:
    read = 0
    async with served(server_of()) as connect:
        client = await connect()
        async with client.stream:
            try:
                await client.send(HEAD)
                for _ in range(64):
                    await client.send("A: " + "b" * 16_000 + "\r\n")
                    read += 16_000
            except trio.BrokenResourceError:
                pass
            assert b"200 OK" not in await client.rest()
        async with (await connect()).stream as other:
            assert (await Client(other).ask()).status == 200


async def test_a_header_byte_each_second_is_cut_off_after_ten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with joined(server_of()) as client:
        began = trio.current_time()

        async def drip() -> None:
            while True:
                await client.send("A")
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await client.rest() == b""
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(10)


async def test_a_handshake_of_tls_has_the_deadline_of_a_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = server_of()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, serving(far))
        # The head of a ClientHello of 512 bytes.
        await near.send_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert trio.current_time() == pytest.approx(10)
    assert server.connections == 0


async def test_a_body_that_does_not_come_is_waited_for_as_long_as_a_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with joined(server_of()) as client:
        await client.send(HEAD + "Content-Length: 9\r\n\r\n")
        began = trio.current_time()
        assert await client.rest() == b""
        assert trio.current_time() - began == pytest.approx(10)


async def test_a_connection_without_another_request_is_closed_after_half_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with joined(server_of()) as client:
        await client.ask()
        began = trio.current_time()
        await trio.sleep(29)
        await client.ask()
        assert await client.rest() == b""
        assert trio.current_time() - began == pytest.approx(29 + 30)


async def test_a_reader_that_never_reads_is_given_up_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    server = server_of()
    began = trio.current_time()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, far)
            await near.send_all((HEAD + "\r\n").encode())
    assert trio.current_time() - began == pytest.approx(10)
    assert server.connections == 0


async def test_a_reader_that_never_reads_a_large_answer_delays_nobody() -> None:
    """Over real sockets: their buffers fill, and the others are answered at once."""

    async def large(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(body=bytes(20_000_000 if request.path == "/large" else 2_000_000))

    server = server_of(large)
    async with served(server) as connect:
        async with (await connect()).stream as dead:
            await Client(dead).send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with (await connect()).stream as other:
                with trio.fail_after(9):
                    for _ in range(3):
                        assert len((await Client(other).ask()).body) == 2_000_000
                assert server.connections == 2


@pytest.mark.parametrize("after", ["", "GET", HEAD, HEAD + "\r\n"])
async def test_a_client_that_resets_its_connection_is_only_gone(
    after: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_of()
    async with served(server) as connect:
        for _ in range(20):
            client = await connect()
            await client.send(after)
            assert isinstance(client.stream, trio.SocketStream)
            # To linger for no time means to reset.
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.stream.aclose()
        async with (await connect()).stream as other:
            assert (await Client(other).ask()).status == 200
        await until(lambda: not server.connections)
    assert not caplog.records


async def test_one_connection_more_than_the_most_is_closed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = server_of()
    async with AsyncExitStack() as stack:
        kept = [await stack.enter_async_context(joined(server)) for _ in range(MOST_CONNECTIONS)]
        for client in kept:
            assert (await client.ask()).status == 200
        for _ in range(3):
            async with joined(server) as excess:
                began = trio.current_time()
                assert await excess.rest() == b""
                assert trio.current_time() == began
        assert (await kept[0].ask()).status == 200
        await kept[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with joined(server) as next_one:
            assert (await next_one.ask()).status == 200


async def test_a_thousand_idle_sockets_hold_sixty_four_places_until_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "_HEAD_SECONDS", 2.0)
    server = server_of()
    async with served(server) as connect, AsyncExitStack() as stack:
        timer = stack.enter_context(steps_timed())
        idle = [await connect() for _ in range(1_000)]
        for one in idle:
            await stack.enter_async_context(one.stream)
        ended = 0

        async def see_end(one: Client) -> None:
            nonlocal ended
            assert await one.rest() == b""
            ended += 1

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for one in idle:
                    nursery.start_soon(see_end, one)
                await until(lambda: ended >= 1_000 - MOST_CONNECTIONS)
        assert ended == 1_000
        async with (await connect()).stream as other:
            assert (await Client(other).ask()).status == 200
    assert timer.longest_seconds < MOST_STEP_SECONDS


async def test_hostile_clients_hold_no_task_up() -> None:
    """Each step of each task, in CPU time: pipelined requests, garbage, and long heads."""
    sent = [(HEAD + "\r\n") * 2_000, "\xff" * 100_000, HEAD + "A: b\r\n" * 100_000, "\r\n" * 50_000]
    with steps_timed() as timer:
        async with served(server_of()) as connect:

            async def attack(what: str) -> None:
                client = await connect()
                async with client.stream:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(client.rest)
                        with trio.move_on_after(20):
                            with suppress(trio.BrokenResourceError):
                                assert isinstance(client.stream, trio.SocketStream)
                                await client.send(what)
                                await client.stream.send_eof()

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for what in sent:
                        nursery.start_soon(attack, what)
    assert timer.longest_seconds < MOST_STEP_SECONDS


async def test_a_handler_that_fails_is_a_500_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        if request.path == "/good":
            return await hello(request)
        raise (
            h11.RemoteProtocolError("not the client's fault")
            if request.path == "/h11"
            else (ValueError("a bug"))
        )

    async with joined(server_of(fail)) as client:
        for target in ("/bad\x7e", "/h11"):
            answer = await client.ask("GET", target)
            assert answer.status == 500
            assert b"bug" not in answer.body
        assert (await client.ask("GET", "/good")).status == 200
    assert [one.getMessage() for one in caplog.records] == [
        "GET '/bad~' could not be answered",
        "GET '/h11' could not be answered",
    ]


async def test_a_response_that_cannot_be_sent_ends_only_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def split(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(headers=(("x-evil", "a\r\nb: c"),))

    server = server_of(split)
    async with served(server) as connect:
        for _ in range(2):
            async with (await connect()).stream as stream:
                await Client(stream).send(HEAD + "\r\n")
                assert await Client(stream).rest() == b""
    assert server.connections == 0
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2


async def test_a_cancelled_server_closes_its_connections() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of().serve, far)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await Client(near).rest() == b""
