"""Which configured symbols the exchange knows, and when the next candle closes (pure)."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from kline_trio.candle import Series

__all__ = ["seconds_to_next_close", "unknown_symbols"]


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
