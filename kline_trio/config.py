"""recorder.toml as frozen values, and every problem in it named at once."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import tomli

from kline_trio.candle import Series, upper_ascii
from kline_trio.errors import ConfigError
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import Interval
from kline_trio.storage.layout import Layout

__all__ = ["Config", "ConnectionConfig", "EndpointConfig", "StoreConfig"]

_MAX_SECONDS = 31_536_000
"""A year: whoever writes more means another unit."""


@attrs.frozen(kw_only=True)
class StoreConfig:
    """Where candles are stored, and when they move from the journal into their files."""

    path: Path = Path("data")
    """The folder of the store; in recorder.toml, relative to that file."""
    layout: Layout = attrs.field(factory=Layout)
    """How a file's path follows from its series."""
    merge_seconds: float = 60.0
    """How long an accepted candle waits at least until it is in its Parquet file."""
    max_merge_seconds: float = 3_600.0
    """How long it waits at most, where its file is long and new rows are few."""
    journal_rows_in_memory: int = 100_000
    """How many received candles may wait for a disk that is full; what comes beyond is dropped."""
    drain_seconds: float = 10.0
    """How long merges may go on at shutdown."""


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """The hosts of one market, each list tried in order."""

    websocket: tuple[str, ...]
    """Combined streams, without stream names."""
    rest: tuple[str, ...]
    """Scheme and host."""


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """The patience of a connection."""

    connect_seconds: float = 10.0
    """TCP, TLS and handshake together."""
    stall_seconds: float = 30.0
    """No data frame for so long: reconnect."""


_DEFAULT_ENDPOINTS = {
    market.trade_type: EndpointConfig(websocket=(market.websocket,), rest=(market.rest,))
    for market in MARKETS.values()
}


@attrs.frozen(kw_only=True)
class Config:
    """What to record, from where, to where."""

    streams: tuple[Series, ...]
    """At least one, none twice; markets in their usual order, the rest as it was written."""
    store: StoreConfig = StoreConfig()
    endpoints: Mapping[str, EndpointConfig] = attrs.field(factory=_DEFAULT_ENDPOINTS.copy)
    """By trade type; all three."""
    connection: ConnectionConfig = ConnectionConfig()

    @classmethod
    def from_toml(cls, path: Path | str) -> "Config":
        """The configuration in a file.

        Raises:
          ConfigError: it cannot be read, or something in it cannot be used; all of it is named.
        """
        try:
            text = Path(path).read_bytes().decode()
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError as error:
            raise ConfigError([f"{path}: not UTF-8 text (byte {error.start})"]) from None
        return cls.from_text(text, name=str(path), folder=Path(path).absolute().parent)

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
            document = tomli.loads(text)
        except ValueError as error:  # also of a number of thousands of digits
            raise ConfigError([f"{name}: {error}"]) from None
        except RecursionError:
            raise ConfigError([f"{name}: nested too deeply"]) from None
        reader = _Reader()
        config = reader.config(document, folder)
        if reader.problems:
            raise ConfigError(
                [
                    f"{name}: {'.'.join(where)}: {what}{_line_note(text, where)}"
                    for where, what in reader.problems
                ]
            )
        return config


_Where = tuple[str, ...]
_Section = TypeVar("_Section", StoreConfig, EndpointConfig, ConnectionConfig)


@attrs.frozen
class _Reader:
    """Walks a document and takes down what is wrong with it, instead of stopping at the first."""

    problems: list[tuple[_Where, str]] = attrs.field(factory=list)

    def config(self, document: dict[str, Any], folder: Path) -> Config:
        root = self._table((), document, ("streams", "store", "endpoints", "connection"))
        streams = self._streams(root.get("streams", {}))
        store = self._section(
            ("store",),
            root,
            StoreConfig(),
            path=_path_in(folder),
            layout=_layout,
            merge_seconds=_seconds,
            max_merge_seconds=_seconds,
            journal_rows_in_memory=_count,
            drain_seconds=_seconds,
        )
        if "store" not in root or "path" not in root["store"]:
            store = attrs.evolve(store, path=folder / store.path)
        hosts = self._table(("endpoints",), root.get("endpoints", {}), tuple(MARKETS))
        endpoints = {
            trade_type: self._section(
                ("endpoints", trade_type),
                hosts,
                default,
                websocket=_urls("ws", "wss"),
                rest=_urls("http", "https"),
            )
            for trade_type, default in _DEFAULT_ENDPOINTS.items()
        }
        connection = self._section(
            ("connection",),
            root,
            ConnectionConfig(),
            connect_seconds=_positive_seconds,
            stall_seconds=_positive_seconds,
        )
        return Config(streams=streams, store=store, endpoints=endpoints, connection=connection)

    def _table(self, where: _Where, value: object, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.problems.append((where, f"a table is wanted, not {value!r}"))
            return {}
        for key in value:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"one of {' '.join(known)}"
                self.problems.append(((*where, key), f"unknown key; {hint}"))
        return {key: value[key] for key in known if key in value}

    def _section(
        self,
        where: _Where,
        parent: dict[str, Any],
        default: _Section,
        **readers: Callable[[Any], Any],
    ) -> _Section:
        """The default with what the document says in its place, each key read by its reader."""
        said = self._table(where, parent.get(where[-1], {}), tuple(readers))
        changes = {}
        for key, value in said.items():
            try:
                changes[key] = readers[key](value)
            except ValueError as error:
                self.problems.append(((*where, key), str(error)))
        return attrs.evolve(default, **changes)

    def _streams(self, value: object) -> tuple[Series, ...]:
        markets = self._table(("streams",), value, tuple(MARKETS))
        streams: dict[Series, None] = {}
        for trade_type in MARKETS:
            where = ("streams", trade_type)
            intervals = markets.get(trade_type, {})
            if not isinstance(intervals, dict):
                self.problems.append((where, 'lists of symbols are wanted, as 1m = ["BTCUSDT"]'))
                continue
            for name, symbols in intervals.items():
                for series in self._series((*where, name), trade_type, name, symbols):
                    if series in streams:
                        self.problems.append(((*where, name), f"{series.symbol!r} is there twice"))
                    streams[series] = None
        if not streams and not self.problems:
            self.problems.append((("streams",), "nothing to record: name at least one symbol"))
        return tuple(streams)

    def _series(self, where: _Where, trade_type: str, name: str, symbols: object) -> list[Series]:
        try:
            interval = Interval.from_text(name)
        except ValueError as error:
            self.problems.append((where, str(error)))
            return []
        if interval.name not in MARKETS[trade_type].intervals:
            self.problems.append((where, f"{trade_type} has no candles of {name}"))
            return []
        if not isinstance(symbols, list):
            self.problems.append((where, 'a list of symbols is wanted, as ["BTCUSDT"]'))
            return []
        if not symbols:
            self.problems.append((where, "an empty list: name a symbol, or take the line out"))
        found = []
        for symbol in symbols:
            try:
                found.append(Series(trade_type, upper_ascii(_text(symbol)), interval.name))
            except ValueError as error:
                self.problems.append((where, f"{symbol!r}: {error}"))
        return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text in quotes is wanted, not {value!r}")
    return value


def _seconds(value: object) -> float:
    # TOML has inf and nan, and to Python true is a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number of seconds is wanted, not {value!r}")
    if not 0 <= value <= _MAX_SECONDS:
        raise ValueError(f"{value} is not between 0 and {_MAX_SECONDS} seconds")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a number from 1 on is wanted, not {value!r}")
    return value


def _positive_seconds(value: object) -> float:
    if _seconds(value) == 0:
        raise ValueError("0 seconds leave no time for an answer")
    return _seconds(value)


def _path_in(folder: Path) -> Callable[[object], Path]:
    def read(value: object) -> Path:
        text = _text(value)
        if not text or "\0" in text:
            raise ValueError("a path is wanted")
        try:
            return folder / Path(text).expanduser()
        except RuntimeError as error:  # a user who is not there
            raise ValueError(str(error)) from None

    return read


def _layout(value: object) -> Layout:
    return Layout(_text(value))


def _urls(plain: str, secure: str) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        if not texts:
            raise ValueError("an empty list: name a host, or take the line out")
        return tuple(_url(_text(text), plain, secure) for text in texts)

    return read


def _url(text: str, plain: str, secure: str) -> str:
    # A path with other characters, or a host that no name can be, would fail at each connection.
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"{text!r} is not plain ASCII; names in other scripts start with xn--")
    parts = urlsplit(text)
    if parts.scheme not in (plain, secure) or not parts.hostname:
        raise ValueError(f"{text!r} is no {secure}:// address")
    _ = parts.port  # raises ValueError where it is no port
    parts.hostname.encode("idna")  # raises UnicodeError, a ValueError, where it is no name
    if parts.scheme == plain and not _is_loopback(parts.hostname):
        raise ValueError(f"{text!r}: unencrypted {plain}:// only goes to this machine itself")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _line_note(text: str, where: _Where) -> str:
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
