"""A stream to a WebSocket server with the sieve in it, and with pauses between its reads."""

import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from kline_trio.exchange.sieve import CandleFilter, Sieve

_READ_BYTES = 262_144
_BACKLOG_BYTES = 49_152
"""After a read of this size the next one is due at once: a pause gathers less. It is less than the
64 KiB that a kernel receives at first without being read."""
_LONG_PAUSE_SECONDS = 0.08
"""While candles only form, as many pauses as fit in this time are joined. Spread evenly, 3,500
frames a second cost little but wake-ups; this halves their CPU."""
_SAMPLE_SECONDS = 1.0
"""The least time between two calls of `on_forming`."""


@attrs.define(eq=False)
class SharedTimer:
    """Wakes all tasks that wait for the same moment by one of Trio's timers.

    At an even load most CPU goes into wake-ups, and a fifth of that into Trio's timers: each sleep
    ends by a cancellation.
    """

    _waiting: dict[float, trio.lowlevel.ParkingLot] = attrs.field(init=False, factory=dict)
    """By moment: the tasks that wait beside the one that sleeps until then and wakes them."""

    async def until(self, moment: float) -> None:
        """Wait until that time of Trio's clock.

        If the task that sleeps for all is cancelled, another takes its place.
        """
        while trio.current_time() < moment:
            if moment in self._waiting:
                await self._waiting[moment].park()
                continue
            waiting = self._waiting[moment] = trio.lowlevel.ParkingLot()
            try:
                await trio.sleep_until(moment)
            finally:
                del self._waiting[moment]
                waiting.unpark_all()


@attrs.define(eq=False)
class ReadPacer:
    """Schedules the next read, so that the kernel gathers frames between two reads."""

    pause_seconds: float = 0.0
    """Reads are due at multiples of this time."""
    timer: SharedTimer = attrs.field(factory=SharedTimer)
    """Shared with the other connections."""
    due_at: float = attrs.field(init=False, default=-math.inf)
    """When the next read is due, by Trio's clock."""
    _long_pause_seconds: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        pauses = int(_LONG_PAUSE_SECONDS / self.pause_seconds) if self.pause_seconds else 1
        self._long_pause_seconds = self.pause_seconds * max(1, pauses)

    def schedule(self, *, only_forming: bool) -> None:
        """Pause before the next read; longer if this one brought nothing but forming candles."""
        step = self._long_pause_seconds if only_forming else self.pause_seconds
        now = trio.current_time()
        # After a wake-up at a multiple, a float may be a little smaller than the multiple.
        self.due_at = (math.floor(now / step + 1e-6) + 1) * step if step else now


@attrs.frozen
class ReadHandlers:
    """The functions that a sieved stream calls after each read."""

    on_life: Callable[[], object]
    """Called if a data frame ended in the read, kept or left out."""
    on_forming: Callable[[bytes], object]
    """Takes the newest payload that was left out; at once for the first, then once a second."""
    on_closed: Callable[[Sequence[bytes]], Awaitable[None]] | None = None
    """Takes the payloads of closed candles, which then are not passed on; None passes them on.
    It is called before `on_forming`. The next read waits for it; if it is cancelled, the other
    bytes of the read stay."""


class SievedStream(trio.abc.Stream):
    """A stream to a WebSocket server, from which forming candles have been sieved.

    All bytes that are sent pass unchanged. One task at a time may receive.

    Args:
      stream: the transport, connected and, if need be, encrypted; closed with this stream.
      handlers: called after each read.
      pacer: spaces the reads. There is no pause before the first data frame has come, nor after a
        read that brought more than a pause would gather.

    Attributes:
      sieve: the sieve of this stream.
      bug: the exception that a handler raised. It is raised to the receiver as well. But in
        trio-websocket's reader a Cancelled may replace it: the reader closes a channel on its way
        out, and then the user of that channel cancels the nursery of both.
    """

    def __init__(
        self, stream: trio.abc.Stream, handlers: ReadHandlers, pacer: ReadPacer | None = None
    ) -> None:
        self.sieve = Sieve(CandleFilter(takes_closed=handlers.on_closed is not None))
        self.bug: Exception | None = None
        self._stream = stream
        self._handlers = handlers
        self._pacer = pacer or ReadPacer()
        self._sample_after = -math.inf
        self._sampled = 0
        self._surplus = b""
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive the next bytes that are to be passed on.

        Each read of the transport is a checkpoint, so a flood of forming candles stops no other
        task. If cancelled, no bytes are lost: between a read and the return only `on_closed`
        waits, and the pause comes before the read.

        Raises:
          ConnectionError: the connection ended before the handshake was answered with 101.
            trio-websocket would wait for ever on EOF, and on BrokenResourceError too.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        if self._closed:
            raise trio.ClosedResourceError
        if self._surplus:
            await trio.lowlevel.checkpoint()
        while not self._surplus:
            # Not max_bytes: most of a read is never passed on, and large reads save wake-ups.
            data = await self._receive()
            if not data:
                return b""  # the sieve can hold no more than a frame that was cut short
            self._surplus = self.sieve.feed(data)
            try:
                await self._report()
            except Exception as bug:
                self.bug = bug
                raise
            if len(data) < _BACKLOG_BYTES and self.sieve.frames:
                has_more = self._surplus or self.sieve.candles.taken or self.sieve.is_amid
                self._pacer.schedule(only_forming=not has_more)
        passed, self._surplus = self._surplus, b""
        if max_bytes is not None and len(passed) > max_bytes:
            passed, self._surplus = passed[:max_bytes], passed[max_bytes:]
        return passed

    def peer_address(self) -> str | None:
        """Return the IP address at the other end of the transport; None if it has no socket."""
        stream: object = self._stream
        while not isinstance(stream, trio.SocketStream):
            stream = getattr(stream, "transport", None)
            if stream is None:
                return None
        try:
            return str(stream.socket.getpeername()[0])
        except OSError:
            return None

    async def _receive(self) -> bytes:
        if trio.current_time() < self._pacer.due_at:
            await self._pacer.timer.until(self._pacer.due_at)
        try:
            # bytes() copies nothing but a bytearray, and only memory streams give those.
            data = bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError as broken:
            if self.sieve.head.upgraded:
                raise
            raise self._no_answer() from broken
        if not data and not self.sieve.head.upgraded:
            raise self._no_answer()
        return data

    def _no_answer(self) -> ConnectionError:
        status = f" (status {self.sieve.head.status})" if self.sieve.head.status else ""
        return ConnectionError(
            f"the server closed the connection before it answered the handshake{status}"
        )

    async def _report(self) -> None:
        candles, handlers = self.sieve.candles, self._handlers
        if self.sieve.alive:
            handlers.on_life()
        if candles.taken and handlers.on_closed is not None:
            await handlers.on_closed(candles.taken)
        if candles.dropped > self._sampled and trio.current_time() >= self._sample_after:
            self._sampled = candles.dropped
            self._sample_after = trio.current_time() + _SAMPLE_SECONDS
            handlers.on_forming(candles.newest_dropped)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of the data. If cancelled, a part of the data may have been sent.

        Raises:
          ConnectionError: as `receive_some`.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as broken:
            if self.sieve.head.upgraded:
                raise
            raise self._no_answer() from broken

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may have room."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the transport. Bytes that were received and not fetched are lost."""
        self._closed = True
        await self._stream.aclose()
