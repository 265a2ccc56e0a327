"""One WebSocket connection: connect, subscribe, receive, and end with a reason.

We never begin a closing handshake: trio-websocket raises in its reader when a ping comes after our
CLOSE (trio-websocket#184). So the stream is closed by force.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
from kline_trio.errors import ProtocolError, leaves
from kline_trio.exchange.connection_events import (
    BadFrame,
    CloseReason,
    ConnectionEvent,
    Disconnected,
    FirstCandle,
    Ready,
    RefusedStream,
    SilentStreams,
)
from kline_trio.exchange.protocol import (
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
from kline_trio.exchange.sieve import ResponseHead, Sieve
from kline_trio.exchange.sieved_stream import ReadHandlers, ReadPacer, SievedStream
from kline_trio.exchange.subscription import Subscription
from kline_trio.interval import Span
from kline_trio.quoting import shown

Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a stream to a WebSocket URL; the number selects the address to try first."""

_MESSAGE_QUEUE = 4096
"""Messages that may wait behind trio-websocket's reader. With only a few, pings would stay
unanswered while we block on our own channel, and then the exchange closes the connection."""
_ABNORMAL_CLOSURE = 1006
"""No CLOSE frame came (RFC 6455, section 7.4.1)."""
_HTTP = b"HTTP/"
_QUIET_SECONDS = 15.0
"""Wait no longer than this for the first frame of each stream: without trades there is none."""

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


@attrs.frozen(kw_only=True)
class ConnectionCallbacks:
    """The functions to which a connection hands what it receives."""

    deliver: Callable[[CandleClosed], Awaitable[None]]
    """Takes the closed candles, in order. While it blocks, nothing counts as a stall."""
    report: Callable[[ConnectionEvent], None]
    """Takes all other events."""
    on_event_time: Callable[[int, Series], None]
    """Takes the event time, in milliseconds, of each valid candle when it comes, and its series."""
    on_delivered_up_to: Callable[[int], None]
    """Takes an event time when all closed candles before it are delivered."""
    accepted_span: Callable[[int], Awaitable[Span]]
    """Waits until an event time is confirmed or refuted; returns the event times to accept."""


@attrs.frozen(kw_only=True)
class ConnectionOptions:
    """How a connection behaves in time."""

    messages_per_second: float
    """The most that the market allows one connection to send, pongs included."""
    connect_seconds: float
    """For TCP, TLS and handshake together."""
    stall_seconds: float
    """End the connection after this time without a data frame. Pings do not count as life
    (nautilus_trader#3907)."""
    pacer: ReadPacer = attrs.field(factory=ReadPacer)
    """Spaces the reads, so that frames gather; each connection has its own."""


@attrs.define(eq=False)
class _StallDeadline:
    """Cancels its scope when no data frame has come for too long."""

    seconds: float
    scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _pauses: int = attrs.field(init=False, default=0)

    def extend(self) -> None:
        """Count the time from now on; not while it is paused."""
        if not self._pauses:
            self.scope.deadline = trio.current_time() + self.seconds

    @property
    def silent_seconds(self) -> float:
        """Seconds since it was extended; 0 while it is paused."""
        return max(0.0, trio.current_time() + self.seconds - self.scope.deadline)

    def pause(self) -> None:
        """Count no time until as many calls of `resume`."""
        self.scope.deadline = math.inf
        self._pauses += 1

    def resume(self) -> None:
        """End a pause."""
        self._pauses -= 1
        self.extend()


@attrs.define(eq=False)
class Connection:
    """One connection to one market, for streams that fit on it. `run` can be called once."""

    subscription: Subscription
    """The streams of this connection; others may be added and removed while it runs."""
    callbacks: ConnectionCallbacks
    options: ConnectionOptions

    url: str = attrs.field(init=False, default="")
    """Of the host, from `run` on."""
    _deadline: _StallDeadline = attrs.field(init=False)
    _stream: SievedStream | None = attrs.field(init=False, default=None)
    _had_candle: bool = attrs.field(init=False, default=False)
    _is_ready: bool = attrs.field(init=False, default=False)
    _closed_by_us: bool = attrs.field(init=False, default=False)
    _shutting_down: bool = attrs.field(init=False, default=False)
    _is_retired: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._deadline = _StallDeadline(self.options.stall_seconds)

    @property
    def _head(self) -> ResponseHead:
        return ResponseHead() if self._stream is None else self._stream.sieve.head

    @property
    def sieve(self) -> Sieve | None:
        """Counts the frames of this connection; None before it is made."""
        return None if self._stream is None else self._stream.sieve

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the last data frame, or since the handshake; None before that.

        While closed candles wait for the listener's own channel, that is no silence.
        """
        return self._deadline.silent_seconds if self._head.upgraded else None

    @property
    def address(self) -> str | None:
        """The IP address of the peer, of a proxy if there is one; None if there is no socket."""
        return None if self._stream is None else self._stream.peer_address()

    async def close_gracefully(self) -> None:
        """End the connection when everything received so far is delivered."""
        self._is_retired = True
        if self._stream is None or not self._head.upgraded:
            self._deadline.scope.cancel()
            await trio.lowlevel.checkpoint()
        else:
            # trio-websocket's reader ends; the messages queued behind it stay.
            await trio.aclose_forcefully(self._stream)

    async def run(self, dial: Dial, url: str, nth: int = 0) -> Disconnected:
        """Connect, subscribe and receive until the connection ends; return why it ended.

        Errors of the network and of the exchange become the returned value; bugs propagate.
        If cancelled, close the stream by force and send nothing more.

        Args:
          dial: opens the stream.
          url: of the host.
          nth: which of its addresses to try first.
        """
        ended, self.url = None, url
        self._deadline.scope.deadline = trio.current_time() + self.options.connect_seconds
        with self._deadline.scope:
            try:
                await self._connect_and_receive(dial, url, nth)
            except* _LOST as group:
                ended = self._lost(next(leaves(group)))
        if self._stream is not None and self._stream.bug is not None:
            raise self._stream.bug
        if ended is None:
            ended = self._run_out_of_time()
        if self._is_retired:
            ended = Disconnected(CloseReason.RETIRED, "another has taken its place")
        elif self._shutting_down:
            ended = Disconnected(CloseReason.SHUTDOWN, "as it had announced")
        return attrs.evolve(ended, had_candle=self._had_candle)

    async def _connect_and_receive(self, dial: Dial, url: str, nth: int) -> None:
        stream = await dial(url, nth)
        sieved = SievedStream(
            stream,
            ReadHandlers(self._deadline.extend, self._handle_forming, self._handle),
            self.options.pacer,
        )
        self._stream = sieved
        sieved.sieve.candles.unseen = self.subscription.unheard
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
                self._deadline.extend()
                private.start_soon(self._send_requests, socket)
                await self._receive(socket)
        finally:
            await trio.aclose_forcefully(sieved)

    async def _send_requests(self, socket: trio_websocket.WebSocketConnection) -> None:
        # `_receive` raises the same error, after it has delivered what came before the end.
        with suppress(trio_websocket.ConnectionClosed):
            await self.subscription.send(socket.send_message, self.options.messages_per_second)

    async def _receive(self, socket: trio_websocket.WebSocketConnection) -> NoReturn:
        while True:
            try:
                message = await socket.get_message()
            except trio_websocket.ConnectionClosed:
                # trio-websocket reports a frame that it refuses as if the exchange had closed the
                # connection. Private: only wsproto knows whether a CLOSE frame has come.
                self._closed_by_us = socket._wsproto.state is not ConnectionState.CLOSED  # noqa: SLF001
                raise
            if isinstance(message, bytes):
                # The exchange sends text frames only; a binary frame is no candle.
                self.callbacks.report(BadFrame("a binary frame", message))
            else:
                await self._handle([message])

    async def _handle(self, texts: Sequence[str | bytes]) -> None:
        # For closed candles trio-websocket's reader calls this: while `deliver` blocks, pings wait.
        events = [self._decode(text) for text in texts]
        # Before anything blocks: what comes meanwhile waits in the kernel, and is not silence.
        self._note_times(events)
        self._deadline.pause()
        refused = await self._refused_times(events)
        for event, text in zip(events, texts, strict=True):
            match event:
                case CandleClosed() if event.event_time_ms in refused:
                    reason = "an event time that is not the exchange's"
                    self.callbacks.report(BadFrame(reason, text))
                case CandleClosed():
                    self._note_delivery(event)
                    await self.callbacks.deliver(event)
                case CandleForming():
                    self._note_delivery(event)
                case SubscriptionReply():
                    self.subscription.acknowledge(event.id, trio.current_time())
                case ErrorReply():
                    self._handle_refusal(event, text)
                case ServerShutdown() if not self._shutting_down:
                    self._shutting_down = True
                    self.callbacks.report(event)
                case ContractChanged():
                    self.callbacks.report(event)
        self._deadline.resume()

    async def _refused_times(self, events: Iterable[Event | None]) -> set[int]:
        """Wait until the event times of closed candles are judged; return the false ones."""
        times = {event.event_time_ms for event in events if isinstance(event, CandleClosed)}
        if not times:
            return set()
        accepted = await self.callbacks.accepted_span(max(times))
        return {time for time in times if time not in accepted}

    def _decode(self, text: str | bytes) -> Event | None:
        try:
            return decode(text, self.subscription.streams)
        except ProtocolError as error:
            self.callbacks.report(BadFrame(str(error), text))
            return None

    def _handle_forming(self, payload: bytes) -> None:
        # The newest of the candles that the sieve left out, at most once a second.
        event = self._decode(payload)
        if isinstance(event, CandleForming):
            self._note_times([event])
            self._note_delivery(event)

    def _note_times(self, events: Iterable[Event | None]) -> None:
        candles = [event for event in events if isinstance(event, (CandleClosed, CandleForming))]
        for event in candles:
            self.callbacks.on_event_time(event.event_time_ms, event.series)
            if self.subscription.unheard:
                self.subscription.mark_heard(stream_name(event.series))
        if candles:
            self._report_silent_streams(self.options.stall_seconds)

    def _note_delivery(self, event: CandleClosed | CandleForming) -> None:
        self.callbacks.on_delivered_up_to(event.event_time_ms)
        if not self._had_candle:
            self._had_candle = True
            self.callbacks.report(FirstCandle())
        if not self._is_ready:
            self._is_ready = self.subscription.is_complete(trio.current_time(), _QUIET_SECONDS)
            if self._is_ready:
                self.callbacks.report(Ready(event.event_time_ms))

    def _report_silent_streams(self, patience_seconds: float) -> None:
        names = self.subscription.silent(trio.current_time(), patience_seconds)
        if names:
            self.callbacks.report(SilentStreams(names, self.options.stall_seconds))

    def _handle_refusal(self, reply: ErrorReply, text: str | bytes) -> None:
        if not self.subscription.is_pending(reply.id):
            self.callbacks.report(BadFrame("an error reply to no request of ours", text))
        for name in self.subscription.refuse(reply.id):
            self.callbacks.report(RefusedStream(name, reply.message))

    def _lost(self, error: BaseException) -> Disconnected:
        head = self._head
        if head.upgraded:
            # These two can only come from the handshake: trio-websocket answers a 101 that it
            # refuses as a server would, and that answer fails with an error of its own.
            if isinstance(error, (h11.ProtocolError, UnicodeError)):
                return Disconnected(CloseReason.UNREACHABLE, "no valid handshake")
            return Disconnected(CloseReason.LOST, _words(error, by_us=self._closed_by_us))
        # trio-websocket leaves a refusal unreported when its text ends with the connection.
        failure = _handshake_failure(head, is_http=not isinstance(error, h11.ProtocolError))
        return failure or Disconnected(CloseReason.UNREACHABLE, _words(error, by_us=False))

    def _run_out_of_time(self) -> Disconnected:
        if self._head.upgraded:
            self._report_silent_streams(0)
            seconds = self.options.stall_seconds
            return Disconnected(CloseReason.STALLED, f"no data for {seconds:g} s")
        # It may be a refusal whose text does not end.
        seconds = self.options.connect_seconds
        return _handshake_failure(self._head) or Disconnected(
            CloseReason.UNREACHABLE, f"no answer within {seconds:g} s"
        )


def _handshake_failure(head: ResponseHead, *, is_http: bool = True) -> Disconnected | None:
    """Return the refusal, or the banner of another protocol, that the head holds; None if none."""
    if head.status:
        after = head.retry_after
        retry_seconds = float(after) if after and len(after) < 7 else None
        return Disconnected(CloseReason.REFUSED, f"HTTP {head.status}", head.status, retry_seconds)
    if not is_http or not (head.begin.startswith(_HTTP) or _HTTP.startswith(head.begin)):
        begin = ascii(head.begin.decode("latin-1").rstrip())
        return Disconnected(CloseReason.UNREACHABLE, f"not an HTTP server: it sent {begin}")
    return None


def _words(error: BaseException, *, by_us: bool) -> str:
    if isinstance(error, trio_websocket.ConnectionClosed):
        reason = error.reason
        if reason is None or reason.code == _ABNORMAL_CLOSURE:
            return "the connection broke"
        text = ascii(reason.reason) if reason.reason else reason.name
        closed = "we closed it for a bad frame" if by_us else "the exchange closed it"
        return f"{closed}: {reason.code} {text}"
    return shown(str(error) or repr(error.__cause__ or error))
