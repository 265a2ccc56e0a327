"""The section `[lake]`: where candles are published, and which share of the work is this one's."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from kline_trio.config import values
from kline_trio.config.values import Setting, read_text
from kline_trio.duration import duration_seconds
from kline_trio.sharding import Shard
from kline_trio.storage.names import disk_name

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9!_.*'()/-]*", re.ASCII)
_NAME = re.compile(r"[!-~]{1,64}", re.ASCII)
_LEAST_MEMORY_MB = 256
_ADDRESS = ("endpoint", "region", "profile", "path_style", "allow_http")


def read_url(value: object) -> str | Path:
    """Return an `s3://` address without slashes at its end, or the path of a folder."""
    text = read_text(value)
    if "://" not in text:
        if not text or "\0" in text:
            raise ValueError('s3://bucket/name or a folder is wanted, as "s3://bucket/klines"')
        try:
            return Path(disk_name(text)).expanduser()
        except RuntimeError as error:  # an unknown user
            raise ValueError(str(error)) from None
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.rstrip("/").partition("/")
    if scheme != "s3":
        raise ValueError(f"{text!r}: only s3:// addresses and folders can be a lake")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{text!r} names no bucket: as s3://bucket/klines")
    if not _KEY.fullmatch(key) or {"", ".", ".."} & set(key.split("/") if key else []):
        raise ValueError(f"{text!r}: after the bucket, plain names between single / are wanted")
    return f"s3://{rest.rstrip('/')}"


def _read_endpoint(value: object) -> str:
    text = read_text(value).rstrip("/")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ValueError("an address without a user or a password is wanted")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no address of an object store, as https://s3.example.org")
    _ = parts.port  # raises ValueError if the port is wrong
    return text


def _read_name(value: object) -> str:
    text = read_text(value)
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r:.200}: a name of up to 64 plain characters is wanted")
    return text


def _read_prune_after(value: object) -> float:
    seconds = duration_seconds(read_text(value))
    _PRUNE_AFTER.require(seconds)
    return seconds


def _read_shard(value: object) -> Shard:
    return Shard.from_text(read_text(value))


def _optional(kind: type | tuple[type, ...], expected: str, read: Any) -> Setting:  # noqa: ANN401
    return Setting(
        f"{expected}, or None,",
        lambda value: value is None or (isinstance(value, kind) and not isinstance(value, bool)),
        from_toml=read,
    )


def _is_memory(value: Any) -> bool:  # noqa: ANN401 - of any type, until it is checked
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and value >= _LEAST_MEMORY_MB


_URL = attrs.evolve(
    _optional((str, Path), "an s3:// address or the path of a folder", read_url),
    check=lambda value: read_url(str(value)),
)
_ENDPOINT = attrs.evolve(
    _optional(str, "an address", _read_endpoint), check=lambda value: _read_endpoint(value)
)
_OPTIONAL_NAME = attrs.evolve(
    _optional(str, "a name", _read_name), check=lambda value: _read_name(value)
)
_LEAST_PRUNE_SECONDS = 86_400.0
_PRUNE_AFTER = Setting(
    "a duration of a day or more, as 90d,",
    lambda value: (
        value is None
        or (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and _LEAST_PRUNE_SECONDS <= value < math.inf
        )
    ),
    _read_prune_after,
)
_SHARD = _optional(Shard, "a Shard", _read_shard)


def _read_memory(value: object) -> int:
    _MEMORY.require(value)
    return int(value)  # type: ignore[call-overload, no-any-return]


_MEMORY = Setting(f"a number of megabytes from {_LEAST_MEMORY_MB} on", _is_memory, _read_memory)


@attrs.frozen(kw_only=True)
class LakeConfig:
    """Where accepted candles are published, for readers on other machines."""

    url: str | Path | None = attrs.field(default=None, validator=_URL)
    """The lake, as `s3://bucket/klines`, or a folder; None: nothing is published."""
    endpoint: str | None = attrs.field(default=None, validator=_ENDPOINT)
    """The address of an S3-compatible object store; None: as the environment says, else AWS."""
    region: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    """The region; None: as the environment or the profile says."""
    profile: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    """The profile of `~/.aws` with the credentials; None: as the environment says."""
    path_style: bool = attrs.field(default=True, validator=values.SWITCH)
    """Name the bucket in the path, and not in the host."""
    allow_http: bool = attrs.field(default=False, validator=values.SWITCH)
    """Speak to other machines without TLS. Readers of the network then see all candles."""
    publish_seconds: float = attrs.field(default=3_600.0, validator=values.POSITIVE_SECONDS)
    """The time between two publications."""
    publish_at_stop: bool = attrs.field(default=False, validator=values.SWITCH)
    """Publish once more when the recorder stops, for at most `drain_seconds` of `[store]`."""
    late_seconds: float = attrs.field(default=10_800.0, validator=values.POSITIVE_SECONDS)
    """Health is degraded if nothing could be published for so long."""
    memory_mb: int = attrs.field(default=512, validator=_MEMORY)
    """How much memory the process of the lake may use. It is ended and begun anew above that."""
    upkeep_seconds: float = attrs.field(default=86_400.0, validator=values.POSITIVE_SECONDS)
    """The time between two compactions of the lake, and two prunings here, by this recorder."""
    compact: bool = attrs.field(default=True, validator=values.SWITCH)
    """Compact the lake now and then, if no other recorder does."""
    prune_after: float | None = attrs.field(default=None, validator=_PRUNE_AFTER)
    """Remove months from the store that ended so long ago, in seconds, once they were read back
    from the lake; as "90d" in recorder.toml. None: never."""
    shard: Shard | None = attrs.field(default=None, validator=_SHARD)
    """The part of the symbols that this recorder records, as "2/4"; None: all."""
    copies: int = attrs.field(default=1, validator=values.COUNT)
    """How many recorders record each shard."""
    handover_seconds: float = attrs.field(default=7_200.0, validator=values.SECONDS)
    """Record a symbol that moved to another shard until its owner has held it for so long."""
    address_group: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    """Recorders of the same group share one address, and so the exchange's budget for it; None:
    this recorder has an address of its own."""

    @property
    def presence_seconds(self) -> float:
        """How old another recorder's presence may be: three publications, and ten minutes."""
        return 3 * self.publish_seconds + 600

    @property
    def needs_tls(self) -> bool:
        """Whether the endpoint is another machine, and is spoken to without TLS."""
        if self.endpoint is None:
            return False
        parts = urlsplit(self.endpoint)
        return parts.scheme == "http" and not values.is_loopback(parts.hostname or "")

    def simulated(self) -> "LakeConfig":
        """Return the section for made-up candles, which go to a lake of their own beside it."""
        match self.url:
            case None:
                return self
            case Path():
                return attrs.evolve(self, url=self.url.with_name(f"{self.url.name}-simulated"))
        bucket, slash, key = self.url.removeprefix("s3://").partition("/")
        return attrs.evolve(self, url=f"s3://{bucket}/{key}{'-' if slash else ''}simulated")

    def address(self) -> dict[str, Any]:
        """Return what another process needs to find the lake, as values of JSON: no secrets."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _ADDRESS}
        values["folder" if isinstance(self.url, Path) else "url"] = str(self.url)
        return values

    @classmethod
    def from_address(cls, address: Mapping[str, Any]) -> "LakeConfig":
        """Return the section of an `address`; the other keys have their defaults."""
        values = dict(address)
        if (folder := values.pop("folder", None)) is not None:
            values["url"] = Path(folder)
        return cls(**values)

    def problems(self, store: Path) -> Iterator[tuple[str, str]]:
        """Give the settings that do not fit together, or to a store's folder: a key, and why."""
        others = {one.name for one in attrs.fields(LakeConfig)} - {"url", "shard"}
        if self.url is None:
            changed = [name for name in sorted(others) if getattr(self, name) != _DEFAULTS[name]]
            if changed:
                yield changed[0], 'name the lake too: url = "s3://bucket/klines", or a folder'
            return
        if isinstance(self.url, Path):
            if problem := _overlap(self.url, store):
                yield "url", problem
            for name in ("endpoint", "region", "profile"):
                if getattr(self, name) is not None:
                    yield name, f"{self.url} is a folder, which has none"
        if self.needs_tls and not self.allow_http:
            yield "endpoint", f"{self.endpoint}: unencrypted http; use https, or allow_http = true"


def _overlap(lake: Path, store: Path) -> str | None:
    """Return what is wrong if one of the folders is in the other; None: nothing."""
    lake, store = lake.absolute(), store.absolute()
    if lake.is_relative_to(store):
        return f"{lake} is in the folder of the store, {store}: name another one"
    if store.is_relative_to(lake):
        return f"{lake} holds the folder of the store, {store}: name another one"
    return None


_DEFAULTS = {one.name: one.default for one in attrs.fields(LakeConfig)}
