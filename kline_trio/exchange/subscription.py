"""The streams that a connection asks for, and the state of each request."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.exchange.protocol import CONTRACT_INFO, request_text

_STREAMS_PER_REQUEST = 100
"""Some 2 kB of text; requests of 350 streams have been reported to work."""


@attrs.frozen
class _Request:
    """One message, sent or to be sent."""

    names: tuple[str, ...]
    begins: bool = True
    """Whether to subscribe to the streams; else to unsubscribe."""


@attrs.define(eq=False)
class Subscription:
    """The requests of one connection: paced, in order, and each followed to its end.

    One malformed name makes the exchange refuse the whole request. So a refused request is sent
    again in halves, until the refused name stands alone.
    """

    streams: dict[str, Series] = attrs.field(init=False, factory=dict)
    """By stream name, until an unsubscribe request is acknowledged."""
    refused: set[str] = attrs.field(init=False, factory=set)
    """The streams that the exchange refused, and that were not requested again."""
    unheard: set[bytes] = attrs.field(init=False, factory=set)
    """Stream names that no frame had yet; the sieve discards names from it."""

    _wanted: set[str] = attrs.field(init=False, factory=set)
    _waiting: deque[_Request] = attrs.field(init=False, factory=deque)
    _something_waits: trio.Event = attrs.field(init=False, factory=trio.Event)
    _sent: int = attrs.field(init=False, default=0)
    _sent_at: float | None = attrs.field(init=False, default=None)
    _pending: dict[object, _Request] = attrs.field(init=False, factory=dict)
    """By id: the requests without an answer."""
    _expected_since: dict[str, float] = attrs.field(init=False, factory=dict)
    """By stream name, the oldest first: since when a frame is expected."""

    def subscribe(self, streams: Mapping[str, Series]) -> None:
        """Request these streams too; the others go on."""
        self.streams.update(streams)
        self.refused.difference_update(streams)
        self._begin(streams)

    def subscribe_to_contracts(self) -> None:
        """Request the stream of listings and delistings, if it is not requested yet.

        In a request of its own: a market without such a stream refuses no other stream with it.
        """
        if CONTRACT_INFO not in self._wanted:
            self._wanted.add(CONTRACT_INFO)
            self._request([CONTRACT_INFO], begins=True)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """End these streams; candles that still come of them are delivered."""
        names = tuple(names)
        self._wanted.difference_update(names)
        for name in names:
            self.mark_heard(name)
            self._expected_since.pop(name, None)
        self._request(names, begins=False)

    def resubscribe(self, name: str) -> None:
        """End a stream and request it again."""
        self.refused.discard(name)
        self.unsubscribe([name])
        self._begin([name])

    def watch(self, name: str, now_seconds: float) -> None:
        """Expect a frame of this stream from now on: `silent` names it if none comes.

        A second call during the same silence changes nothing. Else the patience with a stream that
        is watched anew each second would never end.
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
                self._pending[self._sent] = request
                method = "SUBSCRIBE" if request.begins else "UNSUBSCRIBE"
                await send_message(request_text(method, request.names, self._sent))
                self._sent_at = trio.current_time()
                # Half of what is allowed: pongs count too, and bursts after a reconnect have
                # drawn close code 1008 (binance-connector-go#90).
                await trio.sleep(2 / messages_per_second)
            self._something_waits = trio.Event()
            await self._something_waits.wait()

    def is_complete(self, now_seconds: float, patience_seconds: float) -> bool:
        """Whether all requests are sent, and each stream gave a frame or patience is at its end.

        An answer to a request proves less than a frame: streams that do not exist are acknowledged.
        """
        if self._waiting or self._sent_at is None:
            return False
        return not self.unheard or now_seconds >= self._sent_at + patience_seconds

    def is_pending(self, request_id: object) -> bool:
        """Whether this is the id of a request that waits for its answer."""
        return request_id in self._pending

    def mark_heard(self, name: str) -> None:
        """Note that a frame of this stream came."""
        self.unheard.discard(name.encode())

    def acknowledge(self, request_id: object, now_seconds: float) -> None:
        """Note that a request was taken. That does not prove that its streams exist."""
        request = self._pending.pop(request_id, _Request(()))
        for name in request.names:
            if request.begins:
                self._expect(name, now_seconds)
            elif name not in self._wanted:
                self.streams.pop(name, None)

    def refuse(self, request_id: object) -> tuple[str, ...]:
        """Note that a request was refused. Return the names refused for good, none or one."""
        request = self._pending.pop(request_id, _Request(()))
        names = request.names
        if not request.begins:
            return ()
        if len(names) <= 1:
            self.unheard.difference_update(name.encode() for name in names)
            self.refused.update(names)
            return names
        # Before later requests, which may end one of these streams.
        names = tuple(name for name in names if name in self._wanted)
        middle = len(names) // 2
        for half in (names[middle:], names[:middle]):
            if half:
                self._waiting.appendleft(attrs.evolve(request, names=half))
        self._something_waits.set()
        return ()

    def silent(self, now_seconds: float, patience_seconds: float) -> tuple[str, ...]:
        """Return the streams that gave no frame for so long; each once for each silence."""
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

    def _begin(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self._wanted.update(names)
        self.unheard.update(name.encode() for name in names)
        self._request(names, begins=True)

    def _request(self, names: Sequence[str], *, begins: bool) -> None:
        for start in range(0, len(names), _STREAMS_PER_REQUEST):
            part = tuple(names[start : start + _STREAMS_PER_REQUEST])
            self._waiting.append(_Request(part, begins))
        self._something_waits.set()
