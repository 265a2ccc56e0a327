"""The series that a configuration names or matches, given what the exchange lists."""

import logging
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

import attrs
import trio

from kline_trio.candle import Series, upper_ascii
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Interval
from kline_trio.listing import TRADING, Listing
from kline_trio.selection import Selection

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 10.0
"""The recorder waits as long before it requests a doubtful list again."""


def series_of(trade_type: str, time_interval: str, symbols: Collection[str]) -> tuple[Series, ...]:
    """Return the series of symbols that are spelled as users spell them.

    Raises:
      ValueError: there is no such market or interval, a symbol cannot be one, or none is named.
    """
    if not symbols:
        raise ConfigError(["name at least one symbol"])
    arguments: tuple[object, ...] = (trade_type, time_interval, *symbols)
    for one in arguments:
        if not isinstance(one, str):
            how = 'as ("spot", "1m", "BTCUSDT", "ETHUSDT"), or *symbols for a list'
            raise ConfigError([f"texts are wanted, each symbol by itself, not {one!r:.200}: {how}"])
    name = Interval.from_text(time_interval).name
    market = MARKETS.get(trade_type)
    if market is None:
        raise ValueError(f"there is no market {trade_type!r}, only {' '.join(MARKETS)}")
    if name not in market.intervals:
        raise ValueError(f"{trade_type} has no candles of {time_interval}")
    return tuple(Series(trade_type, upper_ascii(symbol), name) for symbol in symbols)


def select_series(
    series: Iterable[Series],
    patterns: Iterable[Selection],
    listings: Mapping[str, Mapping[str, Listing]],
) -> tuple[Series, ...]:
    """Return the series that are named and those that patterns match now, each once.

    Markets come in their usual order. In each market the named series come first, as they were
    written, and then the matches of each pattern. `listings` has the markets' lists by trade type
    and symbol; an absent market lists nothing.
    """
    matched = [
        Series(one.trade_type, symbol, one.time_interval)
        for one in patterns
        for symbol in one.resolve(listings.get(one.trade_type, {}))
    ]
    in_order = sorted([*series, *matched], key=lambda one: list(MARKETS).index(one.trade_type))
    return tuple(dict.fromkeys(in_order))


def matches_pattern(series: Series, patterns: Iterable[Selection], listing: Listing | None) -> bool:
    """Return whether a pattern matches a series while its symbol trades, as it perhaps did.

    The listing is what the exchange says of the symbol now, if anything.
    """
    traded = attrs.evolve(listing or Listing(symbol=series.symbol), status=TRADING)
    return series in select_series((), patterns, {series.trade_type: {series.symbol: traded}})


def unknown_symbols(
    series: Iterable[Series], trade_type: str, listed: Collection[str]
) -> dict[str, str | None]:
    """Return a market's symbols that it does not list, each with the most similar one, or None."""
    return {
        symbol: next(iter(get_close_matches(symbol, listed, n=1, cutoff=0.8)), None)
        for symbol in dict.fromkeys(one.symbol for one in series if one.trade_type == trade_type)
        if symbol not in listed
    }


def idle_patterns(
    patterns: Iterable[Selection], trade_type: str, listed: Mapping[str, Listing]
) -> list[str]:
    """Return a line for each pattern of a market that matches no listed symbol."""
    return [
        f"{trade_type} {one.time_interval}: {rule} matches no symbol"
        f"{'' if rule.is_exclusion else ' that trades'}"
        for one in patterns
        if one.trade_type == trade_type
        for rule in one.idle(listed)
    ]


def seconds_to_next_close(series: Iterable[Series], exchange_now_ms: int) -> float:
    """Return the seconds of exchange time until the first candle closes."""
    ends = (one.interval.end_time_ms(one.interval.open_time_ms(exchange_now_ms)) for one in series)
    return (min(ends) - exchange_now_ms) / 1_000


async def resolve(
    streams: Iterable[Series],
    patterns: Iterable[Selection],
    markets: Mapping[str, RestMarket],
    stored: Iterable[Series] = (),
) -> tuple[tuple[Series, ...], dict[str, str]]:
    """Return the series that a configuration means now, for work that ends by itself.

    If a market gives no list of its symbols, its patterns match nothing, and other series go on.
    That, and patterns that match nothing, are logged.

    Args:
      streams: the named series.
      patterns: of all markets.
      markets: by trade type: where to request the lists that patterns need.
      stored: the series of a store. Those that a pattern matches while their symbols trade are
        returned too, whether they trade now or not.

    Returns:
      the series, and by trade type why a list could not be had.
    """
    patterns, listings = tuple(patterns), {}
    unlisted: dict[str, str] = {}
    for trade_type in sorted({one.trade_type for one in patterns}):
        try:
            listings[trade_type] = await _trading_list(markets[trade_type])
        except UnavailableError as error:
            why = f"its list of symbols, which patterns need, is not to be had: {error}"
            unlisted[trade_type] = why
            logger.warning("%s: %s; other series go on", trade_type, why)
        else:
            for line in idle_patterns(patterns, trade_type, listings[trade_type]):
                logger.warning("%s", line)
    known = [
        one
        for one in stored
        if matches_pattern(one, patterns, listings.get(one.trade_type, {}).get(one.symbol))
    ]
    return tuple(dict.fromkeys((*select_series(streams, patterns, listings), *known))), unlisted


async def _trading_list(market: RestMarket) -> Mapping[str, Listing]:
    """Request a market's list of symbols; if none of them trades, request it once more.

    Raises:
      UnavailableError: there is no list, or none of its symbols trades: the answer is wrong, or
        the whole market halts. Patterns would match nothing, and work would end as done.
    """
    for _ in range(2):
        listed = await market.listings()
        if any(one.is_trading for one in listed.values()):
            return listed
        await trio.sleep(_AGAIN_SECONDS)
    raise UnavailableError(f"none of its {counted(len(listed), 'symbol')} trades; try again later")
