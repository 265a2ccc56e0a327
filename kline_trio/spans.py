"""Sets of candles, kept as spans: years without a gap are one span."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import attrs

from kline_trio.interval import Span


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order. Spans that touch or overlap become one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.from_ms <= found[-1].to_ms:
            if span.to_ms > found[-1].to_ms:
                found[-1] = Span(found[-1].from_ms, span.to_ms)
        else:
            found.append(span)
    return found


def common(some: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Give what lies in both; each is in order, and its spans do not overlap."""
    mine = theirs = 0
    while mine < len(some) and theirs < len(others):
        yield from some[mine].common_with(others[theirs])
        if some[mine].to_ms < others[theirs].to_ms:
            mine += 1
        else:
            theirs += 1


@attrs.define(eq=False)
class SpanSet:
    """A set of candles of one series, added in any order."""

    _spans: list[Span] = attrs.field(factory=list)
    """In order. No two spans touch."""

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, span: Span) -> None:
        """Add the candles of a span, which may be in the set already."""
        spans = self._spans
        if not spans or span.from_ms > spans[-1].to_ms:
            spans.append(span)
        elif spans[-1].from_ms <= span.from_ms:
            # The usual case: a candle that follows the last one.
            spans[-1] = Span(spans[-1].from_ms, max(spans[-1].to_ms, span.to_ms))
        else:
            self._spans = joined([*spans, span])

    def remove_before(self, moment_ms: int) -> None:
        """Remove the candles that open before a time."""
        if self._spans and self._spans[0].from_ms < moment_ms:
            later = Span(moment_ms, max(moment_ms + 1, self._spans[-1].to_ms))
            self._spans = [piece for one in self._spans for piece in one.common_with(later)]

    def holds(self, open_time_ms: int) -> bool:
        """Return whether the candle that opens at this time is in the set."""
        at = bisect_left(self._spans, open_time_ms, key=lambda one: one.to_ms - 1)
        return at < len(self._spans) and self._spans[at].from_ms <= open_time_ms
