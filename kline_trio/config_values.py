"""What a value in recorder.toml may be: each gives it back as what it means.

All raise ValueError, with a text for the user, where it means nothing.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from kline_trio.candle import MAX_TIME_MS
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import disk_name

__all__ = [
    "MAX_SECONDS",
    "hosts_reader",
    "path_reader",
    "read_age_hours",
    "read_count",
    "read_host",
    "read_layout",
    "read_moment",
    "read_positive_seconds",
    "read_proxy",
    "read_redundancy",
    "read_rest_seconds",
    "read_seconds",
    "read_share",
    "read_stream_url",
    "read_text",
]

_HOST_END = re.compile("[/?#]")
MAX_SECONDS = 31_536_000
"""A year: whoever writes more means another unit."""


def read_text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"a text in quotes is wanted, not {value!r}")
    return value


def read_seconds(value: object) -> float:
    """A number of seconds, of a year at most."""
    # TOML has inf and nan, and to Python true is a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number of seconds is wanted, not {value!r}")
    if not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{value} is not between 0 and {MAX_SECONDS} seconds")
    return float(value)


def read_count(value: object) -> int:
    """A number of things, one at least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a number from 1 on is wanted, not {value!r}")
    return value


def read_share(value: object) -> float:
    """A part of a whole, above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"a share above 0, and of 1 at most, is wanted, not {value!r}")
    return float(value)


def read_moment(value: object) -> datetime:
    """A date or a time, UTC if it names no zone."""
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


def read_positive_seconds(value: object) -> float:
    """A number of seconds above 0."""
    if read_seconds(value) == 0:
        raise ValueError("0 seconds leave no time for an answer")
    return read_seconds(value)


def read_age_hours(value: object) -> float:
    """How old a connection may grow, in hours: the exchange cuts it after 24."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value < 24:
        raise ValueError(f"a number of hours from 0.1 to below 24 is wanted, not {value!r}")
    return float(value)


def read_redundancy(value: object) -> int:
    """How many connections carry each stream."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4:
        raise ValueError(f"a number from 1 to 4 is wanted, not {value!r}")
    return value


def read_rest_seconds(value: object) -> float:
    """How long a connection rests between two reads: a second at most, for pings wait too."""
    seconds = read_seconds(value)
    if seconds > 1:
        raise ValueError(f"{value} is more than 1 second")
    return seconds


def read_proxy(value: object) -> str:
    """The URL of a proxy, or "direct"."""
    text = read_text(value)
    if text == "direct":
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "socks5", "socks5h") or not parts.hostname:
        # Not shown: it may hold a password.
        raise ValueError('an http:// or socks5:// address is wanted, or "direct"')
    _ = parts.port  # raises ValueError where it is no port
    return text


def path_reader(folder: Path) -> Callable[[object], Path]:
    """What reads a path that is relative to the folder."""

    def read(value: object) -> Path:
        text = read_text(value)
        if not text or "\0" in text:
            raise ValueError("a path is wanted")
        try:
            return folder / Path(disk_name(text)).expanduser()
        except RuntimeError as error:  # a user who is not there
            raise ValueError(str(error)) from None

    return read


def read_layout(value: object) -> Layout:
    """A template for paths."""
    layout = Layout(read_text(value))
    layout.check_names()
    return layout


def hosts_reader(read_one: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """What reads one address, or a list of them."""

    def read(value: object) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        if not texts:
            raise ValueError("an empty list: name a host, or take the line out")
        return tuple(read_one(text) for text in texts)

    return read


def read_host(value: object) -> str:
    """One http or https address, of scheme and host alone."""
    text = _url(read_text(value), "http", "https")
    parts = urlsplit(text)
    # Not of the parts, which do not tell an empty query, as that of "https://h?", from none.
    if rest := text.partition("://")[2].removeprefix(parts.netloc):
        host = f"{parts.scheme}://{parts.netloc}"
        raise ValueError(f"{text!r}: only scheme and host are wanted, as {host!r}, without {rest}")
    return text


def read_stream_url(value: object) -> str:
    """One ws or wss address, with a path and without streams."""
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
    """An address; the plain scheme only goes to this machine."""
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
