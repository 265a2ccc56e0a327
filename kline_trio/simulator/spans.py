"""Spans of time, looked up by a moment however many there are."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

__all__ = ["Spans"]


class _Span(Protocol):
    @property
    def from_ms(self) -> int: ...
    @property
    def until_ms(self) -> int: ...


_S = TypeVar("_S", bound=_Span)


class Spans(Generic[_S]):
    """Values with a ``from_ms``, inclusive, and an ``until_ms``, exclusive.

    A year's script has thousands of faults, and each event of each stream is held against them.
    """

    def __init__(self, spans: Iterable[_S]) -> None:
        self._spans = sorted(spans, key=lambda span: span.from_ms)
        self._begins = [span.from_ms for span in self._spans]
        # The latest end among a span and all before it: from there back, none can hold a moment.
        self._ends = list(accumulate((span.until_ms for span in self._spans), max))

    def at(self, moment_ms: int) -> Iterator[_S]:
        """Give the spans that hold a moment, the one that began last first."""
        place = bisect_right(self._begins, moment_ms) - 1
        while place >= 0 and self._ends[place] > moment_ms:
            if self._spans[place].until_ms > moment_ms:
                yield self._spans[place]
            place -= 1

    def first_at(self, moment_ms: int) -> _S | None:
        """Return one of the spans that hold a moment."""
        return next(self.at(moment_ms), None)
