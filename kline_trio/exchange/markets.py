"""The three markets as data: hosts, paths and limits. No other code repeats them."""

import attrs

from kline_trio.interval import INTERVALS


@attrs.frozen(kw_only=True)
class Market:
    """The facts that differ between the markets."""

    trade_type: str
    websocket: str
    """The URL of combined streams, without stream names."""
    rest: str
    """Scheme and host of the REST interface."""
    rest_prefix: str
    """The begin of its paths."""
    intervals: tuple[str, ...]
    """Those of its kline streams."""
    messages_per_second: int
    """The most that one connection may send, pongs included."""
    pool: str
    """The budget of request weight, per address, that its requests share."""
    weight_per_minute: int
    """The budget of that pool; exchangeInfo gives the present figure."""
    klines_per_page: int
    """The number of candles with the least weight for each."""
    kline_weights: tuple[tuple[int, int], ...]
    """The weight of a page: (largest limit, weight), smallest first."""
    busy_symbol: str
    """A symbol with trades in each minute, while the market is open."""
    pages_end_first: bool = False
    """Whether a page counts back from its end, and spans at most 200 days."""
    has_contract_stream: bool = False
    """Whether a stream reports symbols that are listed or end."""
    streams_per_connection: int = 1024

    def kline_weight(self, limit: int) -> int:
        """Return the weight of a page with this limit."""
        return next(weight for most, weight in self.kline_weights if limit <= most)


# Binance docs, spot web-socket-streams.md: base endpoints, limits, kline intervals.
_SPOT = Market(
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
)
# Klines moved to /market in April 2026; the old path acknowledges them and stays silent (Binance
# docs, USDS-M "Important WebSocket Change Notice"; binance-public-data#472).
_USDT_FUTURES = Market(
    trade_type="usdt_futures",
    websocket="wss://fstream.binance.com/market/stream",
    rest="https://fapi.binance.com",
    rest_prefix="/fapi/v1",
    intervals=tuple(name for name in INTERVALS if name != "1s"),
    messages_per_second=10,
    # One budget for both since 2026-06-30 (derivatives change log; nautilus_trader#4301).
    pool="futures",
    weight_per_minute=2_400,
    busy_symbol="BTCUSDT",
    klines_per_page=499,
    # USD-M and COIN-M docs, "Kline/Candlestick Data", request weight by limit.
    kline_weights=((99, 1), (499, 2), (1_000, 5), (1_500, 10)),
    has_contract_stream=True,
)
_COIN_FUTURES = attrs.evolve(
    _USDT_FUTURES,
    trade_type="coin_futures",
    websocket="wss://dstream.binance.com/stream",
    rest="https://dapi.binance.com",
    rest_prefix="/dapi/v1",
    busy_symbol="BTCUSD_PERP",
    pages_end_first=True,
)

MARKETS = {market.trade_type: market for market in (_SPOT, _USDT_FUTURES, _COIN_FUTURES)}
"""By trade type, in the order in which they are shown."""
