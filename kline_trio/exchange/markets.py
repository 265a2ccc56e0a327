"""The three markets as data: hosts, paths and limits, none of which code should repeat."""

import attrs

from kline_trio.interval import INTERVALS

__all__ = ["MARKETS", "Market"]

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

    streams_per_connection: int = 1024


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
        ),
        Market(
            trade_type="coin_futures",
            websocket="wss://dstream.binance.com/stream",
            rest="https://dapi.binance.com",
            rest_prefix="/dapi/v1",
            intervals=_FUTURES_INTERVALS,
            messages_per_second=10,
        ),
    )
}
"""By trade type, in the order in which they are shown."""
