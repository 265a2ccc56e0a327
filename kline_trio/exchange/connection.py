"""One life of one WebSocket: connect, subscribe, receive, and end with a reason.

We never begin a closing handshake. trio-websocket raises in its reader when a ping comes after our
CLOSE (trio-websocket#184), so the stream is closed by force.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

import attrs
import h11
import trio
import trio_websocket
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError as WebSocketProtocolError

from kline_trio.candle import Series
from kline_trio.errors import ProtocolError
from kline_trio.exchange.connection_events import (
    BadFrame,
    CloseReason,
    ConnectionEvent,
    Disconnected,
    Heard,
    Ready,
    RefusedStream,
    ShutdownAnnounced,
    SilentStreams,
)
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import (
    CONTRACT_INFO,
    CandleClosed,
    CandleForming,
    ContractChanged,
    ErrorReply,
    Event,
    ServerShutdown,
    SubscriptionReply,
    decode,
    stream_name,
)
from kline_trio.exchange.sieve import Sieve
from kline_trio.exchange.sieved_stream import SharedTimer, SievedStream
from kline_trio.exchange.subscription import Subscription
from kline_trio.interval import Span
from kline_trio.quoting import shown

__all__ = ["Connection", "Dial"]

Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a stream to a WebSocket URL; the number says which of its addresses to try first."""

_MESSAGE_QUEUE = 4096
"""Messages that wait behind trio-websocket's reader. With only a few, pings would stay unanswered
while we are blocked on our own channel, and the exchange drops who does not answer."""

_ABNORMAL_CLOSURE = 1006
"""No CLOSE frame came (RFC 6455, section 7.4.1)."""

_HTTP = b"HTTP/"

_QUIET_SECONDS = 15.0
"""Without trades a stream gives nothing: it is not waited for any longer than this."""

_LOST = (
    OSError,  # also ssl.SSLError, and names that do not resolve
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
    h11.ProtocolError,  # the answer to our handshake is not HTTP
    WebSocketProtocolError,  # what comes later are not WebSocket frames
    UnicodeError,  # wsproto takes the headers for ASCII
)


@attrs.define(eq=False)
class Connection:
    """One connection to one market, for streams that fit on it; it lives once."""

    market: Market
    streams: dict[str, Series]
    """What it is subscribed to, or about to be, by stream name; its own."""
    deliver: Callable[[CandleClosed], Awaitable[None]]
    """Takes the closed candles, in order. While it blocks, nothing counts as a stall."""
    tell: Callable[[ConnectionEvent], None]
    """Takes the rest."""
    hear_time: Callable[[int, Series], None]
    """Takes the event time, in milliseconds, of each valid candle when it comes, and its series."""
    told_up_to: Callable[[int], None]
    """Takes an event time when all closed candles of before are delivered."""
    believed: Callable[[int], Awaitable[Span]]
    """Waits until it is known whether an event time has come; returns which ones are believed."""
    connect_seconds: float
    """For TCP, TLS and handshake together."""
    stall_seconds: float
    """How long it may be without a data frame. Pings are not life (nautilus_trader#3907)."""
    rest_seconds: float = 0.0
    """Between two reads, so that frames gather; more while candles only form."""
    shared_timer: SharedTimer = attrs.field(factory=SharedTimer)
    """Shared with other connections."""
    hears_of_contracts: bool = False
    """Whether it listens for contracts that are listed or end, too."""

    refused: set[str] = attrs.field(init=False, factory=set)
    """The streams that the exchange refused, and that were not asked for anew."""
    _life: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _subscription: Subscription = attrs.field(init=False, factory=Subscription)
    _sieve: Sieve = attrs.field(init=False, factory=Sieve)
    _stream: SievedStream | None = attrs.field(init=False, default=None)
    _delivering: int = attrs.field(init=False, default=0)
    _heard: bool = attrs.field(init=False, default=False)
    _ready: bool = attrs.field(init=False, default=False)
    _closed_by_us: bool = attrs.field(init=False, default=False)
    _shutting_down: bool = attrs.field(init=False, default=False)
    _retired: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._subscription.begin(self.streams)
        if self.hears_of_contracts:
            self._ask_for_contracts()

    def subscribe(self, streams: Mapping[str, Series]) -> None:
        """Ask for these streams too; the others go on."""
        self.streams.update(streams)
        self.refused.difference_update(streams)
        self._subscription.begin(streams)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Ask for these streams no more; what still comes of them is delivered."""
        self._subscription.end(names)

    def hear_of_contracts(self) -> None:
        """Listen for contracts that are listed or end, too, if it does not yet."""
        if not self.hears_of_contracts:
            self.hears_of_contracts = True
            self._ask_for_contracts()

    def suspect(self, name: str) -> None:
        """Tell if nothing comes of this stream from now on."""
        self._subscription.suspect(name, trio.current_time())

    def renew(self, name: str) -> None:
        """Ask for a stream anew."""
        self.refused.discard(name)
        self._subscription.end([name])
        self._subscription.begin([name])

    async def retire(self) -> None:
        """End it, when what it has received so far is delivered."""
        self._retired = True
        if self._stream is None or not self._sieve.upgraded:
            self._life.cancel()
            await trio.lowlevel.checkpoint()
        else:
            # trio-websocket's reader finds it closed, and what is queued behind it stays.
            await trio.aclose_forcefully(self._stream)

    async def live(self, dial: Dial, url: str, nth: int = 0) -> Disconnected:
        """Connect, subscribe and receive until it ends.

        What the network and the exchange do wrong becomes the returned value; bugs propagate.
        If cancelled, the stream is closed by force and nothing more is sent.

        Args:
          dial: opens the stream.
          url: of the host.
          nth: which of its addresses to try first.
        """
        ended = None
        self._life.deadline = trio.current_time() + self.connect_seconds
        with self._life:
            try:
                await self._connect_and_receive(dial, url, nth)
            except* trio_websocket.ConnectionRejected as group:
                ended = _refused(_leaf(group))
            except* _LOST as group:
                ended = self._lost(_leaf(group))
        if self._stream is not None and self._stream.bug is not None:
            raise self._stream.bug
        if ended is None:
            ended = self._run_out_of_time()
        if self._retired:
            ended = Disconnected(CloseReason.RETIRED, "another has taken its place")
        elif self._shutting_down:
            ended = Disconnected(CloseReason.SHUTDOWN, "as it had announced")
        return attrs.evolve(ended, heard=self._heard)

    def _ask_for_contracts(self) -> None:
        # In a request of its own: a market without such a stream refuses no other with it.
        self._subscription.begin([CONTRACT_INFO], quiet=True)

    async def _connect_and_receive(self, dial: Dial, url: str, nth: int) -> None:
        stream = await dial(url, nth)
        sieved = SievedStream(
            stream,
            on_life=self._move_deadline,
            on_closed=self._take,
            on_forming=self._see_forming,
            rest_seconds=self.rest_seconds,
            shared_timer=self.shared_timer,
        )
        self._stream = sieved
        self._sieve = sieved.sieve
        self._sieve.unseen = self._subscription.unheard
        parts = urlsplit(url)
        try:
            # Private: trio-websocket's reader and our requests end with this connection.
            async with trio.open_nursery() as private:
                socket = await trio_websocket.wrap_client_stream(
                    private,
                    sieved,  # type: ignore[arg-type]  # it documents any stream
                    parts.netloc,
                    parts._replace(scheme="", netloc="").geturl() or "/",
                    message_queue_size=_MESSAGE_QUEUE,
                    receive_buffer_size=None,
                )
                self._move_deadline()
                private.start_soon(self._send_requests, socket)
                await self._receive(socket)
        finally:
            await trio.aclose_forcefully(sieved)

    async def _send_requests(self, socket: trio_websocket.WebSocketConnection) -> None:
        # The receiver learns of the end by itself, when it has delivered what came before it.
        with suppress(trio_websocket.ConnectionClosed):
            await self._subscription.send(socket.send_message, self.market.messages_per_second)

    async def _receive(self, socket: trio_websocket.WebSocketConnection) -> NoReturn:
        while True:
            try:
                message = await socket.get_message()
            except trio_websocket.ConnectionClosed:
                # trio-websocket reports a frame that it cannot take as if the exchange had closed
                # for it. Private: only wsproto knows whether a CLOSE frame has come.
                self._closed_by_us = socket._wsproto.state is not ConnectionState.CLOSED  # noqa: SLF001
                raise
            if isinstance(message, bytes):
                # Of a binary frame. The exchange sends text, and what is not text is no candle.
                self.tell(BadFrame("a binary frame", message))
            else:
                await self._take([message])

    async def _take(self, texts: Sequence[str | bytes]) -> None:
        # Of closed candles, called in trio-websocket's reader: while `deliver` blocks, pings wait.
        events = [self._decode(text) for text in texts]
        # Before anything blocks: what comes meanwhile waits in the kernel, and is not silence.
        self._hear_streams(events)
        self._pause_deadline()
        refused = await self._refused_times(events)
        for event, text in zip(events, texts, strict=True):
            match event:
                case CandleClosed() if event.event_time_ms in refused:
                    self.tell(BadFrame("an event time that is not the exchange's", text))
                case CandleClosed():
                    self._hear(event)
                    await self.deliver(event)
                case CandleForming():
                    self._hear(event)
                case None:
                    pass
                case _:
                    self._heed(event, text)
        self._resume_deadline()

    async def _refused_times(self, events: Iterable[Event | None]) -> set[int]:
        """Wait until the event times of closed candles are judged; return the false ones."""
        times = {event.event_time_ms for event in events if isinstance(event, CandleClosed)}
        if not times:
            return set()
        believed = await self.believed(max(times))
        return {time for time in times if not believed.from_ms <= time < believed.to_ms}

    def _heed(self, event: Event, text: str | bytes) -> None:
        match event:
            case SubscriptionReply():
                for name in self._subscription.acknowledge(event.id, trio.current_time()):
                    self.streams.pop(name, None)
            case ErrorReply():
                self._answer_refusal(event, text)
            case ServerShutdown():
                if not self._shutting_down:
                    self._shutting_down = True
                    self.tell(ShutdownAnnounced())
            case ContractChanged():
                self.tell(event)

    def _decode(self, text: str | bytes) -> Event | None:
        try:
            return decode(text, self.streams)
        except ProtocolError as error:
            self.tell(BadFrame(str(error), text))
            return None

    def _pause_deadline(self) -> None:
        if not self._delivering:
            self._life.deadline = math.inf
        self._delivering += 1

    def _resume_deadline(self) -> None:
        self._delivering -= 1
        self._move_deadline()

    def _move_deadline(self) -> None:
        if not self._delivering:
            self._life.deadline = trio.current_time() + self.stall_seconds

    def _see_forming(self, payload: bytes) -> None:
        # The newest of the candles that the sieve left out, at most once a second.
        event = self._decode(payload)
        if isinstance(event, CandleForming):
            self._hear_streams([event])
            self._hear(event)

    def _hear_streams(self, events: Iterable[Event | None]) -> None:
        candles = [event for event in events if isinstance(event, (CandleClosed, CandleForming))]
        for event in candles:
            self.hear_time(event.event_time_ms, event.series)
            if self._subscription.unheard:
                self._subscription.hear(stream_name(event.series))
        if candles:
            self._name_silent_streams(self.stall_seconds)

    def _hear(self, event: CandleClosed | CandleForming) -> None:
        self.told_up_to(event.event_time_ms)
        if not self._heard:
            self._heard = True
            self.tell(Heard())
        now = trio.current_time()
        if not self._ready and self._subscription.is_heard(now, _QUIET_SECONDS):
            self._ready = True
            self.tell(Ready(event.event_time_ms))

    def _name_silent_streams(self, patience_seconds: float) -> None:
        names = self._subscription.silent(trio.current_time(), patience_seconds)
        if names:
            self.tell(SilentStreams(names, self.stall_seconds))

    def _answer_refusal(self, reply: ErrorReply, text: str | bytes) -> None:
        if not self._subscription.asked(reply.id):
            self.tell(BadFrame("an error reply to no request of ours", text))
        for name in self._subscription.refuse(reply.id):
            self.refused.add(name)
            self.tell(RefusedStream(name, reply.message))

    def _lost(self, error: BaseException) -> Disconnected:
        if self._sieve.upgraded:
            # Of these two only the handshake is an origin: trio-websocket answers a 101 that it
            # does not take as a server would, and fails at that with words of its own.
            if isinstance(error, (h11.ProtocolError, UnicodeError)):
                return Disconnected(CloseReason.UNREACHABLE, "no valid handshake")
            return Disconnected(CloseReason.LOST, _words(error, by_us=self._closed_by_us))
        # trio-websocket leaves a refusal unreported when its text ends with the connection.
        if self._sieve.status:
            return self._refusal()
        if isinstance(error, h11.ProtocolError) or self._is_no_http:
            return self._no_http()
        return Disconnected(CloseReason.UNREACHABLE, _words(error, by_us=self._closed_by_us))

    @property
    def _is_no_http(self) -> bool:
        begin = self._sieve.begin
        return not (begin.startswith(_HTTP) or _HTTP.startswith(begin))

    def _no_http(self) -> Disconnected:
        begin = ascii(self._sieve.begin.decode("latin-1").rstrip())
        return Disconnected(CloseReason.UNREACHABLE, f"not an HTTP server: it sent {begin}")

    def _refusal(self) -> Disconnected:
        status = self._sieve.status
        return Disconnected(
            CloseReason.REFUSED,
            f"HTTP {status}",
            status,
            _retry_after_seconds(self._sieve.retry_after),
        )

    def _run_out_of_time(self) -> Disconnected:
        if not self._sieve.upgraded:
            if self._sieve.status:  # a refusal whose text does not end
                return self._refusal()
            if self._is_no_http:
                return self._no_http()
            return Disconnected(
                CloseReason.UNREACHABLE, f"no answer within {self.connect_seconds:g} s"
            )
        self._name_silent_streams(0)
        return Disconnected(CloseReason.STALLED, f"no data for {self.stall_seconds:g} s")


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _refused(error: BaseException) -> Disconnected:
    assert isinstance(error, trio_websocket.ConnectionRejected)
    headers = {name.lower(): value for name, value in error.headers}
    return Disconnected(
        CloseReason.REFUSED,
        f"HTTP {error.status_code}",
        error.status_code,
        _retry_after_seconds(headers.get(b"retry-after", b"")),
    )


def _retry_after_seconds(after: bytes) -> float | None:
    return float(after) if after.isdigit() and len(after) < 7 else None


def _words(error: BaseException, *, by_us: bool) -> str:
    if isinstance(error, trio_websocket.ConnectionClosed):
        reason = error.reason
        if reason is None or reason.code == _ABNORMAL_CLOSURE:
            return "the connection broke"
        said = ascii(reason.reason) if reason.reason else reason.name
        closed = "we closed it for a bad frame" if by_us else "the exchange closed it"
        return f"{closed}: {reason.code} {said}"
    return shown(str(error) or repr(error.__cause__ or error))
