"""The three markets as data: hosts, paths and limits, none of which code should repeat."""

import attrs

from kline_trio.interval import INTERVALS

__all__ = ["MARKETS", "Market"]

# USD-M and COIN-M docs, "Kline/Candlestick Data", request weight by limit.
_FUTURES_WEIGHTS = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))
_FUTURES_INTERVALS = tuple(name for name in INTERVALS if name != "1s")


@attrs.frozen(kw_only=True)
class Market:
    """What differs between the markets."""

    trade_type: str

    websocket: str
    """Where combined streams are, without stream names."""

    rest: str
    """Scheme and host of the REST interface."""

    rest_prefix: str
    """What its paths begin with."""

    intervals: tuple[str, ...]
    """Those that its kline streams know."""

    messages_per_second: int
    """How many messages, pongs included, one connection may send."""

    pool: str
    """Which budget of request weight it draws on, per address."""

    weight_per_minute: int
    """Of that pool; exchangeInfo tells the present figure."""

    klines_per_page: int
    """How many candles to ask for at once: what is cheapest in weight for each."""

    kline_weights: tuple[tuple[int, int], ...]
    """What a page weighs: (largest limit, weight), smallest first."""

    busy_symbol: str
    """One with trades in each minute, while the market is open."""

    pages_end_first: bool = False
    """Whether a page counts back from its end, and spans at most 200 days."""

    has_contract_stream: bool = False
    """Whether a stream tells of symbols that are listed or end."""

    streams_per_connection: int = 1024

    def kline_weight(self, limit: int) -> int:
        """What asking for so many candles weighs."""
        return next(weight for most, weight in self.kline_weights if limit <= most)


MARKETS: dict[str, Market] = {
    market.trade_type: market
    for market in (
        # Binance docs, spot web-socket-streams.md: base endpoints, limits, kline intervals.
        Market(
            trade_type="spot",
            websocket="wss://stream.binance.com:9443/stream",
            rest="https://api.binance.com",
            rest_prefix="/api/v3",
            intervals=tuple(INTERVALS),
            messages_per_second=5,
            pool="spot",
            weight_per_minute=6_000,
            busy_symbol="BTCUSDT",
            klines_per_page=1_000,
            kline_weights=((1_000, 2),),
        ),
        # Klines moved to /market in April 2026; on the old path they are acknowledged and silent
        # (Binance docs, USDS-M "Important WebSocket Change Notice"; binance-public-data#472).
        Market(
            trade_type="usdt_futures",
            websocket="wss://fstream.binance.com/market/stream",
            rest="https://fapi.binance.com",
            rest_prefix="/fapi/v1",
            intervals=_FUTURES_INTERVALS,
            messages_per_second=10,
            # One budget for both since 2026-06-30 (derivatives change log; nautilus_trader#4301).
            pool="futures",
            weight_per_minute=2_400,
            busy_symbol="BTCUSDT",
            klines_per_page=499,
            kline_weights=_FUTURES_WEIGHTS,
            has_contract_stream=True,
        ),
        Market(
            trade_type="coin_futures",
            websocket="wss://dstream.binance.com/stream",
            rest="https://dapi.binance.com",
            rest_prefix="/dapi/v1",
            intervals=_FUTURES_INTERVALS,
            messages_per_second=10,
            # One budget for both since 2026-06-30 (derivatives change log; nautilus_trader#4301).
            pool="futures",
            weight_per_minute=2_400,
            busy_symbol="BTCUSD_PERP",
            klines_per_page=499,
            kline_weights=_FUTURES_WEIGHTS,
            has_contract_stream=True,
            pages_end_first=True,
        ),
    )
}
"""By trade type, in the order in which they are shown."""
