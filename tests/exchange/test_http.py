"""REST goes the ways that the WebSockets go."""

import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from kline_trio.errors import ConfigError
from kline_trio.exchange.http import http_client
from tests.exchange.test_dialer import KINDS
from tests.exchange.test_tls import AUTHORITY, NAME, serving
from tests.proxies import FakeProxy, Handler, listening

URL = f"https://{NAME}/api/v3/time"


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


async def answer(transport: trio.SocketStream) -> None:
    """A server that answers each request with its first line."""
    server = serving(transport)
    received = b""
    async for data in server:
        received += data
        while b"\r\n\r\n" in received:
            head, _, received = received.partition(b"\r\n\r\n")
            line = head.partition(b"\r\n")[0]
            length = str(len(line)).encode()
            await server.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + line
            )


@asynccontextmanager
async def proxied(proxy: FakeProxy, speaking: Callable[[FakeProxy], Handler]) -> AsyncIterator[int]:
    async with listening(answer) as port:
        proxy.routes[f"{NAME}:443"] = port
        async with listening(speaking(proxy)) as proxy_port:
            yield proxy_port


@pytest.mark.parametrize(("scheme", "speaking"), KINDS)
@pytest.mark.parametrize("by_environment", [False, True])
async def test_through_a_proxy(
    ca_file: Path,
    scheme: str,
    speaking: Callable[[FakeProxy], Handler],
    by_environment: bool,
) -> None:
    proxy = FakeProxy({}, "me@home:p:q")
    async with proxied(proxy, speaking) as port:
        url = f"{scheme}://me%40home:p%3Aq@127.0.0.1:{port}"
        setting, environment = (None, {"ALL_PROXY": url}) if by_environment else (url, {})
        async with http_client(ca_file, setting, None, 10, environment) as client:
            for _ in range(2):
                response = await client.get(URL)
                assert response.text == "GET /api/v3/time HTTP/1.1"
    assert proxy.asked == [f"{NAME}:443"]  # and kept
    assert proxy.users == ["me@home:p:q"]


async def test_this_machine_and_what_is_excluded_are_reached_directly(ca_file: Path) -> None:
    async with listening(answer) as port:
        url = f"https://127.0.0.1:{port}/"
        environment = {"HTTPS_PROXY": "http://proxy.invalid", "NO_PROXY": "nowhere.invalid"}
        async with http_client(ca_file, None, None, 10, environment) as client:
            assert (await client.get(url)).status_code == 200
            with pytest.raises(httpx2.ConnectError):
                await client.get("https://nowhere.invalid")
        async with http_client(ca_file, "http://proxy.invalid", None, 10, {}) as client:
            assert (await client.get(url)).status_code == 200
        async with http_client(ca_file, "direct", None, 10, environment) as client:
            assert (await client.get(url)).status_code == 200


async def test_who_is_not_known_is_not_trusted() -> None:
    async with listening(answer) as port:
        async with http_client(None, "direct", None, 10) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(("scheme", "speaking"), KINDS[:2])
async def test_a_proxy_that_refuses_is_an_error_of_the_network(
    ca_file: Path, scheme: str, speaking: Callable[[FakeProxy], Handler]
) -> None:
    proxy = FakeProxy({}, "me:right")
    async with proxied(proxy, speaking) as port:
        for user in ("me:secret@", "me:right@", ""):
            url = f"{scheme}://{user}127.0.0.1:{port}"
            async with http_client(ca_file, url, None, 10) as client:
                with pytest.raises(httpx2.HTTPError) as caught:
                    await client.get("https://elsewhere.test")
                assert "secret" not in str(caught.value)
    del caught
    gc.collect()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\xff", b"\x05"])
async def test_what_is_no_socks_server_is_an_error_of_the_network(said: bytes) -> None:
    async def say(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)

    async with listening(say) as port:
        async with http_client(None, f"socks5://127.0.0.1:{port}", None, 10) as client:
            with pytest.raises(httpx2.HTTPError):
                await client.get(URL)
    gc.collect()


async def test_a_server_that_speaks_no_http_is_named_by_what_it_sent() -> None:
    async def say(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6p1" + b"\x1b" * 9_000 + b"\r\n\r\n")

    async with listening(say) as port:
        async with http_client(None, None, None, 10) as client:
            with pytest.raises(httpx2.RemoteProtocolError) as caught:
                await client.get(f"http://127.0.0.1:{port}/")
    said = str(caught.value)
    assert said.startswith("not an HTTP server: ")
    assert "SSH-2.0-OpenSSH_9.6p1" in said
    assert len(said) < 300
    del caught
    gc.collect()


async def test_an_environment_that_cannot_be_used_is_an_error_of_the_network() -> None:
    """`Dialer.check` has told it at the start."""
    environment = {"HTTPS_PROXY": "https://me:secret@proxy.test"}
    async with http_client(None, None, None, 10, environment) as client:
        with pytest.raises(httpx2.ProxyError, match="the environment's HTTPS_PROXY") as caught:
            await client.get(URL)
    assert "secret" not in str(caught.value)


async def test_a_transport_of_its_own_carries_all(tmp_path: Path) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, text=request.url.host))
    none = tmp_path / "none.pem"
    async with http_client(none, "http://proxy.invalid", transport, 10) as client:
        assert (await client.get(URL)).text == NAME


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connection\.ca_file"):
        http_client(tmp_path / "none.pem", None, None, 10)


def test_what_socks_needs_is_said() -> None:
    """In a program of its own, to which the package is as good as not installed."""
    code = (
        "import sys\n"
        "sys.modules['python_socks'] = None\n"
        "from kline_trio.errors import ConfigError\n"
        "from kline_trio.exchange.dialer import Dialer\n"
        "Dialer(proxy='http://proxy.test').check(['wss://exchange.test'])\n"
        "try: Dialer(proxy='socks5://proxy.test').check(['wss://exchange.test'])\n"
        "except ConfigError as error: print(error)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    install = "run  python -m pip install 'python-socks[trio]'"
    assert done.stdout == f"a SOCKS proxy needs one more package: {install}\n"
