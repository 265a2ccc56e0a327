"""recorder.toml as frozen values, and every problem in it named at once."""

import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs
import tomli
from attrs.validators import optional

from kline_trio.candle import Series
from kline_trio.config_checks import (
    a,
    a_mapping_of,
    a_moment,
    a_share,
    a_whole_number,
    each_read_by,
    every,
    hours,
    many,
    positive_seconds,
    seconds,
)
from kline_trio.config_streams import Problems, Where, read_streams, read_table
from kline_trio.config_values import (
    hosts_reader,
    path_reader,
    read_age_hours,
    read_count,
    read_host,
    read_layout,
    read_moment,
    read_positive_seconds,
    read_proxy,
    read_redundancy,
    read_rest_seconds,
    read_seconds,
    read_share,
    read_stream_url,
)
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

    path: Path = attrs.field(
        default=Path("data"), converter=_meant_path, validator=a(Path, "a pathlib.Path")
    )
    """The folder of the store; in recorder.toml, relative to that file; `~` is expanded."""
    layout: Layout = attrs.field(
        factory=Layout, validator=[a(Layout, "a Layout"), each_read_by(Layout.check_names)]
    )
    """How a file's path follows from its series."""
    merge_seconds: float = attrs.field(default=60.0, validator=seconds())
    """How long an accepted candle waits at least until it is in its Parquet file."""
    max_merge_seconds: float = attrs.field(default=3_600.0, validator=seconds())
    """How long it waits at most, where its file is long and new rows are few."""
    journal_rows_in_memory: int = attrs.field(default=100_000, validator=a_whole_number())
    """How many received candles may wait for a disk that is full; what comes beyond is dropped."""
    drain_seconds: float = attrs.field(default=10.0, validator=seconds())
    """How long merges may go on at shutdown."""


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """The hosts of one market, each list tried in order."""

    websocket: tuple[str, ...] = attrs.field(
        converter=_meant_urls,
        validator=[many(str, "URLs", least=1), each_read_by(read_stream_url)],
    )
    """Combined streams, without stream names."""
    rest: tuple[str, ...] = attrs.field(
        converter=_meant_urls, validator=[many(str, "URLs", least=1), each_read_by(read_host)]
    )
    """Scheme and host."""


@attrs.frozen(kw_only=True)
class CompletenessConfig:
    """When a candle counts as absent, and how often it is asked for."""

    grace_seconds: float = attrs.field(default=5.0, validator=seconds())
    """How long after its close a candle may take to come, in the exchange's time."""
    attempts: int = attrs.field(default=4, validator=a_whole_number())
    """How often the exchange is asked for what it does not have, until that is taken as true."""
    attempt_seconds: float = attrs.field(default=10.0, validator=positive_seconds())
    """Between the first two attempts; each further wait is six times as long."""


@attrs.frozen(kw_only=True)
class RestConfig:
    """How much the REST interface is used."""

    weight_share: float = attrs.field(default=0.5, validator=a_share())
    """Of the exchange's budget for this address; the rest is for your other programs."""


@attrs.frozen(kw_only=True)
class HistoryConfig:
    """What is fetched of the time before the recorder was there."""

    since: datetime | None = attrs.field(
        default=None, validator=[a_moment(), optional(each_read_by(read_moment))]
    )
    """From when on, UTC; None: nothing."""

    @property
    def since_ms(self) -> int | None:
        """The same in milliseconds since 1970."""
        return round(self.since.timestamp() * 1_000) if self.since else None


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """The patience of a connection."""

    connect_seconds: float = attrs.field(default=10.0, validator=positive_seconds())
    """TCP, TLS and handshake together."""
    stall_seconds: float = attrs.field(default=30.0, validator=positive_seconds())
    """No data frame for so long: reconnect."""
    max_age_hours: float = attrs.field(default=23.0, validator=hours())
    """How old it grows before another takes its place; the exchange cuts it after a day."""
    redundancy: int = attrs.field(default=1, validator=a_whole_number())
    """How many connections carry each stream at the same time."""
    read_rest_seconds: float = attrs.field(default=0.02, validator=seconds())
    """Between two reads: the kernel gathers frames meanwhile, and the CPU rests. As long as candles
    only form, as many rests are taken in one as fit into 0.08 s."""
    ca_file: Path | None = attrs.field(
        default=None,
        converter=_meant_path,
        validator=a(Path, "a pathlib.Path", optional=True),
    )
    """Certificates, in PEM, that are trusted besides the system's; `~` is expanded."""
    proxy: str | None = attrs.field(
        default=None,
        repr=False,
        validator=[
            a(str, "a URL", optional=True, is_secret=True),
            optional(each_read_by(read_proxy)),
        ],
    )
    """The URL of a proxy, or "direct" for none; None: as the environment says."""


@attrs.frozen(kw_only=True)
class UniverseConfig:
    """How the exchange's list of symbols is followed."""

    refresh_seconds: float = attrs.field(default=600.0, validator=positive_seconds())
    """Between two looks at it."""


_ARCHIVE = "https://data.binance.vision"
_BYTE_ORDER_MARK = "\ufeff"
"""Editors on Windows put it before UTF-8 text; TOML does not allow it."""
_DEFAULT_ENDPOINTS = {
    market.trade_type: EndpointConfig(websocket=(market.websocket,), rest=(market.rest,))
    for market in MARKETS.values()
}


_MAX_FILE_BYTES = 16 * 2**20
"""The symbols of all markets, each in all 16 intervals, take a tenth of it."""


def _content(path: Path) -> bytes:
    """The bytes of a file; a pipe or a device could keep the reader waiting for ever.

    Raises:
      ConfigError: it is no file, or too long a one.
      OSError: it cannot be read.
    """
    # Not Path.open, which takes no opener.
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError([f"{path}: cannot be read: it is no file, but a pipe or a device"])
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError([f"{path}: cannot be read: longer than {_MAX_FILE_BYTES:,} bytes"])
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _has_candles(one: Series | Selection) -> bool:
    return one.time_interval in MARKETS[one.trade_type].intervals


_HAS_CANDLES = "a tuple with intervals that the markets have"


@attrs.frozen(kw_only=True)
class Config:
    """What to record, from where, to where."""

    streams: tuple[Series, ...] = attrs.field(
        validator=[
            many(Series, 'series, as (kline_trio.Series("spot", "BTCUSDT", "1m"),),'),
            every(_has_candles, _HAS_CANDLES),
        ]
    )
    """Those of lists that only name symbols: none twice; markets in their usual order, the rest as
    it was written. There is at least one, or a pattern."""
    patterns: tuple[Selection, ...] = attrs.field(
        default=(),
        validator=[many(Selection, "Selection"), every(_has_candles, _HAS_CANDLES)],
    )
    """Of each list that holds more than names, all that it holds; in the same order."""
    store: StoreConfig = attrs.field(
        default=StoreConfig(), validator=a(StoreConfig, "a StoreConfig")
    )
    endpoints: Mapping[str, EndpointConfig] = attrs.field(
        factory=_DEFAULT_ENDPOINTS.copy, validator=a_mapping_of(EndpointConfig, tuple(MARKETS))
    )
    """By trade type; all three."""
    connection: ConnectionConfig = attrs.field(
        default=ConnectionConfig(), validator=a(ConnectionConfig, "a ConnectionConfig")
    )
    universe: UniverseConfig = attrs.field(
        default=UniverseConfig(), validator=a(UniverseConfig, "a UniverseConfig")
    )
    completeness: CompletenessConfig = attrs.field(
        default=CompletenessConfig(), validator=a(CompletenessConfig, "a CompletenessConfig")
    )
    rest: RestConfig = attrs.field(default=RestConfig(), validator=a(RestConfig, "a RestConfig"))
    history: HistoryConfig = attrs.field(
        default=HistoryConfig(), validator=a(HistoryConfig, "a HistoryConfig")
    )
    archive: str = attrs.field(
        default=_ARCHIVE,
        converter=_meant_urls,
        validator=[a(str, "a URL"), each_read_by(read_host)],
    )
    """Scheme and host of the published archives."""

    def __attrs_post_init__(self) -> None:
        if not self.streams and not self.patterns:
            raise ConfigError(["Config.streams: nothing to record: name a series, or a pattern"])

    @classmethod
    def from_toml(cls, path: Path | str) -> "Config":
        """The configuration in a file.

        Raises:
          ConfigError: it cannot be read, or something in it cannot be used; all of it is named.
        """
        try:
            path = folder_path(path)
            text = _content(path).decode()
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError as error:
            raise ConfigError([f"{path}: not UTF-8 text (byte {error.start})"]) from None
        return cls.from_text(text, name=str(path), folder=path.absolute().parent)

    @classmethod
    def from_text(cls, text: str, *, name: str, folder: Path) -> "Config":
        """The configuration in a text of TOML.

        Args:
          text: the TOML.
          name: what to call it in problems.
          folder: what the store's path is relative to.

        Raises:
          ConfigError: as `from_toml`.
        """
        try:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            document = tomli.loads(text)
        except ValueError as error:  # also of a number of thousands of digits
            raise ConfigError([f"{name}: {error}"]) from None
        except RecursionError:
            raise ConfigError([f"{name}: nested too deeply"]) from None
        reader = _Reader()
        found = reader.fields(document, folder)
        if reader.problems:
            raise ConfigError(
                [
                    f"{name}: {'.'.join(where)}: {what}{_line_note(text, where)}"
                    for where, what in reader.problems
                ]
            )
        return cls(**found)


_Section = TypeVar(
    "_Section",
    StoreConfig,
    EndpointConfig,
    ConnectionConfig,
    UniverseConfig,
    CompletenessConfig,
    RestConfig,
    HistoryConfig,
)
_TABLES = (
    "streams",
    "store",
    "endpoints",
    "connection",
    "universe",
    "completeness",
    "rest",
    "history",
)


@attrs.frozen
class _Reader:
    """Walks a document and takes down what is wrong with it, instead of stopping at the first."""

    problems: Problems = attrs.field(factory=list)

    def fields(self, document: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Return what a Config is made of, if there are no problems."""
        root = read_table((), document, _TABLES, self.problems)
        streams = read_streams(root.get("streams", {}), self.problems)
        store = self._section(
            ("store",),
            root,
            StoreConfig(),
            path=path_reader(folder),
            layout=read_layout,
            merge_seconds=read_seconds,
            max_merge_seconds=read_seconds,
            journal_rows_in_memory=read_count,
            drain_seconds=read_seconds,
        )
        if "store" not in root or "path" not in root["store"]:
            store = attrs.evolve(store, path=folder / store.path)
        hosts = read_table(
            ("endpoints",), root.get("endpoints", {}), (*MARKETS, "archive"), self.problems
        )
        archive = _ARCHIVE
        if "archive" in hosts:
            try:
                archive = read_host(hosts["archive"])
            except ValueError as error:
                self.problems.append((("endpoints", "archive"), str(error)))
        endpoints = {
            trade_type: self._section(
                ("endpoints", trade_type),
                hosts,
                default,
                websocket=hosts_reader(read_stream_url),
                rest=hosts_reader(read_host),
            )
            for trade_type, default in _DEFAULT_ENDPOINTS.items()
        }
        connection = self._section(
            ("connection",),
            root,
            ConnectionConfig(),
            connect_seconds=read_positive_seconds,
            stall_seconds=read_positive_seconds,
            max_age_hours=read_age_hours,
            redundancy=read_redundancy,
            read_rest_seconds=read_rest_seconds,
            ca_file=path_reader(folder),
            proxy=read_proxy,
        )
        universe = self._section(
            ("universe",), root, UniverseConfig(), refresh_seconds=read_positive_seconds
        )
        completeness = self._section(
            ("completeness",),
            root,
            CompletenessConfig(),
            grace_seconds=read_seconds,
            attempts=read_count,
            attempt_seconds=read_positive_seconds,
        )
        rest = self._section(("rest",), root, RestConfig(), weight_share=read_share)
        history = self._section(("history",), root, HistoryConfig(), since=read_moment)
        return {
            "streams": streams.series,
            "patterns": streams.patterns,
            "store": store,
            "endpoints": endpoints,
            "connection": connection,
            "universe": universe,
            "completeness": completeness,
            "rest": rest,
            "history": history,
            "archive": archive,
        }

    def _section(
        self,
        where: Where,
        parent: dict[str, Any],
        default: _Section,
        **readers: Callable[[Any], Any],
    ) -> _Section:
        """The default with what the document says in its place, each key read by its reader."""
        said = read_table(where, parent.get(where[-1], {}), tuple(readers), self.problems)
        changes = {}
        for key, value in said.items():
            try:
                changes[key] = readers[key](value)
            except ValueError as error:
                self.problems.append(((*where, key), str(error)))
        return attrs.evolve(default, **changes)


def _line_note(text: str, where: Where) -> str:
    """Where a key stands: the first line up to which the document has it.

    tomli keeps no positions, and no well-kept library does, so the text is read again up to some
    lines: only when there is a problem to show.
    """
    lines = text.splitlines(keepends=True)

    def holds_key(count: int) -> bool:
        found: Any = _longest_document(lines[:count])
        for key in where:
            found = found.get(key) if isinstance(found, dict) else None
        return found is not None

    line = bisect_left(range(len(lines) + 1), x=True, key=holds_key)
    return f" (line {line})" if line <= len(lines) else ""


def _longest_document(lines: list[str]) -> dict[str, Any]:
    for count in range(len(lines), 0, -1):
        try:
            return tomli.loads("".join(lines[:count]))
        except tomli.TOMLDecodeError:
            continue  # it ends in the middle of a value of several lines
    return {}
