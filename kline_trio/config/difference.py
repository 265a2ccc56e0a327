"""What differs between two configurations, key by key, for people. Secrets are not shown."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.config.model import Config
from kline_trio.selection import Selection
from kline_trio.storage.layout import Layout

_SECRET = "a secret"  # noqa: S105 - stands for one
_MOST_NAMES = 10
_MOST_LETTERS = 200


@attrs.frozen
class Change:
    """A key of recorder.toml with another value."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


def differences(old: Config, new: Config) -> list[Change]:
    """Return the keys whose values differ, with both values as TOML has them."""
    return [*_streams(old, new), *_settings("", old, new)]


def _settings(prefix: str, old: Any, new: Any) -> Iterator[Change]:  # noqa: ANN401 - attrs classes
    for field in attrs.fields(type(new)):
        key, before, after = prefix + field.name, getattr(old, field.name), getattr(new, field.name)
        if before == after or key in ("streams", "patterns"):
            continue
        if isinstance(after, Mapping):
            for name in after:
                yield from _settings(f"{key}.{name}.", before[name], after[name])
        elif attrs.has(type(after)) and not prefix:
            yield from _settings(f"{key}.", before, after)
        elif not field.repr or getattr(field.validator, "is_secret", False):
            yield Change(key, _secret(before), _secret(after))
        else:
            # The archive's host stands in the table of all hosts.
            where = "endpoints.archive" if key == "archive" else key
            yield Change(where, _text(before), _text(after))


def _secret(value: object) -> str:
    return _SECRET if value else _text(value or None)


def _streams(old: Config, new: Config) -> Iterator[Change]:
    before, after = _by_list(old), _by_list(new)
    for key in sorted(before.keys() | after.keys()):
        gone, come = before.get(key, {}), after.get(key, {})
        left = [name for name in gone if name not in come]
        joined = [name for name in come if name not in gone]
        if left or joined:
            yield Change(key, _names(left), _names(joined))
        elif [*gone] != [*come] and any(key == _key_of(one) for one in new.patterns):
            yield Change(key, "these rules", "the same rules in another order")


def _key_of(one: Series | Selection) -> str:
    return f"streams.{one.trade_type}.{one.time_interval}"


def _by_list(config: Config) -> dict[str, dict[str, None]]:
    """Return the names, patterns and rules of each list, by its key."""
    found: dict[str, dict[str, None]] = {}
    for one in config.streams:
        found.setdefault(_key_of(one), {})[one.symbol] = None
    for selection in config.patterns:
        for rule in selection.rules:
            found.setdefault(_key_of(selection), {})[str(rule)] = None
    return found


def _names(names: Iterable[str]) -> str:
    several = list(names)
    more = len(several) - _MOST_NAMES
    shown = ", ".join(several[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    return shown or "nothing"


def _text(value: object) -> str:
    match value:
        case None | () | "":
            return "not set"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case datetime():
            return value.isoformat(" ")
        case tuple():
            return f"[{', '.join(map(_text, value))}]"
        case Layout():
            return _text(value.template)
        case Path():
            return _text(str(value))
        case str():
            return json.dumps(value[:_MOST_LETTERS], ensure_ascii=False)
    return _text(str(value))
