"""Two answers that agree: one alone may be wrong (pure).

Two count as two if they are of different hosts, or 10 seconds apart. None of this survives a
restart: then two answers are asked for anew.
"""

from collections import defaultdict

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span

__all__ = ["APART_SECONDS", "Witnesses"]

APART_SECONDS = 10.0
"""What is wrong at one moment may be right so much later."""
_FORGET_SECONDS = 3_600.0
"""Longer than the longest wait between two attempts."""


@attrs.frozen
class _Word:
    span: Span
    host: str
    at: float
    said: object


@attrs.define(eq=False)
class Witnesses:
    """Who has said the same of which candles. Times are seconds on our own clock."""

    _words: defaultdict[Series, list[_Word]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )

    def hear(self, series: Series, span: Span, host: str, now: float, said: object = None) -> None:
        """Keep that a host has said it of these candles, and what, if there is a choice."""
        kept = [one for one in self._words[series] if now - one.at < _FORGET_SECONDS]
        self._words[series] = [*kept, _Word(span, host, now, said)]

    def agree(self, series: Series, span: Span, host: str, now: float, said: object = None) -> bool:
        """Return whether another word than this one has said the same of all these candles."""
        left = [span]
        for one in self._words.get(series, ()):
            if one.said == said and (one.host != host or now - one.at >= APART_SECONDS):
                left = [piece for part in left for piece in part.without([one.span])]
        return not left
