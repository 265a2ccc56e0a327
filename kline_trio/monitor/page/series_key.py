"""Series as they stand in addresses and answers: `spot/BTCUSDT/1m` (pure)."""

from kline_trio.candle import Series


def key_of(series: Series) -> str:
    """Return the key of a series."""
    return f"{series.trade_type}/{series.symbol}/{series.time_interval}"


def series_of_key(key: str) -> Series:
    """Return the series of a key.

    Raises:
      ValueError: it is no key of a series.
    """
    parts = key.split("/")
    if len(parts) != 3:
        raise ValueError("a series is market/symbol/interval, as spot/BTCUSDT/1m")
    return Series(*parts)
