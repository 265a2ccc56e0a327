"""The fault proxy does what it says, seen by plain sockets, over TCP on loopback."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.end_to_end.harness import wait_until
from tests.fault_proxy import Door, FaultProxy, Weather

SOON = 0.3
"""So long nothing comes where nothing should; what should come has ten seconds."""


class Echo(socketserver.BaseRequestHandler):
    """Says again what it hears."""

    def handle(self) -> None:
        with suppress(OSError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """A proxy before an echo."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with FaultProxy.running(server.server_address[1]) as running:
            yield running
        server.shutdown()
        thread.join()


def connect(proxy: FaultProxy, seconds: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), seconds)


def hear(client: socket.socket, size: int, seconds: float = 10.0) -> list[bytes]:
    """The pieces in which so many bytes come; fewer at an end, or when the time is over."""
    client.settimeout(seconds)
    pieces: list[bytes] = []
    with suppress(TimeoutError):
        while sum(map(len, pieces)) < size and (piece := client.recv(65_536)):
            pieces.append(piece)
    return pieces


def test_in_fine_weather_it_is_not_there(proxy: FaultProxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        for client, data in ((one, b"a" * 300_000), (other, b"b")):
            threading.Thread(target=client.sendall, args=(data,)).start()
            assert b"".join(hear(client, len(data))) == data
        assert (proxy.accepted, proxy.living) == (2, 2)
        assert proxy.carried == 2 * 300_001
        one.shutdown(socket.SHUT_WR)  # an end is passed on, and answered by one
        assert hear(one, 1) == []


def test_latency_slices_and_throttle_delay_and_lose_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        for weather, least_seconds in (
            (Weather(latency_seconds=0.1, jitter_seconds=0.05), 0.2),
            (Weather(slice_bytes=1), 0.0),
            (Weather(bytes_per_second=400), 0.45),
        ):
            proxy.weather(weather)
            began, writes = time.monotonic(), proxy.writes
            client.sendall(bytes(range(200)))
            assert b"".join(hear(client, 200)) == bytes(range(200))
            assert time.monotonic() - began >= least_seconds
            if weather.slice_bytes == 1:
                assert proxy.writes >= writes + 2 * 200
        proxy.heal()
        client.sendall(b"." * 5_000)
        assert sum(map(len, hear(client, 5_000))) == 5_000


def test_silence_holds_all_back_and_then_gives_it(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"1")
        assert hear(client, 1) == [b"1"]
        proxy.silence()
        client.sendall(b"2")
        client.shutdown(socket.SHUT_WR)
        assert hear(client, 1, SOON) == []
        with connect(proxy) as late:  # is led through, and hears nothing either
            late.sendall(b"x")
            assert hear(late, 1, SOON) == []
            proxy.heal()
            assert hear(late, 1) == [b"x"]
        assert b"".join(hear(client, 2)) == b"2"


def test_a_reset_is_a_reset_and_a_cut_is_an_end(proxy: FaultProxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        for client in (one, other):
            client.sendall(b"1")
            hear(client, 1)
        assert proxy.reset() == 2
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                hear(client, 1)
    with connect(proxy) as client:
        client.sendall(b"1")
        hear(client, 1)
        assert proxy.cut() == 1
        assert hear(client, 1) == []


def test_a_half_closed_client_can_still_send(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"1")
        hear(client, 1)
        assert proxy.half_close() == 1
        assert hear(client, 1) == []
        carried = proxy.carried
        for _ in range(3):  # though the echo has nowhere to go any more
            client.sendall(b"more")
            carried += 4
            wait_until(partial(has_carried, proxy, carried), "more should go through")
        assert proxy.living == 1


def test_a_closed_door_leaves_those_inside_alone(proxy: FaultProxy) -> None:
    with connect(proxy) as inside:
        for door in (
            Door.REFUSING,
            Door.MUTE,
            Door.BLACKHOLE,
            Door.OPEN,
        ):
            proxy.door(door)
            inside.sendall(b"1")
            assert hear(inside, 1) == [b"1"]


def test_doors(proxy: FaultProxy) -> None:
    proxy.door(Door.REFUSING)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.door(Door.MUTE)
    with connect(proxy) as client:
        client.sendall(b"hello?")
        assert hear(client, 1, SOON) == []
        assert proxy.living == 1
        assert proxy.cut() == 1
        with suppress(ConnectionResetError):  # for what it never read
            assert hear(client, 1) == []
    proxy.door(Door.BLACKHOLE)
    with pytest.raises(TimeoutError):
        connect(proxy, SOON)
    proxy.heal()
    with connect(proxy) as client:
        client.sendall(b"1")
        assert hear(client, 1) == [b"1"]


def test_its_life_is_bounded() -> None:
    with FaultProxy.running(9, life_seconds=0.2) as proxy:
        wait_until(lambda: is_refused(proxy), "nobody should be let in any more")
        wait_until(lambda: is_over(proxy), "its life should be over")


def is_over(proxy: FaultProxy) -> bool:
    try:
        proxy.cut()
    except trio.RunFinishedError:
        return True
    return False


def has_carried(proxy: FaultProxy, size: int) -> bool:
    return proxy.carried >= size


def is_refused(proxy: FaultProxy) -> bool:
    try:
        connect(proxy).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_absent_target_is_an_end_and_harms_no_others() -> None:
    with FaultProxy.running(9) as proxy:
        for _ in range(2):
            with connect(proxy) as client:
                assert hear(client, 1) == []
