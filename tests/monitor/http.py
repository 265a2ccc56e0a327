"""A server on memory streams or sockets, and clients that speak or misbehave, for tests."""

import gc
import socket
import struct
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


def head_of(method: str, target: str, *headers: str) -> str:
    """The head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""])


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
        await self.send(head_of(method, target, *headers))
        return await self.read(has_body=method != "HEAD")

    async def post(self, target: str, body: bytes, *headers: str) -> Answer:
        """Send a request with a body, and read its answer."""
        length = f"Content-Length: {len(body)}"
        await self.send(head_of("POST", target, length, *headers).encode() + body)
        return await self.read()

    async def read(self, *, has_body: bool = True) -> Answer:
        """Read an answer by its Content-Length."""
        answer = await self.head()
        if not has_body or answer.status == 304:
            return answer
        return attrs.evolve(answer, body=await self._take(int(answer.headers["content-length"])))

    async def head(self) -> Answer:
        """Read status and headers."""
        first, *fields = (await self._line(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        return Answer(int(first.split(" ")[1]), headers, b"")

    async def chunk(self) -> bytes:
        """Read the next chunk of a streamed body; it is empty at the end."""
        length = int(await self._line(b"\r\n"), 16)
        body = await self._take(length)
        assert await self._take(2) == b"\r\n"
        return body

    async def _line(self, end: bytes) -> bytes:
        while end not in self._held:
            await self._more()
        line, _, self._held = self._held.partition(end)
        return line

    async def _take(self, length: int) -> bytes:
        while len(self._held) < length:
            await self._more()
        taken, self._held = self._held[:length], self._held[length:]
        return taken

    async def _more(self) -> None:
        part = await self.stream.receive_some(65_536)
        assert part, f"the connection ended after {self._held!r}"
        self._held += part

    async def reset(self) -> None:
        """Close the connection as a program does that crashes."""
        assert isinstance(self.stream, trio.SocketStream)
        # To linger for no time means to reset.
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()

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
