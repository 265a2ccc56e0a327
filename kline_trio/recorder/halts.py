"""Halts of whole markets: minutes that are quiet in many symbols, and for REST in the busiest."""

from collections import defaultdict
from operator import attrgetter

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


@attrs.frozen
class _Stretch:
    """What of a series is quiet in an archive's file."""

    series: Series
    span: Span
    expected: float
    """How many trades, by the rows around."""


@attrs.define(eq=False)
class Halts:
    """Which quiet stretches of archive files need no question, since the whole market halted.

    Only in memory: after a restart REST is asked again.
    """

    _seen: defaultdict[tuple[str, int], list[_Stretch]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """By trade type and day."""
    _count: int = attrs.field(init=False, default=0)
    _answered: defaultdict[tuple[str, str], list[tuple[Span, bool]]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """By trade type and symbol: what REST was asked for of such stretches, and whether it has all
    of the candles, and no trades in them either."""

    def see(self, series: Series, span: Span, expected: float) -> None:
        """Take down a quiet stretch of a file, with its expected number of trades."""
        if self._count >= _MOST_STRETCHES:
            self._seen.clear()
            self._answered.clear()
            self._count = 0
        self._count += 1
        stretches = self._seen[series.trade_type, span.from_ms // _DAY_MS]
        stretches.append(_Stretch(series, span, expected))

    def answered(self, refill: Refill) -> bool:
        """Take down an answer of REST. Return whether it is about a quiet stretch."""
        series, span = refill.series, refill.span
        seen = self._seen.get((series.trade_type, span.from_ms // _DAY_MS), ())
        if not any(one.series == series and one.span.common_with(span) for one in seen):
            return False
        is_whole = len(refill.candles) == series.interval.count(span)
        is_quiet = is_whole and not any(one.trade_num for one in refill.candles)
        self._answered[series.trade_type, series.symbol].append((span, is_quiet))
        return True

    def has(self, series: Series, span: Span) -> bool:
        """Return whether ten symbols are quiet all through a span, and REST says so of the busiest.

        Args:
          series: whose file is quiet.
          span: when.
        """
        busiest = self._busiest(series, span)
        if busiest is None:
            return False
        answers = self._answered[series.trade_type, busiest.symbol]
        return not list(span.without(sorted(one for one, is_quiet in answers if is_quiet)))

    def to_ask_first(self, series: Series, span: Span) -> Series | None:
        """Return the busiest of ten symbols that are quiet all through a span, until it is asked.

        Its answer may save the questions about all others.

        Args:
          series: who would be asked for.
          span: when.
        """
        busiest = self._busiest(series, span)
        if busiest is None or busiest.symbol == series.symbol:
            return None
        answers = self._answered[series.trade_type, busiest.symbol]
        return None if any(one.common_with(span) for one, _ in answers) else busiest

    def _busiest(self, series: Series, span: Span) -> Series | None:
        seen = self._seen.get((series.trade_type, span.from_ms // _DAY_MS), ())
        alike = {one.series.symbol: one for one in seen if not list(span.without([one.span]))}
        if len(alike) < _LEAST_SYMBOLS:
            return None
        return max(alike.values(), key=attrgetter("expected")).series
