"""The presence of a recorder in a lake: one object each, for the other recorders to read.

It says who the recorder is, which share of the work it has, and which symbols it holds since when.
Ages are by the clock of the object store, so that clocks of recorders need not agree.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import attrs
from attrs.validators import deep_mapping, instance_of, optional

from kline_trio.lake.errors import ForeignLakeError
from kline_trio.lake.location import INTERNAL
from kline_trio.lake.objects import Found, Objects
from kline_trio.sharding import Shard

_FOLDER = f"{INTERNAL}/presence"
_FORMAT = 1

_TEXT, _WHOLE = instance_of(str), instance_of(int)
_NUMBER = instance_of((int, float))

Held = Mapping[str, Mapping[str, float]]
"""By market and symbol, since when: seconds since 1970 by the object store's clock."""


@attrs.frozen(kw_only=True)
class Presence:
    """What a recorder says of itself."""

    recorder: str = attrs.field(validator=_TEXT)
    """Its name in the lake."""
    host: str = attrs.field(validator=_TEXT)
    version: str = attrs.field(validator=_TEXT)
    """Of kline_trio."""
    shard: Shard | None = None
    """None: it records all symbols."""
    copies: int = attrs.field(default=1, validator=_WHOLE)
    """How many recorders of its shard it expects, itself included."""
    address_group: str | None = attrs.field(default=None, validator=optional(_TEXT))
    """Recorders of the same group share one address. None: it has an address of its own."""
    published: float | None = attrs.field(default=None, validator=optional(_NUMBER))
    """When its last publication ended, in seconds since 1970 by the object store's clock."""
    unpublished: int = attrs.field(default=0, validator=_WHOLE)
    """How many candles were unpublished then."""
    series: int = attrs.field(default=0, validator=_WHOLE)
    """How many series it holds."""
    held: Held = attrs.field(
        factory=dict, validator=deep_mapping(_TEXT, deep_mapping(_TEXT, _NUMBER))
    )
    clock_error_seconds: float | None = attrs.field(default=None, validator=optional(_NUMBER))
    """How far its clock was ahead of the object store's."""

    def content(self) -> bytes:
        """Return the content of the object."""
        values = attrs.asdict(self, recurse=False)
        values["shard"] = None if self.shard is None else str(self.shard)
        return f"{json.dumps({'format': _FORMAT, **values}, indent=1)}\n".encode()

    @classmethod
    def from_content(cls, content: bytes) -> "Presence":
        """Return what an object says. Keys that a newer version added are left out.

        Raises:
          ValueError: the object holds no presence.
        """
        values: Any = json.loads(content)
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ValueError("is no presence of a recorder")
        known = {one.name: values[one.name] for one in attrs.fields(cls) if one.name in values}
        if known.get("shard") is not None:
            known["shard"] = Shard.from_text(str(known["shard"]))
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"is no presence of a recorder: {error.args[0]}") from None

    def since(self, trade_type: str, symbol: str) -> float | None:
        """Return since when the recorder holds a symbol; None: it does not."""
        return self.held.get(trade_type, {}).get(symbol)


@attrs.frozen
class Seen:
    """A presence, and when it was written."""

    presence: Presence
    modified: float
    """Seconds since 1970 by the object store's clock."""

    def age_seconds(self, now: float) -> float:
        """Return how old the presence is.

        Args:
          now: the object store's time, in seconds since 1970.
        """
        return max(0.0, now - self.modified)


def held_since(symbols: Mapping[str, Collection[str]], before: Held, now: float) -> Held:
    """Return since when each symbol is held (pure).

    Args:
      symbols: by market, those that are held now.
      before: what the recorder's presence said last; a symbol that it has keeps its time.
      now: the object store's time, for the other symbols.
    """
    return {
        market: {one: before.get(market, {}).get(one, now) for one in sorted(symbols[market])}
        for market in sorted(symbols)
    }


def present_copies(every: Sequence[Seen], shard: Shard | None, now: float, limit: float) -> int:
    """Return how many recorders of a shard were there lately (pure).

    Args:
      every: the presences of the lake.
      shard: None: those that record all symbols.
      now: the object store's time, in seconds since 1970.
      limit: an older presence, in seconds, does not count.
    """
    return sum(one.presence.shard == shard and one.age_seconds(now) <= limit for one in every)


def write_presence(objects: Objects, presence: Presence) -> None:
    """Write a recorder's presence.

    Raises:
      LakeError: the object store gave no answer, or refuses.
    """
    objects.put(_path(presence.recorder), presence.content())


def read_presence(objects: Objects, recorder: str) -> Seen | None:
    """Return the presence of a recorder; None: it has none.

    Raises:
      ForeignLakeError: the object holds something else.
      LakeError: the object store gave no answer, or refuses.
    """
    found = objects.get(_path(recorder))
    return None if found is None else _seen(objects, found)


def read_presences(objects: Objects) -> tuple[Seen, ...]:
    """Return the presences of all recorders, by name.

    Raises:
      ForeignLakeError: an object there holds something else.
      LakeError: the object store gave no answer, or refuses.
    """
    paths = [one.path for one in objects.list(_FOLDER) if one.path.endswith(".json")]
    found = [objects.get(path) for path in paths]
    seen = [_seen(objects, one) for one in found if one is not None]
    return tuple(sorted(seen, key=lambda one: one.presence.recorder))


def _seen(objects: Objects, found: Found) -> Seen:
    try:
        return Seen(Presence.from_content(found.content), found.meta.modified)
    except ValueError as error:
        place = f"{objects.url}/{found.meta.path}"
        raise ForeignLakeError(f"{place}: {error}: delete this object") from None


def _path(recorder: str) -> str:
    # The store's libraries escape an object's name in their own ways; `_` needs none.
    return f"{_FOLDER}/{quote(recorder, safe='').replace('%', '=')}.json"
