"""Durations in words."""


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
