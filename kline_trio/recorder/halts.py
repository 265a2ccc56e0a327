"""Halts of whole markets: stretches that are quiet in many symbols, and for REST in the busiest.

Only in memory: after a restart REST is asked again. The times `now` are local seconds.
"""

import math
from collections import defaultdict

import attrs
import numpy as np

from kline_trio.candle import Series
from kline_trio.interval import DAY_MS, Span
from kline_trio.storage.journal.ledger import FetchResult

_LEAST_SYMBOLS = 10
"""So many symbols are not quiet in the same minutes by chance."""
_MOST_STRETCHES = 100_000
"""Some 20 MB. REST is asked for stretches that are forgotten."""
_WAIT_SECONDS = 60.0
"""After a day's last file, how long the other symbols wait for an answer about the busiest one. It
may never be asked for, as when its gap was filled meanwhile."""


@attrs.define(eq=False)
class _Day:
    """The quiet stretches in the files of a market's day, in one interval."""

    series: list[Series] = attrs.field(factory=list)
    bounds: list[tuple[int, int, float]] = attrs.field(factory=list)
    """Begin and end in milliseconds, and the expected number of trades."""
    seen_at: float = -math.inf
    """When the last stretch was added."""
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
    """Which quiet stretches of archive files are right, since the whole market halted."""

    _days: dict[tuple[str, str, int], _Day] = attrs.field(init=False, factory=dict)
    """By trade type, interval and day."""
    _count: int = attrs.field(init=False, default=0)
    _answers: defaultdict[Series, list[tuple[Span, bool]]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )
    """The spans that REST was asked for of the busiest series, and whether REST has all of their
    candles, without trades."""

    def see(self, series: Series, span: Span, expected: float, now: float) -> None:
        """Add a quiet stretch of a file, with the number of trades that the rows around suggest.

        The stretches of one series do not touch.
        """
        if self._count >= _MOST_STRETCHES:
            self._days.clear()
            self._answers.clear()
            self._count = 0
        self._count += 1
        day = self._days.setdefault(_key(series, span), _Day())
        day.series.append(series)
        day.bounds.append((span.from_ms, span.to_ms, expected))
        day.seen_at = now

    def answered(self, refill: FetchResult) -> bool:
        """Note an answer of REST. Return whether other series may have waited for it."""
        series, span = refill.series, refill.span
        if self._busiest(series, span) != series:
            return False
        is_whole = len(refill.candles) == series.interval.count(span)
        is_quiet = is_whole and not any(one.trade_num for one in refill.candles)
        self._answers[series].append((span, is_quiet))
        return True

    def has(self, series: Series, span: Span) -> bool:
        """Return whether ten symbols are quiet all through a span, and REST says so of the busiest.

        The series gives market and interval.
        """
        busiest = self._busiest(series, span)
        if busiest is None or busiest not in self._answers:
            return False
        answers = self._answers[busiest]
        return not list(span.without(sorted(one for one, is_quiet in answers if is_quiet)))

    def to_ask_first(self, series: Series, span: Span, now: float) -> Series | None:
        """Return the series to ask REST for before this one; None if there is none.

        It is the busiest of ten that are quiet all through the span, as long as REST has not
        answered: its answer may save the requests for all others.
        """
        busiest = self._busiest(series, span)
        if busiest is None or busiest == series:
            return None
        day = self._days[_key(series, span)]
        is_answered = any(one.common_with(span) for one, _ in self._answers.get(busiest, ()))
        return None if is_answered or now > day.seen_at + _WAIT_SECONDS else busiest

    def _busiest(self, series: Series, span: Span) -> Series | None:
        day = self._days.get(_key(series, span))
        return None if day is None else day.busiest(span)


def _key(series: Series, span: Span) -> tuple[str, str, int]:
    return series.trade_type, series.time_interval, span.from_ms // DAY_MS
