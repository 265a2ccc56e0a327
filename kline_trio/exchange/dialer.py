"""From a URL to a stream of bytes: addresses, TCP, a proxy, TLS."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxy import open_tunnel, proxy_for
from kline_trio.exchange.tls import open_tls, tls_context

_PREFERRED_SECONDS = 1.0
"""Try the preferred address alone for so long: a lost SYN is sent again after a second (RFC 6298,
section 2), and `connect_seconds` is for all steps together."""


@attrs.frozen(kw_only=True)
class Dialer:
    """Opens streams to WebSocket URLs, with the certificates and the proxy of the configuration."""

    ca_file: Path | None = None
    """Certificates, in PEM, to trust besides the system's."""
    proxy: str | None = None
    """The URL of a proxy, or "direct" for none; None: take it from the environment."""
    environment: Mapping[str, str] = attrs.field(factory=lambda: os.environ, repr=False)
    """Holds `HTTPS_PROXY` and its like."""

    def check(self, urls: Iterable[str]) -> None:
        """Check, before the first dial, that the CA file and the proxies can be used.

        It reads files: call it in a thread.

        Raises:
          ConfigError: the CA file or a proxy cannot be used, or SOCKS is not installed.
        """
        tls_context(self.ca_file)
        for url in urls:
            proxy_for(*_host_and_port(url), self.proxy, self.environment)

    async def dial(self, url: str, nth: int = 0) -> trio.abc.Stream:
        """Open a stream to a `ws://` or `wss://` URL, TLS handshake done.

        The name is resolved each time, since addresses of the exchange change
        (sieblyio/binance#602). A proxy resolves the name itself.

        Args:
          url: gives host and port.
          nth: selects the address to try first, modulo their number; the addresses are sorted, so
            that a number means the same address while they stay the same. All others follow (RFC
            8305).

        Raises:
          OSError: no address answered, the name is unknown, the proxy refuses; or the CA file or
            the proxy of the configuration cannot be used any more.
          trio.BrokenResourceError: the TLS handshake failed.

        If cancelled, nothing is left open.
        """
        host, port = _host_and_port(url)
        try:
            proxy = proxy_for(host, port, self.proxy, self.environment)
            async with AsyncExitStack() as unless_ready:
                stream: trio.abc.Stream
                if proxy is None:
                    stream = await _open_tcp(host, port, nth)
                else:
                    stream = await open_tunnel(proxy, host, port)
                unless_ready.push_async_callback(trio.aclose_forcefully, stream)
                if urlsplit(url).scheme == "wss":
                    # In a thread, for it reads files; each time, so that renewed certificates
                    # need no restart.
                    context = await trio.to_thread.run_sync(tls_context, self.ca_file)
                    # Here rather than at the first byte: trio-websocket waits for ever for the
                    # answer to its own handshake when the TLS handshake before it fails.
                    stream = await open_tls(stream, context, host)
                unless_ready.pop_all()
            return stream
        except ConfigError as error:
            # It was valid at the start, and may be again: retry, as for a network that is down.
            raise OSError(str(error)) from error


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None, "the configuration admits only URLs with a host"
    return parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80)


async def _open_tcp(host: str, port: int, nth: int) -> trio.SocketStream:
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    addresses = sorted({str(address[0]) for *_, address in found})
    if len(addresses) > 1:
        with suppress(OSError), trio.move_on_after(_PREFERRED_SECONDS):
            return await trio.open_tcp_stream(addresses[nth % len(addresses)], port)
    return await trio.open_tcp_stream(host, port)
