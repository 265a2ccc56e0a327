"""What each key of the configuration may be. Each bound stands here, once.

A `Kind` is the attrs validator of a field, for programs that make a configuration themselves, and
it reads the field's key in recorder.toml. A program is refused only what could never work;
recorder.toml may be held to more.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from kline_trio.candle import MAX_TIME_MS
from kline_trio.errors import ConfigError
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import disk_name

__all__ = ["AGE_HOURS", "COUNT", "HOST", "HOSTS", "LAYOUT", "MOMENT", "OPTIONAL_PATH", "PATH"]
__all__ += ["PAUSE_SECONDS", "POSITIVE_SECONDS", "PROXY", "REDUNDANCY", "SECONDS", "SHARE"]
__all__ += ["STREAM_URLS", "Kind", "a", "many", "read_moment", "read_text"]

_HOST_END = re.compile("[/?#]")
_MAX_SECONDS = 31_536_000
"""A year: whoever writes more means another unit."""
_MAX_HOURS = _MAX_SECONDS // 3_600


@attrs.frozen
class Kind:
    """The values that a field of the configuration may have."""

    wanted: str
    """Names such a value in an error."""
    is_good: Callable[[Any], bool]
    """Returns whether a program may give a value."""
    read: Callable[[object], Any] = lambda value: value
    """Returns what a value of recorder.toml means; raises ValueError if it means nothing."""
    check: Callable[[Any], object] | None = None
    """Raises ValueError for a value, or one of a tuple, that is good and cannot be used."""
    is_secret: bool = False
    """Whether a value may hold a password: no error shows it."""

    def __call__(self, instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
        """Refuse a wrong value, as a validator of attrs.

        Raises:
          ConfigError: names the field.
        """
        try:
            self.demand(value)
            if self.check is not None and value is not None:
                for one in value if isinstance(value, tuple) else (value,):
                    self.check(one)
        except ValueError as error:
            raise ConfigError([f"{type(instance).__name__}.{field.name}: {error}"]) from None

    def demand(self, value: object) -> None:
        """Raise ValueError for a value that is not good."""
        if not self.is_good(value):
            shown = f"a {type(value).__name__}" if self.is_secret else f"{value!r:.200}"
            raise ValueError(f"{self.wanted} is wanted, not {shown}")


def a(kind: type, wanted: str = "") -> Kind:
    """Return the kind that holds the values of one type."""
    return Kind(wanted or f"a {kind.__name__}", lambda value: isinstance(value, kind))


def many(kind: type, wanted: str, *, least: int = 0) -> Kind:
    """Return the kind that holds the tuples of values of one type."""

    def is_good(value: object) -> bool:
        is_long = isinstance(value, tuple) and len(value) >= least
        return is_long and all(isinstance(one, kind) for one in value)  # type: ignore[attr-defined]

    return Kind(f"a tuple of {wanted}", is_good)


def _numbers(wanted: str, is_within: Callable[[Any], bool], types: Any = (int, float)) -> Kind:  # noqa: ANN401 - as isinstance
    def is_good(value: object) -> bool:
        # TOML has inf and nan, and to Python true is a number.
        return isinstance(value, types) and not isinstance(value, bool) and is_within(value)

    def read(value: object) -> Any:  # noqa: ANN401 - a float, or an int if that is wanted
        kind.demand(value)
        return value if types is int else float(value)  # type: ignore[arg-type]

    kind = Kind(wanted, is_good, read)
    return kind


SECONDS = _numbers(
    f"a number of seconds from 0 to {_MAX_SECONDS:,}", lambda value: 0 <= value <= _MAX_SECONDS
)
POSITIVE_SECONDS = _numbers(
    f"a number of seconds above 0, up to {_MAX_SECONDS:,},", lambda value: 0 < value <= _MAX_SECONDS
)
PAUSE_SECONDS = attrs.evolve(
    SECONDS,
    # Not more: pings wait too.
    read=_numbers("a number of seconds from 0 to 1", lambda value: 0 <= value <= 1).read,
)
AGE_HOURS = attrs.evolve(
    _numbers(f"a number of hours from 0 to {_MAX_HOURS:,}", lambda value: 0 <= value <= _MAX_HOURS),
    # The exchange closes a connection after 24 hours.
    read=_numbers("a number of hours from 0.1 to below 24", lambda value: 0.1 <= value < 24).read,
)
COUNT = _numbers("a number from 1 on", lambda value: value >= 1, int)
REDUNDANCY = attrs.evolve(
    COUNT, read=_numbers("a number from 1 to 4", lambda value: 1 <= value <= 4, int).read
)
SHARE = _numbers("a share above 0, up to 1,", lambda value: 0 < value <= 1)


def read_text(value: object) -> str:
    """Return a text as it is.

    Raises:
      ValueError: the value is no text.
    """
    if not isinstance(value, str):
        raise ValueError(f"a text in quotes is wanted, not {value!r}")
    return value


def read_moment(value: object) -> datetime:
    """Return a date or a time in UTC; one that names no zone is UTC.

    Raises:
      ValueError: the value is neither, or no candle can have such a time.
    """
    # TOML has dates of its own, and a text in quotes is as good.
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise ValueError(f'a date is wanted, as "2024-01-01", not {value!r}')
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Before the zone is changed: a time in the year 1 or 9999 has none in another.
    if not 0 <= moment.timestamp() * 1_000 < MAX_TIME_MS:
        raise ValueError(f"{value} is no time that a candle can have")
    return moment.astimezone(UTC)


def _read_proxy(value: object) -> str:
    text = read_text(value)
    if text == "direct":
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "socks5", "socks5h") or not parts.hostname:
        # Not shown: it may hold a password.
        raise ValueError('an http:// or socks5:// address is wanted, or "direct"')
    _ = parts.port  # raises ValueError where it is no port
    return text


def _read_path(value: object) -> Path:
    text = read_text(value)
    if not text or "\0" in text:
        raise ValueError("a path is wanted")
    try:
        return Path(disk_name(text)).expanduser()
    except RuntimeError as error:  # a user who is not there
        raise ValueError(str(error)) from None


def _read_layout(value: object) -> Layout:
    layout = Layout(read_text(value))
    layout.check_names()
    return layout


def _read_host(value: object) -> str:
    """Return an http or https address of scheme and host alone."""
    text = _url(read_text(value), "http", "https")
    parts = urlsplit(text)
    # Not of the parts, which do not tell an empty query, as that of "https://h?", from none.
    if rest := text.partition("://")[2].removeprefix(parts.netloc):
        host = f"{parts.scheme}://{parts.netloc}"
        raise ValueError(f"{text!r}: only scheme and host are wanted, as {host!r}, without {rest}")
    return text


def _read_stream_url(value: object) -> str:
    """Return a ws or wss address with a path and without streams."""
    text = _url(read_text(value), "ws", "wss")
    parts = urlsplit(text)
    if not parts.path:
        raise ValueError(f"{text!r} has no path, as in {text.partition('?')[0]}/stream")
    if "@" in parts.path or "streams=" in parts.query:
        raise ValueError(f"{text!r} names streams: end it before them, as .../stream")
    if "#" in text:
        raise ValueError(f"{text!r}: an address has no #")
    return text


def _url(text: str, plain: str, secure: str) -> str:
    """Return an address without slashes at its end; the plain scheme only goes to this machine."""
    if "@" in _HOST_END.split(text.partition("://")[2])[0]:
        # Not shown: it may hold a password, and addresses are in the log.
        raise ValueError("an address without a user or a password is wanted")
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


def _urls(read_one: Callable[[object], str]) -> Kind:
    """Return the kind of a tuple of addresses; recorder.toml may have one of them alone."""

    def read(value: object) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        if not texts:
            raise ValueError("an empty list: name a host, or take the line out")
        return tuple(map(read_one, texts))

    return attrs.evolve(many(str, "URLs", least=1), read=read, check=read_one)


HOST = attrs.evolve(a(str, "a URL"), read=_read_host, check=_read_host)
HOSTS = _urls(_read_host)
STREAM_URLS = _urls(_read_stream_url)
PROXY = Kind(
    "a URL, or None,",
    lambda value: value is None or isinstance(value, str),
    read=_read_proxy,
    check=_read_proxy,
    is_secret=True,
)
PATH = attrs.evolve(a(Path, "a pathlib.Path"), read=_read_path)
OPTIONAL_PATH = Kind(
    "a pathlib.Path, or None,", lambda value: value is None or isinstance(value, Path), _read_path
)
LAYOUT = attrs.evolve(a(Layout), read=_read_layout, check=Layout.check_names)
MOMENT = Kind(
    # A naive datetime would mean another moment on another machine.
    "a datetime with a time zone, or None,",
    lambda value: value is None or (isinstance(value, datetime) and value.tzinfo is not None),
    read=read_moment,
    check=read_moment,
)
