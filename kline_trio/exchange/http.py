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
from contextlib import contextmanager
from pathlib import Path

import attrs
import httpcore2
import httpx2
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxy import Proxy, open_tunnel, proxy_for, require_socks
from kline_trio.exchange.tls import open_tls, tls_context
from kline_trio.quoting import shown

_HTTPS_PORT = 443
_CONNECTIONS = 100
_KEPT = 20
_KEPT_SECONDS = 5.0
"""The default limits of httpx2."""


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
    _quieten()
    return _ProxyTransport(tls_context(ca_file), proxy, environment)


def _quieten() -> None:
    # At INFO they log a line for each request. A level that the program has set stays.
    for name in ("httpx2", "httpcore2", "trio-websocket"):
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)


@attrs.frozen(eq=False)
class _ProxyTransport(httpx2.AsyncBaseTransport):
    """Sends each request directly, or through the proxy for its host."""

    context: ssl.SSLContext
    proxy: str | None
    environment: Mapping[str, str]
    _by_proxy: dict[Proxy | None, httpx2.AsyncHTTPTransport] = attrs.field(init=False, factory=dict)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response.

        Raises:
          httpx2.TransportError: there was no response.
        """
        url = request.url
        proxy = None
        try:
            if url.scheme == "https":
                port = url.port or _HTTPS_PORT
                proxy = proxy_for(url.host, port, self.proxy, self.environment)
            transport = self._transport(proxy)
        except ConfigError as error:
            raise httpx2.ProxyError(str(error)) from None
        try:
            return await transport.handle_async_request(request)
        except httpx2.RemoteProtocolError as error:
            if "illegal status line" not in str(error):
                raise
            # h11's message quotes the bytes that came instead.
            raise httpx2.RemoteProtocolError(f"not an HTTP server: {shown(str(error))}") from None

    def _transport(self, proxy: Proxy | None) -> httpx2.AsyncHTTPTransport:
        if proxy not in self._by_proxy:
            if proxy is not None and proxy.scheme != "http":
                require_socks()
            self._by_proxy[proxy] = _SocketTransport(self.context, proxy)
        return self._by_proxy[proxy]

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_proxy.values():
            await transport.aclose()


class _SocketTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over our own sockets: directly, or through a tunnel of the proxy."""

    def __init__(self, context: ssl.SSLContext, proxy: Proxy | None) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no parameter for it; `test_no_socket_left` fails where this has no effect.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_Network(proxy),
        )


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
    except (OSError, ConfigError, trio.BrokenResourceError, trio.ClosedResourceError) as broken:
        raise error(str(broken) or repr(broken.__cause__ or broken)) from broken


@attrs.frozen(eq=False)
class _Network(httpcore2.AsyncNetworkBackend):
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
        """Connect. If cancelled, nothing is left open."""
        assert local_address is None, "no transport of ours sets one"
        assert not socket_options, "no transport of ours sets any"
        with _within(timeout, httpcore2.ConnectError, httpcore2.ConnectTimeout):
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
        ready = False
        try:
            with _within(timeout, httpcore2.ConnectError, httpcore2.ConnectTimeout):
                secured = await open_tls(self.stream, ssl_context, server_hostname)
            ready = True
        finally:
            if not ready:
                self.socket.close()
        return _Stream(secured, self.socket)

    def get_extra_info(self, info: str) -> object:
        """Return whether an idle connection has something to read: its end, most likely."""
        return self.socket.is_readable() if info == "is_readable" else None
