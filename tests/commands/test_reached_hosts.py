"""Names, proxies, TCP and TLS over real sockets: each fault has its line, verdict and advice."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from kline_trio.commands.doctor import examine
from kline_trio.commands.examination import Surroundings
from kline_trio.commands.finding import Verdict, text_of
from kline_trio.commands.network_findings import judge_connection, judge_name, judge_proxies
from kline_trio.config import ConnectionConfig, EndpointConfig
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.probe import Reached, Stage, Target
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from tests.commands.examined import NOW_MS, PATH, World, of, reached, says
from tests.exchange.test_dialer import Names, resolving
from tests.exchange.test_tls import NAME, server_context
from tests.faulty_exchange.tls import open_tls_exchange
from tests.proxies import FakeProxy, listening


def endpoints(websocket: str, rest: str) -> dict[str, EndpointConfig]:
    """The same endpoints for all markets."""
    return {name: EndpointConfig(websocket=(websocket,), rest=(rest,)) for name in MARKETS}


@asynccontextmanager
async def exchange_over_tls(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """The port of a TLS server that hangs up after the handshake."""
    context = server_context(certificate)

    async def serve(stream: trio.SocketStream) -> None:
        server = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await server.do_handshake()
        await server.aclose()

    async with listening(serve) as port:
        yield port


def real(world: World, port: int, name: str = "127.0.0.1", **connection: Any) -> None:  # noqa: ANN401
    """Point a world to a port of this machine, and let it use sockets and threads."""
    world.change(
        endpoints=endpoints(f"wss://{name}:{port}/stream", f"https://{name}:{port}"),
        archive=f"https://{name}:{port}",
        connection=ConnectionConfig(**connection),
    )
    world.surroundings = Surroundings(wall_clock=lambda: NOW_MS / 1_000)


AUTHORITY = trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


async def test_a_name_that_is_unknown(world: World) -> None:
    real(world, 443, NAME, proxy="direct")
    with resolving(Names()):
        dns, symbols = await world.faults()
    assert says(
        dns,
        f"error dns {NAME}: Name or service not known",
        "correct the name under [endpoints]; if it is right, look at network and DNS of this",
    )
    assert symbols.check == "symbols"


async def test_only_the_archives_name_is_unknown(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def reach_others(target: Target) -> Reached:
        if target.host == "data.binance.vision":
            return Reached(target=target, failed=Stage.DNS, problem="Name or service not known")
        return await reached(target)

    world.replace(reach=reach_others)
    fault = await world.fault()
    assert (fault.subject, fault.verdict) == ("data.binance.vision", Verdict.WARNING)
    assert fault.message.endswith("; history comes from REST alone then, which is slower")


async def test_a_host_that_is_not_reached_is_a_warning_if_another_one_works(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """Of routes and of REST, each for itself."""
    dead = {"spare.test", "rest.test"}

    async def reach_others(target: Target) -> Reached:
        if target.host in dead:
            return Reached(target=target, failed=Stage.CONNECT, problem="Connection refused")
        return await reached(target)

    spot = EndpointConfig(
        websocket=("wss://spare.test/stream", "wss://one.test/stream"),
        rest=("https://rest.test", "https://other.test"),
    )
    world.change(endpoints={**world.config.endpoints, "spot": spot})
    world.replace(reach=reach_others)
    words = (Verdict.WARNING, "Connection refused; another host does its work")
    assert [(one.verdict, one.message) for one in await world.faults()] == [words, words]
    dead |= {"one.test", "other.test"}
    faults = of("connect", await world.faults())
    assert [(one.verdict, one.message) for one in faults] == [
        (Verdict.ERROR, "Connection refused")
    ] * 4


async def test_a_connection_that_is_refused(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    real(world, port)
    connect, symbols = await world.faults()
    assert says(
        connect,
        f"error connect 127.0.0.1:{port}: Connection refused",
        "look whether a firewall blocks the port, and compare host and port with the defaults",
    )
    assert symbols.check == "symbols"


async def test_a_certificate_that_no_authority_vouches_for(world: World) -> None:
    async with exchange_over_tls(AUTHORITY.issue_cert("127.0.0.1")) as port:
        real(world, port)
        tls, _ = await world.faults()
    assert says(
        tls,
        f"error tls 127.0.0.1:{port}: TLS: the certificate is refused: unable to get local issuer"
        " certificate",
        "name the authority's certificate under [connection] ca_file if a firewall or proxy of",
    )


async def test_a_certificate_of_another_host(world: World, ca_file: Path) -> None:
    async with exchange_over_tls(AUTHORITY.issue_cert("login.test")) as port:
        real(world, port, ca_file=ca_file)
        tls, _ = await world.faults()
    assert "IP address mismatch" in tls.message
    assert tls.advice.startswith("correct the host: another server answers, such as the login page")


async def test_a_certificate_that_is_too_old(world: World, ca_file: Path) -> None:
    from datetime import UTC, datetime

    old = AUTHORITY.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    async with exchange_over_tls(old) as port:
        real(world, port, ca_file=ca_file)
        tls, _ = await world.faults()
    assert tls.message == "TLS: the certificate is refused: certificate has expired"
    assert tls.advice.startswith("set the clock of this machine; if the clock is right")


async def test_a_port_that_speaks_no_tls(world: World) -> None:
    async def shout(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(shout) as port:
        real(world, port)
        tls, _ = await world.faults()
    assert tls.message.endswith("no TLS server, most likely")
    assert tls.advice == "correct the port, or look for a firewall or proxy that breaks TLS"


async def test_a_host_that_accepts_and_hangs_up(world: World, ca_file: Path) -> None:
    """TLS is fine; route, REST and archive are not."""
    async with exchange_over_tls(AUTHORITY.issue_cert("127.0.0.1")) as port:
        real(world, port, ca_file=ca_file)
        found = await world.examine()
    [tls] = of("tls", found)
    assert tls.message.startswith("certificate accepted, ")
    faults = [one.check for one in found if one.verdict is not Verdict.OK]
    assert faults == ["route", "rest", "archive", "symbols"]


async def test_a_whole_exchange_over_tls(world: World, ca_file: Path) -> None:
    """By sockets alone: the way of routes and the way of REST are those of a recorder."""
    context = server_context(AUTHORITY.issue_cert("127.0.0.1"))
    async with open_tls_exchange(Exchange(), context) as served:
        world.change(
            endpoints={
                name: EndpointConfig(websocket=(url,), rest=(served.rest[name],))
                for name, url in served.websocket.items()
            },
            archive=served.archive,
            connection=ConnectionConfig(ca_file=ca_file),
        )
        world.surroundings = Surroundings(wall_clock=lambda: DEFAULT_START_MS / 1_000)
        found = await world.examine()
    checks = [(one.check, str(one.verdict)) for one in found if one.check != "clock"]
    assert checks == [
        (one, "ok")
        for one in (
            *("config", "disk", "lock", "proxy", "tls", "route", "rest", "archive", "symbols"),
            *("files", "space", "layout"),
        )
    ]


async def test_a_proxy_that_refuses(world: World, ca_file: Path) -> None:
    secret = "user:hush"
    async with listening(FakeProxy({}, user=secret).http) as port:
        real(world, 443, NAME, proxy=f"http://{secret}@127.0.0.1:{port}")
        refused, _ = await world.faults()
        real(world, 443, NAME, proxy=f"http://user:whisper@127.0.0.1:{port}")
        found = await world.examine()
    url = f"http://127.0.0.1:{port}"
    assert says(
        refused,
        f"error proxy {url}: no tunnel to {NAME}:443: HTTP 502 Bad Gateway",
        "allow the host and its port in the settings of the proxy, or use another proxy",
    )
    [denied] = of("proxy", found)
    assert says(
        denied,
        f"error proxy {url}: no tunnel to {NAME}:443: HTTP 407 Who are you?",
        "correct the name and the password in the URL of the proxy",
    )
    shown = "\n".join(map(text_of, [refused, *found]))
    assert "hush" not in shown
    assert "whisper" not in shown


async def test_a_proxy_that_is_not_there(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    real(world, 443, NAME, proxy=f"http://127.0.0.1:{port}")
    proxy, _ = await world.faults()
    assert says(
        proxy,
        f"error proxy http://127.0.0.1:{port}: no tunnel to {NAME}:443: Connection refused",
        "start the proxy, or correct [connection] proxy or HTTPS_PROXY; `direct` uses none",
    )


async def test_a_proxy_whose_name_is_unknown(world: World) -> None:
    real(world, 443, NAME, proxy="socks5://proxy.test:1080")
    with resolving(Names()):
        dns, _ = await world.faults()
    assert (dns.check, dns.subject) == ("dns", "proxy.test")
    assert dns.advice.startswith("correct the name under [connection] proxy; if it is right")


async def test_a_proxy_that_works_is_named_without_its_password(
    world: World, ca_file: Path
) -> None:
    async with exchange_over_tls(AUTHORITY.issue_cert(NAME)) as port:
        proxy = FakeProxy({f"{NAME}:443": port}, user="user:hush")
        async with listening(proxy.http) as proxy_port:
            url = f"http://user:hush@127.0.0.1:{proxy_port}"
            real(world, 443, NAME, ca_file=ca_file, proxy=url)
            found = await world.examine()
    [line] = of("proxy", found)
    assert (
        text_of(line) == f"ok       proxy    http://127.0.0.1:{proxy_port}: opens tunnels to 1 host"
    )
    [tls] = of("tls", found)
    assert tls.verdict is Verdict.OK
    assert "hush" not in str(found)


@pytest.mark.parametrize("name", ["ca_file", "proxy"])
async def test_certificates_or_a_proxy_that_cannot_be_used(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Then no host is checked; the rest is."""
    if name == "proxy":
        monkeypatch.setenv("HTTPS_PROXY", "ftp://user:hush@proxy.test")
        words = "the environment's HTTPS_PROXY: no http:// or socks5:// address of a proxy"
    else:
        world.change(connection=ConnectionConfig(ca_file=tmp_path / "none"))
        words = f"connection.ca_file: {tmp_path / 'none'} cannot be read: No such file or directory"
    world.surroundings = Surroundings()
    found = await examine(world.config, PATH, world.surroundings)
    assert [one.check for one in found] == [
        "config", "config", "disk", "lock", "files", "space", "layout",
    ]  # fmt: skip
    assert says(
        found[1],
        f"error config connection: {words}",
        "correct it in recorder.toml or in the environment; until then no host is checked",
    )


async def test_certificates_on_a_disk_that_hangs(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def hang(job: Callable[..., object], *arguments: object) -> object:
        await trio.sleep(99 if job.__name__ == "check" else 0)
        return job(*arguments)

    world.replace(in_thread=hang)
    fault = await world.fault()
    assert (fault.check, fault.subject) == ("config", "connection")
    assert fault.message == "the certificates cannot be read within 10 s"


def test_a_proxy_that_only_some_hosts_take_from_the_environment() -> None:
    """Such as those that NO_PROXY does not name: the check of the configuration misses it."""
    target = Target(NAME, 443, is_secure=True)
    one = Reached(target=target, failed=Stage.CONFIG, problem="the environment's HTTPS_PROXY: no")
    assert judge_proxies([one]) == ()
    assert judge_name(one) == ()
    [finding] = judge_connection(one)
    assert says(
        finding,
        f"error proxy {NAME}:443: the environment's HTTPS_PROXY: no",
        "correct [connection] proxy, or HTTPS_PROXY of the environment",
    )
