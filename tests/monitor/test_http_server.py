"""The HTTP server against readers that are slow, dead, broken or hostile."""

import gzip
import logging
from contextlib import AsyncExitStack, suppress
from typing import Any

import attrs
import h11
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from kline_trio.monitor import http_server
from kline_trio.monitor.http_message import Request, Response
from kline_trio.monitor.http_server import MOST_BODY_BYTES, MOST_CONNECTIONS, HttpServer
from tests.exchange.test_tls import serving
from tests.monitor.http import Client, head_of, hello, joined, served, server_of, steps_timed, until

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
@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_a_body_of_a_reader_is_not_read_and_ends_the_connection(
    method: str, body: str
) -> None:
    async def refuse_puts(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        assert request.has_unread_body
        return Response(status=405 if request.method == "PUT" else 200)

    async with joined(server_of(refuse_puts)) as client:
        await client.send(f"{method} / HTTP/1.1\r\nHost: localhost\r\n{body}")
        answer = await client.read()
        # The handler's refusal says more than that of a body.
        assert answer.status == (405 if method == "PUT" else 413)
        assert await client.rest() == b""


async def echo(request: Request) -> Response:
    """Answer with what was posted."""
    await trio.lowlevel.checkpoint()
    return Response(body=request.body)


async def test_a_small_body_of_a_post_is_read_however_it_comes() -> None:
    async with joined(server_of(echo)) as client:
        assert (await client.post("/", b"token=x")).body == b"token=x"
        assert (await client.post("/", b"y" * MOST_BODY_BYTES)).body == b"y" * MOST_BODY_BYTES
        assert (await client.post("/", b"")).body == b""
        await client.send(head_of("POST", "/", "Transfer-Encoding: chunked"))
        for part in (b"2\r\nab\r\n", b"3\r\n", b"cde\r\n0\r\n", b"\r\n"):
            await client.send(part)
        assert (await client.read()).body == b"abcde"
        assert (await client.ask()).body == b""


@pytest.mark.parametrize("declared", ["Content-Length: 4097", "Transfer-Encoding: chunked"])
async def test_a_longer_body_of_a_post_is_refused_before_it_has_come(declared: str) -> None:
    async with joined(server_of(echo)) as client:
        await client.send(head_of("POST", "/", declared))
        if "chunked" in declared:
            await client.send("1001\r\n")
        await client.send(b"x" * (MOST_BODY_BYTES + 1))
        assert (await client.read()).status == 413
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("target", "query"),
    [
        ("/", {}),
        ("/?", {}),
        ("/?a=1&b=&a=2&c", {"a": ["1", "2"], "b": [""], "c": [""]}),
        ("/?series=spot%2F%E5%B8%81USDT%2F1m", {"series": ["spot/\u5e01USDT/1m"]}),
        ("/?q=btc+usdt&x=%3Cscript%3E", {"q": ["btc usdt"], "x": ["<script>"]}),
        ("/?a=1?b=2", {"a": ["1?b=2"]}),
        ("/?a=1;b=2", {"a": ["1;b=2"]}),
    ],
)
async def test_a_query_is_decoded(target: str, query: dict[str, list[str]]) -> None:
    found = []

    async def look(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        found.append(request.query)
        return Response()

    async with joined(server_of(look)) as client:
        assert (await client.ask("GET", target)).status == 200
    assert found == [query]


@pytest.mark.parametrize(
    "query", ["a=%", "a=%2", "a=%zz", "%gg=1", "a=%ff", "a=%c3%28", "a=%ed%a0%80", "&a" * 2_001]
)
async def test_a_query_that_cannot_be_decoded_is_no_request(query: str) -> None:
    async with joined(server_of()) as client:
        assert (await client.ask("GET", f"/?{query}")).status == 400
        assert await client.rest() == b""


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40))
def test_any_query_is_decoded_or_refused(query: str) -> None:
    try:
        found = Request(method="GET", target=f"/?{query}", headers={}).query
    except ValueError:
        assert "%" in query
    else:
        assert all(found.values())


# Answers that readers have already, and compressed ones


TEXT = b'{"series":[' + b"1," * 2_000 + b"1]}"


def serving_text(**more: object) -> HttpServer:
    async def answer(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        given: dict[str, Any] = {"body": TEXT, "content_type": "application/json", **more}
        return Response(**given)

    return server_of(answer)


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True), ("br, gzip", True), ("GZIP", True), ("gzip;q=0.1", True),
        ("gzip; q=1.0", True), ("deflate, gzip ;q=0.001", True),
        ("", False), ("br", False), ("gzip;q=0", False), ("gzip; q=0.000", False),
        ("identity", False), ("xgzip", False), ("gzip2", False),
    ],
)  # fmt: skip
async def test_who_takes_gzip_gets_it(accepted: str, *, is_packed: bool) -> None:
    async with joined(serving_text()) as client:
        answer = await client.ask("GET", "/", f"Accept-Encoding: {accepted}")
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers.get("content-encoding") == ("gzip" if is_packed else None)
        assert (gzip.decompress(answer.body) if is_packed else answer.body) == TEXT
        head = await client.ask("HEAD", "/", f"Accept-Encoding: {accepted}")
        assert head.headers == answer.headers


@pytest.mark.parametrize(
    "more",
    [
        {"body": b"x" * 1_024},
        {"content_type": "image/png"},
        {"headers": (("content-encoding", "br"),)},
    ],
)
async def test_what_gzip_does_not_make_shorter_is_sent_as_it_is(more: dict[str, object]) -> None:
    async with joined(serving_text(**more)) as client:
        answer = await client.ask("GET", "/", "Accept-Encoding: gzip")
        assert answer.headers.get("content-encoding") != "gzip"
        assert answer.body == more.get("body", TEXT)


async def test_large_bodies_are_compressed_one_at_a_time_beside_the_loop() -> None:
    body = bytes(range(256)) * 20_000
    with steps_timed() as timer:
        async with served(serving_text(body=body)) as connect:

            async def read() -> None:
                async with (await connect()).stream as stream:
                    answer = await Client(stream).ask("GET", "/", "Accept-Encoding: gzip")
                    assert len(answer.body) < len(body) / 50

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(read)
    assert timer.longest_seconds < MOST_STEP_SECONDS


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ('W/"v1"', 304), ('"v1"', 304), ('"v0", W/"v1"', 304), ("*", 304), (' W/"v1" ', 304),
        ('W/"v2"', 200), ("v1", 200), ("", 200), ('"v1', 200), ('"v1x"', 200),
    ],
)  # fmt: skip
async def test_who_shows_the_etag_gets_only_that_nothing_has_changed(
    shown: str, status: int
) -> None:
    async with joined(serving_text(etag="v1")) as client:
        for method in ("GET", "HEAD"):
            answer = await client.ask(method, "/", f"If-None-Match: {shown}")
            assert answer.status == status
            assert answer.headers["etag"] == 'W/"v1"'
            assert answer.headers["cache-control"] == "no-cache"
            assert ("content-length" in answer.headers) is (status == 200)
        assert (await client.post("/", b"", f"If-None-Match: {shown}")).status == 200


async def test_a_failure_is_never_unchanged() -> None:
    async with joined(serving_text(etag="v1", status=503)) as client:
        assert (await client.ask("GET", "/", 'If-None-Match: "v1"')).status == 503


@pytest.mark.parametrize("etag", ['"quoted"', "", "a b", "a\r\nb: c", "\u00e9"])
def test_an_etag_that_no_header_can_hold_is_a_bug(etag: str) -> None:
    with pytest.raises(ValueError, match="etag"):
        Response(etag=etag)


async def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    async def answer(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        if request.path == "/bug":
            raise ValueError("a bug")
        return Response(status=404 if request.path == "/missing" else 200)

    async with served(server_of(answer)) as connect:
        for target in ("/", "/missing", "/bug", "/?a=%"):
            async with (await connect()).stream as stream:
                headers = (await Client(stream).ask("GET", target)).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["referrer-policy"] == "no-referrer"
                assert headers["cross-origin-opener-policy"] == "same-origin"
                assert headers["cross-origin-resource-policy"] == "same-origin"
                assert headers["content-security-policy"].startswith("default-src 'none'; ")
                assert headers["cache-control"] == "no-store"


async def test_an_answers_own_header_replaces_the_one_that_all_have() -> None:
    own = (("cache-control", "no-cache"), ("x-more", "1"))
    async with joined(serving_text(headers=own)) as client:
        await client.send(HEAD + "\r\n")
        head = (await client.stream.receive_some(65_536)).partition(b"\r\n\r\n")[0].decode()
    assert head.count("cache-control") == 1
    assert "cache-control: no-cache\r\nx-more: 1" in head


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
            await client.reset()
        async with (await connect()).stream as other:
            assert (await Client(other).ask()).status == 200
        await until(lambda: not server.connections)
    assert not caplog.records


async def test_one_connection_more_than_the_most_is_closed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    go_on = trio.Event()

    async def wait(request: Request) -> Response:
        await go_on.wait()
        return await hello(request)

    server = server_of(wait)
    async with AsyncExitStack() as stack:
        kept = []
        for _ in range(MOST_CONNECTIONS):
            kept.append(await stack.enter_async_context(joined(server)))
            await kept[-1].send(HEAD + "\r\n")
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            async with joined(server) as excess:
                began = trio.current_time()
                assert await excess.rest() == b""
                assert trio.current_time() == began
        assert server.connections == MOST_CONNECTIONS
        go_on.set()
        for client in kept:
            assert (await client.read()).status == 200
        await kept[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections == MOST_CONNECTIONS - 1
        async with joined(server) as next_one:
            assert (await next_one.ask()).status == 200


async def test_sockets_that_ask_nothing_make_room_and_leave_kept_connections_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = server_of()
    async with AsyncExitStack() as stack:
        prometheus = await stack.enter_async_context(joined(server))
        assert (await prometheus.ask()).status == 200
        opened = []
        for _ in range(200):
            opened.append(await stack.enter_async_context(joined(server)))
            # Some begin a request, and never end it.
            await opened[-1].send(HEAD if len(opened) % 2 else "")
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections < MOST_CONNECTIONS
        began = trio.current_time()
        assert (await prometheus.ask()).status == 200
        newest = await stack.enter_async_context(joined(server))
        assert (await newest.ask()).status == 200
        for client in opened[: 200 - MOST_CONNECTIONS]:
            assert await client.rest() == b""
        assert trio.current_time() == began


async def test_the_only_connection_can_be_used_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = server_of(most_connections=1)
    async with joined(server) as one:
        await trio.testing.wait_all_tasks_blocked()
        async with joined(server) as other:
            assert (await other.ask()).status == 200
            assert await one.rest() == b""
            async with joined(server) as third:
                assert (await third.ask()).status == 200
                assert await other.rest() == b""


async def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_longest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Browsers keep six connections each; they must not lock Prometheus out."""
    server = server_of()
    async with AsyncExitStack() as stack:
        kept = []
        for _ in range(MOST_CONNECTIONS):
            kept.append(await stack.enter_async_context(joined(server)))
            await kept[-1].ask()
        await kept[0].ask()
        await kept[1].send("GET / HTTP/1.1\r\n")
        await trio.testing.wait_all_tasks_blocked()
        more = [await stack.enter_async_context(joined(server)) for _ in range(5)]
        for client in more:
            assert (await client.ask()).status == 200
        assert server.connections == MOST_CONNECTIONS
        began = trio.current_time()
        for client in kept[2:7]:
            assert await client.rest() == b""
        assert trio.current_time() == began
        await kept[1].send("Host: localhost\r\n\r\n")
        assert (await kept[1].read()).status == 200
        for client in (kept[0], kept[7]):
            assert (await client.ask()).status == 200


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


@attrs.frozen
class PickyStream(trio.abc.HalfCloseableStream):
    """A stream that looks at what it is given to send."""

    request: bytes
    sent: list[bytes | bytearray | memoryview] = attrs.field(factory=list)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"" if self.sent else self.request

    async def wait_send_all_might_not_block(self) -> None: ...
    async def send_eof(self) -> None: ...
    async def aclose(self) -> None: ...


async def test_a_long_answer_is_not_copied_for_each_reader() -> None:
    """Sixty slow readers of a large calendar would hold hundreds of megabytes."""
    body = bytes(1_000_000)

    async def large(_: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(body=body, content_type="application/octet-stream")

    stream = PickyStream(head_of("GET", "/").encode())
    await server_of(large).serve(stream)
    assert b"".join(stream.sent).endswith(b"\r\n\r\n" + body)
    assert max(map(len, stream.sent)) < 100_000
    assert sum(isinstance(one, memoryview) and one.obj is body for one in stream.sent) > 9


async def test_halves_of_later_requests_do_not_keep_others_out() -> None:
    """Whoever was answered once, be it by 401, could fill all places for half a minute."""
    async with served(server_of(most_connections=8)) as connect, AsyncExitStack() as closing:

        async def opened() -> Client:
            client = await connect()
            await closing.enter_async_context(client.stream)
            return client

        for _ in range(8):
            half = await opened()
            await half.ask()
            await half.send("GET / HTT")
        await trio.sleep(0.2)
        with trio.fail_after(5):
            assert (await (await opened()).ask()).status == 200
