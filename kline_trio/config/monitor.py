"""The table `[monitor]`: how a running recorder shows itself, and raises alarms."""

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from kline_trio.config import values
from kline_trio.config.values import Setting, instance_of, read_text, tuple_of


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address such as `127.0.0.1:8787` or `[::1]:8787`.

    Raises:
      ValueError: it is no such address.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ip_address(host)
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address is written in brackets, as [::1]:8787")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{address!r} is no address such as 127.0.0.1:8787")
    return host, int(port)


def _read_address(value: object) -> str:
    text = read_text(value)
    split_address(text)
    return text


def _read_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"a list of texts is wanted, not {value!r}")
    return tuple(value)


def _read_command(value: object) -> tuple[str, ...]:
    words = _read_texts(value)
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError('a list is wanted, as ["command", "argument"]')
    return words


def _read_root_path(value: object) -> str:
    text = read_text(value)
    if text and (not text.startswith("/") or text.endswith("/")):
        raise ValueError(f"{text!r}: a path such as /recorder is wanted, without a / at its end")
    return text


def _read_heartbeat_url(value: object) -> str:
    parts = urlsplit(read_text(value))
    if parts.scheme != "https" or not parts.hostname:
        # The text is not shown: whoever knows it can report in the recorder's name.
        raise ValueError("an https:// address is wanted")
    _ = parts.port
    return read_text(value)


def _or_none(setting: Setting) -> Setting:
    return attrs.evolve(
        setting,
        expected=f"{setting.expected}, or None,",
        is_valid=lambda value: value is None or setting.is_valid(value),
    )


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is wanted, not {value!r}")
    return value


_SWITCH = attrs.evolve(instance_of(bool), from_toml=_read_switch)
_ADDRESS = _or_none(
    attrs.evolve(instance_of(str, "a text"), from_toml=_read_address, check=split_address)
)
_TEXTS = attrs.evolve(tuple_of(str, "texts"), from_toml=_read_texts)
_COMMAND = attrs.evolve(tuple_of(str, "texts"), from_toml=_read_command)
_ROOT_PATH = attrs.evolve(instance_of(str, "a text"), from_toml=_read_root_path)
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
    """A file with the token that readers must show; None: none is wanted."""
    allowed_hosts: tuple[str, ...] = attrs.field(default=(), validator=_TEXTS)
    """More names by which readers may call this server, as that of a container."""
    root_path: str = attrs.field(default="", validator=_ROOT_PATH)
    """The path under which a proxy serves it."""
    tls_cert: Path | None = attrs.field(default=None, validator=values.OPTIONAL_PATH)
    tls_key: Path | None = attrs.field(default=None, validator=values.OPTIONAL_PATH)
    insecure_http: bool = attrs.field(default=False, validator=_SWITCH)
    """Serve other machines without TLS, as in a network of containers."""
    per_symbol: bool = attrs.field(default=False, validator=_SWITCH)
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
    on_change: tuple[str, ...] = attrs.field(default=(), validator=_COMMAND)
    """A command, without a shell, that gets the verdict as JSON when it changes."""
    heartbeat_url: str | None = attrs.field(default=None, repr=False, validator=_HEARTBEAT)
    """Requested each minute while health is not bad; `/fail` is appended once when it turns bad."""

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address."""
        return self.address is not None and not values.is_loopback(split_address(self.address)[0])

    def problems(self) -> Iterator[str]:
        """Give what does not fit together."""
        if (self.tls_cert is None) != (self.tls_key is None):
            yield "monitor: tls_cert and tls_key belong together"
        if not self.is_public:
            return
        if self.token_file is None:
            yield f"monitor: other machines can reach {self.address}: name a token_file"
        if self.tls_cert is None and not self.insecure_http:
            yield (
                f"monitor: other machines can reach {self.address}: name tls_cert and tls_key, or"
                " set insecure_http = true"
            )
