"""Durations in words, and as short texts."""

import re

_SHORT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h|d)?", re.ASCII)
_UNIT_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration, as `20s`, `5m`, `2h` or `90d`; seconds without a unit.

    Raises:
      ValueError: the text is none.
    """
    match = _SHORT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration, as 20s, 5m or 2h")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def duration_text(seconds: float) -> str:
    """Return a duration in two units at most: `45 s`, `6 min`, `2 h 10 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3_600, whole // 86_400
    if hours < 2:
        return f"{minutes} min"
    if days < 2:
        more = minutes - 60 * hours
        return f"{hours} h {more} min" if more else f"{hours} h"
    more = hours - 24 * days
    return f"{days:,} d {more} h" if more else f"{days:,} d"
