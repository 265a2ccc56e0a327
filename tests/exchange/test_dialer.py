"""Dialling: addresses, TLS over real sockets, and ways through proxies."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket

from kline_trio.errors import ConfigError
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.tls import TlsStream
from tests.exchange.test_tls import AUTHORITY, NAME, serving
from tests.proxies import FakeProxy, Handler, listening

UNUSED: dict[str, str] = {}


async def echo(stream: trio.abc.Stream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def secure_echo(stream: trio.SocketStream) -> None:
    await echo(serving(stream))


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


class Names(trio.abc.HostnameResolver):
    """A name service that knows only this."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0

    async def getaddrinfo(self, host: bytes | None, port: Any, *_: int) -> Any:  # noqa: ANN401
        await trio.lowlevel.checkpoint()
        self.asked += 1
        name = (host or b"").decode()
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in self.addresses[name]]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


@contextmanager
def resolving(names: Names) -> Iterator[Names]:
    before = trio.socket.set_custom_hostname_resolver(names)
    yield names
    trio.socket.set_custom_hostname_resolver(before)


@asynccontextmanager
async def listening_everywhere(*hosts: str) -> AsyncIterator[int]:
    """An echo on one port of these addresses."""
    async with trio.open_nursery() as nursery:
        port = 0
        for host in hosts:
            [listener] = await trio.open_tcp_listeners(port, host=host)
            port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, echo, [listener])
        yield port
        nursery.cancel_scope.cancel()


def far_address(stream: trio.abc.Stream) -> str:
    assert isinstance(stream, trio.SocketStream)
    address: str = stream.socket.getpeername()[0]
    return address


async def hears_itself(stream: trio.abc.Stream) -> bool:
    async with stream:
        await stream.send_all(b"echo")
        return await stream.receive_some() == b"echo"


DIRECT = Dialer(proxy="direct")


async def test_a_plain_address() -> None:
    async with listening(echo) as port:
        assert await hears_itself(await DIRECT.dial(f"ws://127.0.0.1:{port}/stream", 0))


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(OSError, match="failed"):
        await DIRECT.dial(f"ws://127.0.0.1:{port}")
    with resolving(Names()), pytest.raises(OSError, match="not known"):
        await DIRECT.dial("ws://nowhere.test:80")


async def test_the_nth_of_several_addresses_is_tried_first() -> None:
    """Counted in their order, whatever the name service's is; and asked for each time."""
    hosts = ["127.0.0.3", "127.0.0.1", "127.0.0.2"]
    async with listening_everywhere(*hosts) as port:
        with resolving(Names(exchange=[*hosts, "127.0.0.1"])) as names:
            seen = []
            for nth in range(4):
                async with await DIRECT.dial(f"ws://exchange:{port}", nth) as stream:
                    seen.append(far_address(stream))
            assert names.asked == 4
            names.addresses["exchange"] = ["127.0.0.2"]
            async with await DIRECT.dial(f"ws://exchange:{port}", 1) as stream:
                assert far_address(stream) == "127.0.0.2"
    assert seen == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]


async def test_where_the_preferred_address_refuses_the_others_are_tried() -> None:
    async with listening_everywhere("127.0.0.2") as port:
        with resolving(Names(exchange=["127.0.0.1", "127.0.0.2", "127.0.0.3"])):
            for nth in range(3):
                async with await DIRECT.dial(f"ws://exchange:{port}", nth) as stream:
                    assert far_address(stream) == "127.0.0.2"


class Mute(trio.abc.SocketFactory):
    """Makes sockets that never reach one address, and counts those that are open."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sockets: list[socket.socket] = []

    def socket(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        raw = socket.socket(*arguments, **options)
        self.sockets.append(raw)
        made = trio.socket.from_stdlib_socket(raw)
        connect = made.connect

        async def reach(address: Any) -> None:  # noqa: ANN401
            if address[0] == self.address:
                await trio.sleep_forever()
            await connect(address)

        made.connect = reach  # type: ignore[method-assign]
        return made


@contextmanager
def made_by(factory: Mute) -> Iterator[Mute]:
    before = trio.socket.set_custom_socket_factory(factory)
    yield factory
    trio.socket.set_custom_socket_factory(before)


async def test_where_the_preferred_address_is_silent_the_others_are_tried() -> None:
    async with listening_everywhere("127.0.0.2") as port:
        names, factory = Names(exchange=["127.0.0.1", "127.0.0.2"]), Mute("127.0.0.1")
        with resolving(names), made_by(factory), trio.fail_after(20):
            stream = await DIRECT.dial(f"ws://exchange:{port}", 0)
        async with stream:
            assert far_address(stream) == "127.0.0.2"
    assert [raw for raw in factory.sockets if raw.fileno() >= 0] == []


async def test_tls_over_sockets(ca_file: Path) -> None:
    """The name that was dialled is the one that the certificate must have."""
    dialer = Dialer(ca_file=ca_file, proxy="direct")
    names = Names(**{NAME: ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    async with listening(secure_echo) as port:
        with resolving(names):
            stream = await dialer.dial(f"wss://{NAME}:{port}")
            assert isinstance(stream, TlsStream)
            assert await hears_itself(stream)
            with pytest.raises(trio.BrokenResourceError, match="Hostname mismatch"):
                await dialer.dial(f"wss://other.test:{port}")
            with pytest.raises(trio.BrokenResourceError, match="certificate is refused"):
                await DIRECT.dial(f"wss://{NAME}:{port}")
            assert await hears_itself(await dialer.dial(f"wss://127.0.0.1:{port}"))


async def test_nothing_stays_open_of_what_was_cut_off_or_failed(ca_file: Path) -> None:
    """Whatever it waits for: the address, the TLS handshake, the proxy, SOCKS."""
    send, ended = trio.open_memory_channel[None](10)

    def until_gone(answer: bytes = b"") -> Handler:
        async def handle(stream: trio.SocketStream) -> None:
            if answer:
                await stream.send_all(answer)
            with suppress(trio.BrokenResourceError):
                async for _ in stream:
                    pass
            send.send_nowait(None)

        return handle

    async def cut_off(dialer: Dialer, url: str) -> None:
        with trio.move_on_after(0.3) as scope:
            await dialer.dial(url)
        assert scope.cancelled_caught

    async with listening(until_gone()) as port:
        await cut_off(Dialer(ca_file=ca_file, proxy="direct"), f"wss://127.0.0.1:{port}")
        for scheme in ("http", "socks5"):
            proxied = Dialer(ca_file=ca_file, proxy=f"{scheme}://127.0.0.1:{port}")
            await cut_off(proxied, "wss://exchange.test")
        with trio.fail_after(10):
            for _ in range(3):
                await ended.receive()
    async with listening(until_gone(b"SSH-2.0-OpenSSH_9.6 and more\r\n\r\n")) as port:
        for proxy, error in [
            ("direct", trio.BrokenResourceError),
            (f"http://127.0.0.1:{port}", OSError),
            (f"socks5://127.0.0.1:{port}", OSError),
        ]:
            dialer = Dialer(ca_file=ca_file, proxy=proxy)
            host = "127.0.0.1" if proxy == "direct" else "exchange.test"
            with pytest.raises(error):
                await dialer.dial(f"wss://{host}:{port}")
        with trio.fail_after(10):
            for _ in range(3):
                await ended.receive()
    with resolving(Names(a=["127.0.0.1"], b=["127.0.0.1", "127.0.0.2"])):
        with made_by(Mute("127.0.0.1")) as factory:
            await cut_off(DIRECT, "ws://a:9")
            await cut_off(DIRECT, "ws://b:9")
    assert [raw for raw in factory.sockets if raw.fileno() >= 0] == []


KINDS: list[tuple[str, Callable[[FakeProxy], Handler]]] = [
    ("http", lambda proxy: proxy.http),
    ("socks5", lambda proxy: proxy.socks5),
    ("socks5h", lambda proxy: proxy.socks5),
]


@pytest.mark.parametrize(("scheme", "speaking"), KINDS)
@pytest.mark.parametrize("user", [None, "me@home:p:q/r e"])
@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("by_environment", [False, True])
async def test_through_a_proxy(
    ca_file: Path,
    scheme: str,
    speaking: Callable[[FakeProxy], Handler],
    user: str | None,
    slices: bool,
    by_environment: bool,
) -> None:
    """The proxy resolves the name; the certificate is still the exchange's."""
    async with listening(secure_echo) as port:
        proxy = FakeProxy({f"{NAME}:9443": port}, user, slices)
        async with listening(speaking(proxy)) as proxy_port:
            known = "" if user is None else "me%40home:p%3Aq%2Fr%20e@"
            url = f"{scheme}://{known}127.0.0.1:{proxy_port}"
            if by_environment:
                dialer = Dialer(ca_file=ca_file, environment={"HTTPS_PROXY": url})
            else:
                dialer = Dialer(ca_file=ca_file, proxy=url, environment=UNUSED)
            dialer.check([f"wss://{NAME}:9443/stream"])
            with resolving(Names()):
                stream = await dialer.dial(f"wss://{NAME}:9443/stream", 3)
            assert await hears_itself(stream)
    assert proxy.asked == [f"{NAME}:9443"]
    assert proxy.users == ([] if user is None else [user])


@pytest.mark.parametrize(("scheme", "speaking"), KINDS[:2])
async def test_a_proxy_that_refuses(scheme: str, speaking: Callable[[FakeProxy], Handler]) -> None:
    """It is named, its words are given, and no password is."""
    proxy = FakeProxy({}, "me:right")
    async with listening(speaking(proxy)) as port:
        for password, words in [("wrong", ["407", "uthentication"]), ("right", ["502", "nreach"])]:
            dialer = Dialer(proxy=f"{scheme}://me:{password}@127.0.0.1:{port}")
            with pytest.raises(
                OSError, match=rf"through the proxy {scheme}://127.0.0.1:"
            ) as caught:
                await dialer.dial("wss://nowhere.test")
            assert any(word in str(caught.value) for word in words)
            assert password not in str(caught.value)
        with pytest.raises(OSError, match="through the proxy"):
            await Dialer(proxy=f"{scheme}://127.0.0.1:{port}").dial("wss://nowhere.test")


async def test_passwords_in_other_scripts(ca_file: Path) -> None:
    """HTTP has them in UTF-8; python-socks has none, and nothing of the password is said."""
    async with listening(secure_echo) as port:
        proxy = FakeProxy({f"{NAME}:443": port}, "me:密码")
        async with listening(proxy.http) as proxy_port:
            url = f"http://me:%E5%AF%86%E7%A0%81@127.0.0.1:{proxy_port}"
            assert await hears_itself(
                await Dialer(ca_file=ca_file, proxy=url).dial(f"wss://{NAME}")
            )
        async with listening(proxy.socks5) as proxy_port:
            url = f"socks5://me:%E5%AF%86%E7%A0%81@127.0.0.1:{proxy_port}"
            with pytest.raises(OSError, match=r"only takes names and passwords in ASCII$"):
                await Dialer(ca_file=ca_file, proxy=url).dial(f"wss://{NAME}")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_is_not_there(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(OSError, match=rf"through the proxy {scheme}://127.0.0.1:{port}: "):
        await Dialer(proxy=f"{scheme}://127.0.0.1:{port}").dial("wss://exchange.test")


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("http", b"", "it hung up"),
        ("http", b"HTTP/1.1 200 OK\r\n", "it hung up"),
        ("http", b"\0" * 300, "it speaks no HTTP"),
        ("http", b"SSH-2.0-" + b"x" * 9_000 + b"\x1b[2J\r\n\r\n", "it speaks no HTTP"),
        ("http", b"HTTP/1.1 403 \xe9\x1b[2J\r\n\r\n", r"HTTP 403 \xe9\x1b[2J"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n\x16\x03", "in the place of the server"),
        ("http", b"HTTP/1.1 407 " + b"x" * 5_000 + b"\r\n\r\n", "HTTP 407 xxx"),
        ("socks5", b"", "closed"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        ("socks5", b"\x05\x02", ""),
        ("socks5", b"\x05\x00\x05\x05\x00\x01" + bytes(6), "refused"),
        ("socks5", b"\x05\x00\x05\xee\x00\x01" + bytes(6), ""),
        ("socks5", b"\x05\x00\x05\x00\x00\x09" + bytes(6), ""),
    ],
)
async def test_what_is_no_proxy_is_an_error_of_the_network(
    scheme: str, answer: bytes, words: str
) -> None:
    async def say(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        with trio.move_on_after(1):
            await stream.receive_some()

    async with listening(say) as port:
        with pytest.raises(OSError, match="through the proxy") as caught:
            await Dialer(proxy=f"{scheme}://127.0.0.1:{port}").dial("wss://exchange.test")
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


async def test_this_machine_is_reached_directly(ca_file: Path) -> None:
    """As the built-in exchange is, whatever proxy is configured for the real one."""
    async with listening(secure_echo) as port:
        dialer = Dialer(ca_file=ca_file, proxy="http://proxy.test:3128")
        assert await hears_itself(await dialer.dial(f"wss://127.0.0.1:{port}"))


def test_what_cannot_be_used_is_told_before_anything_is_dialled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connection\.ca_file"):
        Dialer(ca_file=tmp_path / "none.pem").check([])
    dialer = Dialer(environment={"ALL_PROXY": "https://me:secret@proxy.test"})
    dialer.check(["ws://127.0.0.1:80"])
    with pytest.raises(ConfigError, match="the environment's ALL_PROXY") as caught:
        dialer.check(["wss://exchange.test"])
    assert "secret" not in str(caught.value)


async def test_a_ca_file_that_went_away_is_an_error_of_the_network(ca_file: Path) -> None:
    """The recorder goes on, as when the network is down, and tries again."""
    async with listening(secure_echo) as port:
        dialer = Dialer(ca_file=ca_file, proxy="direct")
        assert await hears_itself(await dialer.dial(f"wss://127.0.0.1:{port}"))
        await trio.Path(ca_file).unlink()
        with pytest.raises(OSError, match=r"connection\.ca_file: .* cannot be read"):
            await dialer.dial(f"wss://127.0.0.1:{port}")


async def test_no_compression_is_offered(ca_file: Path) -> None:
    """The sieve reads frames as they come (permessage-deflate is RFC 7692)."""
    send, heads = trio.open_memory_channel[bytes](1)

    async def serve(transport: trio.SocketStream) -> None:
        server = serving(transport)
        head = b""
        while b"\r\n\r\n" not in head:
            head += await server.receive_some()
        send.send_nowait(head)
        await trio.sleep_forever()

    async with listening(serve) as port:
        stream = await Dialer(ca_file=ca_file, proxy="direct").dial(f"wss://127.0.0.1:{port}")
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    trio_websocket.wrap_client_stream,
                    nursery,
                    stream,  # type: ignore[arg-type]  # it documents any stream
                    "exchange.test",
                    "/stream",
                )
            )
            with trio.fail_after(10):
                head = await heads.receive()
            nursery.cancel_scope.cancel()
    assert b"Sec-WebSocket-Key:" in head
    assert b"sec-websocket-extensions" not in head.lower()
