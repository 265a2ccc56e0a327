"""What the servers of a market count, for tests to look at."""

from collections import Counter
from collections.abc import Mapping

import attrs

from kline_trio.simulator.session import TOO_MANY_REQUESTS, Session

__all__ = ["Connection", "Counters", "MarketStatistics"]


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


class Counters:
    """Counts what comes to one market, and knows the connections that are open."""

    def __init__(self) -> None:
        self.attempts = 0
        self.refused = 0
        """Handshakes refused for their number."""
        self.opened = 0
        """Connections, ever."""
        self.klines_answered = 0
        self._sessions: dict[Session, tuple[int, int]] = {}
        """With the number and the lag of each."""
        self._peak = self._too_many = self._most_messages = 0

    def enter(self, session: Session, lag_ms: int) -> None:
        """Note a connection that is open from now on."""
        self.opened += 1
        self._sessions[session] = self.opened, lag_ms
        self._peak = max(self._peak, len(self._sessions))

    def leave(self, session: Session) -> None:
        """Note the end of a connection."""
        if session in self._sessions:
            del self._sessions[session]
            self._too_many += session.close == TOO_MANY_REQUESTS
            self._most_messages = max(self._most_messages, session.messages.peak)

    def connection(self, session: Session) -> Connection:
        """Return what is known of an open connection."""
        number, lag_ms = self._sessions[session]
        streams = tuple(session.streams)
        return Connection(number=number, opened_ms=session.born_ms, lag_ms=lag_ms, streams=streams)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open, oldest first."""
        return tuple(map(self.connection, self._sessions))

    @property
    def statistics(self) -> MarketStatistics:
        """What was counted so far."""
        closing = [session for session in self._sessions if session.close == TOO_MANY_REQUESTS]
        messages = [session.messages.peak for session in self._sessions]
        return MarketStatistics(
            attempts=self.attempts,
            refused=self.refused,
            opened=self.opened,
            open=len(self._sessions),
            peak_open=self._peak,
            too_many_requests=self._too_many + len(closing),
            most_messages_per_s=max(self._most_messages, *messages, 0),
            klines_answered=self.klines_answered,
            subscriptions=dict(Counter(s for one in self._sessions for s in one.streams)),
        )
