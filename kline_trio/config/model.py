"""The configuration as frozen values. Each field is read and checked by the kind that it names."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from kline_trio.candle import Series
from kline_trio.config import values
from kline_trio.config.streams import read_streams
from kline_trio.config.toml import Document, text_of_file
from kline_trio.config.values import Kind, a, many
from kline_trio.errors import ConfigError
from kline_trio.exchange.markets import MARKETS
from kline_trio.selection import Selection
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import folder_path

__all__ = ["CompletenessConfig", "Config", "ConnectionConfig", "EndpointConfig"]
__all__ += ["HistoryConfig", "RestConfig", "StoreConfig", "UniverseConfig"]


def _meant_path(path: Any) -> Any:  # noqa: ANN401 - whatever a caller gives: it is checked next
    return folder_path(path) if isinstance(path, str | os.PathLike) else path


def _meant_urls(urls: Any) -> Any:  # noqa: ANN401 - as above
    """Take the slashes at the ends away, as of those in recorder.toml."""
    if isinstance(urls, tuple):
        return tuple(map(_meant_urls, urls))
    return urls.rstrip("/") if isinstance(urls, str) else urls


@attrs.frozen(kw_only=True)
class StoreConfig:
    """Where candles are stored, and when they move from the journal into their files."""

    path: Path = attrs.field(default=Path("data"), converter=_meant_path, validator=values.PATH)
    """The folder of the store; in recorder.toml, relative to that file; `~` is expanded."""
    layout: Layout = attrs.field(factory=Layout, validator=values.LAYOUT)
    """How a file's path follows from its series."""
    merge_seconds: float = attrs.field(default=60.0, validator=values.SECONDS)
    """How long an accepted candle waits at least until it is in its Parquet file."""
    max_merge_seconds: float = attrs.field(default=3_600.0, validator=values.SECONDS)
    """How long it waits at most, if its file is long and new rows are few."""
    journal_rows_in_memory: int = attrs.field(default=100_000, validator=values.COUNT)
    """How many received candles may wait for a disk that is full; what comes beyond is dropped."""
    drain_seconds: float = attrs.field(default=10.0, validator=values.SECONDS)
    """How long merges may go on at shutdown."""


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """The hosts of one market, each list tried in order."""

    websocket: tuple[str, ...] = attrs.field(converter=_meant_urls, validator=values.STREAM_URLS)
    """Combined streams, without stream names."""
    rest: tuple[str, ...] = attrs.field(converter=_meant_urls, validator=values.HOSTS)
    """Scheme and host."""


@attrs.frozen(kw_only=True)
class CompletenessConfig:
    """When a candle counts as absent, and how often it is asked for."""

    grace_seconds: float = attrs.field(default=5.0, validator=values.SECONDS)
    """How long after its close a candle may take to come, in the exchange's time."""
    attempts: int = attrs.field(default=4, validator=values.COUNT)
    """After so many answers without a candle, the exchange is believed not to have it."""
    attempt_seconds: float = attrs.field(default=10.0, validator=values.POSITIVE_SECONDS)
    """The wait between the first two attempts; each further wait is six times as long."""


@attrs.frozen(kw_only=True)
class RestConfig:
    """How much of the REST interface is used."""

    weight_share: float = attrs.field(default=0.5, validator=values.SHARE)
    """The share of the exchange's budget for this address; your other programs have the rest."""


@attrs.frozen(kw_only=True)
class HistoryConfig:
    """How far back candles are fetched from before the recorder started."""

    since: datetime | None = attrs.field(default=None, validator=values.MOMENT)
    """Fetch from this moment on, UTC; None: fetch nothing."""

    @property
    def since_ms(self) -> int | None:
        """`since` in milliseconds since 1970."""
        return round(self.since.timestamp() * 1_000) if self.since else None


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """How a connection is opened, watched and replaced."""

    connect_seconds: float = attrs.field(default=10.0, validator=values.POSITIVE_SECONDS)
    """The limit for TCP, TLS and handshake together."""
    stall_seconds: float = attrs.field(default=30.0, validator=values.POSITIVE_SECONDS)
    """Reconnect after so long without a data frame."""
    max_age_hours: float = attrs.field(default=23.0, validator=values.AGE_HOURS)
    """The age at which another connection replaces it; the exchange closes it after a day."""
    redundancy: int = attrs.field(default=1, validator=values.REDUNDANCY)
    """How many connections carry each stream at the same time."""
    read_pause_seconds: float = attrs.field(default=0.02, validator=values.PAUSE_SECONDS)
    """Between two reads: the kernel gathers frames meanwhile, and the CPU is idle. As long as
    candles only form, as many pauses are taken in one as fit into 0.08 s."""
    ca_file: Path | None = attrs.field(
        default=None, converter=_meant_path, validator=values.OPTIONAL_PATH
    )
    """Certificates, in PEM, that are trusted besides the system's; `~` is expanded."""
    proxy: str | None = attrs.field(default=None, repr=False, validator=values.PROXY)
    """The URL of a proxy, or "direct" for none; None: as the environment says."""

    if not TYPE_CHECKING:

        def __init__(self, *, read_rest_seconds: float | None = None, **fields: object) -> None:
            # Programs may still pass the name that `read_pause_seconds` had until version 0.1.
            if read_rest_seconds is not None:
                fields["read_pause_seconds"] = read_rest_seconds
            self.__attrs_init__(**fields)


@attrs.frozen(kw_only=True)
class UniverseConfig:
    """How the exchange's list of symbols is followed."""

    refresh_seconds: float = attrs.field(default=600.0, validator=values.POSITIVE_SECONDS)
    """The time between two requests for the list."""


_ARCHIVE = "https://data.binance.vision"
_DEFAULT_ENDPOINTS = {
    market.trade_type: EndpointConfig(websocket=(market.websocket,), rest=(market.rest,))
    for market in MARKETS.values()
}
_SECTIONS = ("connection", "universe", "completeness", "rest", "history")
_FORMER_KEYS = {"connection": {"read_rest_seconds": "read_pause_seconds"}}
"""The names that keys of a section had in earlier versions, with the names that they have now."""
_OF_ALL_MARKETS = Kind(
    f"one EndpointConfig for each of {' '.join(MARKETS)}",
    lambda value: (
        isinstance(value, Mapping)
        and set(value) == set(MARKETS)
        and all(isinstance(one, EndpointConfig) for one in value.values())
    ),
)
_WITH_CANDLES = Kind(
    "a tuple with intervals that the markets have",
    lambda several: all(one.time_interval in MARKETS[one.trade_type].intervals for one in several),
)


@attrs.frozen(kw_only=True)
class Config:
    """What to record, from where, to where."""

    streams: tuple[Series, ...] = attrs.field(
        validator=[
            many(Series, 'series, as (kline_trio.Series("spot", "BTCUSDT", "1m"),),'),
            _WITH_CANDLES,
        ]
    )
    """Those of lists that only name symbols: none twice; markets in their usual order, the rest as
    it was written. There is at least one, or a pattern."""
    patterns: tuple[Selection, ...] = attrs.field(
        default=(), validator=[many(Selection, "Selection"), _WITH_CANDLES]
    )
    """Of each list that holds more than names, all that it holds; in the same order."""
    store: StoreConfig = attrs.field(default=StoreConfig(), validator=a(StoreConfig))
    endpoints: Mapping[str, EndpointConfig] = attrs.field(
        factory=_DEFAULT_ENDPOINTS.copy, validator=_OF_ALL_MARKETS
    )
    """By trade type; all three."""
    connection: ConnectionConfig = attrs.field(
        default=ConnectionConfig(), validator=a(ConnectionConfig)
    )
    universe: UniverseConfig = attrs.field(default=UniverseConfig(), validator=a(UniverseConfig))
    completeness: CompletenessConfig = attrs.field(
        default=CompletenessConfig(), validator=a(CompletenessConfig)
    )
    rest: RestConfig = attrs.field(default=RestConfig(), validator=a(RestConfig))
    history: HistoryConfig = attrs.field(default=HistoryConfig(), validator=a(HistoryConfig))
    archive: str = attrs.field(default=_ARCHIVE, converter=_meant_urls, validator=values.HOST)
    """Scheme and host of the published archives."""

    def __attrs_post_init__(self) -> None:
        if not self.streams and not self.patterns:
            raise ConfigError(["Config.streams: nothing to record: name a series, or a pattern"])

    @classmethod
    def from_toml(cls, path: Path | str) -> "Config":
        """Return the configuration in a file.

        Raises:
          ConfigError: the file cannot be read, or values in it cannot be used; all are named.
        """
        path = folder_path(path)
        text = text_of_file(path)
        return cls.from_text(text, name=str(path), folder=path.absolute().parent)

    @classmethod
    def from_text(cls, text: str, *, name: str, folder: Path) -> "Config":
        """Return the configuration in a text of TOML.

        Args:
          text: the TOML.
          name: what to call the text in problems.
          folder: what the paths in the text are relative to.

        Raises:
          ConfigError: as `from_toml`.
        """
        document = Document.parse(text, name, folder)
        root = document.table((), document.root, ("streams", "store", "endpoints", *_SECTIONS))
        streams, patterns = read_streams(document, root.get("streams", {}))
        anchored = StoreConfig(path=folder / StoreConfig().path)
        store = document.section(("store",), root, anchored, {})
        hosts = document.table(("endpoints",), root.get("endpoints", {}), (*MARKETS, "archive"))
        archive = document.value(
            ("endpoints", "archive"), values.HOST, hosts.get("archive", _ARCHIVE), _ARCHIVE
        )
        endpoints = {
            trade_type: document.section(("endpoints", trade_type), hosts, default, {})
            for trade_type, default in _DEFAULT_ENDPOINTS.items()
        }
        sections: dict[str, Any] = {
            name: document.section(
                (name,), root, attrs.fields_dict(cls)[name].default, _FORMER_KEYS.get(name, {})
            )
            for name in _SECTIONS
        }
        document.raise_problems(name)
        return cls(
            streams=streams,
            patterns=patterns,
            store=store,
            endpoints=endpoints,
            archive=archive,
            **sections,
        )
