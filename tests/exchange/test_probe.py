"""Probes: any answer is a value, each ends in time, and none leaves a socket."""

import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.probe import HttpProbe, Stage, Target, probe_http, probe_route, reach
from tests.builders import SPOT
from tests.exchange.test_dialer import Names, resolving
from tests.fakes import Peer, ScriptedExchange
from tests.proxies import listening


@pytest.mark.parametrize(
    ("url", "target", "shown"),
    [
        ("wss://one.test:9443/stream", Target("one.test", 9443, is_secure=True), "one.test:9443"),
        ("wss://one.test/stream", Target("one.test", 443, is_secure=True), "one.test:443"),
        ("https://one.test", Target("one.test", 443, is_secure=True), "one.test:443"),
        ("ws://127.0.0.1/stream", Target("127.0.0.1", 80, is_secure=False), "127.0.0.1:80"),
        ("http://[::1]:8080", Target("::1", 8080, is_secure=False), "[::1]:8080"),
    ],
)
def test_the_target_of_a_url(url: str, target: Target, shown: str) -> None:
    assert (Target.of(url), str(target)) == (target, shown)


async def hang(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass


async def test_a_server_that_never_shakes_hands_costs_the_limit_and_no_socket() -> None:
    async with listening(hang) as port:
        target = Target("127.0.0.1", port, is_secure=True)
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always", ResourceWarning)
            found = await reach(Dialer(), target, 0.2)
            with trio.move_on_after(0.1):
                await reach(Dialer(), target, 99.0)
            gc.collect()
    assert (found.failed, found.problem) == (Stage.TLS, "no answer within 0.2 s")
    assert 0.2 <= found.seconds < 5
    assert left == []


async def test_a_plain_host_is_reached_without_tls_and_by_its_name() -> None:
    async with listening(hang) as port:
        with resolving(Names(**{"one.localhost": ["127.0.0.1"]})):
            found = await reach(Dialer(), Target("one.localhost", port, is_secure=False), 5.0)
        address = await reach(Dialer(), Target("127.0.0.1", port, is_secure=False), 5.0)
    assert (found.failed, found.name, found.addresses) == (None, "one.localhost", ("127.0.0.1",))
    assert (address.failed, address.name) == (None, None)


async def test_certificates_that_vanish_are_a_fault_of_tls(tmp_path: Path) -> None:
    async with listening(hang) as port:
        target = Target("127.0.0.1", port, is_secure=True)
        found = await reach(Dialer(ca_file=tmp_path / "none"), target, 5.0)
    assert found.failed is Stage.TLS
    assert found.problem.endswith("none cannot be read: No such file or directory")


async def test_a_proxy_of_the_environment_that_is_none() -> None:
    dialer = Dialer(environment={"HTTPS_PROXY": "ftp://user:hush@proxy.test"})
    found = await reach(dialer, Target("one.test", 443, is_secure=True), 5.0)
    assert found.failed is Stage.CONFIG
    assert found.problem.startswith("the environment's HTTPS_PROXY: no http:// or socks5://")
    assert "hush" not in found.problem


@settings(deadline=None)
@given(
    st.integers(100, 599),
    st.binary()
    | st.builds(
        lambda key, value: b'{"%s": %s}' % (key, value),
        st.sampled_from([b"serverTime", b"msg", b"code"]),
        st.sampled_from([b"true", b"-1", b"1e400", b"9" * 5_000, b'"\x1b[2J\xff"', b"[" * 9_000]),
    ),
)
def test_any_body_is_a_value(status: int, body: bytes) -> None:
    probe = HttpProbe(url="https://one", status=status, body=body)
    assert probe.server_time_ms is None or status == 200
    assert probe.fault.isprintable()


async def test_an_endless_answer_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(0.001)
            yield b"x" * 1_000

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=endless())

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        probe = await probe_http(client, "https://one/time", 8.0, lambda: 3.0)
    assert len(probe.body) == 64 * 1_024
    assert (probe.status, probe.sent_ms) == (200, 3_000)
    assert probe.seconds < 1


async def test_a_route_is_left_at_its_first_frame(autojump_clock: trio.testing.MockClock) -> None:
    """By force, without a CLOSE frame; and a closed candle counts as a forming one does."""
    gone: list[float] = []

    async def close_one(peer: Peer) -> None:
        await peer.accept()
        assert await peer.subscribed() == ["btcusdt@kline_1m"]
        await trio.sleep(2)
        await peer.candle(SPOT)
        assert await peer.gone() == []
        gone.append(trio.current_time())

    exchange = ScriptedExchange([close_one])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.serve)
        began = trio.current_time()
        found = await probe_route(exchange.dial, "wss://one/stream", MARKETS["spot"], 8.0, 15.0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert found.first_frame_seconds == pytest.approx(2)
    assert found.is_acknowledged
    assert gone == [pytest.approx(began + 2)]
