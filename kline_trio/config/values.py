"""The allowed values of each key of the configuration. Each bound stands here, once.

A `Setting` is the attrs validator of a field, for programs that make a configuration themselves,
and it reads the field's key in recorder.toml. A program may set all that can work; recorder.toml
may have narrower bounds.
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

_HOST_END = re.compile("[/?#]")
_MAX = 31_536_000
"""The seconds of a year: more is probably meant in another unit."""
_MAX_HOURS = _MAX // 3_600


@attrs.frozen
class Setting:
    """The allowed values of a field of the configuration."""

    expected: str
    """Describes such a value in an error."""
    is_valid: Callable[[Any], bool]
    """Returns whether a program may set a value."""
    from_toml: Callable[[object], Any] = lambda value: value
    """Returns the field's value for a value of recorder.toml; raises ValueError if it is wrong."""
    check: Callable[[Any], object] = lambda value: value
    """Raises ValueError for a valid value, other than None, that cannot be used."""
    is_secret: bool = False
    """Whether a value may hold a password: errors do not show it."""

    def __call__(self, instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
        """Refuse a wrong value, as a validator of attrs.

        Raises:
          ConfigError: names the field.
        """
        try:
            self.require(value)
            if value is not None:
                self.check(value)
        except ValueError as error:
            raise ConfigError([f"{type(instance).__name__}.{field.name}: {error}"]) from None

    def require(self, value: object) -> None:
        """Raise ValueError for a value that is not valid."""
        if not self.is_valid(value):
            shown = f"a {type(value).__name__}" if self.is_secret else f"{value!r:.200}"
            raise ValueError(f"{self.expected} is wanted, not {shown}")


def instance_of(kind: type, expected: str = "") -> Setting:
    """Return the setting that allows the values of a type."""
    return Setting(expected or f"a {kind.__name__}", lambda value: isinstance(value, kind))


def tuple_of(kind: type, expected: str, *, least: int = 0) -> Setting:
    """Return the setting that allows tuples of at least so many values of a type."""

    def is_valid(value: object) -> bool:
        is_long = isinstance(value, tuple) and len(value) >= least
        return is_long and all(isinstance(one, kind) for one in value)  # type: ignore[attr-defined]

    return Setting(f"a tuple of {expected}", is_valid)


def _number(expected: str, is_within: Callable[[Any], bool], *, whole: bool = False) -> Setting:
    def is_valid(value: object) -> bool:
        # TOML has inf and nan, and Python's true is a number.
        is_number = isinstance(value, int if whole else (int, float))
        return is_number and not isinstance(value, bool) and is_within(value)

    def from_toml(value: Any) -> float:  # noqa: ANN401 - of any type, until it is checked
        setting.require(value)
        return value if whole else float(value)

    setting = Setting(expected, is_valid, from_toml)
    return setting


def _narrower(setting: Setting, in_toml: Setting) -> Setting:
    """Return a setting with the narrower bounds of another one in recorder.toml."""
    return attrs.evolve(setting, from_toml=in_toml.from_toml)


SECONDS = _number(f"a number of seconds from 0 to {_MAX:,}", lambda n: 0 <= n <= _MAX)
POSITIVE_SECONDS = _number(f"a number of seconds above 0, up to {_MAX:,},", lambda n: 0 < n <= _MAX)
# Not more: pings wait too.
PAUSE_SECONDS = _narrower(
    SECONDS, _number("a number of seconds from 0 to 1", lambda n: 0 <= n <= 1)
)
AGE_HOURS = _narrower(
    _number(f"a number of hours from 0 to {_MAX_HOURS:,}", lambda n: 0 <= n <= _MAX_HOURS),
    # The exchange closes a connection after 24 hours.
    _number("a number of hours from 0.1 to below 24", lambda n: 0.1 <= n < 24),
)
COUNT = _number("a number from 1 on", lambda n: n >= 1, whole=True)
REDUNDANCY = _narrower(COUNT, _number("a number from 1 to 4", lambda n: 1 <= n <= 4, whole=True))
SHARE = _number("a share above 0, up to 1,", lambda n: 0 < n <= 1)


def read_text(value: object) -> str:
    """Return a value that is a text.

    Raises:
      ValueError: the value is no text.
    """
    if not isinstance(value, str):
        raise ValueError(f"a text in quotes is wanted, not {value!r}")
    return value


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is wanted, not {value!r}")
    return value


SWITCH = attrs.evolve(instance_of(bool), from_toml=_read_switch)


def read_moment(value: object) -> datetime:
    """Return a date or a time in UTC. Without a time zone, it is UTC.

    Raises:
      ValueError: the value is neither, or no candle can have such a time.
    """
    # TOML has dates of its own; a text in quotes is allowed too.
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise ValueError(f'a date is wanted, as "2024-01-01", not {value!r}')
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Before the conversion to UTC, which fails for times at the ends of years 1 and 9999.
    if not 0 <= moment.timestamp() * 1_000 < MAX_TIME_MS:
        raise ValueError(f"{value} is no time that a candle can have")
    return moment.astimezone(UTC)


def _read_proxy(value: object) -> str:
    text = read_text(value)
    if text == "direct":
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "socks5", "socks5h") or not parts.hostname:
        # The text is not shown: it may hold a password.
        raise ValueError('an http:// or socks5:// address is wanted, or "direct"')
    _ = parts.port  # raises ValueError if the port is wrong
    return text


def _read_path(value: object) -> Path:
    text = read_text(value)
    if not text or "\0" in text:
        raise ValueError("a path is wanted")
    try:
        return Path(disk_name(text)).expanduser()
    except RuntimeError as error:  # an unknown user
        raise ValueError(str(error)) from None


def _read_layout(value: object) -> Layout:
    layout = Layout(read_text(value))
    layout.check_names()
    return layout


def _read_host(value: object) -> str:
    """Return an http or https address that has only scheme and host."""
    text = _url(read_text(value), "http", "https")
    parts = urlsplit(text)
    # The parts do not show an empty query, as in "https://h?".
    if rest := text.partition("://")[2].removeprefix(parts.netloc):
        host = f"{parts.scheme}://{parts.netloc}"
        raise ValueError(f"{text!r}: only scheme and host are wanted, as {host!r}, without {rest}")
    return text


def _read_stream_url(value: object) -> str:
    """Return a ws or wss address that has a path and names no streams."""
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
    """Return an address without slashes at its end. Only a loopback host may use `plain`."""
    if "@" in _HOST_END.split(text.partition("://")[2])[0]:
        # The text is not shown: it may hold a password. Addresses appear in the log.
        raise ValueError("an address without a user or a password is wanted")
    # A path with other characters, or an impossible host name, would fail at each connection.
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"{text!r} is not plain ASCII; names in other scripts start with xn--")
    parts = urlsplit(text)
    if parts.scheme not in (plain, secure) or not parts.hostname:
        raise ValueError(f"{text!r} is no {secure}:// address")
    _ = parts.port  # raises ValueError if the port is wrong
    parts.hostname.encode("idna")  # raises UnicodeError, a ValueError, if it is no host name
    if parts.scheme == plain and not is_loopback(parts.hostname):
        raise ValueError(f"{text!r}: unencrypted {plain}:// only goes to this machine itself")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _urls(read_one: Callable[[object], str]) -> Setting:
    """Return the setting of a tuple of addresses. In recorder.toml, one may stand alone."""

    def read(value: object) -> tuple[str, ...]:
        # A list of recorder.toml, or a tuple of a program.
        texts = value if isinstance(value, list | tuple) else [value]
        if not texts:
            raise ValueError("an empty list: name a host, or take the line out")
        return tuple(map(read_one, texts))

    return attrs.evolve(tuple_of(str, "URLs", least=1), from_toml=read, check=read)


HOST = attrs.evolve(instance_of(str, "a URL"), from_toml=_read_host, check=_read_host)
HOSTS = _urls(_read_host)
STREAM_URLS = _urls(_read_stream_url)
PROXY = Setting(
    "a URL, or None,",
    lambda value: value is None or isinstance(value, str),
    from_toml=_read_proxy,
    check=_read_proxy,
    is_secret=True,
)
PATH = attrs.evolve(instance_of(Path, "a pathlib.Path"), from_toml=_read_path)
OPTIONAL_PATH = Setting(
    "a pathlib.Path, or None,", lambda value: value is None or isinstance(value, Path), _read_path
)
LAYOUT = attrs.evolve(instance_of(Layout), from_toml=_read_layout, check=Layout.check_names)
MOMENT = Setting(
    # A datetime without a time zone would be another moment on another machine.
    "a datetime with a time zone, or None,",
    lambda value: value is None or (isinstance(value, datetime) and value.tzinfo is not None),
    from_toml=read_moment,
    check=read_moment,
)
