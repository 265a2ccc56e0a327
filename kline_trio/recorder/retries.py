"""When a gap may be asked for again (pure).

Times are seconds on our own clock. None of this survives a restart: then all that is pending may be
asked for at once, at the rate limit.
"""

import math

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span

__all__ = ["Retries"]


@attrs.define(eq=False)
class Retries:
    """The spans of each series that were asked for a moment ago."""

    _waiting: dict[Series, list[tuple[Span, float]]] = attrs.field(init=False, factory=dict)
    """By span, and until when. An entry outlives its gap by one wait at most."""

    def put_off(self, series: Series, span: Span, until: float) -> None:
        """Do not ask for a span before a time."""
        self._waiting.setdefault(series, []).append((span, until))

    def ready(self, series: Series, span: Span, now: float) -> list[Span]:
        """Return what of a span may be asked for now."""
        waiting = self._still_waiting(series, now)
        return list(span.without(sorted(one for one, _ in waiting)))

    def ready_at(self, series: Series, span: Span, now: float) -> float:
        """Return when something of a span may be asked for."""
        if self.ready(series, span, now):
            return now
        touching = [until for one, until in self._waiting[series] if one.common_with(span)]
        return min(touching, default=math.inf)

    def next_at(self, now: float) -> float:
        """Return when the first span that waits may be asked for; infinity if none waits."""
        times = (until for spans in self._waiting.values() for _, until in spans if until > now)
        return min(times, default=math.inf)

    def _still_waiting(self, series: Series, now: float) -> list[tuple[Span, float]]:
        waiting = self._waiting.get(series)
        if not waiting:
            return []
        if any(until <= now for _, until in waiting):
            waiting = [one for one in waiting if one[1] > now]
            self._waiting[series] = waiting
            if not waiting:
                del self._waiting[series]
        return waiting
