"""One WebSocket connection as the exchange sees it: a state machine without clock or socket.

Sources of the rules: Binance spot docs, web-socket-streams.md ("General WSS information",
"WebSocket Limits", "Live Subscribing/Unsubscribing to streams"); USD-M and COIN-M docs,
"WebSocket Market Streams" ("Connect", "Live Subscribing/Unsubscribing").  Rates, pings and
lifetimes run in local seconds; events in exchange milliseconds.
"""

from collections import deque
from collections.abc import Iterable

import attrs

from kline_trio.simulator.control import Request, parse_request
from kline_trio.simulator.faults import Drop, Garbage, Lag, Shutdown
from kline_trio.simulator.feed import CONTRACT_INFO, Event, Feed
from kline_trio.simulator.frames import combined, error_reply, result_reply, server_shutdown
from kline_trio.simulator.lies import WrongFrame
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.script import Script

__all__ = ["LIFETIME_S", "MOST_STREAMS", "TOO_MANY_REQUESTS", "Close", "Limits", "Session", "Turn"]

LIFETIME_S = 24 * 3600.0
MOST_STREAMS = 1024
_MOST_AT_ONCE = 64
"""Events a turn, so that control frames are not kept waiting behind a flood."""
_TOO_MANY = '{"error":{"code":4,"msg":"Too many subscriptions"}}'


@attrs.frozen(kw_only=True)
class Limits:
    """What a market's server demands and does, in local seconds."""

    messages_per_s: int
    control_frames_count: bool
    """Whether pings and pongs count as messages."""
    ping_every_s: float
    pong_within_s: float

    @classmethod
    def of(cls, trade_type: str) -> "Limits":
        """Return the documented limits of a market."""
        if trade_type == "spot":
            return cls(
                messages_per_s=5, control_frames_count=True, ping_every_s=20, pong_within_s=60
            )
        return cls(
            messages_per_s=10, control_frames_count=False, ping_every_s=180, pong_within_s=600
        )


@attrs.frozen
class Close:
    """The end of a connection: with a close frame, or without one where ``code`` is None."""

    code: int | None
    reason: str


TOO_MANY_REQUESTS = Close(1008, "Too many requests")
"""As in github.com/binance/binance-connector-js issue 530."""


@attrs.frozen(kw_only=True)
class Turn:
    """What a connection is to do now, and when to ask again."""

    texts: tuple[str, ...]
    ping: bytes | None
    close: Close | None
    next_due_ms: int | None
    """Exchange time of the next event, None where only a change of the streams can bring one."""
    wake_s: float
    """Local time of the next ping or deadline."""


class Session:
    """One connection: its subscriptions, limits, pings and end."""

    def __init__(
        self,
        *,
        trade_type: str,
        is_combined: bool,
        carries_klines: bool,
        feed: Feed,
        script: Script,
        record: Record,
        now_s: float,
        now_ms: int,
        number: int = 1,
        lag_ms: int = 0,
    ) -> None:
        self.trade_type = trade_type
        self.number = number
        self.lag_ms = lag_ms
        self.born_ms = now_ms
        self.close: Close | None = None
        self.streams: dict[str, int] = {}
        self._is_combined = is_combined
        self._carries_klines = carries_klines
        self._feed = feed
        self._script = script
        self._record = record
        self._limits = Limits.of(trade_type)
        self._ends_s = now_s + LIFETIME_S
        self._next_ping_s = now_s + self._limits.ping_every_s
        self._unanswered: dict[bytes, float] = {}
        self._messages: deque[float] = deque()
        self.most_messages_per_s = 0
        self._moments = script.moments(now_ms)
        self._drop_ms: int | None = None
        self._newest: Event | None = None
        if lag_ms:
            self._note(Lag.__name__, now_ms, now_ms + lag_ms, connection=number)

    @property
    def must_end_s(self) -> float:
        """Local time by which the connection ends if no pong comes meanwhile."""
        oldest_s = min(self._unanswered.values(), default=self._ends_s)
        return min(self._ends_s, oldest_s + self._limits.pong_within_s)

    @property
    def give_up_s(self) -> float:
        """Local time until which a send may wait: by then even a ping not sent yet is overdue."""
        return min(self.must_end_s, self._next_ping_s + self._limits.pong_within_s)

    @property
    def is_drained(self) -> bool:
        """Whether the feed has nothing more to give, ever."""
        return self._feed.next_due_ms() is None

    def begin(self, streams: Iterable[str], now_ms: int) -> None:
        """Subscribe streams, of which there may be too many."""
        wanted = self.streams.keys() | dict.fromkeys(streams)
        if len(wanted) > MOST_STREAMS:
            self.close = Close(1008, "Too many subscriptions")
            return
        for stream in streams:
            if stream not in self.streams:
                self.streams[stream] = now_ms
                if self._carries_klines:
                    self._feed.subscribe(stream, now_ms)

    def receive(self, text: str, now_s: float, now_ms: int) -> list[str]:
        """Take a text from the client and return the replies; may decide to close."""
        self._count(now_s)
        if self.close is not None:
            return []
        request = parse_request(text, unsigned_id=self.trade_type != "spot")
        if request.error is not None:
            # github.com/binance derivatives change log, 2023-06-22: futures close on bad JSON
            if request.error[0] == 3 and self.trade_type != "spot":
                self.close = Close(1008, "Invalid JSON")
            return [error_reply(*request.error, request.request_id)]
        return [self._answer(request, now_ms)]

    def receive_control(self, now_s: float, pong: bytes | None = None) -> None:
        """Take a ping of the client, or its pong with the payload; may decide to close."""
        if self._limits.control_frames_count:
            self._count(now_s)
        if pong in self._unanswered:
            for payload in list(self._unanswered):
                del self._unanswered[payload]
                if payload == pong:
                    break

    def poll(self, now_s: float, now_ms: int) -> Turn:
        """Return what is due now; call again at ``wake_s`` or ``next_due_ms`` at the latest."""
        texts = self._strike(now_ms)
        ping = None
        if self.close is None:
            ping = self._keep_alive(now_s)
        if self.close is None:
            events = self._feed.take(now_ms - self.lag_ms, _MOST_AT_ONCE)
            events = [event for event in events if not self._muted(event)]
            texts.extend(self._wrap(event) for event in events)
            self._newest = next(
                (event for event in reversed(events) if event.stream != CONTRACT_INFO),
                self._newest,
            )
        due_ms = self._feed.next_due_ms()
        dues_ms = [] if due_ms is None else [due_ms + self.lag_ms]
        dues_ms += [] if self._drop_ms is None else [self._drop_ms]
        dues_ms += [moment.at_ms for moment in self._moments[:1]]
        return Turn(
            texts=tuple(texts),
            ping=ping,
            close=self.close,
            next_due_ms=min(dues_ms, default=None),
            wake_s=min(self._next_ping_s, self.must_end_s),
        )

    def _answer(self, request: Request, now_ms: int) -> str:
        match request.method:
            case "SUBSCRIBE":
                self.begin(request.streams, now_ms)
                if self.close is not None:
                    return _TOO_MANY
            case "UNSUBSCRIBE":
                for stream in request.streams:
                    self.streams.pop(stream, None)
                    self._feed.unsubscribe(stream)
            case "LIST_SUBSCRIPTIONS":
                return result_reply(list(self.streams), request.request_id)
            case "GET_PROPERTY":
                return result_reply(self._is_combined, request.request_id)
            case "SET_PROPERTY":
                self._is_combined = request.combined
        return result_reply(None, request.request_id)

    def _count(self, now_s: float) -> None:
        """Count an incoming message; may decide to close."""
        self._messages.append(now_s)
        while self._messages[0] <= now_s - 1:
            self._messages.popleft()
        self.most_messages_per_s = max(self.most_messages_per_s, len(self._messages))
        if len(self._messages) > self._limits.messages_per_s:
            self.close = TOO_MANY_REQUESTS

    def _keep_alive(self, now_s: float) -> bytes | None:
        if now_s >= self.must_end_s:
            # github.com/ccxt/php-binance-api issue 453; how the 24 h cut looks is not documented
            late = now_s < self._ends_s
            self.close = Close(1008, "Pong timeout") if late else Close(None, "24 hours")
        elif now_s >= self._next_ping_s:
            self._next_ping_s = now_s + self._limits.ping_every_s
            payload = str(round(now_s * 1000)).encode()
            self._unanswered.setdefault(payload, now_s)
            return payload
        return None

    def _strike(self, now_ms: int) -> list[str]:
        """Let the scripted moments happen whose time has come."""
        texts: list[str] = []
        while self._moments and self._moments[0].at_ms <= now_ms:
            moment = self._moments.pop(0)
            until_ms = moment.at_ms
            match moment:
                case Garbage():
                    texts.append(moment.text)
                case Shutdown():
                    texts.append(server_shutdown(moment.at_ms, is_combined=self._is_combined))
                    until_ms += moment.grace_ms
                    self._drop_ms = min(until_ms, self._drop_ms or until_ms)
                case WrongFrame():
                    if self._newest is None:
                        continue
                    told = moment.told(self._newest.text)
                    texts.append(self._wrap(self._newest._replace(text=told)))
                case Drop():
                    self._drop_ms = moment.at_ms
            self._note(type(moment).__name__, moment.at_ms, until_ms)
        if self._drop_ms is not None and self._drop_ms <= now_ms:
            self.close = Close(None, "dropped")
        return texts

    def _muted(self, event: Event) -> bool:
        subscribed_ms = self.streams.get(event.stream, self.born_ms)
        fault = self._script.muted(event.stream, event.due_ms, self.born_ms, subscribed_ms)
        if fault is None:
            return False
        name = type(fault).__name__
        stream = getattr(fault, "stream", None)
        self._note(name, fault.from_ms, fault.until_ms, stream)
        if event.closes_ms is not None:
            self._note(name, event.due_ms, event.due_ms, event.stream, event.closes_ms)
        return True

    def _note(
        self,
        fault: str,
        from_ms: int,
        until_ms: int,
        stream: str | None = None,
        opened_ms: int | None = None,
        connection: int | None = None,
    ) -> None:
        self._record.add(
            Happened(
                fault=fault,
                trade_type=self.trade_type,
                stream=stream,
                open_ms=opened_ms,
                connection=connection,
                from_ms=from_ms,
                until_ms=until_ms,
            )
        )

    def _wrap(self, event: Event) -> str:
        return combined(event.stream, event.text) if self._is_combined else event.text
