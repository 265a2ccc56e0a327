"""Records the closed candlesticks of Binance spot and futures into Parquet.

The names below are loaded when they are first used (PEP 562), so that `--help` waits for neither
pandas nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kline_trio.candle import Candle as Candle
    from kline_trio.candle import ReceivedCandle as ReceivedCandle
    from kline_trio.candle import Series as Series
    from kline_trio.candle import Source as Source
    from kline_trio.config import Config as Config
    from kline_trio.errors import ConfigError as ConfigError
    from kline_trio.errors import DiskError as DiskError
    from kline_trio.errors import KlineTrioError as KlineTrioError
    from kline_trio.errors import StoreInUseError as StoreInUseError
    from kline_trio.reading.candles import read as read
    from kline_trio.reading.reports import coverage as coverage
    from kline_trio.reading.reports import revisions as revisions
    from kline_trio.reading.reports import series as series
    from kline_trio.reading.reports import universe as universe
    from kline_trio.recorder.broadcast import Filled as Filled
    from kline_trio.recorder.supervisor import open_recorder as open_recorder

__version__ = "0.2.0"

_HOMES = {
    name: home
    for home, names in {
        "candle": ["Candle", "ReceivedCandle", "Series", "Source"],
        "config": ["Config"],
        "errors": ["ConfigError", "DiskError", "KlineTrioError", "StoreInUseError"],
        "reading.candles": ["read"],
        "reading.reports": ["coverage", "revisions", "series", "universe"],
        "recorder.broadcast": ["Filled"],
        "recorder.supervisor": ["open_recorder"],
    }.items()
    for name in names
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
