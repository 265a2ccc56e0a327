"""`recorder.toml` as frozen values. All problems of a file are named at once."""

from kline_trio.config.model import (
    CompletenessConfig,
    Config,
    ConnectionConfig,
    EndpointConfig,
    HistoryConfig,
    RestConfig,
    StoreConfig,
    UniverseConfig,
)

__all__ = ["CompletenessConfig", "Config", "ConnectionConfig", "EndpointConfig"]
__all__ += ["HistoryConfig", "RestConfig", "StoreConfig", "UniverseConfig"]
