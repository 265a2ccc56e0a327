"""One market's WebSocket door: who may come in, who is in, and what is counted about it."""

from collections import Counter, deque
from collections.abc import Mapping

import attrs

from kline_trio.simulator.session import TOO_MANY_REQUESTS, Session

__all__ = ["Connection", "Door", "MarketStatistics"]

_MOST_ATTEMPTS = {"spot": 300}
"""From one address (Binance spot docs, web-socket-streams.md, "WebSocket Limits", since 2023-02);
the futures docs name no such limit."""
_ATTEMPTS_WITHIN_S = 300.0


@attrs.frozen(kw_only=True)
class Connection:
    """One open connection."""

    number: int
    """From 1 on, in the order in which the market's connections were opened."""
    opened_ms: int
    """Exchange time."""
    lag_ms: int
    streams: tuple[str, ...]
    """What it is subscribed to, oldest first; unknown and silent names are among it."""


@attrs.frozen(kw_only=True)
class MarketStatistics:
    """What a market's servers have counted so far."""

    attempts: int
    """Handshakes, whatever came of them."""
    refused: int
    """Handshakes refused for their number."""
    opened: int
    """Connections."""
    open: int
    """Connections, now."""
    peak_open: int
    """The most that were open at once."""
    too_many_requests: int
    """Connections closed with 1008 for more messages in a second than are allowed."""
    most_messages_per_s: int
    """Seen in any one second on any one connection, control frames included where they count."""
    klines_answered: int
    """Requests for klines that got rows, or an empty list of them."""
    subscriptions: Mapping[str, int]
    """For each stream that is subscribed now, on how many connections it is."""


class Door:
    """Counts attempts, and knows the connections that are open."""

    def __init__(self, trade_type: str) -> None:
        self._most_attempts = _MOST_ATTEMPTS.get(trade_type)
        self._recent: deque[float] = deque()
        self._sessions: dict[Session, None] = {}
        self._attempts = self._refused = self._peak = 0
        self._too_many = self._most_messages = 0
        self.opened = 0
        """Connections, ever."""
        self.klines_answered = 0

    def knock(self, now_s: float) -> bool:
        """Count an attempt, and tell whether it is within the limit.

        Refused attempts count as well, so who tries again at once stays outside.
        """
        self._attempts += 1
        if self._most_attempts is None:
            return True
        self._recent.append(now_s)
        while self._recent[0] <= now_s - _ATTEMPTS_WITHIN_S:
            self._recent.popleft()
        if len(self._recent) <= self._most_attempts:
            return True
        # the newest ones decide, so no more than they need be kept
        self._recent.popleft()
        self._refused += 1
        return False

    def enter(self, session: Session) -> None:
        """Note a connection that is open from now on."""
        self.opened += 1
        self._sessions[session] = None
        self._peak = max(self._peak, len(self._sessions))

    def leave(self, session: Session) -> None:
        """Note the end of a connection."""
        if session in self._sessions:
            del self._sessions[session]
            self._too_many += session.close == TOO_MANY_REQUESTS
            self._most_messages = max(self._most_messages, session.most_messages_per_s)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open, oldest first."""
        return tuple(
            Connection(
                number=session.number,
                opened_ms=session.born_ms,
                lag_ms=session.lag_ms,
                streams=tuple(session.streams),
            )
            for session in self._sessions
        )

    @property
    def statistics(self) -> MarketStatistics:
        """What was counted so far."""
        closing = [session for session in self._sessions if session.close == TOO_MANY_REQUESTS]
        messages = [session.most_messages_per_s for session in self._sessions]
        return MarketStatistics(
            attempts=self._attempts,
            refused=self._refused,
            opened=self.opened,
            open=len(self._sessions),
            peak_open=self._peak,
            too_many_requests=self._too_many + len(closing),
            most_messages_per_s=max(self._most_messages, *messages, 0),
            klines_answered=self.klines_answered,
            subscriptions=dict(Counter(s for one in self._sessions for s in one.streams)),
        )
