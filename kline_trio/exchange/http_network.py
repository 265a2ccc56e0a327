"""Open the sockets of HTTP requests the way that WebSockets open theirs, and close every one.

httpcore2's own Trio backend catches `Exception` where it should catch cancellation too: a request
that is cancelled during the TLS handshake leaves its socket to the garbage collector, and so does
each failure of its SOCKS client. Here whoever makes a socket closes it, whatever ends the making.
"""

import math
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import attrs
import httpcore2
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxies import Proxy
from kline_trio.exchange.tls import open_tls
from kline_trio.exchange.tunnel import open_tunnel

__all__ = ["Network"]


@contextmanager
def _errors_as(error: type[Exception], timeout_error: type[Exception]) -> Iterator[None]:
    """Raise what Trio raises as the errors that httpcore2 expects of a backend."""
    try:
        yield
    except trio.TooSlowError as slow:
        raise timeout_error(str(slow)) from slow
    except (OSError, ConfigError, trio.BrokenResourceError, trio.ClosedResourceError) as broken:
        raise error(str(broken) or repr(broken.__cause__ or broken)) from broken


def _seconds(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout


@attrs.frozen(eq=False)
class Network(httpcore2.AsyncNetworkBackend):
    """Connects httpcore2's pools: directly, or through a proxy that resolves the names."""

    proxy: Proxy | None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect. If cancelled, nothing is left open.

        Raises:
          httpcore2.ConnectError: nobody answered, or the proxy refused.
          httpcore2.ConnectTimeout: nobody answered in time.
        """
        assert local_address is None, "no transport of ours sets one"
        assert not socket_options, "no transport of ours sets any"
        with _errors_as(httpcore2.ConnectError, httpcore2.ConnectTimeout):
            with trio.fail_after(_seconds(timeout)):
                if self.proxy is None:
                    stream = await trio.open_tcp_stream(host, port)
                else:
                    stream = await open_tunnel(self.proxy, host, port)
        return _Stream(stream, stream.socket)

    async def sleep(self, seconds: float) -> None:
        """Wait, between attempts."""
        await trio.sleep(seconds)


@attrs.frozen(eq=False)
class _Stream(httpcore2.AsyncNetworkStream):
    stream: trio.abc.Stream
    socket: trio.socket.SocketType

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bytes:
        with _errors_as(httpcore2.ReadError, httpcore2.ReadTimeout):
            with trio.fail_after(_seconds(timeout)):
                return bytes(await self.stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        with _errors_as(httpcore2.WriteError, httpcore2.WriteTimeout):
            with trio.fail_after(_seconds(timeout)):
                await self.stream.send_all(buffer)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Do the handshake. If it fails or is cancelled, close the socket: nobody else would."""
        assert server_hostname is not None, "certificates are checked for a name"
        ready = False
        try:
            with _errors_as(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                with trio.fail_after(_seconds(timeout)):
                    secured = await open_tls(self.stream, ssl_context, server_hostname)
            ready = True
        finally:
            if not ready:
                self.socket.close()
        return _Stream(secured, self.socket)

    def get_extra_info(self, info: str) -> object:
        """Tell whether an idle connection has something to read: its end, most likely."""
        return self.socket.is_readable() if info == "is_readable" else None
