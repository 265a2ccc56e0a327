"""Cancelled at any step, a dial or a request leaves no socket to the garbage collector.

Real sockets on loopback: the client is cancelled after its n-th step, for each n until it ends.
The servers run in a thread of their own, so that only the client's steps and sockets count. The
collector closes a forgotten socket at some later time, with a ResourceWarning in whatever runs
then.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.http import http_client
from tests.exchange.test_tls import AUTHORITY, NAME, serving
from tests.proxies import FakeProxy, listening

MOST_STEPS = 400
"""A client that is not done by then never is."""

WAYS = ["direct", "http", "socks5"]


class Noting(trio.abc.SocketFactory):
    """Makes sockets and keeps them, so that a forgotten one stays open."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []

    def socket(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        raw = socket.socket(*arguments, **options)
        self.made.append(raw)
        return trio.socket.from_stdlib_socket(raw)

    def close(self) -> int:
        """Close all that are open. Return how many were."""
        still_open = [raw for raw in self.made if raw.fileno() >= 0]
        for raw in still_open:
            raw.close()
        self.made.clear()
        return len(still_open)


class CancelAt(trio.abc.Instrument):
    """Cancels a scope after the n-th step from now, of whatever task."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope, self.step, self.steps = scope, step, 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count, and cancel once."""
        self.steps += 1
        if self.steps == self.step:
            self.scope.cancel()


async def sockets_left(client: Callable[[], Awaitable[None]], at_step: int) -> tuple[int, bool]:
    """Run the client, cancel it at a step, and count sockets. Tell whether it ended before."""
    factory = Noting()
    before = trio.socket.set_custom_socket_factory(factory)
    with trio.fail_after(30), trio.CancelScope() as scope:
        instrument = CancelAt(scope, at_step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await client()
        finally:
            trio.lowlevel.remove_instrument(instrument)
            trio.socket.set_custom_socket_factory(before)
    return factory.close(), not scope.cancelled_caught


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


async def answer(transport: trio.SocketStream) -> None:
    """A server that gives each request the same answer."""
    server = serving(transport)
    received = b""
    async for data in server:
        received += data
        while b"\r\n\r\n" in received:
            received = received.partition(b"\r\n\r\n")[2]
            await server.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid")


@asynccontextmanager
async def way(kind: str) -> AsyncIterator[tuple[str, int]]:
    """The setting of the proxy, and the port by which the server is reached."""
    async with listening(answer) as port:
        if kind == "direct":
            yield kind, port
            return
        proxy = FakeProxy({f"{NAME}:443": port})
        async with listening(proxy.http if kind == "http" else proxy.socks5) as proxy_port:
            yield f"{kind}://127.0.0.1:{proxy_port}", 443


@contextmanager
def way_in_thread(kind: str) -> Iterator[tuple[str, int]]:
    """Open a `way` in another thread while the body runs."""
    opened: Future[tuple[str, int]] = Future()
    over = trio.Event()

    async def keep_open() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with way(kind) as found:
            opened.set_result(found)
            await over.wait()

    token: list[trio.lowlevel.TrioToken] = []
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(trio.run, keep_open)
        try:
            yield opened.result(timeout=30)
        finally:
            token[0].run_sync_soon(over.set)
            ended.result(timeout=30)


def host(kind: str) -> str:
    """What is reached directly is this machine; proxies resolve names."""
    return "127.0.0.1" if kind == "direct" else NAME


async def cancel_at_each_step(client: Callable[[], Awaitable[None]]) -> list[int]:
    """The steps at which a cancelled client left sockets."""
    faulty = []
    for step in range(1, MOST_STEPS):
        left, finished = await sockets_left(client, step)
        if left:
            faulty.append(step)
        if finished:
            assert step > 5, "it should have been cancelled before it finished"
            return faulty
    pytest.fail(f"not finished within {MOST_STEPS} steps")


@pytest.mark.parametrize("kind", WAYS)
async def test_a_dial_that_is_cancelled(kind: str, ca_file: Path) -> None:
    with way_in_thread(kind) as (proxy, port):
        dialer = Dialer(ca_file=ca_file, proxy=proxy)

        async def dial() -> None:
            await trio.aclose_forcefully(await dialer.dial(f"wss://{host(kind)}:{port}"))

        assert await cancel_at_each_step(dial) == []


@pytest.mark.parametrize("kind", WAYS)
async def test_a_request_that_is_cancelled(kind: str, ca_file: Path) -> None:
    """With the client that carried the request, all its sockets are closed."""
    with way_in_thread(kind) as (proxy, port):

        async def ask() -> None:
            async with http_client(ca_file, proxy, None, 10) as client:
                async with client.stream("GET", f"https://{host(kind)}:{port}/") as response:
                    assert await response.aread() == b"said"

        assert await cancel_at_each_step(ask) == []
