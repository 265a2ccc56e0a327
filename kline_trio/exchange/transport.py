"""From a URL to a stream of bytes: TCP and TLS."""

import ssl
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import trio

__all__ = ["dial"]


async def dial(url: str, nth: int = 0) -> trio.abc.Stream:
    """Open a stream to a `ws://` or `wss://` URL, TLS handshake done.

    The name is resolved anew each time, since addresses of the exchange change
    (sieblyio/binance#602), and all of its addresses are tried (RFC 8305).

    Raises:
      OSError: no address answered, or the name is unknown.
      trio.BrokenResourceError: the TLS handshake failed.

    If cancelled, nothing is left open.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None, "the configuration admits only URLs with a host"
    secure = parts.scheme == "wss"
    tcp = await trio.open_tcp_stream(parts.hostname, parts.port or (443 if secure else 80))
    if not secure:
        return tcp
    async with AsyncExitStack() as unless_ready:
        unless_ready.push_async_callback(trio.aclose_forcefully, tcp)
        # Reads the system's certificates: off the event loop, and again each time, so that a
        # renewed certificate store needs no restart.
        context = await trio.to_thread.run_sync(ssl.create_default_context)
        tls = trio.SSLStream(tcp, context, server_hostname=parts.hostname, https_compatible=True)
        # Here rather than at the first byte: trio-websocket waits for ever for the answer to its
        # own handshake when the TLS handshake before it fails.
        await tls.do_handshake()
        unless_ready.pop_all()
    return tls
