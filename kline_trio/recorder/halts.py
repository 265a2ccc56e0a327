"""Halts of whole markets: minutes that are quiet in many symbols, and for REST in the busiest."""

from collections import defaultdict

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.ledger import Refill

__all__ = ["Halts"]

_LEAST_SYMBOLS = 10
"""As many that are quiet in the same minutes are no chance."""
_DAY_MS = 86_400_000
_MOST_STRETCHES = 100_000
"""Some 20 MB. What is forgotten is asked of REST."""


@attrs.define(eq=False)
class Halts:
    """Which quiet stretches of archive files need no question, since the whole market halted.

    Only in memory: after a restart REST is asked again.
    """

    _seen: defaultdict[tuple[str, int], list[tuple[Span, str, float]]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """By trade type and day: stretches, each with its symbol and expected number of trades."""
    _count: int = attrs.field(init=False, default=0)
    _confirmed: defaultdict[tuple[str, str], list[Span]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """By trade type and symbol: where REST has candles without trades, too."""

    def see(self, series: Series, span: Span, expected: float) -> None:
        """Take down a quiet stretch of a file, with its expected number of trades."""
        if self._count >= _MOST_STRETCHES:
            self._seen.clear()
            self._confirmed.clear()
            self._count = 0
        self._count += 1
        stretches = self._seen[series.trade_type, span.from_ms // _DAY_MS]
        stretches.append((span, series.symbol, expected))

    def confirm(self, refill: Refill) -> None:
        """Take down an answer of REST, if it is about a quiet stretch and has no trades either."""
        series, span = refill.series, refill.span
        is_whole = len(refill.candles) == series.interval.count(span)
        if not is_whole or any(one.trade_num for one in refill.candles):
            return
        seen = self._seen.get((series.trade_type, span.from_ms // _DAY_MS), ())
        if any(one == span and symbol == series.symbol for one, symbol, _ in seen):
            self._confirmed[series.trade_type, series.symbol].append(span)

    def has(self, series: Series, span: Span) -> bool:
        """Return whether ten symbols are quiet all through a span, and REST says so of the busiest.

        Args:
          series: whose file is quiet.
          span: when.
        """
        alike = {
            symbol: expected
            for one, symbol, expected in self._seen.get(
                (series.trade_type, span.from_ms // _DAY_MS), ()
            )
            if _holds(one, span)
        }
        if len(alike) < _LEAST_SYMBOLS:
            return False
        busiest = max(alike, key=alike.__getitem__)
        return any(_holds(one, span) for one in self._confirmed[series.trade_type, busiest])


def _holds(one: Span, other: Span) -> bool:
    return one.from_ms <= other.from_ms and other.to_ms <= one.to_ms
