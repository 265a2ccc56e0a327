"""The configuration as frozen values. The validator of a field also reads it from TOML."""

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from kline_trio.candle import Series
from kline_trio.config import values
from kline_trio.config.lake import LakeConfig
from kline_trio.config.monitor import MonitorConfig
from kline_trio.config.streams import read_streams
from kline_trio.config.toml import FORMER_KEY, Document, text_of_file
from kline_trio.config.values import Setting, instance_of, tuple_of
from kline_trio.errors import ConfigError
from kline_trio.exchange.markets import MARKETS
from kline_trio.program import program_name
from kline_trio.selection import Selection
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import folder_path


def _hint(path: Path) -> str:
    """Return what to do about a recorder.toml that cannot be read; nothing if unknown."""
    with suppress(OSError):  # its name may be too long, or its folder closed to us
        if path.is_dir():
            return "; name a recorder.toml, as that of the store"
        if not path.exists():
            return f"; {program_name()} init {shlex.quote(str(path))} writes one"
    return ""


def _as_path(path: Any) -> Any:  # noqa: ANN401 - of any type: the validator checks it
    return folder_path(path) if isinstance(path, str | os.PathLike) else path


def _without_slashes(urls: Any) -> Any:  # noqa: ANN401 - as above
    """Remove the slashes at the ends, as in recorder.toml."""
    if isinstance(urls, tuple):
        return tuple(map(_without_slashes, urls))
    return urls.rstrip("/") if isinstance(urls, str) else urls


@attrs.frozen(kw_only=True)
class StoreConfig:
    """Where candles are stored, and when they move from the journal into their Parquet files."""

    path: Path = attrs.field(default=Path("data"), converter=_as_path, validator=values.PATH)
    """The folder of the store. In recorder.toml it is relative to that file; `~` is expanded."""
    layout: Layout = attrs.field(factory=Layout, validator=values.LAYOUT)
    """The template of the paths of the Parquet files."""
    merge_seconds: float = attrs.field(default=60.0, validator=values.SECONDS)
    """Merge an accepted candle into its Parquet file after this time at the earliest."""
    max_merge_seconds: float = attrs.field(default=3_600.0, validator=values.SECONDS)
    """Merge after this time at the latest, if the file is long and new rows are few."""
    journal_rows_in_memory: int = attrs.field(default=100_000, validator=values.COUNT)
    """How many received candles may wait while the disk is full. Later ones are dropped."""
    drain_seconds: float = attrs.field(default=10.0, validator=values.SECONDS)
    """Stop merging after this time at shutdown."""


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """The hosts of one market. Each list is tried in order."""

    websocket: tuple[str, ...] = attrs.field(
        converter=_without_slashes, validator=values.STREAM_URLS
    )
    """URLs of combined streams, without stream names."""
    rest: tuple[str, ...] = attrs.field(converter=_without_slashes, validator=values.HOSTS)
    """Scheme and host."""


@attrs.frozen(kw_only=True)
class CompletenessConfig:
    """When a missing candle becomes a gap, and how often it is requested."""

    grace_seconds: float = attrs.field(default=5.0, validator=values.SECONDS)
    """A candle that has not arrived so long after its close is a gap, in exchange time."""
    attempts: int = attrs.field(default=4, validator=values.COUNT)
    """Close a gap as "the exchange had none" after so many answers without the candle, two at
    least. Of a gap that is older than a day, two are enough."""
    attempt_seconds: float = attrs.field(default=10.0, validator=values.POSITIVE_SECONDS)
    """The wait between the first two attempts. Each further wait is six times as long."""


@attrs.frozen(kw_only=True)
class RestConfig:
    """How much of the REST interface is used."""

    weight_share: float = attrs.field(default=0.5, validator=values.SHARE)
    """The share of the exchange's budget for this address. Other programs may use the rest."""


@attrs.frozen(kw_only=True)
class HistoryConfig:
    """How far back candles of the past are fetched."""

    since: datetime | None = attrs.field(default=None, validator=values.MOMENT)
    """Fetch candles from this moment on; None: fetch nothing of the past."""

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
    """Reconnect after this time without a data frame."""
    max_age_hours: float = attrs.field(default=23.0, validator=values.AGE_HOURS)
    """Replace a connection at this age. The exchange closes it after 24 hours."""
    redundancy: int = attrs.field(default=1, validator=values.REDUNDANCY)
    """How many connections carry each stream at the same time."""
    read_pause_seconds: float = attrs.field(
        default=0.02, validator=values.PAUSE_SECONDS, metadata={FORMER_KEY: "read_rest_seconds"}
    )
    """The pause between two reads: the kernel gathers frames, and the CPU is idle. While candles
    only form, as many pauses are taken in one as fit into 0.08 s."""
    ca_file: Path | None = attrs.field(
        default=None, converter=_as_path, validator=values.OPTIONAL_PATH
    )
    """A file of certificates, in PEM, to trust besides the system's; `~` is expanded."""
    proxy: str | None = attrs.field(default=None, repr=False, validator=values.PROXY)
    """The URL of a proxy, or "direct" for none; None: as environment variables say."""

    if not TYPE_CHECKING:

        def __init__(self, *, read_rest_seconds: float | None = None, **fields: object) -> None:
            # Until version 0.1, `read_pause_seconds` had this name.
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
_SECTIONS = ("connection", "universe", "completeness", "rest", "history", "monitor", "lake")
_OF_ALL_MARKETS = Setting(
    f"one EndpointConfig for each of {' '.join(MARKETS)}",
    lambda value: (
        isinstance(value, Mapping)
        and set(value) == set(MARKETS)
        and all(isinstance(one, EndpointConfig) for one in value.values())
    ),
)
_WITH_CANDLES = Setting(
    "a tuple with intervals that the markets have",
    lambda several: all(one.time_interval in MARKETS[one.trade_type].intervals for one in several),
)


@attrs.frozen(kw_only=True)
class Config:
    """The series to record, the hosts to fetch them from, and the store."""

    streams: tuple[Series, ...] = attrs.field(
        validator=[
            tuple_of(Series, 'series, as (kline_trio.Series("spot", "BTCUSDT", "1m"),),'),
            _WITH_CANDLES,
        ]
    )
    """The series of lists that only name symbols, each once. Markets come in their usual order, and
    the series of a market as written. There is at least one series or pattern."""
    patterns: tuple[Selection, ...] = attrs.field(
        default=(), validator=[tuple_of(Selection, "Selection"), _WITH_CANDLES]
    )
    """The lists with patterns or properties, as a whole; in the same order."""
    store: StoreConfig = attrs.field(default=StoreConfig(), validator=instance_of(StoreConfig))
    endpoints: Mapping[str, EndpointConfig] = attrs.field(
        factory=_DEFAULT_ENDPOINTS.copy, validator=_OF_ALL_MARKETS
    )
    """By trade type; all three."""
    connection: ConnectionConfig = attrs.field(
        default=ConnectionConfig(), validator=instance_of(ConnectionConfig)
    )
    universe: UniverseConfig = attrs.field(
        default=UniverseConfig(), validator=instance_of(UniverseConfig)
    )
    completeness: CompletenessConfig = attrs.field(
        default=CompletenessConfig(), validator=instance_of(CompletenessConfig)
    )
    rest: RestConfig = attrs.field(default=RestConfig(), validator=instance_of(RestConfig))
    history: HistoryConfig = attrs.field(
        default=HistoryConfig(), validator=instance_of(HistoryConfig)
    )
    monitor: MonitorConfig = attrs.field(
        default=MonitorConfig(), validator=instance_of(MonitorConfig)
    )
    lake: LakeConfig = attrs.field(default=LakeConfig(), validator=instance_of(LakeConfig))
    archive: str = attrs.field(default=_ARCHIVE, converter=_without_slashes, validator=values.HOST)
    """Scheme and host of the published archives."""

    def __attrs_post_init__(self) -> None:
        if not self.streams and not self.patterns:
            raise ConfigError(["Config.streams: nothing to record: name a series, or a pattern"])
        problems = [f"monitor.{key}: {text}" for key, text in self.monitor.problems()]
        problems += [f"lake.{key}: {text}" for key, text in self.lake.problems(self.store.path)]
        if problems:
            raise ConfigError(problems)

    def with_monitor(self, address: str | None) -> "Config":
        """Return the configuration with an address of the monitor; None: return this one.

        Raises:
          ConfigError: other machines can reach the address, and `[monitor]` has no token or TLS.
        """
        if address is None:
            return self
        return attrs.evolve(self, monitor=attrs.evolve(self.monitor, address=address))

    @classmethod
    def from_toml(cls, path: Path | str) -> "Config":
        """Read the configuration from a file.

        Raises:
          ConfigError: the file cannot be read, or values in it cannot be used; all are named.
        """
        path = folder_path(path)
        try:
            text = text_of_file(path)
        except ConfigError as error:
            [problem] = error.problems
            raise ConfigError([f"{problem}{_hint(path)}"]) from None
        return cls.from_text(text, name=str(path), folder=path.absolute().parent)

    @classmethod
    def from_text(cls, text: str, *, name: str, folder: Path) -> "Config":
        """Read the configuration from a text of TOML.

        Args:
          text: the TOML.
          name: stands before each problem.
          folder: paths in the text are relative to it.

        Raises:
          ConfigError: as `from_toml`.
        """
        document = Document.parse(text, name, folder)
        root = document.table((), document.root, ("streams", "store", "endpoints", *_SECTIONS))
        streams, patterns = read_streams(document, root.get("streams", {}))
        anchored = StoreConfig(path=folder / StoreConfig().path)
        hosts = document.table(("endpoints",), root.get("endpoints", {}), (*MARKETS, "archive"))
        archive = hosts.get("archive", _ARCHIVE)
        sections: dict[str, Any] = {
            name: document.section((name,), root, attrs.fields_dict(cls)[name].default)
            for name in _SECTIONS
        }
        sections["store"] = document.section(("store",), root, anchored)
        sections["archive"] = document.value(
            ("endpoints", "archive"), values.HOST, archive, _ARCHIVE
        )
        sections["endpoints"] = {
            trade_type: document.section(("endpoints", trade_type), hosts, default)
            for trade_type, default in _DEFAULT_ENDPOINTS.items()
        }
        for key, problem in sections["monitor"].problems():
            document.add_problem(("monitor", key), problem)
        for key, problem in sections["lake"].problems(sections["store"].path):
            document.add_problem(("lake", key), problem)
        document.raise_problems(name)
        return cls(streams=streams, patterns=patterns, **sections)
