"""A TCP proxy on loopback that does to a connection what networks do, when it is told to.

It knows nothing of what it carries, so that TLS goes through it as anything else does. It runs
Trio in a thread of its own, and any thread may tell it what to do; it is done on return.
"""

import enum
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self, TypeVar

import attrs
import trio

__all__ = ["Door", "FaultProxy", "Weather"]

_HOST = "127.0.0.1"
_READ_BYTES = 65_536
_FULL_SECONDS = 0.1
"""Loopback answers a connect at once; one that takes so long was dropped."""

_Result = TypeVar("_Result")


class Door(enum.Enum):
    """What becomes of new connections."""

    OPEN = "they are led to the target"
    REFUSING = "they are refused"
    MUTE = "they are accepted, and nothing is ever read or said"
    BLACKHOLE = "their first packet is dropped, as by a firewall"


@attrs.frozen(kw_only=True)
class Weather:
    """What happens to the bytes of all connections, in both directions."""

    latency_seconds: float = 0.0
    """How long each read waits before it is passed on."""
    jitter_seconds: float = 0.0
    """How much longer at most; drawn anew for each read."""
    slice_bytes: int = _READ_BYTES
    """How much is written at once."""
    bytes_per_second: float = float("inf")
    """In each direction of each connection."""


@attrs.define(eq=False)
class _Link:
    """One connection from a client, and the one to the target that belongs to it."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    half_closed: bool = False

    def reset(self) -> None:
        """Both ends see a reset, whatever is on its way."""
        for stream in (self.client, self.server):
            if stream is not None and stream.socket.fileno() >= 0:
                linger = struct.pack("ii", 1, 0)
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                stream.socket.close()
        self.scope.cancel()

    def half_close(self) -> None:
        """The client sees an end of what it receives; what it sends is still taken."""
        self.half_closed = True
        if self.client.socket.fileno() >= 0:
            with suppress(OSError):  # it has gone already
                self.client.socket.shutdown(socket.SHUT_WR)


class FaultProxy:
    """A proxy before one port; `running` makes one."""

    def __init__(self, target_port: int, seed: int = 1) -> None:
        self.port = 0
        """Where it listens."""
        self.accepted = 0
        """How many connections have come, the mute ones too."""
        self.carried = 0
        """How many bytes went through, in both directions."""
        self.writes = 0
        """In how many pieces; whether they arrive in as many is the kernel's choice."""
        self._target_port = target_port
        self._dice = random.Random(seed)
        self._weather = Weather()
        self._flowing = trio.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._door = Door.OPEN
        self._door_scope = trio.CancelScope()
        self._door_ready = trio.Event()
        self._whole = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None

    @classmethod
    @contextmanager
    def running(
        cls, target_port: int, *, seed: int = 1, life_seconds: float = 300.0
    ) -> Iterator[Self]:
        """A proxy before a port of this machine, while the body runs, and no longer than that."""
        proxy, listening = cls(target_port, seed), threading.Event()
        thread = threading.Thread(target=trio.run, args=(proxy._run, listening, life_seconds))
        thread.start()
        try:
            assert listening.wait(30), "the proxy should listen"
            yield proxy
        finally:
            with suppress(trio.RunFinishedError):  # its life was over
                proxy._tell(proxy._whole.cancel)
            thread.join()

    # What it can be told

    def weather(self, weather: Weather) -> None:
        """From the next read of each connection on."""
        self._tell(lambda: setattr(self, "_weather", weather))

    def silence(self) -> None:
        """Half-open: all sockets stay open, and nothing moves any more, not even an end."""
        self._tell(self._stop_flow)

    def door(self, door: Door) -> None:
        """What becomes of new connections from now on."""
        assert self._token is not None
        trio.from_thread.run(self._set_door, door, trio_token=self._token)

    def heal(self) -> None:
        """Fine weather, an open door, and what was silent flows again."""
        self.weather(Weather())
        self._tell(self._flowing.set)
        self.door(Door.OPEN)

    def reset(self) -> int:
        """Reset all living connections, on both sides; how many there were."""
        return self._tell(lambda: self._each(_Link.reset))

    def cut(self) -> int:
        """End all living connections in order, with a FIN; how many there were."""
        return self._tell(lambda: self._each(lambda link: link.scope.cancel()))

    def half_close(self) -> int:
        """Tell the clients that no more will come, and go on to take what they send."""
        return self._tell(lambda: self._each(_Link.half_close))

    @property
    def living(self) -> int:
        """How many connections there are now, the mute ones too."""
        return self._tell(lambda: len(self._links))

    # How it does it

    def _tell(self, job: Callable[[], _Result]) -> _Result:
        assert self._token is not None
        return trio.from_thread.run_sync(job, trio_token=self._token)

    def _each(self, job: Callable[[_Link], object]) -> int:
        links = tuple(self._links)
        for link in links:
            job(link)
        return len(links)

    def _stop_flow(self) -> None:
        self._flowing = trio.Event()

    async def _set_door(self, door: Door) -> None:
        self._door, self._door_ready = door, trio.Event()
        self._door_scope.cancel()
        await self._door_ready.wait()

    async def _run(self, listening: threading.Event, life_seconds: float) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._whole:
            self._whole.deadline = trio.current_time() + life_seconds
            async with trio.open_nursery() as links:
                while True:
                    with trio.CancelScope() as self._door_scope, ExitStack() as opened:
                        # Bound, and not yet listening: who connects is refused.
                        door = opened.enter_context(trio.socket.socket())
                        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        await door.bind((_HOST, self.port))
                        self.port = door.getsockname()[1]
                        await self._keep_door(door, links, opened, listening)

    async def _keep_door(
        self,
        door: trio.socket.SocketType,
        links: trio.Nursery,
        opened: ExitStack,
        listening: threading.Event,
    ) -> None:
        if self._door is Door.BLACKHOLE:
            await _fill(door, self.port, opened)
        elif self._door is not Door.REFUSING:
            door.listen(128)
        self._door_ready.set()
        listening.set()
        while self._door in (Door.OPEN, Door.MUTE):
            client, _ = await door.accept()
            self.accepted += 1
            link = _Link(trio.SocketStream(client))
            links.start_soon(self._serve, link, self._door)
        await trio.sleep_forever()

    async def _serve(self, link: _Link, door: Door) -> None:
        self._links.add(link)
        try:
            with link.scope, suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                if door is Door.MUTE:
                    await trio.sleep_forever()
                link.server = await trio.open_tcp_stream(_HOST, self._target_port)
                async with trio.open_nursery() as directions:
                    directions.start_soon(self._pump, link, link.client, link.server)
                    directions.start_soon(self._pump, link, link.server, link.client)
        finally:
            self._links.discard(link)
            for stream in (link.client, link.server):
                if stream is not None:
                    stream.socket.close()

    async def _pump(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        # A connection that broke on one side is reset on both: nobody is left with half of one.
        try:
            while data := await source.receive_some(_READ_BYTES):
                await self._pass_on(bytes(data), link, sink)
            await self._flowing.wait()
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            link.reset()

    async def _pass_on(self, data: bytes, link: _Link, sink: trio.SocketStream) -> None:
        await self._flowing.wait()
        weather = self._weather
        await trio.sleep(weather.latency_seconds + self._dice.random() * weather.jitter_seconds)
        while data and not (link.half_closed and sink is link.client):
            await self._flowing.wait()
            weather = self._weather
            size = max(1, int(min(weather.slice_bytes, weather.bytes_per_second / 20)))
            piece, data = data[:size], data[size:]
            # Before, so that who has received something finds it counted.
            self.carried += len(piece)
            self.writes += 1
            await sink.send_all(piece)
            await trio.sleep(len(piece) / weather.bytes_per_second)


async def _fill(door: trio.socket.SocketType, port: int, opened: ExitStack) -> None:
    """Fill the queue of those that wait to be accepted: Linux drops who comes then."""
    door.listen(0)
    for _ in range(8):
        client = opened.enter_context(trio.socket.socket())
        with trio.move_on_after(_FULL_SECONDS) as scope:
            await client.connect((_HOST, port))
        if scope.cancelled_caught:
            return
