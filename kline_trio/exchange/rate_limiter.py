"""How much may be asked of the exchange: one budget of request weight for each pool of addresses.

Sources: Binance spot docs, rest-api.md "LIMITS"; USD-M docs, "LIMITS"; futures share one pool since
2026-06-30.
"""

import heapq
import itertools
import math
from collections.abc import Iterator

import attrs
import trio

__all__ = ["RateLimiter"]

_WINDOW_SECONDS = 60.0
_LONGEST_BLOCK_SECONDS = 3 * 86_400.0
"""The longest ban there is (Binance docs, rest-api.md, "IP Limits")."""


@attrs.define(eq=False)
class RateLimiter:
    """The one gate through which all requests of a pool go, the most urgent first.

    It counts by the local monotonic clock, in minutes of its own: the exchange's minutes may begin
    at other moments, which the share that is left to others makes up for.
    """

    weight_per_minute: int
    share: float
    """How much of it may be used; the rest is for other programs at this address."""

    _window_began: float = attrs.field(init=False, default=-math.inf)
    _used: int = attrs.field(init=False, default=0)
    _blocked_until: float = attrs.field(init=False, default=-math.inf)
    _numbers: Iterator[int] = attrs.field(init=False, factory=itertools.count)
    _queue: list[tuple[float, int]] = attrs.field(init=False, factory=list)
    _changed: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def acquire(self, weight: int, urgency: float) -> None:
        """Waits until so much may be asked, in the order of urgency, the smallest first.

        If cancelled, nothing is spent.
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
        """An answer said what this address has used in the present minute."""
        self._roll()
        self._used = max(self._used, used)

    def learn_limit(self, weight_per_minute: int) -> None:
        """ExchangeInfo said what a minute's budget is."""
        if weight_per_minute > 0:
            self.weight_per_minute = weight_per_minute
            self._change()

    def block(self, seconds: float) -> None:
        """The exchange asked for a pause: nothing more is asked by anybody before its end."""
        until = trio.current_time() + min(seconds, _LONGEST_BLOCK_SECONDS)
        self._blocked_until = max(self._blocked_until, until)

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
