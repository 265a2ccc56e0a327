"""One WebSocket connection as the exchange sees it: requests, limits, pings, subscriptions, end.

A state machine without clock or socket.  Rates, pings and lifetimes run in local seconds; events
in exchange milliseconds.

Sources: Binance spot docs, web-socket-streams.md ("General WSS information", "WebSocket Limits",
"Live Subscribing/Unsubscribing to streams", "Error Messages"); USD-M and COIN-M docs, "WebSocket
Market Streams" ("Connect", "Live Subscribing/Unsubscribing"); texts of quoted real error frames;
USD-M "Important WebSocket Change Notice" of 2026-03 for the routed paths.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import msgspec

from kline_trio.simulator.faults import Incident
from kline_trio.simulator.feed import CONTRACT_INFO, Feed
from kline_trio.simulator.frames import Event, combined, error_reply, result_reply
from kline_trio.simulator.market import Market

LIFETIME_S = 24 * 3600.0
MOST_STREAMS = 1024
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STREAM = re.compile(r"![^\s@/]+(@[^\s@/]+)*|[^\s@/!]+(@[^\s@/]+)+")
_TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
"""Documented as alphanumeric; the official Python SDK sends UUIDs with hyphens."""
_LONGEST_TARGET = 8_000
"""Longer URLs fail (unicorn-binance-websocket-api issues 17, 19 and 38, measured 2019)."""
_MOST_AT_ONCE = 64
"""Events in a step, so that control frames need not wait behind a flood."""
_TOO_MANY = '{"error":{"code":4,"msg":"Too many subscriptions"}}'


@attrs.frozen(kw_only=True)
class _Limits:
    """The limits of one connection."""

    messages_per_s: int
    ping_every_s: float
    pong_within_s: float
    control_frames_count: bool = False
    """Whether pings and pongs count as messages."""


_SPOT = _Limits(messages_per_s=5, ping_every_s=20, pong_within_s=60, control_frames_count=True)
_FUTURES = _Limits(messages_per_s=10, ping_every_s=180, pong_within_s=600)


@attrs.frozen
class Close:
    """The end of a connection: with a close frame, or without one where ``code`` is None."""

    code: int | None
    reason: str


TOO_MANY_REQUESTS = Close(1008, "Too many requests")
"""As in github.com/binance/binance-connector-js issue 530."""


class RateLimit:
    """Counts what happens within a sliding span of time.

    Args:
        most: So many are allowed within the span; infinite for any number.
        within_s: The length of the span.
    """

    def __init__(self, most: float, within_s: float) -> None:
        self._most = most
        self._within_s = within_s
        self._times: deque[float] = deque()
        self.peak = 0
        """The most that were seen within one span, up to the first beyond the limit."""

    def count(self, now_s: float) -> bool:
        """Count one and return whether it is within the limit; one beyond the limit counts, too."""
        if self._most == inf:
            return True
        self._times.append(now_s)
        while self._times[0] <= now_s - self._within_s:
            self._times.popleft()
        self.peak = max(self.peak, len(self._times))
        if len(self._times) <= self._most:
            return True
        # the newest ones decide, so no more than they need be kept
        self._times.popleft()
        return False


class KeepAlive:
    """The pings of one connection, and the end that comes without pongs or after 24 hours."""

    def __init__(self, limits: _Limits, now_s: float) -> None:
        self.limits = limits
        self._ends_s = now_s + LIFETIME_S
        self._next_ping_s = now_s + limits.ping_every_s
        self._unanswered: dict[bytes, float] = {}

    @property
    def _must_end_s(self) -> float:
        """Local time by which the connection ends if no pong comes meanwhile."""
        oldest_s = min(self._unanswered.values(), default=self._ends_s)
        return min(self._ends_s, oldest_s + self.limits.pong_within_s)

    @property
    def give_up_s(self) -> float:
        """Local time until which a send may wait: by then even a ping not sent yet is overdue."""
        return min(self._must_end_s, self._next_ping_s + self.limits.pong_within_s)

    @property
    def wake_s(self) -> float:
        """Local time of the next ping or end."""
        return min(self._next_ping_s, self._must_end_s)

    def poll(self, now_s: float) -> bytes | Close | None:
        """Return a ping to send now, or the end of the connection."""
        if now_s >= self._must_end_s:
            # github.com/ccxt/php-binance-api issue 453; how the 24 h cut looks is not documented
            late = now_s < self._ends_s
            return Close(1008, "Pong timeout") if late else Close(None, "24 hours")
        if now_s < self._next_ping_s:
            return None
        self._next_ping_s = now_s + self.limits.ping_every_s
        payload = str(round(now_s * 1000)).encode()
        self._unanswered.setdefault(payload, now_s)
        return payload

    def pong(self, payload: bytes | None) -> None:
        """Accept a pong; it answers its ping and all pings before."""
        while payload in self._unanswered:
            del self._unanswered[next(iter(self._unanswered))]


@attrs.frozen(kw_only=True)
class Route:
    """The parsed path of a WebSocket handshake."""

    is_combined: bool
    carries_klines: bool
    """False on USD-M paths that acknowledge kline streams and never feed them."""
    streams: tuple[str, ...]


@attrs.frozen(kw_only=True)
class _Request:
    """One parsed request, or the error that answers it."""

    request_id: int | str | None = None
    method: str = ""
    params: Sequence[Any] = ()
    error: tuple[int, str] | None = None


def parse_target(trade_type: str, target: str) -> Route | int:
    """Return the route of a request target, or the HTTP status that refuses it."""
    if len(target) > _LONGEST_TARGET:
        return 414
    try:
        parts = urlsplit(target)
    except ValueError:
        return 400
    path, carries_klines = parts.path, trade_type != "usdt_futures"
    if trade_type == "usdt_futures":
        for prefix in ("/market", "/public"):
            if path.startswith(f"{prefix}/"):
                path, carries_klines = path.removeprefix(prefix), prefix == "/market"
                break
    if path in ("/stream", "/stream/"):
        is_combined, names = True, parse_qs(parts.query).get("streams", [""])[0]
    elif path == "/ws" or path.startswith("/ws/"):
        is_combined, names = False, unquote(path.removeprefix("/ws").strip("/"))
    else:
        return 404
    streams = tuple(name for name in names.split("/") if name)
    if not all(_STREAM.fullmatch(stream) for stream in streams):
        return 400
    return Route(is_combined=is_combined, carries_klines=carries_klines, streams=streams)


def _parse_request(text: str, *, unsigned_id: bool) -> _Request:
    """Parse one text frame of a client; a bad one gives a request with an error.

    Args:
        text: What the client sent.
        unsigned_id: Whether the market takes no negative ids (the futures docs say so).
    """
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _Request(error=(3, "Invalid JSON: expected value at line 1 column 1"))
    if not isinstance(raw, dict) or "method" not in raw:
        return _Request(error=(2, "Invalid request: missing field `method`"))
    request_id = raw.get("id")
    if not _id_fits(request_id, unsigned_id=unsigned_id):
        kind = "an unsigned integer" if unsigned_id else "a 64-bit integer, a string or null"
        return _Request(error=(2, f"Invalid request: request ID must be {kind}"))
    method, params = raw["method"], raw.get("params", [])
    error = _error_of(method, params)
    return _Request(request_id=request_id, method=method, params=params, error=error)


def _error_of(method: str, params: object) -> tuple[int, str] | None:
    """Return the code and the message that refuse a request; None if it is valid."""
    if method not in _METHODS:
        known = ", ".join(f"`{name}`" for name in _METHODS)
        return 2, f"Invalid request: unknown variant `{method}`, expected one of {known}"
    if not isinstance(params, list):
        return 2, "Invalid request: params must be a list"
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        are_streams = all(isinstance(name, str) and _STREAM.fullmatch(name) for name in params)
        return None if are_streams else (2, "Invalid request: invalid stream")
    allowed = {"LIST_SUBSCRIPTIONS": 0, "GET_PROPERTY": 1, "SET_PROPERTY": 2}[method]
    if len(params) > allowed:
        return 2, "Invalid request: too many parameters"
    if allowed and not (params and isinstance(params[0], str)):
        return 2, "Invalid request: property name must be a string"
    if allowed and params[0] != "combined":
        return 0, "Unknown property"
    if allowed == 2 and not (len(params) == 2 and isinstance(params[1], bool)):
        return 1, "Invalid value type: expected Boolean"
    return None


def _id_fits(value: object, *, unsigned_id: bool) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return (0 if unsigned_id else -(2**63)) <= value < 2**63
    return value is None or (isinstance(value, str) and bool(_TEXT_ID.fullmatch(value)))


@attrs.frozen(kw_only=True)
class Step:
    """What a connection must do now, and when to poll it again."""

    texts: tuple[str, ...]
    ping: bytes | None
    close: Close | None
    next_due_ms: int | None
    """Exchange time of the next event, None where only a change of the streams can bring one."""
    wake_s: float
    """Local time of the next ping or deadline."""


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
        limits = _SPOT if market.trade_type == "spot" else _FUTURES
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
        self._moments = market.script.moments(now_ms)
        """The scripted faults that are still to strike, by time."""
        self._newest: Event | None = None
        """The newest candle that was sent."""
        self._drop_ms: int | None = None
        """When the connection ends without a close frame, after such a fault."""

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
        request = _parse_request(text, unsigned_id=futures)
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

    def poll(self, now_s: float, now_ms: int) -> Step:
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
                        self._newest = event
        strikes_ms = self._moments[0].at_ms if self._moments else None
        dues_ms = (strikes_ms, self._drop_ms, self.feed.next_due_ms())
        return Step(
            texts=tuple(texts),
            ping=ping,
            close=self.close,
            next_due_ms=min((ms for ms in dues_ms if ms is not None), default=None),
            wake_s=self.keep_alive.wake_s,
        )

    def _answer(self, request: _Request, now_ms: int) -> str:
        match request.method:
            case "SUBSCRIBE":
                self.begin(request.params, now_ms)
                if self.close is not None:
                    return _TOO_MANY
            case "UNSUBSCRIBE":
                for stream in request.params:
                    self.streams.pop(stream, None)
                    self.feed.unsubscribe(stream)
            case "LIST_SUBSCRIPTIONS":
                return result_reply(list(self.streams), request.request_id)
            case "GET_PROPERTY":
                return result_reply(self._is_combined, request.request_id)
            case "SET_PROPERTY":
                self._is_combined = request.params[1]
        return result_reply(None, request.request_id)

    def _count(self, now_s: float) -> None:
        """Count an incoming message; may decide to close."""
        if not self.messages.count(now_s):
            self.close = TOO_MANY_REQUESTS

    def _strike(self, now_ms: int) -> list[str]:
        """Play the scripted moments that are due; return the texts to send."""
        texts: list[str] = []
        while self._moments and self._moments[0].at_ms <= now_ms:
            moment = self._moments.pop(0)
            events = moment.events(self._newest)
            if events is None:
                continue
            texts += map(self._wrap, events)
            if moment.drop_ms is not None:
                self._drop_ms = min(moment.drop_ms, self._drop_ms or moment.drop_ms)
            name, until_ms = type(moment).__name__, moment.drop_ms or moment.at_ms
            self.market.log.add(Incident(name, moment.trade_type, moment.at_ms, until_ms))
        if self._drop_ms is not None and self._drop_ms <= now_ms:
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
