"""Halts of whole markets: minutes that are quiet in many symbols, and for REST in the busiest."""

import math
from collections import defaultdict

import attrs
import numpy as np

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.journal.ledger import FetchResult

__all__ = ["Halts"]

_LEAST_SYMBOLS = 10
"""As many that are quiet in the same minutes are no chance."""
_DAY_MS = 86_400_000
_MOST_STRETCHES = 100_000
"""Some 20 MB. What is forgotten is asked of REST."""
_WAIT_SECONDS = 60.0
"""So long after a day's last file others wait for the busiest symbol: it may never be asked, as
when its gap was filled meanwhile."""


@attrs.define(eq=False)
class _Day:
    """What is quiet in the files of a market's day, in one interval."""

    series: list[Series] = attrs.field(factory=list)
    bounds: list[tuple[int, int, float]] = attrs.field(factory=list)
    """From when to when, and how many trades were to be expected."""
    seen_at: float = -math.inf
    """When the last of them was taken down, on our own clock."""
    _table: "np.ndarray[tuple[int, int], np.dtype[np.float64]] | None" = None

    def busiest(self, span: Span) -> Series | None:
        """Return the busiest of ten series that are quiet all through a span."""
        if self._table is None or len(self._table) != len(self.bounds):
            self._table = np.array(self.bounds)
        from_ms, to_ms, expected = self._table.T
        alike = (from_ms <= span.from_ms) & (span.to_ms <= to_ms)
        if np.count_nonzero(alike) < _LEAST_SYMBOLS:
            return None
        return self.series[int(np.argmax(np.where(alike, expected, -1.0)))]


@attrs.define(eq=False)
class Halts:
    """Which quiet stretches of archive files need no question, since the whole market halted.

    Only in memory: after a restart REST is asked again.
    """

    _days: dict[tuple[str, str, int], _Day] = attrs.field(init=False, factory=dict)
    """By trade type, interval and day."""
    _count: int = attrs.field(init=False, default=0)
    _answers: defaultdict[Series, list[tuple[Span, bool]]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """What REST was asked for of the busiest ones, and whether it has all of the candles, and no
    trades in them either."""

    def see(self, series: Series, span: Span, expected: float, now: float) -> None:
        """Take down a quiet stretch of a file, with its expected number of trades.

        Args:
          series: whose.
          span: when; stretches of one series are apart.
          expected: how many trades, by the rows around.
          now: seconds on our own clock.
        """
        if self._count >= _MOST_STRETCHES:
            self._days.clear()
            self._answers.clear()
            self._count = 0
        self._count += 1
        day = self._days.setdefault(_key(series, span.from_ms), _Day())
        day.series.append(series)
        day.bounds.append((span.from_ms, span.to_ms, expected))
        day.seen_at = now

    def answered(self, refill: FetchResult) -> bool:
        """Take down an answer of REST. Return whether others may have waited for it."""
        series, span = refill.series, refill.span
        if self._busiest(series, span) != series:
            return False
        is_whole = len(refill.candles) == series.interval.count(span)
        is_quiet = is_whole and not any(one.trade_num for one in refill.candles)
        self._answers[series].append((span, is_quiet))
        return True

    def has(self, series: Series, span: Span) -> bool:
        """Return whether ten symbols are quiet all through a span, and REST says so of the busiest.

        Args:
          series: whose file is quiet.
          span: when.
        """
        busiest = self._busiest(series, span)
        if busiest is None or busiest not in self._answers:
            return False
        answers = self._answers[busiest]
        return not list(span.without(sorted(one for one, is_quiet in answers if is_quiet)))

    def to_ask_first(self, series: Series, span: Span, now: float) -> Series | None:
        """Return the busiest of ten symbols that are quiet all through a span, until it is asked.

        Its answer may save the questions about all others.

        Args:
          series: who would be asked for.
          span: when.
          now: seconds on our own clock.
        """
        busiest = self._busiest(series, span)
        if busiest is None or busiest == series:
            return None
        day = self._days[_key(series, span.from_ms)]
        is_answered = any(one.common_with(span) for one, _ in self._answers.get(busiest, ()))
        return None if is_answered or now > day.seen_at + _WAIT_SECONDS else busiest

    def _busiest(self, series: Series, span: Span) -> Series | None:
        day = self._days.get(_key(series, span.from_ms))
        return None if day is None else day.busiest(span)


def _key(series: Series, time_ms: int) -> tuple[str, str, int]:
    return series.trade_type, series.time_interval, time_ms // _DAY_MS
