"""Which streams a connection has asked for, and what became of each."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from kline_trio.exchange.protocol import subscribe_request

__all__ = ["Subscription"]

_STREAMS_PER_REQUEST = 100
"""Some 2 kB of text; requests of 350 streams have been reported to work."""


@attrs.define(eq=False)
class Subscription:
    """The SUBSCRIBE requests of one connection: paced, and each followed to its end.

    One malformed name makes the exchange refuse the whole request, so a refused request is asked
    again in halves until the name that it refuses stands alone.
    """

    unheard: set[bytes]
    """Names that nothing was heard of yet; the sieve takes names out of it as it hears them."""

    _waiting: deque[tuple[str, ...]]
    _something_waits: trio.Event = attrs.field(init=False, factory=trio.Event)
    _asked: dict[int, tuple[str, ...]] = attrs.field(init=False, factory=dict)
    _acknowledged_at: dict[str, float] = attrs.field(init=False, factory=dict)

    @classmethod
    def to(cls, streams: Iterable[str]) -> "Subscription":
        """A subscription to these streams, of which nothing is sent yet."""
        names, size = tuple(streams), _STREAMS_PER_REQUEST
        requests = (names[start : start + size] for start in range(0, len(names), size))
        return cls({name.encode() for name in names}, deque(requests))

    async def send(
        self, send_message: Callable[[str], Awaitable[None]], messages_per_second: float
    ) -> None:
        """Send the requests, and those that follow from refusals, until cancelled."""
        while True:
            while self._waiting:
                names = self._waiting.popleft()
                request_id = len(self._asked) + 1
                self._asked[request_id] = names
                await send_message(subscribe_request(names, request_id))
                # Half of what is allowed: pongs count too, and bursts after a reconnect have
                # drawn close code 1008 (binance-connector-go#90).
                await trio.sleep(2 / messages_per_second)
            self._something_waits = trio.Event()
            await self._something_waits.wait()

    def asked(self, request_id: object) -> bool:
        """Whether this is the id of a request that was sent."""
        return bool(self._names(request_id))

    def hear(self, name: str) -> None:
        """Note that this stream gives something."""
        self.unheard.discard(name.encode())

    def acknowledge(self, request_id: object, now_seconds: float) -> None:
        """Note that a request was taken. Whether its streams exist is another matter."""
        for name in self._names(request_id):
            self._acknowledged_at[name] = now_seconds

    def refuse(self, request_id: object) -> tuple[str, ...]:
        """Note that a request was refused; the names that are refused for good, none or one."""
        names = self._names(request_id)
        if len(names) <= 1:
            return names
        middle = len(names) // 2
        self._waiting += [names[:middle], names[middle:]]
        self._something_waits.set()
        return ()

    def silent(self, now_seconds: float, patience_seconds: float) -> tuple[str, ...]:
        """The streams acknowledged so long ago of which nothing was heard; each is named once."""
        names = tuple(
            name
            for name, since in self._acknowledged_at.items()
            if now_seconds - since >= patience_seconds
        )
        for name in names:
            del self._acknowledged_at[name]
        return tuple(name for name in names if name.encode() in self.unheard)

    def _names(self, request_id: object) -> tuple[str, ...]:
        return self._asked.get(request_id, ()) if isinstance(request_id, int) else ()
