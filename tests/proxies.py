"""Proxies on loopback that lead names to ports of this machine: HTTP CONNECT, and SOCKS version 5.

Written from RFC 9110 (section 9.3.6), RFC 1928 and RFC 1929, without the libraries under test.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import attrs
import trio
import trio.testing

Handler = Callable[[trio.SocketStream], Awaitable[None]]

_MOST_BYTES = 65_536


@attrs.define
class FakeProxy:
    """What a proxy knows, and what it has seen."""

    routes: dict[str, int]
    """Which port of this machine a `host:port` means; all else is refused."""
    user: str | None = None
    """`name:password`, if it wants to know."""
    slices: bool = False
    """Whether it sends its answers byte by byte."""
    asked: list[str] = attrs.field(factory=list)
    """The targets, in order."""
    users: list[str] = attrs.field(factory=list)

    async def http(self, client: trio.SocketStream) -> None:
        """Serve one client that speaks HTTP."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive_some(_MOST_BYTES)
        first, *fields = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        assert method == "CONNECT"
        self.asked.append(target)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        if self.user is not None:
            _basic, _, credentials = headers.get("proxy-authorization", "").partition(" ")
            self.users.append(base64.b64decode(credentials).decode())
            if self.users[-1] != self.user:
                await self._say(client, b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
                return
        if target not in self.routes:
            await self._say(client, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        await self._say(client, b"HTTP/1.1 200 Connection established\r\nVia: nobody\r\n\r\n")
        await self._forward(client, target)

    async def socks5(self, client: trio.SocketStream) -> None:
        """Serve one client that speaks SOCKS5."""
        version, count = await _exactly(client, 2)
        methods = await _exactly(client, count)
        assert version == 5
        if self.user is not None:
            if 2 not in methods:
                await self._say(client, b"\x05\xff")
                return
            await self._say(client, b"\x05\x02")
            _one, length = await _exactly(client, 2)
            name = await _exactly(client, length)
            [length] = await _exactly(client, 1)
            password = await _exactly(client, length)
            self.users.append(f"{name.decode()}:{password.decode()}")
            if self.users[-1] != self.user:
                await self._say(client, b"\x01\x01")
                return
            await self._say(client, b"\x01\x00")
        else:
            await self._say(client, b"\x05\x00")
        _version, command, _reserved, kind = await _exactly(client, 4)
        assert command == 1
        assert kind == 3, "a name, for the proxy to resolve"
        [length] = await _exactly(client, 1)
        host = (await _exactly(client, length)).decode()
        port = int.from_bytes(await _exactly(client, 2), "big")
        target = f"{host}:{port}"
        self.asked.append(target)
        bound = b"\x01" + bytes(6)
        if target not in self.routes:
            await self._say(client, b"\x05\x04\x00" + bound)
            return
        await self._say(client, b"\x05\x00\x00" + bound)
        await self._forward(client, target)

    async def _say(self, client: trio.SocketStream, data: bytes) -> None:
        if not self.slices:
            await client.send_all(data)
            return
        client.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        for byte in data:
            await client.send_all(bytes([byte]))
            await trio.sleep(0.001)

    async def _forward(self, client: trio.SocketStream, target: str) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self.routes[target])
        async with server, trio.open_nursery() as both:
            both.start_soon(_pump, client, server, both.cancel_scope)
            both.start_soon(_pump, server, client, both.cancel_scope)


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """The port on which the handler serves while the body runs."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            # The client may have had enough.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await handler(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_serve, serve)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _serve(
    handler: Handler, *, task_status: trio.TaskStatus[list[trio.SocketListener]]
) -> None:
    await trio.serve_tcp(handler, 0, host="127.0.0.1", task_status=task_status)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        if not piece:
            raise trio.BrokenResourceError
        data += piece
    return data


async def _pump(
    source: trio.SocketStream, sink: trio.SocketStream, whole: trio.CancelScope
) -> None:
    # Either end may go at any time.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    whole.cancel()
