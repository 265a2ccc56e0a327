"""Probe the endpoints of an exchange once each: name, proxy, TCP, TLS, first frame, time.

A probe returns what it saw as a frozen value. A fault of the network or of the exchange is such a
value too: only bugs are raised.
"""

import enum
import errno
import json
import os
from collections.abc import Callable
from contextlib import aclosing
from ipaddress import ip_address
from typing import TypeGuard
from urllib.parse import urlsplit

import attrs
import httpx2
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import ConfigError
from kline_trio.exchange.connection import (
    Connection,
    ConnectionCallbacks,
    ConnectionOptions,
    Dial,
)
from kline_trio.exchange.connection_events import (
    BadFrame,
    CloseReason,
    ConnectionEvent,
    Disconnected,
    FirstCandle,
    RefusedStream,
)
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import stream_name
from kline_trio.exchange.proxy import Proxy, open_tunnel, proxy_for
from kline_trio.exchange.subscription import Subscription
from kline_trio.exchange.tls import open_tls, tls_context
from kline_trio.interval import Span
from kline_trio.quoting import shown

_BODY_BYTES = 64 * 1_024
"""Read no more of an answer: a time and a checksum have 100 bytes, a firewall's page is long."""
_FIRST_REQUEST = 1
"""The id of a connection's first request."""
_BEFORE_SUBSCRIBING = (CloseReason.UNREACHABLE, CloseReason.REFUSED)
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class Stage(enum.Enum):
    """A step on the way to a host."""

    CONFIG = "the configuration of the proxy"
    DNS = "the name"
    PROXY = "the proxy"
    CONNECT = "the TCP connection"
    TLS = "the TLS handshake"


@attrs.frozen
class Target:
    """A host and a port that the recorder connects to."""

    host: str
    port: int
    is_secure: bool
    """Whether it speaks TLS."""

    @classmethod
    def of(cls, url: str) -> "Target":
        """Return the target of a URL of the configuration."""
        parts = urlsplit(url)
        assert parts.hostname is not None, "the configuration admits only URLs with a host"
        port = parts.port or _PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme in ("https", "wss"))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class Reached:
    """How far an attempt to reach a target came."""

    target: Target
    proxy: Proxy | None = None
    """None: the connection was direct."""
    addresses: tuple[str, ...] = ()
    """The IP addresses of `name`."""
    seconds: float = 0.0
    failed: Stage | None = None
    """None: the target was reached."""
    problem: str = ""

    @property
    def name(self) -> str | None:
        """The name that was resolved, of the proxy if there is one; None: it is an address."""
        host = self.target.host if self.proxy is None else self.proxy.host
        try:
            ip_address(host)
        except ValueError:
            return host
        return None


async def reach(dialer: Dialer, target: Target, limit_seconds: float) -> Reached:
    """Resolve the name, connect, do the TLS handshake, and close the connection.

    It takes the way of `Dialer.dial`, step by step. If cancelled, nothing is left open.
    """
    began = trio.current_time()
    seen = Reached(target=target, failed=Stage.CONFIG)
    problem = ""
    try:
        with trio.fail_after(limit_seconds):
            proxy = proxy_for(target.host, target.port, dialer.proxy, dialer.environment)
            host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
            seen = attrs.evolve(seen, proxy=proxy, failed=Stage.DNS)
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
            addresses = tuple(sorted({str(address[0]) for *_, address in found}))
            stage = Stage.CONNECT if proxy is None else Stage.PROXY
            seen = attrs.evolve(seen, addresses=addresses, failed=stage)
            if proxy is None:
                stream = await trio.open_tcp_stream(host, port)
            else:
                stream = await open_tunnel(proxy, target.host, target.port)
            try:
                if target.is_secure:
                    seen = attrs.evolve(seen, failed=Stage.TLS)
                    context = await trio.to_thread.run_sync(tls_context, dialer.ca_file)
                    await open_tls(stream, context, target.host)
            finally:
                await trio.aclose_forcefully(stream)
            seen = attrs.evolve(seen, failed=None)
    except trio.TooSlowError:
        problem = f"no answer within {limit_seconds:g} s"
    except (OSError, ConfigError, trio.BrokenResourceError) as error:
        problem = _reason(error)
        if seen.proxy is not None:
            problem = problem.removeprefix(f"through the proxy {seen.proxy.url}: ")
    return attrs.evolve(seen, seconds=trio.current_time() - began, problem=problem)


def _reason(error: BaseException) -> str:
    """Return the words of the system for an error, where an error of Trio hides them.

    trio.open_tcp_stream raises "all attempts to connect to … failed" from the errors of the
    attempts.
    """
    if "all attempts to connect" in str(error):
        while cause := error.exceptions[0] if _is_group(error) else error.__cause__:
            error = cause
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return shown(getattr(error, "strerror", None) or str(error) or repr(error.__cause__ or error))


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


@attrs.frozen(kw_only=True)
class RouteProbe:
    """What a WebSocket route sent for one busy stream."""

    url: str
    stream: str
    frame_seconds: float = 0.0
    """How long the probe waits for a frame of the stream."""
    first_frame_seconds: float | None = None
    """From the dial to the first candle; None: none came."""
    ended: Disconnected | None = None
    """How the connection ended, if it ended before a candle came."""
    is_acknowledged: bool = False
    """Whether the exchange accepted the subscription."""
    refusal: str | None = None
    """The message by which the exchange refused the stream."""
    bad_frames: tuple[str, ...] = ()
    """Why frames were refused, each reason once."""


async def probe_route(
    dial: Dial, url: str, market: Market, connect_seconds: float, frame_seconds: float
) -> RouteProbe:
    """Subscribe to one busy stream, and wait for its first candle, closed or forming.

    An open connection, an acknowledged subscription and pings prove nothing: a route of another
    kind of streams gives all three, and no candle (binance-public-data#472).

    Args:
      dial: opens the stream of bytes.
      url: of the route.
      market: whose busy symbol to subscribe to.
      connect_seconds: for TCP, TLS and handshake together.
      frame_seconds: how long to wait for a candle after that.
    """
    series = Series(market.trade_type, market.busy_symbol, "1m")
    subscription = Subscription()
    subscription.subscribe({stream_name(series): series})
    seen = RouteProbe(url=url, stream=stream_name(series), frame_seconds=frame_seconds)
    began = trio.current_time()
    with trio.move_on_after(connect_seconds + frame_seconds) as scope:

        def report(event: ConnectionEvent) -> None:
            nonlocal seen
            match event:
                case FirstCandle():
                    seen = attrs.evolve(seen, first_frame_seconds=trio.current_time() - began)
                    scope.cancel()
                case RefusedStream():
                    seen = attrs.evolve(seen, refusal=shown(event.message))
                    scope.cancel()
                case BadFrame() if event.reason not in seen.bad_frames:
                    seen = attrs.evolve(seen, bad_frames=(*seen.bad_frames, event.reason))

        callbacks = ConnectionCallbacks(
            deliver=_ignore,
            report=report,
            on_event_time=lambda *_: None,
            on_delivered_up_to=lambda _: None,
            accepted_span=_whole_time,
        )
        options = ConnectionOptions(
            messages_per_second=market.messages_per_second,
            connect_seconds=connect_seconds,
            stall_seconds=frame_seconds,
        )
        ended = await Connection(subscription, callbacks, options).run(dial, url)
        seen = attrs.evolve(seen, ended=ended)
    was_subscribed = seen.ended is None or seen.ended.why not in _BEFORE_SUBSCRIBING
    return attrs.evolve(
        seen, is_acknowledged=was_subscribed and not subscription.is_pending(_FIRST_REQUEST)
    )


async def _ignore(_: object) -> None:
    pass


async def _whole_time(_: int) -> Span:
    return Span(0, MAX_TIME_MS)


@attrs.frozen(kw_only=True)
class HttpProbe:
    """The answer to one GET request."""

    url: str
    status: int | None = None
    """The HTTP status; None: there was no whole answer."""
    body: bytes = b""
    """Its first 64 KiB."""
    used_weight: int | None = None
    """The request weight that this address has used in the present minute, if the host says so."""
    retry_after_seconds: int | None = None
    """The wait that the host asks for."""
    sent_ms: float = 0.0
    """The time of the local clock at the begin."""
    seconds: float = 0.0
    """From the begin to the end of the answer; a connection may be opened in that time."""
    problem: str = ""
    """Why there was no answer."""

    @property
    def server_time_ms(self) -> int | None:
        """The exchange's time in the answer of the time endpoint; None: the body holds none."""
        time_ms = self._fields.get("serverTime")
        if self.status != httpx2.codes.OK or not isinstance(time_ms, int):
            return None
        return time_ms if 0 < time_ms < MAX_TIME_MS else None

    @property
    def fault(self) -> str:
        """The exchange's error code and message, safe to print; empty if the body has none."""
        code, message = self._fields.get("code"), self._fields.get("msg")
        return f"{code} {shown(message)!r}" if isinstance(message, str) else ""

    @property
    def _fields(self) -> dict[str, object]:
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


async def probe_http(
    client: httpx2.AsyncClient, url: str, limit_seconds: float, wall_clock: Callable[[], float]
) -> HttpProbe:
    """Send one GET request. If cancelled, the request is abandoned.

    Args:
      client: carries the request.
      url: the whole address.
      limit_seconds: for the whole answer.
      wall_clock: returns the local time in seconds since 1970.
    """
    seen = HttpProbe(url=url, sent_ms=wall_clock() * 1_000)
    began = trio.current_time()
    body = bytearray()
    try:
        with trio.fail_after(limit_seconds):
            async with client.stream("GET", url) as response:
                async with aclosing(response.aiter_bytes()) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > _BODY_BYTES:
                            break
        seen = attrs.evolve(
            seen,
            status=response.status_code,
            body=bytes(body[:_BODY_BYTES]),
            used_weight=_whole_number(response, "x-mbx-used-weight-1m"),
            retry_after_seconds=_whole_number(response, "retry-after"),
        )
    except trio.TooSlowError:
        seen = attrs.evolve(seen, problem=f"no whole answer within {limit_seconds:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        seen = attrs.evolve(seen, problem=shown(str(error) or repr(error.__cause__ or error)))
    return attrs.evolve(seen, seconds=trio.current_time() - began)


def _whole_number(response: httpx2.Response, header: str) -> int | None:
    text = response.headers.get(header, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
