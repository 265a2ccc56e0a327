"""The rate limit of REST requests: one budget of request weight for each pool of addresses.

Sources: Binance spot docs, rest-api.md "LIMITS"; USD-M docs, "LIMITS"; futures share one pool since
2026-06-30.
"""

import heapq
import itertools
import math
from collections.abc import Iterator

import attrs
import trio

_WINDOW_SECONDS = 60.0
_LONGEST_BLOCK_SECONDS = 3 * 86_400.0
"""The longest ban there is (Binance docs, rest-api.md, "IP Limits")."""


@attrs.frozen
class RateLimiterUsage:
    """How much of a budget is used at one moment."""

    weight_used: int
    """In the present minute."""
    weight_allowed: int
    """In a minute, by this program."""
    waiting: int
    """Requests that wait for their weight."""
    blocked_seconds: float
    """Until requests may pass again; 0 if they may now."""
    blocked_why: str | None
    """The exchange's answer that blocked them."""


@attrs.define(eq=False)
class RateLimiter:
    """All requests of a pool wait here for their weight, the most urgent first.

    It counts by the local monotonic clock, in its own minutes. The exchange's minutes may begin at
    other moments; the share that is left to others makes up for that.
    """

    weight_per_minute: int
    share: float
    """The part of it to use; the rest is for other programs at this address."""

    _window_began: float = attrs.field(init=False, default=-math.inf)
    _used: int = attrs.field(init=False, default=0)
    _blocked_until: float = attrs.field(init=False, default=-math.inf)
    _blocked_why: str | None = attrs.field(init=False, default=None)
    _numbers: Iterator[int] = attrs.field(init=False, factory=itertools.count)
    _queue: list[tuple[float, int]] = attrs.field(init=False, factory=list)
    _changed: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def acquire(self, weight: int, urgency: float) -> None:
        """Wait until the weight is free, and spend it; the request with the smallest urgency first.

        If cancelled, no weight is spent.
        """
        ticket = (urgency, next(self._numbers))
        heapq.heappush(self._queue, ticket)
        try:
            await trio.lowlevel.checkpoint()
            while True:
                wait = self._wait_seconds(weight) if self._queue[0] == ticket else math.inf
                if wait <= 0:
                    break
                with trio.move_on_after(wait):
                    await self._changed.wait()
            self._used += weight
        finally:
            self._queue.remove(ticket)
            heapq.heapify(self._queue)
            self._change()

    def learn_used(self, used: int) -> None:
        """Note the weight that this address has used in the present minute, by an answer."""
        self._roll()
        self._used = max(self._used, used)

    def learn_limit(self, weight_per_minute: int) -> None:
        """Note the budget of a minute, by exchangeInfo."""
        if weight_per_minute > 0:
            self.weight_per_minute = weight_per_minute
            self._change()

    def set_share(self, share: float) -> None:
        """Use another part of the budget from now on."""
        self.share = share
        self._change()

    def block(self, seconds: float, why: str = "") -> None:
        """Let no request pass for so long: the exchange asked for a pause."""
        until = trio.current_time() + min(seconds, _LONGEST_BLOCK_SECONDS)
        if until > self._blocked_until:
            self._blocked_until, self._blocked_why = until, why

    def usage(self) -> "RateLimiterUsage":
        """Return how much of the budget is used now, and whether requests are blocked."""
        self._roll()
        blocked_seconds = max(0.0, self._blocked_until - trio.current_time())
        return RateLimiterUsage(
            self._used,
            int(self.weight_per_minute * self.share),
            len(self._queue),
            blocked_seconds,
            self._blocked_why if blocked_seconds else None,
        )

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _roll(self) -> None:
        now = trio.current_time()
        if now >= self._window_began + _WINDOW_SECONDS:
            self._window_began, self._used = now, 0

    def _wait_seconds(self, weight: int) -> float:
        self._roll()
        now = trio.current_time()
        if now < self._blocked_until:
            return self._blocked_until - now
        # A request that is heavier than the whole share goes alone.
        if self._used and self._used + weight > self.weight_per_minute * self.share:
            return self._window_began + _WINDOW_SECONDS - now
        return 0.0
