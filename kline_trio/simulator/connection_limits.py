"""The limits of connections: handshakes, messages, pongs in time, and 24 hours.

All of it runs in local seconds. Sources: Binance spot docs, web-socket-streams.md ("General WSS
information", "WebSocket Limits"); USD-M and COIN-M docs, "WebSocket Market Streams" ("Connect").
"""

from collections import deque
from math import inf

import attrs

__all__ = ["LIFETIME_S", "MOST_STREAMS", "TOO_MANY_REQUESTS", "Close", "KeepAlive"]
__all__ += ["RateLimit", "attempt_limit", "limits_of"]

LIFETIME_S = 24 * 3600.0
MOST_STREAMS = 1024


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of one connection."""

    messages_per_s: int
    ping_every_s: float
    pong_within_s: float
    control_frames_count: bool = False
    """Whether pings and pongs count as messages."""


_SPOT = Limits(messages_per_s=5, ping_every_s=20, pong_within_s=60, control_frames_count=True)
_FUTURES = Limits(messages_per_s=10, ping_every_s=180, pong_within_s=600)


def limits_of(trade_type: str) -> Limits:
    """Return the documented limits of a connection to a market."""
    return _SPOT if trade_type == "spot" else _FUTURES


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


def attempt_limit(trade_type: str) -> RateLimit:
    """Return the limit of the handshakes with a market from one address.

    Source: Binance spot docs, web-socket-streams.md, "WebSocket Limits", since 2023-02; the futures
    docs name no such limit.
    """
    return RateLimit(300 if trade_type == "spot" else inf, within_s=300.0)


class KeepAlive:
    """The pings of one connection, and the end that comes without pongs or after 24 hours."""

    def __init__(self, limits: Limits, now_s: float) -> None:
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
        if payload in self._unanswered:
            for sent in list(self._unanswered):
                del self._unanswered[sent]
                if sent == payload:
                    break
