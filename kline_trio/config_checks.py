"""What the values of a configuration must be that a program makes itself, without recorder.toml.

Only what could never work is refused here; recorder.toml is held to more. A text that cannot be
used is not shown where it may hold a password.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from kline_trio.config_values import MAX_SECONDS
from kline_trio.errors import ConfigError

__all__ = ["a", "a_mapping_of", "a_moment", "a_share", "a_whole_number", "each_read_by"]
__all__ += ["every", "hours", "many", "positive_seconds", "seconds"]


class _Named(Protocol):
    """An attribute of attrs."""

    name: str


Check = Callable[[Any, Any, Any], None]
"""A validator of attrs."""


def _check(is_good: Callable[[Any], bool], wanted: str, *, is_secret: bool = False) -> Check:
    def check(instance: object, attribute: "_Named", value: object) -> None:
        if not is_good(value):
            shown = f"a {type(value).__name__}" if is_secret else f"{value!r:.200}"
            place = f"{type(instance).__name__}.{attribute.name}"
            raise ConfigError([f"{place}: {wanted} is wanted, not {shown}"])

    return check


def a(kind: type, wanted: str, *, optional: bool = False, is_secret: bool = False) -> Check:
    """Demand a value of one type; if it is optional, or None."""
    return _check(
        lambda value: isinstance(value, kind) or (optional and value is None),
        f"{wanted}, or None," if optional else wanted,
        is_secret=is_secret,
    )


def many(kind: type, wanted: str, *, least: int = 0) -> Check:
    """Demand a tuple of values of one type."""
    return _check(
        lambda value: (
            isinstance(value, tuple)
            and len(value) >= least
            and all(isinstance(one, kind) for one in value)
        ),
        f"a tuple of {wanted}",
    )


def a_mapping_of(kind: type, keys: tuple[str, ...]) -> Check:
    """Demand a mapping that has a value of one type for each key, and no other."""
    return _check(
        lambda value: (
            isinstance(value, Mapping)
            and set(value) == set(keys)
            and all(isinstance(one, kind) for one in value.values())
        ),
        f"one {kind.__name__} for each of {' '.join(keys)}",
    )


def each_read_by(read: Callable[[Any], object]) -> Check:
    """Demand a value, or a tuple of values, that a reader of recorder.toml would take."""

    def check(instance: object, attribute: "_Named", value: object) -> None:
        for one in value if isinstance(value, tuple) else (value,):
            try:
                read(one)
            except ValueError as error:
                place = f"{type(instance).__name__}.{attribute.name}"
                raise ConfigError([f"{place}: {error}"]) from None

    return check


def every(is_good: Callable[[Any], bool], wanted: str) -> Check:
    """Demand of each value of a tuple that it is good."""
    return _check(lambda value: all(map(is_good, value)), wanted)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def seconds() -> Check:
    """Demand a duration of a year at most: what is infinite has no place in a calendar."""
    return _check(
        lambda value: _is_number(value) and 0 <= value <= MAX_SECONDS,
        f"a number of seconds from 0 to {MAX_SECONDS:,}",
    )


def positive_seconds() -> Check:
    """Demand a duration in which something can happen."""
    return _check(
        lambda value: _is_number(value) and 0 < value <= MAX_SECONDS,
        f"a number of seconds above 0, up to {MAX_SECONDS:,},",
    )


def hours() -> Check:
    """Demand a duration in hours."""
    most = MAX_SECONDS // 3_600
    return _check(
        lambda value: _is_number(value) and 0 <= value <= most,
        f"a number of hours from 0 to {most:,}",
    )


def a_whole_number() -> Check:
    """Demand a number of things, one at least."""
    return _check(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
        "a whole number from 1 on",
    )


def a_share() -> Check:
    """Demand a part of a whole."""
    return _check(lambda value: _is_number(value) and 0 < value <= 1, "a share above 0, up to 1,")


def a_moment() -> Check:
    """Demand a moment that is the same everywhere, or None."""
    return _check(
        lambda value: value is None or (isinstance(value, datetime) and value.tzinfo is not None),
        "a datetime with a time zone, or None,",
    )
