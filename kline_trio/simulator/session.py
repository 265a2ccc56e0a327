"""One WebSocket connection as the exchange sees it: a state machine without clock or socket.

Sources of the rules: Binance spot docs, web-socket-streams.md ("Live Subscribing/Unsubscribing to
streams"); USD-M and COIN-M docs, "WebSocket Market Streams" ("Live Subscribing/Unsubscribing").
Rates, pings and lifetimes run in local seconds; events in exchange milliseconds.
"""

from collections.abc import Iterable

import attrs

from kline_trio.simulator.connection_limits import (
    MOST_STREAMS,
    TOO_MANY_REQUESTS,
    Close,
    KeepAlive,
    RateLimit,
    limits_of,
)
from kline_trio.simulator.control import Request, Route, parse_request
from kline_trio.simulator.faults import Moment
from kline_trio.simulator.feed import CONTRACT_INFO, Feed
from kline_trio.simulator.frames import Event, combined, error_reply, result_reply
from kline_trio.simulator.incident_log import Incident
from kline_trio.simulator.market import Market

__all__ = ["Session", "Turn"]

_MOST_AT_ONCE = 64
"""Events a turn, so that control frames are not kept waiting behind a flood."""
_TOO_MANY = '{"error":{"code":4,"msg":"Too many subscriptions"}}'


@attrs.frozen(kw_only=True)
class Turn:
    """What a connection must do now, and when to poll it again."""

    texts: tuple[str, ...]
    ping: bytes | None
    close: Close | None
    next_due_ms: int | None
    """Exchange time of the next event, None where only a change of the streams can bring one."""
    wake_s: float
    """Local time of the next ping or deadline."""


@attrs.define
class _Moments:
    """The scripted moments that are still to strike a connection."""

    ahead: list[Moment]
    newest: Event | None = None
    """The newest candle that was sent."""
    drop_ms: int | None = None
    """When the connection ends."""

    @property
    def dues_ms(self) -> list[int]:
        """When the next of them strikes, and when the connection ends."""
        drops_ms = [] if self.drop_ms is None else [self.drop_ms]
        return [*drops_ms, *(moment.at_ms for moment in self.ahead[:1])]


class Session:
    """One connection: its subscriptions, limits, pings and end.

    Args:
        market: The market whose server it is.
        route: The path that the client asked for; its streams are not subscribed yet.
        feed: Where the events come from.
        now_s: Local time.
        now_ms: Exchange time.
    """

    def __init__(self, market: Market, route: Route, feed: Feed, now_s: float, now_ms: int) -> None:
        limits = limits_of(market.trade_type)
        self.market = market
        self.born_ms = now_ms
        self.close: Close | None = None
        self.streams: dict[str, int] = {}
        """Each stream with the exchange time of its subscription, oldest first."""
        self.feed = feed
        self.keep_alive = KeepAlive(limits, now_s)
        self.messages = RateLimit(limits.messages_per_s, 1.0)
        self._route = route
        self._is_combined = route.is_combined
        self._moments = _Moments(market.script.moments(now_ms))

    def begin(self, streams: Iterable[str], now_ms: int) -> None:
        """Subscribe streams, of which there may be too many."""
        wanted = self.streams.keys() | dict.fromkeys(streams)
        if len(wanted) > MOST_STREAMS:
            self.close = Close(1008, "Too many subscriptions")
            return
        for stream in streams:
            if stream not in self.streams:
                self.streams[stream] = now_ms
                if self._route.carries_klines:
                    self.feed.subscribe(stream, now_ms)

    def receive(self, text: str, now_s: float, now_ms: int) -> list[str]:
        """Take a text from the client and return the replies; may decide to close."""
        self._count(now_s)
        if self.close is not None:
            return []
        futures = self.market.trade_type != "spot"
        request = parse_request(text, unsigned_id=futures)
        if request.error is not None:
            # github.com/binance derivatives change log, 2023-06-22: futures close on bad JSON
            if request.error[0] == 3 and futures:
                self.close = Close(1008, "Invalid JSON")
            return [error_reply(*request.error, request.request_id)]
        return [self._answer(request, now_ms)]

    def receive_control(self, now_s: float, pong: bytes | None = None) -> None:
        """Take a ping of the client, or its pong with the payload; may decide to close."""
        if self.keep_alive.limits.control_frames_count:
            self._count(now_s)
        self.keep_alive.pong(pong)

    def poll(self, now_s: float, now_ms: int) -> Turn:
        """Return what is due now; call again at ``wake_s`` or ``next_due_ms`` at the latest."""
        texts = self._strike(now_ms)
        ping = self.keep_alive.poll(now_s) if self.close is None else None
        if isinstance(ping, Close):
            self.close, ping = ping, None
        if self.close is None:
            events = self.feed.take(now_ms, _MOST_AT_ONCE)
            for event in events:
                if not self._muted(event):
                    texts.append(self._wrap(event))
                    if event.stream != CONTRACT_INFO:
                        self._moments.newest = event
        due_ms = self.feed.next_due_ms()
        dues_ms = self._moments.dues_ms + ([] if due_ms is None else [due_ms])
        return Turn(
            texts=tuple(texts),
            ping=ping,
            close=self.close,
            next_due_ms=min(dues_ms, default=None),
            wake_s=self.keep_alive.wake_s,
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
                    self.feed.unsubscribe(stream)
            case "LIST_SUBSCRIPTIONS":
                return result_reply(list(self.streams), request.request_id)
            case "GET_PROPERTY":
                return result_reply(self._is_combined, request.request_id)
            case "SET_PROPERTY":
                self._is_combined = request.combined
        return result_reply(None, request.request_id)

    def _count(self, now_s: float) -> None:
        """Count an incoming message; may decide to close."""
        if not self.messages.count(now_s):
            self.close = TOO_MANY_REQUESTS

    def _strike(self, now_ms: int) -> list[str]:
        """Play the scripted moments that are due; return the texts to send."""
        texts: list[str] = []
        moments = self._moments
        while moments.ahead and moments.ahead[0].at_ms <= now_ms:
            moment = moments.ahead.pop(0)
            events = moment.events(moments.newest)
            if events is None:
                continue
            texts += map(self._wrap, events)
            if moment.drop_ms is not None:
                moments.drop_ms = min(moment.drop_ms, moments.drop_ms or moment.drop_ms)
            name, until_ms = type(moment).__name__, moment.drop_ms or moment.at_ms
            self.market.log.add(Incident(name, moment.trade_type, moment.at_ms, until_ms))
        if moments.drop_ms is not None and moments.drop_ms <= now_ms:
            self.close = Close(None, "dropped")
        return texts

    def _muted(self, event: Event) -> bool:
        market, stream, due_ms = self.market, event.stream, event.due_ms
        subscribed_ms = self.streams.get(stream, self.born_ms)
        fault = market.script.muted(stream, due_ms, self.born_ms, subscribed_ms)
        if fault is None:
            return False
        market.log.add(Incident.of(fault))
        if event.closes_ms is not None:
            name, lost_ms = type(fault).__name__, event.closes_ms
            market.log.add(Incident(name, market.trade_type, due_ms, due_ms, stream, lost_ms))
        return True

    def _wrap(self, event: Event) -> str:
        wrapped = self._is_combined and event.stream
        return combined(event.stream, event.text) if wrapped else event.text
