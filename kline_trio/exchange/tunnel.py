"""A way through a proxy: HTTP CONNECT, and SOCKS version 5."""

from base64 import b64encode

import h11
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.proxies import Proxy
from kline_trio.quoting import shown

__all__ = ["open_tunnel", "require_socks"]

_READ_BYTES = 4_096

_SOCKS_SECONDS = 3_600.0
"""The caller's deadline is what bounds it; python-socks wants one of its own."""

_SHOWN_CHARACTERS = 120


def require_socks() -> None:
    """See that SOCKS can be spoken.

    Raises:
      ConfigError: what it needs is not installed.
    """
    try:
        import python_socks.async_.trio  # noqa: F401
    except ImportError:
        problem = "a SOCKS proxy needs one more package: pip install kline-trio[proxy]"
        raise ConfigError([problem]) from None


async def open_tunnel(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    """Open a stream to a host's port through a proxy, which resolves the name.

    If cancelled, nothing is left open.

    Raises:
      OSError: the proxy is not reached, or refuses; its texts hold no passwords.
      ConfigError: what SOCKS needs is not installed.
    """
    try:
        if proxy.scheme == "http":
            return await _connect(proxy, host, port)
        return await _socks(proxy, host, port)
    except OSError as error:
        raise OSError(f"through the proxy {proxy.url}: {error}") from error


async def _connect(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    ready = False
    try:
        await _ask(stream, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        ready = True
    finally:
        if not ready:
            await trio.aclose_forcefully(stream)
    return stream


async def _ask(stream: trio.SocketStream, proxy: Proxy, target: str) -> None:
    """Ask for a tunnel, and wait until it is there (RFC 9110, section 9.3.6)."""
    headers = [("Host", target)]
    if proxy.username is not None:
        # RFC 7617; section 2.1: UTF-8, where the two sides have not agreed on anything.
        credentials = f"{proxy.username}:{proxy.password}".encode()
        headers.append(("Proxy-Authorization", f"Basic {b64encode(credentials).decode()}"))
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="CONNECT", target=target, headers=headers)
    try:
        await stream.send_all(connection.send(request) or b"")
        while not isinstance(event := connection.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                data = await stream.receive_some(_READ_BYTES)
                if not data:
                    raise ConnectionError("it hung up")
                connection.receive_data(data)
    except h11.RemoteProtocolError as error:
        raise ConnectionError(f"it speaks no HTTP ({shown(str(error))})") from None
    except trio.BrokenResourceError:
        raise ConnectionError("it hung up") from None
    if not 200 <= event.status_code < 300:
        reason = ascii(event.reason.decode("latin-1"))[1:-1][:_SHOWN_CHARACTERS]
        raise ConnectionError(f"HTTP {event.status_code} {reason}".rstrip())
    if connection.trailing_data[0]:
        raise ConnectionError("it speaks in the place of the server")  # who waits for our hello


async def _socks(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    require_socks()
    from python_socks import ProxyError, ProxyType
    from python_socks.async_.trio import Proxy as SocksProxy

    socks = SocksProxy.create(
        ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True
    )
    try:
        return trio.SocketStream(await socks.connect(host, port, timeout=_SOCKS_SECONDS))
    except UnicodeError:  # its text would show a part of what it cannot encode
        raise ConnectionError("python-socks only takes names and passwords in ASCII") from None
    # It asserts, or trips over, what a server that is no SOCKS server may say.
    except (ProxyError, AssertionError, ValueError, IndexError) as error:
        raise ConnectionError(
            shown(str(error), _SHOWN_CHARACTERS) or "it speaks no SOCKS5"
        ) from None
