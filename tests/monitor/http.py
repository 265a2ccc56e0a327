"""A server on memory streams or sockets, and clients that speak or misbehave, for tests."""

import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import attrs
import trio
import trio.testing

from kline_trio.monitor.http_message import Handler, Request, Response
from kline_trio.monitor.http_server import HttpServer

WALL_SECONDS = 1_790_000_000.0


async def hello(request: Request) -> Response:
    """Answer what was asked."""
    await trio.lowlevel.checkpoint()
    return Response(body=f"{request.method} {request.target}\n".encode())


def server_of(handle: Handler = hello, **more: int) -> HttpServer:
    return HttpServer(handle, lambda: WALL_SECONDS, **more)


@attrs.frozen
class Answer:
    """One response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@attrs.define
class Client:
    """The client's end of a connection."""

    stream: trio.abc.Stream
    _held: bytes = b""

    async def send(self, text: str | bytes) -> None:
        await self.stream.send_all(text if isinstance(text, bytes) else text.encode())

    async def ask(self, method: str = "GET", target: str = "/", *headers: str) -> Answer:
        """Send a request, and read its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
        await self.send("\r\n".join([*lines, "", ""]))
        return await self.read(has_body=method != "HEAD")

    async def read(self, *, has_body: bool = True) -> Answer:
        """Read an answer by its Content-Length."""
        while b"\r\n\r\n" not in self._held:
            part = await self.stream.receive_some(65_536)
            assert part, f"the connection ended after {self._held!r}"
            self._held += part
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        status = int(first.split(" ")[1])
        length = int(headers["content-length"]) if has_body and status != 304 else 0
        while len(self._held) < length:
            part = await self.stream.receive_some(65_536)
            assert part, f"the connection ended after {self._held!r}"
            self._held += part
        body, self._held = self._held[:length], self._held[length:]
        return Answer(status, headers, body)

    async def rest(self) -> bytes:
        """Read to the end; a reset is one."""
        found = self._held
        try:
            while part := await self.stream.receive_some(65_536):
                found += part
        except trio.BrokenResourceError:
            pass
        return found


@asynccontextmanager
async def joined(server: HttpServer) -> AsyncIterator[Client]:
    """A client that is connected over memory."""
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, far)
        yield Client(near)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served(server: HttpServer) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """A server on a real socket; yields what connects to it."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]

        async def connect() -> Client:
            return Client(await trio.open_tcp_stream("127.0.0.1", port))

        yield connect
        nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class StepTimer(trio.abc.Instrument):
    """Measures the longest step of the server's tasks, in CPU time: other programs do not count."""

    longest_seconds: float = 0.0
    _began: float = attrs.field(factory=time.thread_time)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if "serve" in task.name:
            self.longest_seconds = max(self.longest_seconds, time.thread_time() - self._began)


@contextmanager
def steps_timed() -> Iterator[StepTimer]:
    """Measure while the body runs; the garbage of all other tests is not collected meanwhile."""
    timer = StepTimer()
    gc.disable()
    trio.lowlevel.add_instrument(timer)
    try:
        yield timer
    finally:
        trio.lowlevel.remove_instrument(timer)
        gc.enable()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Look at a condition until it holds, in real or virtual time."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the program under test sets no event
            await trio.sleep(0.01)
