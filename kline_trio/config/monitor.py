"""The table `[monitor]`: how a running recorder shows itself, and raises alarms."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from kline_trio.config import values
from kline_trio.config.values import Setting, instance_of, read_text, tuple_of

_LABEL = "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.IGNORECASE | re.ASCII)
"""A host name, or an IPv4 address."""
_IPV6 = 6
_MOST_PORT, _PORT_DIGITS = 65_535, 5


def host_name(host: str) -> str:
    """Return the one spelling of a host name or an IP address: lower case, without brackets."""
    bare = host.removeprefix("[").removesuffix("]").lower()
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address such as `127.0.0.1:8787` or `[::1]:8787`.

    Raises:
      ValueError: it is no such address.
    """
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS
    if not is_port or int(port) > _MOST_PORT:
        raise ValueError(f"{address!r} is no address such as 127.0.0.1:8787")
    if _is_ipv6(host):
        raise ValueError(f"{address!r}: an IPv6 address is written in brackets, as [::1]:8787")
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return host[1:-1], int(port)
    if _NAME.fullmatch(host) is None:
        raise ValueError(f"{address!r} is no address such as 127.0.0.1:8787")
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == _IPV6
    except ValueError:
        return False


def _read_address(value: object) -> str:
    text = read_text(value)
    split_address(text)
    return text


def _check_hosts(hosts: Iterable[str]) -> None:
    for host in hosts:
        is_address = host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1])
        if not is_address and _NAME.fullmatch(host) is None:
            raise ValueError(f"{host!r} is no host name; write it without scheme, port and path")


def _read_hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f'a list of host names is wanted, as ["recorder"], not {value!r}')
    _check_hosts(value)
    return tuple(value)


def _check_words(words: Iterable[str]) -> None:
    if any("\0" in word for word in words):
        raise ValueError("an argument of a command has no zero byte")


def _read_command(value: object) -> tuple[str, ...]:
    # The words are not shown: an argument may be a password, or a secret URL.
    words = value if isinstance(value, list) else []
    if not words or not all(isinstance(one, str) for one in words) or not words[0]:
        raise ValueError('a list of texts is wanted, as ["command", "argument"]')
    _check_words(words)
    return tuple(words)


def _read_root_path(value: object) -> str:
    text = read_text(value)
    if text and _ROOT_PATH_SHAPE.fullmatch(text) is None:
        raise ValueError(f"{text!r}: a path such as /recorder is wanted, without a / at its end")
    return text


def _read_heartbeat_url(value: object) -> str:
    # The text is not shown: whoever knows it can report in the recorder's name.
    wanted = "an https:// address without a user is wanted (it is a secret, and not shown)"
    if not isinstance(value, str) or not _is_https(value):
        raise ValueError(wanted)
    return value


def _is_https(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:  # its message may quote the text
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def _or_none(setting: Setting) -> Setting:
    return attrs.evolve(
        setting,
        expected=f"{setting.expected}, or None,",
        is_valid=lambda value: value is None or setting.is_valid(value),
    )


def _read_variable(value: object) -> str:
    # Not shown: somebody may have put the token itself here.
    if not isinstance(value, str) or _VARIABLE_SHAPE.fullmatch(value) is None:
        raise ValueError("the name of an environment variable is wanted, as KLINE_TRIO_TOKEN")
    return value


_ROOT_PATH_SHAPE = re.compile(r"(/[!-.0->@-~]+)+", re.ASCII)
"""Printable ASCII, without `?` and empty parts."""
_VARIABLE_SHAPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ADDRESS = _or_none(
    attrs.evolve(instance_of(str, "a text"), from_toml=_read_address, check=split_address)
)
_HOSTS = attrs.evolve(tuple_of(str, "host names"), from_toml=_read_hosts, check=_check_hosts)
_COMMAND = attrs.evolve(
    tuple_of(str, "texts"), from_toml=_read_command, check=_check_words, is_secret=True
)
_ROOT_PATH = attrs.evolve(
    instance_of(str, "a text"), from_toml=_read_root_path, check=_read_root_path
)
_VARIABLE = _or_none(
    attrs.evolve(instance_of(str, "a text"), from_toml=_read_variable, check=_read_variable)
)
_HEARTBEAT = Setting(
    "a URL, or None,",
    lambda value: value is None or isinstance(value, str),
    from_toml=_read_heartbeat_url,
    check=_read_heartbeat_url,
    is_secret=True,
)


@attrs.frozen(kw_only=True)
class MonitorConfig:
    """How a running recorder shows itself, and raises alarms."""

    address: str | None = attrs.field(default=None, validator=_ADDRESS)
    """Where metrics and health are served, as `127.0.0.1:8787`; None: nowhere."""
    token_file: Path | None = attrs.field(default=None, validator=values.OPTIONAL_PATH)
    """A file with the token that readers must show."""
    token_variable: str | None = attrs.field(default=None, validator=_VARIABLE)
    """The environment variable that holds the token, if there is no file. None of both: no token is
    wanted."""
    allowed_hosts: tuple[str, ...] = attrs.field(default=(), validator=_HOSTS)
    """More names by which readers may call this server, as that of a container."""
    root_path: str = attrs.field(default="", validator=_ROOT_PATH)
    """The path under which a proxy serves it."""
    tls_cert: Path | None = attrs.field(default=None, validator=values.OPTIONAL_PATH)
    """The certificate of this server, in PEM, with its chain. It needs `tls_key`."""
    tls_key: Path | None = attrs.field(default=None, validator=values.OPTIONAL_PATH)
    """The key of `tls_cert`, in PEM, without a password."""
    insecure_http: bool = attrs.field(default=False, validator=values.SWITCH)
    """Serve other machines without TLS, as in a network of containers."""
    per_symbol: bool = attrs.field(default=False, validator=values.SWITCH)
    """Give three metrics for each series. A thousand series are 270 kB a scrape."""
    silent_seconds: float = attrs.field(default=45.0, validator=values.POSITIVE_SECONDS)
    """Health is bad if a market brings no candle, closed or forming, for so long."""
    absent_seconds: float = attrs.field(default=15.0, validator=values.SECONDS)
    """Health is bad if a candle was found absent so long ago."""
    stuck_seconds: float = attrs.field(default=60.0, validator=values.POSITIVE_SECONDS)
    """Health is bad if a transaction takes so long, or a merge ten times as long."""
    free_days: float = attrs.field(default=7.0, validator=values.SECONDS)
    """Health is degraded if the free space lasts for fewer days."""
    recover_seconds: float = attrs.field(default=15.0, validator=values.SECONDS)
    """Health improves once a reason has been away for so long."""
    on_change: tuple[str, ...] = attrs.field(default=(), repr=False, validator=_COMMAND)
    """A command, without a shell, that gets the verdict as JSON when it changes."""
    reload_on_save: bool = attrs.field(default=False, validator=values.SWITCH)
    """Read the file anew when it was saved, not only at SIGHUP."""
    heartbeat_url: str | None = attrs.field(default=None, repr=False, validator=_HEARTBEAT)
    """Requested each minute while health is not bad. When health turns bad, it is requested once
    with `/fail` at the end of its path."""

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address."""
        return self.address is not None and not values.is_loopback(split_address(self.address)[0])

    def problems(self) -> Iterator[tuple[str, str]]:
        """Give the settings that do not fit together: a key, and what to do."""
        if self.tls_cert is not None and self.tls_key is None:
            yield "tls_cert", "name its tls_key too"
        if self.tls_key is not None and self.tls_cert is None:
            yield "tls_key", "name its tls_cert too"
        if not self.is_public:
            return
        reached = f"other machines can reach {self.address}"
        if self.token_file is None and self.token_variable is None:
            yield "address", f"{reached}: name a token_file, or use 127.0.0.1"
        if self.tls_cert is None and self.tls_key is None and not self.insecure_http:
            yield "address", f"{reached}: name tls_cert and tls_key, or set insecure_http = true"
