"""Series, times, candles and configurations that tests of every wing are made of."""

from datetime import UTC, datetime
from pathlib import Path

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.config import Config, HistoryConfig
from kline_trio.selection import Selection
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.frames import Kline

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
START_MS = 1_719_759_600_000
"""2024-06-30 15:00 UTC, where the built-in exchange starts in most tests."""

SPOT = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")
USDT = Series("usdt_futures", "ETHUSDT", "1m")
COIN = Series("coin_futures", "BTCUSD_PERP", "3m")


def minute(count: float) -> int:
    """Return the moment so many minutes after the start."""
    return START_MS + round(count * MINUTE_MS)


def since(config: Config, from_ms: int) -> Config:
    """Return a configuration whose history begins at a moment."""
    history = HistoryConfig(since=datetime.fromtimestamp(from_ms / 1_000, UTC))
    return attrs.evolve(config, history=history)


def patterns(streams: str) -> tuple[Selection, ...]:
    """Return the patterns of the streams in a text of TOML."""
    return Config.from_text(streams, name="", folder=Path()).patterns


def candle_of(kline: Kline) -> Candle:
    """Return a candle of the exchange as the recorder stores it."""
    return Candle(
        open_time_ms=kline.open_time_ms,
        open=float(kline.open),
        high=float(kline.high),
        low=float(kline.low),
        close=float(kline.close),
        volume=float(kline.volume),
        quote_volume=float(kline.quote_volume),
        trade_num=kline.trade_num,
        taker_buy_base_asset_volume=float(kline.taker_buy_volume),
        taker_buy_quote_asset_volume=float(kline.taker_buy_quote_volume),
    )


def truth(exchange: Exchange, series: Series, first_ms: int, end_ms: int) -> list[Candle]:
    """Return the exchange's own candles of a series that open in this time."""
    candles = []
    open_time_ms = series.interval.open_time_ms(first_ms)
    while open_time_ms < end_ms:
        market = exchange.markets[series.trade_type]
        candles.append(candle_of(market.kline(series.symbol, series.time_interval, open_time_ms)))
        open_time_ms = series.interval.end_time_ms(open_time_ms)
    return candles
