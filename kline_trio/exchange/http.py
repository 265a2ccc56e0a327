"""The HTTP client of REST and archive; it opens its sockets in the same way as the WebSockets.

httpcore2's own Trio backend catches `Exception` where it should catch cancellation too: a request
that is cancelled during the TLS handshake leaves its socket to the garbage collector, and so does
each failure of its SOCKS client. Here the function that opens a socket closes it if it does not
return the socket.
"""

import logging
import math
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpcore2
import httpx2
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxy import open_tunnel, proxy_for
from kline_trio.exchange.tls import open_tls, tls_context
from kline_trio.quoting import shown


def http_client(
    ca_file: Path | None,
    proxy: str | None,
    transport: httpx2.AsyncBaseTransport | None,
    timeout_seconds: float,
    environment: Mapping[str, str] = os.environ,
) -> httpx2.AsyncClient:
    """Return a client with the trusted certificates and the proxies of a `Dialer`.

    It reads certificates, once: that takes some 20 ms.

    Args:
      ca_file: certificates, in PEM, to trust besides the system's.
      proxy: the URL of a proxy, or "direct" for none; None: take it from the environment.
      transport: carries all requests, whatever the other arguments are; None is httpx2's own.
      timeout_seconds: for each step of a request.
      environment: holds `HTTPS_PROXY` and its like.

    Raises:
      ConfigError: the CA file cannot be used.
    """
    if transport is None:
        transport = http_transport(ca_file, proxy, environment)
    return httpx2.AsyncClient(transport=transport, timeout=timeout_seconds, trust_env=False)


def http_transport(
    ca_file: Path | None, proxy: str | None, environment: Mapping[str, str] = os.environ
) -> httpx2.AsyncBaseTransport:
    """Return what carries the requests of a client. The arguments are as for `http_client`.

    Raises:
      ConfigError: the CA file cannot be used.
    """
    # At INFO they log a line for each request. A level that the program has set stays.
    for name in ("httpx2", "httpcore2", "trio-websocket"):
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)
    return _SocketTransport(tls_context(ca_file), _Network(proxy, environment))


class _SocketTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over our own sockets: directly, or through the proxy for a host."""

    def __init__(self, context: ssl.SSLContext, network: "_Network") -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no parameter for it; `test_no_socket_left` fails where this has no effect.
        self._pool._network_backend = network  # noqa: SLF001

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response.

        Raises:
          httpx2.TransportError: there was no response.
        """
        try:
            return await super().handle_async_request(request)
        except httpx2.RemoteProtocolError as error:
            if "illegal status line" not in str(error):
                raise
            # h11's message quotes the bytes that came instead.
            raise httpx2.RemoteProtocolError(f"not an HTTP server: {shown(str(error))}") from None


@contextmanager
def _within(
    timeout: float | None, error: type[Exception], timeout_error: type[Exception]
) -> Iterator[None]:
    """Bound the body by a timeout in seconds; raise the errors that httpcore2 expects."""
    try:
        with trio.fail_after(math.inf if timeout is None else timeout):
            yield
    except trio.TooSlowError as slow:
        raise timeout_error(str(slow)) from slow
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as broken:
        raise error(str(broken) or repr(broken.__cause__ or broken)) from broken


@attrs.frozen(eq=False)
class _Network(httpcore2.AsyncNetworkBackend):
    """Connects httpcore2's pool: directly, or through a proxy that resolves the names."""

    proxy: str | None
    environment: Mapping[str, str]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect. If cancelled, nothing is left open."""
        assert local_address is None, "no transport of ours sets one"
        assert not socket_options, "no transport of ours sets any"
        try:
            proxy = proxy_for(host, port, self.proxy, self.environment)
        except ConfigError as error:
            raise httpcore2.ProxyError(str(error)) from None
        with _within(timeout, httpcore2.ConnectError, httpcore2.ConnectTimeout):
            if proxy is None:
                stream = await trio.open_tcp_stream(host, port)
            else:
                stream = await open_tunnel(proxy, host, port)
        return _Stream(stream, stream.socket)


@attrs.frozen(eq=False)
class _Stream(httpcore2.AsyncNetworkStream):
    stream: trio.abc.Stream
    socket: trio.socket.SocketType

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bytes:
        with _within(timeout, httpcore2.ReadError, httpcore2.ReadTimeout):
            return bytes(await self.stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        with _within(timeout, httpcore2.WriteError, httpcore2.WriteTimeout):
            await self.stream.send_all(buffer)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Do the handshake. If it fails or is cancelled, close the socket: no other code would."""
        assert server_hostname is not None, "certificates are checked for a name"
        with ExitStack() as unless_ready:
            unless_ready.callback(self.socket.close)
            with _within(timeout, httpcore2.ConnectError, httpcore2.ConnectTimeout):
                secured = await open_tls(self.stream, ssl_context, server_hostname)
            unless_ready.pop_all()
        return _Stream(secured, self.socket)

    def get_extra_info(self, info: str) -> object:
        """Return whether an idle connection has something to read: its end, most likely."""
        return self.socket.is_readable() if info == "is_readable" else None
