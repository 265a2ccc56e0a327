"""Which streams a connection has asked for, and what became of each."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from kline_trio.exchange.protocol import subscribe_request, unsubscribe_request

__all__ = ["Subscription"]

_STREAMS_PER_REQUEST = 100
"""Some 2 kB of text; requests of 350 streams have been reported to work."""


@attrs.frozen
class _Request:
    """One message, sent or to be sent."""

    names: tuple[str, ...]
    begins: bool = True
    """Whether the streams are to begin; else they are to end."""

    def text(self, request_id: int) -> str:
        """The message as it is sent."""
        write = subscribe_request if self.begins else unsubscribe_request
        return write(self.names, request_id)


@attrs.define(eq=False)
class Subscription:
    """The requests of one connection: paced, in order, and each followed to its end.

    One malformed name makes the exchange refuse the whole request, so a refused request is asked
    again in halves until the name that it refuses stands alone.
    """

    unheard: set[bytes] = attrs.field(init=False, factory=set)
    """Names that nothing was heard of yet; the sieve takes names out of it as it hears them."""

    _wanted: set[str] = attrs.field(init=False, factory=set)
    _waiting: deque[_Request] = attrs.field(init=False, factory=deque)
    _something_waits: trio.Event = attrs.field(init=False, factory=trio.Event)
    _sent: int = attrs.field(init=False, default=0)
    _sent_at: float | None = attrs.field(init=False, default=None)
    _asked: dict[int, _Request] = attrs.field(init=False, factory=dict)
    """By id; what is not answered yet."""
    _expected_since: dict[str, float] = attrs.field(init=False, factory=dict)
    """Of which streams something should come by now, and since when."""

    def begin(self, names: Iterable[str], *, quiet: bool = False) -> None:
        """Ask for these streams; of quiet ones nothing is expected soon."""
        names = tuple(names)
        self._wanted.update(names)
        if not quiet:
            self.unheard.update(name.encode() for name in names)
        self._ask(names, begins=True)

    def end(self, names: Iterable[str]) -> None:
        """Ask for no more of these streams."""
        names = tuple(names)
        self._wanted.difference_update(names)
        for name in names:
            self.hear(name)
            self._expected_since.pop(name, None)
        self._ask(names, begins=False)

    def suspect(self, name: str, now_seconds: float) -> None:
        """Something should have come of this stream: note when next it gives anything.

        Said again during the same silence it changes nothing, else patience would never end with a
        stream that is suspected each second.
        """
        if name in self._expected_since and name.encode() in self.unheard:
            return
        self.unheard.add(name.encode())
        self._expect(name, now_seconds)

    async def send(
        self, send_message: Callable[[str], Awaitable[None]], messages_per_second: float
    ) -> None:
        """Send the requests, and those that follow from refusals, until cancelled."""
        while True:
            while self._waiting:
                request = self._waiting.popleft()
                self._sent += 1
                self._asked[self._sent] = request
                await send_message(request.text(self._sent))
                self._sent_at = trio.current_time()
                # Half of what is allowed: pongs count too, and bursts after a reconnect have
                # drawn close code 1008 (binance-connector-go#90).
                await trio.sleep(2 / messages_per_second)
            self._something_waits = trio.Event()
            await self._something_waits.wait()

    def is_heard(self, now_seconds: float, patience_seconds: float) -> bool:
        """Whether all streams were asked for, and all were heard of, or patience is at its end.

        An answer to a request proves less than a frame: streams that do not exist are acknowledged.
        """
        if self._waiting or self._sent_at is None:
            return False
        return not self.unheard or now_seconds >= self._sent_at + patience_seconds

    def asked(self, request_id: object) -> bool:
        """Whether this is the id of a request that waits for its answer."""
        return request_id in self._asked

    def hear(self, name: str) -> None:
        """Note that this stream gives something."""
        self.unheard.discard(name.encode())

    def acknowledge(self, request_id: object, now_seconds: float) -> tuple[str, ...]:
        """Note that a request was taken; the streams that end by it, and were not begun anew.

        Whether streams that begin by it exist is another matter.
        """
        request = self._answered(request_id)
        if not request.begins:
            return tuple(name for name in request.names if name not in self._wanted)
        for name in request.names:
            self._expect(name, now_seconds)
        return ()

    def refuse(self, request_id: object) -> tuple[str, ...]:
        """Note that a request was refused; the names that are refused for good, none or one."""
        request = self._answered(request_id)
        names = request.names
        if not request.begins:
            return ()
        if len(names) <= 1:
            self.unheard.difference_update(name.encode() for name in names)
            return names
        # Before what was asked later, which may be to end one of these.
        names = tuple(name for name in names if name in self._wanted)
        middle = len(names) // 2
        for half in (names[middle:], names[:middle]):
            if half:
                self._waiting.appendleft(attrs.evolve(request, names=half))
        self._something_waits.set()
        return ()

    def silent(self, now_seconds: float, patience_seconds: float) -> tuple[str, ...]:
        """The streams expected for so long of which nothing was heard; each is named once."""
        names = []
        for name, since in self._expected_since.items():  # the oldest first
            if now_seconds - since < patience_seconds:
                break
            names.append(name)
        for name in names:
            del self._expected_since[name]
        return tuple(name for name in names if name.encode() in self.unheard)

    def _expect(self, name: str, now_seconds: float) -> None:
        self._expected_since.pop(name, None)  # so that it stands last
        self._expected_since[name] = now_seconds

    def _ask(self, names: tuple[str, ...], *, begins: bool) -> None:
        for start in range(0, len(names), _STREAMS_PER_REQUEST):
            self._waiting.append(_Request(names[start : start + _STREAMS_PER_REQUEST], begins))
        self._something_waits.set()

    def _answered(self, request_id: object) -> _Request:
        if isinstance(request_id, int):
            return self._asked.pop(request_id, _Request(()))
        return _Request(())
