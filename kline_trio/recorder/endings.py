"""Which series come to their end, and which of those that had ended trade again (pure)."""

from collections.abc import Collection, Iterable, Mapping

import attrs

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.interval import Span

__all__ = ["Endings"]


@attrs.define(eq=False)
class Endings:
    """What the exchange's lists say of the series, and what of that is in the ledger by now.

    A list is some minutes old when it is looked at again, and the clock by which it is dated may
    be behind it: a series may have traded after its end was seen, and may trade again later. So
    one candle more is waited for, and whatever is closed as delisted counts until its symbol is
    seen to trade.
    """

    _next: dict[Series, Span] = attrs.field(init=False, factory=dict)
    """Of symbols traded no more: the candle after the one in which that was seen."""
    _traded: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _reopened: set[Series] = attrs.field(init=False, factory=set)
    """Those among the traded of which nothing is closed as delisted any more."""

    def __bool__(self) -> bool:
        """Whether anything comes to its end."""
        return bool(self._next)

    def see(self, ended: Mapping[Series, int], traded: Iterable[Series]) -> None:
        """The exchange's lists say this now of what is recorded.

        Args:
          ended: whose symbols are traded no more, and when that was seen.
          traded: whose symbols are.
        """
        self._next = {
            series: self._next.get(series) or _after(series, seen_ms)
            for series, seen_ms in ended.items()
        }
        self._traded = frozenset(traded)
        self._reopened &= self._traded

    def came(self, batch: Iterable[ReceivedCandle]) -> None:
        """These are stored by now: what has trades had not ended before they were over."""
        if self._next:
            for item in batch:
                span, at_ms = self._next.get(item.series), item.candle.open_time_ms
                if span is not None and at_ms >= span.from_ms and item.candle.trade_num:
                    self._next[item.series] = _after(item.series, at_ms)

    def over(self, watermarks_ms: Mapping[Series, int]) -> dict[Series, Span]:
        """What has ended: of each the candle of which the exchange is to say that there is none.

        Args:
          watermarks_ms: up to where the series are accounted for; that candle is.
        """
        return {
            series: span
            for series, span in self._next.items()
            if series in watermarks_ms and watermarks_ms[series] >= span.to_ms
        }

    def is_over(self, series: Series, span: Span) -> bool:
        """Whether the series is not sealed yet, and that is still the candle."""
        return self._next.get(series) == span

    def to_reopen(self, known: Collection[Series]) -> list[Series]:
        """Of which of these whatever is closed as delisted is to be asked for anew."""
        return sorted(one for one in self._traded - self._reopened if one in known)

    def reopened(self, series: Iterable[Series]) -> None:
        """That is done of these."""
        self._reopened.update(self._traded.intersection(series))

    def forget(self, series: Series) -> None:
        """It is sealed, or recorded no more; it may be again."""
        self._next.pop(series, None)
        self._reopened.discard(series)


def _after(series: Series, moment_ms: int) -> Span:
    """The candle after the one that holds a moment."""
    interval = series.interval
    from_ms = interval.end_time_ms(interval.open_time_ms(moment_ms))
    return Span(from_ms, interval.end_time_ms(from_ms))
