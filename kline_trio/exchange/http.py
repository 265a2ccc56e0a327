"""The HTTP client of REST and archive, over the same ways as the WebSockets."""

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import attrs
import httpcore2
import httpx2

from kline_trio.errors import ConfigError
from kline_trio.exchange.http_network import Network
from kline_trio.exchange.proxies import Proxy, proxy_for
from kline_trio.exchange.tls import tls_context
from kline_trio.exchange.tunnel import require_socks
from kline_trio.quoting import shown

__all__ = ["http_client"]

_LIBRARIES = ("httpx2", "httpcore2", "trio-websocket")
_HTTPS_PORT = 443
_CONNECTIONS = 100
_KEPT = 20
_KEPT_SECONDS = 5.0
"""The limits that httpx2 has by default."""


def http_client(
    ca_file: Path | None,
    proxy: str | None,
    transport: httpx2.AsyncBaseTransport | None,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> httpx2.AsyncClient:
    """A client that trusts whom a `Dialler` trusts, and goes through the proxy that it would.

    It reads certificates, once: that takes some 20 ms.

    Args:
      ca_file: certificates, in PEM, that are trusted besides the system's.
      proxy: the URL of a proxy, or "direct" for none; None: as the environment says.
      transport: carries all requests, whatever the others say; None is httpx2's own.
      timeout_seconds: for each step of a request.
      environment: where `HTTPS_PROXY` and its like are looked for; None: the real one.

    Raises:
      ConfigError: the CA file cannot be used.
    """
    _quieten()
    if transport is None:
        environment = os.environ if environment is None else environment
        transport = _Ways(tls_context(ca_file), proxy, environment)
    return httpx2.AsyncClient(transport=transport, timeout=timeout_seconds, trust_env=False)


def _quieten() -> None:
    # A program that shows INFO would have a line for each request. A level that it has set stays.
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)


@attrs.frozen(eq=False)
class _Ways(httpx2.AsyncBaseTransport):
    """Carries each request directly, or through the proxy that leads to its host."""

    context: ssl.SSLContext
    proxy: str | None
    environment: Mapping[str, str]
    _by_proxy: dict[Proxy | None, httpx2.AsyncHTTPTransport] = attrs.field(init=False, factory=dict)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and give the response.

        Raises:
          httpx2.TransportError: there was none.
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
            # In h11's words, which quote what came instead.
            raise httpx2.RemoteProtocolError(f"not an HTTP server: {shown(str(error))}") from None

    def _transport(self, proxy: Proxy | None) -> httpx2.AsyncHTTPTransport:
        if proxy not in self._by_proxy:
            if proxy is not None and proxy.scheme != "http":
                require_socks()
            self._by_proxy[proxy] = _Way(self.context, proxy)
        return self._by_proxy[proxy]

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_proxy.values():
            await transport.aclose()


class _Way(httpx2.AsyncHTTPTransport):
    """httpx2's transport, over sockets of ours: directly, or through a tunnel of the proxy."""

    def __init__(self, context: ssl.SSLContext, proxy: Proxy | None) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no parameter for it; `test_no_socket_left` fails where this has no effect.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=Network(proxy),
        )
