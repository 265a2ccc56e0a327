"""A stream to a WebSocket server with the sieve in it, at rest between its reads."""

import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from kline_trio.exchange.sieve import Sieve

__all__ = ["SharedTimer", "SievedStream"]

_READ_BYTES = 262_144

_BACKLOG_BYTES = 49_152
"""A read that brought so much was behind, and the next one is due at once: a rest gathers less. It
is less than the 64 KiB that a kernel receives at first without being read."""

_LONG_REST_SECONDS = 0.08
"""As long as candles only form, as many rests are taken in one as fit. Spread evenly, 3,500 frames
a second cost little but wake-ups; this halves their CPU."""


@attrs.define(eq=False)
class SharedTimer:
    """Who waits for the same moment is woken by one timer.

    At an even load most CPU goes into wake-ups, and a fifth of that into Trio's timers: to sleep
    is to be cancelled.
    """

    _waiting: dict[float, trio.lowlevel.ParkingLot] = attrs.field(init=False, factory=dict)
    """By moment: who waits beside the one that sleeps until then, and wakes them."""

    async def until(self, moment: float) -> None:
        """Wait until that time of Trio's clock.

        If who sleeps for all is cancelled, another goes on.
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


class SievedStream(trio.abc.Stream):
    """A stream to a WebSocket server, from which forming candles have been sieved.

    Everything sent goes straight through. One task at a time may receive.

    Args:
      stream: the transport, connected and, if need be, encrypted; closed with this stream.
      on_life: called after each read in which a data frame ended, whatever became of it.
      on_forming: called with the newest dropped payload, at most once every `sample_seconds`, and
        after all closed candles that came with it.
      sample_seconds: the least time between two calls of `on_forming`; the first is immediate.
      rest_seconds: the transport is read at multiples of this, so that the kernel gathers frames
        meanwhile, and more rarely, each 80 ms, while reads bring nothing but forming candles. There
        is no rest before the first data frame has come, and none while the transport has more than
        a rest would gather.
      lull: shared with others that rest.
      on_closed: given the payloads of closed candles, which then are not passed on; None passes
        them on. The next read waits for it; if it is cancelled, the rest of what was read stays.

    Attributes:
      sieve: what has come so far.
      bug: what one of the functions raised. It is raised to the receiver as well, but in
        trio-websocket's reader a Cancelled may take its place: it closes a channel on its way out,
        by which its user ends the nursery that both are in.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        on_life: Callable[[], object],
        on_forming: Callable[[bytes], object],
        sample_seconds: float = 1.0,
        rest_seconds: float = 0.0,
        shared_timer: SharedTimer | None = None,
        on_closed: Callable[[Sequence[bytes]], Awaitable[None]] | None = None,
    ) -> None:
        self.sieve = Sieve(takes_closed=on_closed is not None)
        self.bug: Exception | None = None
        self._stream = stream
        self._on_life = on_life
        self._on_closed = on_closed
        self._on_forming = on_forming
        self._sample_seconds = sample_seconds
        self._sample_after = float("-inf")
        self._sampled = 0
        self._rest_seconds = rest_seconds
        rests = int(_LONG_REST_SECONDS / rest_seconds) if rest_seconds else 1
        self._long_rest_seconds = rest_seconds * max(1, rests)
        self._lull = shared_timer or SharedTimer()
        self._read_after = float("-inf")
        self._surplus = b""
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive the next bytes that are to be passed on.

        A flood of nothing but forming candles stops no other task: each read of the transport is
        a checkpoint. If cancelled, nothing is lost: between a read and the return nothing waits
        but `on_closed`, and the rest comes before the read.

        Raises:
          ConnectionError: the connection ended before the handshake was answered with 101. On
            EOF, and on BrokenResourceError too, trio-websocket would wait for ever.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        if self._closed:
            raise trio.ClosedResourceError
        if self._surplus:
            await trio.lowlevel.checkpoint()
        while not self._surplus:
            # The caller's max_bytes is not asked of the transport: most of what is read is never
            # passed on, and the more one read brings, the fewer wake-ups it takes.
            data = await self._receive()
            if not data:
                return b""  # what the sieve holds is a frame cut short, of use to nobody
            self._surplus = self.sieve.feed(data)
            try:
                await self._report()
            except Exception as bug:
                self.bug = bug
                raise
            if len(data) < _BACKLOG_BYTES and self.sieve.frames:
                self._read_after = self._next_read()
        passed, self._surplus = self._surplus, b""
        if max_bytes is not None and len(passed) > max_bytes:
            passed, self._surplus = passed[:max_bytes], passed[max_bytes:]
        return passed

    def _next_read(self) -> float:
        is_forming = not (self._surplus or self.sieve.taken or self.sieve.is_amid)
        step = self._long_rest_seconds if is_forming else self._rest_seconds
        now = trio.current_time()
        # Woken just at a multiple, a float may lie a hair before it.
        return (math.floor(now / step + 1e-6) + 1) * step if step else now

    async def _receive(self) -> bytes:
        if trio.current_time() < self._read_after:
            await self._lull.until(self._read_after)
        try:
            # bytes() copies nothing but a bytearray, and only memory streams give those.
            data = bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError as broken:
            if self.sieve.upgraded:
                raise
            raise self._no_answer() from broken
        if not data and not self.sieve.upgraded:
            raise self._no_answer()
        return data

    def _no_answer(self) -> ConnectionError:
        status = f" (status {self.sieve.status})" if self.sieve.status else ""
        return ConnectionError(
            f"the server closed the connection before it answered the handshake{status}"
        )

    async def _report(self) -> None:
        sieve = self.sieve
        if sieve.alive:
            self._on_life()
        if sieve.taken and self._on_closed is not None:
            await self._on_closed(sieve.taken)
        if sieve.dropped > self._sampled and trio.current_time() >= self._sample_after:
            self._sampled = sieve.dropped
            self._sample_after = trio.current_time() + self._sample_seconds
            self._on_forming(sieve.newest_dropped)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of the data; if cancelled, as much as the transport has taken.

        Raises:
          ConnectionError: as `receive_some`.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as broken:
            if self.sieve.upgraded:
                raise
            raise self._no_answer() from broken

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may have room."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the transport, and forget what was received and not fetched."""
        self._closed = True
        await self._stream.aclose()
