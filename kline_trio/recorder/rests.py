"""For how long a market, or one series of it, that gave no candles is left alone (pure)."""

import math
from collections.abc import Iterable

import attrs

from kline_trio.candle import Series

__all__ = ["Rests"]

_FIRST_SECONDS = 1.0
_FIRST_OF_SERIES_SECONDS = 2.0
"""Longer than its market's: the others get their turn before a bad series has its next."""
_LONGEST_SECONDS = 60.0


@attrs.frozen
class _Rest:
    failures: int = 0
    """One after the other."""
    until: float = -math.inf

    def after_failure(self, now: float, first_seconds: float) -> "_Rest":
        wait = min(_LONGEST_SECONDS, first_seconds * 2.0 ** min(self.failures, 10))
        return _Rest(self.failures + 1, max(self.until, now + wait))


_NONE = _Rest()


@attrs.define
class Rests:
    """Two for each failure: the market's for what concerns all, the series' for its own fault."""

    _markets: dict[str, _Rest] = attrs.field(init=False, factory=dict)
    _series: dict[Series, _Rest] = attrs.field(init=False, factory=dict)

    def until(self, series: Series) -> float:
        """When it may be asked for again."""
        market = self._markets.get(series.trade_type, _NONE)
        return max(market.until, self._series.get(series, _NONE).until)

    def until_all(self, trade_types: Iterable[str]) -> float:
        """When one of these markets may be asked."""
        return min(self._markets.get(name, _NONE).until for name in trade_types)

    def failed(self, series: Series, now: float) -> bool:
        """It gave nothing; whether that begins, for it and for its market."""
        mine = self._series.get(series, _NONE)
        self._series[series] = mine.after_failure(now, _FIRST_OF_SERIES_SECONDS)
        return self.market_failed(series.trade_type, now) and not mine.failures

    def market_failed(self, trade_type: str, now: float, least_seconds: float = 0.0) -> bool:
        """It gave nothing; whether that begins."""
        market = self._markets.get(trade_type, _NONE)
        begins = not market.failures
        # What workers asked for at the same time fails at the same time: that is one failure.
        if market.until <= now:
            market = market.after_failure(now, _FIRST_SECONDS)
        until = max(market.until, now + least_seconds)
        self._markets[trade_type] = attrs.evolve(market, until=until)
        return begins

    def succeeded(self, series: Series) -> None:
        """It gave what it was asked for."""
        self._series.pop(series, None)
        market = self._markets.get(series.trade_type, _NONE)
        # What was asked before others failed does not cut their rest short.
        self._markets[series.trade_type] = attrs.evolve(market, failures=0)
