"""Which series are meant, which symbols are known, and when the next candle closes (pure)."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from kline_trio.candle import Series, upper_ascii
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import Interval

__all__ = ["seconds_to_next_close", "series_of", "unknown_symbols"]


def series_of(trade_type: str, time_interval: str, symbols: Iterable[str]) -> tuple[Series, ...]:
    """The series of these symbols, as a user writes them.

    Raises:
      ValueError: there is no such market, interval or symbol.
    """
    name = Interval.from_text(time_interval).name
    market = MARKETS.get(trade_type)
    if market is None:
        raise ValueError(f"there is no market {trade_type!r}, only {' '.join(MARKETS)}")
    if name not in market.intervals:
        raise ValueError(f"{trade_type} has no candles of {time_interval}")
    return tuple(Series(trade_type, upper_ascii(symbol), name) for symbol in symbols)


def unknown_symbols(series: Iterable[Series], listed: Collection[str]) -> dict[str, str | None]:
    """The symbols that are not listed, each with the listed one most like it, if one is."""
    wanted = dict.fromkeys(one.symbol for one in series)
    return {
        symbol: next(iter(get_close_matches(symbol, listed, n=1, cutoff=0.8)), None)
        for symbol in wanted
        if symbol not in listed
    }


def seconds_to_next_close(series: Iterable[Series], exchange_now_ms: int) -> float:
    """How many seconds of the exchange's time it is until the first candle closes."""
    ends = (one.interval.end_time_ms(one.interval.open_time_ms(exchange_now_ms)) for one in series)
    return (min(ends) - exchange_now_ms) / 1_000
