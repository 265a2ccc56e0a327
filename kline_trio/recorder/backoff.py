"""When to ask REST again after failures (pure). For reconnects: `backoff_seconds` in listener.py.

Times are local monotonic seconds. A restart forgets them: then all pending gaps may be asked for at
once, at the rate limit.
"""

import math
from collections import defaultdict
from collections.abc import Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span

_FIRST_SECONDS = 1.0
_FIRST_OF_SERIES_SECONDS = 2.0
"""Longer than its market's: the others get their turn before a bad series has its next."""
_LONGEST_SECONDS = 60.0


def doubled(first_seconds: float, times: int, longest_seconds: float) -> float:
    """Return `first_seconds`, doubled so many times, but at most `longest_seconds`."""
    return min(longest_seconds, first_seconds * 2.0 ** min(times, 16))


@attrs.define
class _Pause:
    """A pause in the requests for a market, or for one series of it, after failures."""

    failures: int = 0
    """In a row."""
    until: float = -math.inf

    def fail(self, now: float, first_seconds: float) -> bool:
        """Rest for longer after each failure. Return whether this failure is the first in a row."""
        begins = not self.failures
        # Requests that workers made at the same time fail at the same time: that is one failure.
        if self.until <= now:
            self.until = now + doubled(first_seconds, self.failures, _LONGEST_SECONDS)
            self.failures += 1
        return begins


@attrs.define(eq=False)
class Backoff:
    """When to ask REST again: for markets and series that failed, and for spans without candles."""

    _pauses: defaultdict[str | Series, _Pause] = attrs.field(
        init=False, factory=lambda: defaultdict(_Pause)
    )
    """By trade type for failures of a market, and by series for failures of one series."""
    _waiting: dict[Series, list[tuple[Span, float]]] = attrs.field(init=False, factory=dict)
    """Spans, and until when each waits. A past entry stays until its series is put off again."""

    def failed(self, series: Series, now: float) -> bool:
        """Let a series and its market rest. Return whether both failures are the first in a row."""
        begins = self._pauses[series].fail(now, _FIRST_OF_SERIES_SECONDS)
        return self.market_failed(series.trade_type, now) and begins

    def market_failed(self, trade_type: str, now: float, least_seconds: float = 0.0) -> bool:
        """Let a market rest. Return whether this failure is the first in a row."""
        market = self._pauses[trade_type]
        begins = market.fail(now, _FIRST_SECONDS)
        market.until = max(market.until, now + least_seconds)
        return begins

    def succeeded(self, series: Series) -> None:
        """Reset the failure counts of a series and of its market."""
        for one in (series, series.trade_type):
            # A request from before the others failed does not cut their rest short.
            self._pauses[one].failures = 0

    def paused_until(self, one: Series | str) -> float:
        """Return until when a series, or a market by its trade type, rests."""
        names = (one,) if isinstance(one, str) else (one, one.trade_type)
        return max(
            self._pauses[name].until if name in self._pauses else -math.inf for name in names
        )

    def put_off(self, series: Series, wait_seconds: Mapping[Span, float], now: float) -> None:
        """Let spans of a series wait, each for so many seconds, before REST is asked again."""
        new = [(span, now + seconds) for span, seconds in wait_seconds.items()]
        self._waiting[series] = self._still_waiting(series, now) + new

    def ready(self, series: Series, span: Span, now: float) -> list[Span]:
        """Return the parts of a span that may be asked for now."""
        if self.paused_until(series) > now:
            return []
        return list(span.without(sorted(one for one, _ in self._still_waiting(series, now))))

    def ready_at(self, series: Series, span: Span, now: float) -> float:
        """Return when a first part of a span may be asked for."""
        paused_until, waiting = self.paused_until(series), self._still_waiting(series, now)
        if paused_until <= now and any(span.without(sorted(one for one, _ in waiting))):
            return now
        touching = [until for one, until in waiting if one.common_with(span)]
        return max(paused_until, min(touching, default=now))

    def next_at(self, now: float) -> float:
        """Return when the first span that waits may be asked for; infinity if none waits."""
        waiting = (one for series in self._waiting for one in self._still_waiting(series, now))
        return min((until for _, until in waiting), default=math.inf)

    def _still_waiting(self, series: Series, now: float) -> list[tuple[Span, float]]:
        return [one for one in self._waiting.get(series, ()) if one[1] > now]
