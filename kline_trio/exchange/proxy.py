"""Proxies: which one leads to an address, and how to open a stream through it.

The configuration names the proxy, or else the environment does.

The environment's names are those of curl and most other programs: `HTTPS_PROXY`, `ALL_PROXY` and
`NO_PROXY`, in small letters or capitals; small ones win. Only encrypted addresses can be far away
(unencrypted ones are of this machine, see the configuration), so `HTTP_PROXY` means nothing here.
"""

from base64 import b64encode
from collections.abc import Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

import attrs
import h11
import trio

from kline_trio.errors import ConfigError
from kline_trio.quoting import shown

DIRECT = "direct"
"""The configuration's word for no proxy at all."""

_DEFAULT_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
_READ_BYTES = 4_096
_SOCKS_SECONDS = 3_600.0
"""The caller's deadline bounds the connection; python-socks wants one of its own."""
_SHOWN_CHARACTERS = 120


@attrs.frozen(kw_only=True)
class Proxy:
    """The address of a proxy, and the credentials for it."""

    scheme: str
    """`http` or `socks5`."""
    host: str
    port: int
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str, said_by: str) -> "Proxy":
        """Return the proxy of a URL such as `socks5://user:password@host:1080`.

        The proxy resolves names, with `socks5` as with `socks5h`: HTTP does so too, and the name of
        an exchange may be unknown, or resolve wrongly, on this machine.

        Args:
          url: the URL; without a scheme it is one of HTTP.
          said_by: the place of the URL, for the error: the URL itself may hold a password.

        Raises:
          ConfigError: it is no URL of a proxy; or the proxy speaks SOCKS, and the package for SOCKS
            is not installed.
        """
        problem = f"{said_by}: no http:// or socks5:// address of a proxy"
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise ConfigError([problem]) from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ConfigError([problem])
        if parts.scheme != "http":
            try:
                import python_socks.async_.trio  # noqa: F401
            except ImportError:
                install = "run  python -m pip install 'python-socks[trio]'"
                problem = f"a SOCKS proxy needs one more package: {install}"
                raise ConfigError([problem]) from None
        return cls(
            scheme=parts.scheme.removesuffix("h"),
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.username is None else unquote(parts.password or ""),
        )

    @property
    def url(self) -> str:
        """The proxy's address, without name and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_for(
    host: str, port: int, setting: str | None, environment: Mapping[str, str]
) -> Proxy | None:
    """Return the proxy through which to reach a host over TLS; None for a direct connection.

    This machine is always reached directly: through a proxy, the name would mean another machine.

    Args:
      host: a name or an IP address.
      port: of the host.
      setting: a proxy's URL, `DIRECT`, or None to use the environment.
      environment: the environment's variables.

    Raises:
      ConfigError: the setting or the variable is no URL of a proxy that can be used.
    """
    if setting == DIRECT or _is_this_machine(host):
        return None
    if setting is not None:
        return Proxy.from_url(setting, "connection.proxy")
    for name in ("https_proxy", "all_proxy"):
        found, url = _look_up(name, environment)
        if url:
            excluded = _look_up("no_proxy", environment)[1]
            is_excluded = any(_covers(entry, host, port) for entry in excluded.split(","))
            return None if is_excluded else Proxy.from_url(url, f"the environment's {found}")
    return None


def _look_up(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    # An empty variable counts too, as for curl.
    found = name if name in environment else name.upper()
    return found, environment.get(found, "").strip()


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


def _covers(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY covers this host.

    A name covers its subdomains too, with or without a dot in front. A port may follow a name.
    """
    entry = entry.strip().lower()
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of the two is a name
    name, _, only_port = entry.partition(":")
    if only_port and only_port != str(port):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{name}")


async def open_tunnel(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    """Open a stream to a host's port through a proxy, which resolves the name.

    If cancelled, nothing is left open.

    Raises:
      OSError: the proxy is not reached, or refuses; the message holds no password.
    """
    try:
        if proxy.scheme == "http":
            return await _connect(proxy, host, port)
        return await _socks(proxy, host, port)
    except OSError as error:
        raise OSError(f"through the proxy {proxy.url}: {error}") from error


async def _connect(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with AsyncExitStack() as unless_ready:
        stream = await trio.open_tcp_stream(proxy.host, proxy.port)
        unless_ready.push_async_callback(trio.aclose_forcefully, stream)
        await _request_tunnel(stream, proxy, target)
        unless_ready.pop_all()
    return stream


async def _request_tunnel(stream: trio.SocketStream, proxy: Proxy, target: str) -> None:
    """Request a tunnel, and wait until the proxy has opened it (RFC 9110, section 9.3.6)."""
    headers = [("Host", target)]
    if proxy.username is not None:
        # RFC 7617, section 2.1: UTF-8 where the two sides have not agreed on an encoding.
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
    if connection.trailing_data[0]:  # the server waits for our hello
        raise ConnectionError("it speaks in the place of the server")


async def _socks(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    from python_socks import ProxyError, ProxyType
    from python_socks.async_.trio import Proxy as SocksProxy

    socks = SocksProxy.create(
        ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True
    )
    try:
        return trio.SocketStream(await socks.connect(host, port, timeout=_SOCKS_SECONDS))
    except UnicodeError:  # its message would show a part of the password
        raise ConnectionError("python-socks only takes names and passwords in ASCII") from None
    # It asserts on, or fails at, the answer of a server that speaks no SOCKS.
    except (ProxyError, AssertionError, ValueError, IndexError) as error:
        raise ConnectionError(
            shown(str(error), _SHOWN_CHARACTERS) or "it speaks no SOCKS5"
        ) from None
