"""The calendar of the exchange's sixteen candle intervals.

All times are milliseconds since 1970-01-01 UTC, and all calendars are UTC. A candle covers
`[open time, end)`, and its end is the open time of the next one.
"""

from datetime import UTC, datetime

import attrs

__all__ = ["INTERVALS", "Interval"]

_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS


@attrs.frozen
class Interval:
    """How the candles of one length follow each other."""

    name: str
    """The exchange's spelling, in which case counts: `1m` is a minute, `1M` a month."""

    duration_ms: int | None
    """How long each candle is; None for the calendar month."""

    phase_ms: int = 0
    """An open time; every other is a multiple of the duration away from it."""

    @classmethod
    def from_text(cls, text: str) -> "Interval":
        """The interval of that name; `1mo` is another name of `1M`.

        Raises:
          ValueError: there is no such interval.
        """
        try:
            return INTERVALS["1M" if text == "1mo" else text]
        except KeyError:
            names = " ".join(INTERVALS)
            raise ValueError(f"unknown interval; one of {names}") from None

    @property
    def file_name(self) -> str:
        """The spelling in file names, where `1M` would collide with `1m` if case is ignored."""
        return "1mo" if self.name == "1M" else self.name

    def open_time_ms(self, time_ms: int) -> int:
        """The open time of the candle that covers this moment."""
        if self.duration_ms is None:
            return _month_ms(time_ms, later=0)
        return time_ms - (time_ms - self.phase_ms) % self.duration_ms

    def end_time_ms(self, open_time_ms: int) -> int:
        """The end (exclusive) of the candle that opens then: the next open time."""
        if self.duration_ms is None:
            return _month_ms(open_time_ms, later=1)
        return open_time_ms + self.duration_ms

    def is_open_time(self, time_ms: int) -> bool:
        """Whether a candle opens at exactly this moment."""
        return self.open_time_ms(time_ms) == time_ms


def _month_ms(time_ms: int, *, later: int) -> int:
    # Not datetime.fromtimestamp: floats, and platforms that refuse years before 1970.
    day = datetime.fromordinal(datetime(1970, 1, 1, tzinfo=UTC).toordinal() + time_ms // _DAY_MS)
    month = day.year * 12 + day.month - 1 + later
    first = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (first.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()) * _DAY_MS


_SECONDS = {"1s": 1}
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30}
_HOURS = {"1h": 1, "2h": 2, "4h": 4, "6h": 6, "8h": 8, "12h": 12}

INTERVALS: dict[str, Interval] = {
    interval.name: interval
    for interval in (
        *(Interval(name, count * _SECOND_MS) for name, count in _SECONDS.items()),
        *(Interval(name, count * _MINUTE_MS) for name, count in _MINUTES.items()),
        *(Interval(name, count * _HOUR_MS) for name, count in _HOURS.items()),
        Interval("1d", _DAY_MS),
        # Opens one day after multiples of three: 2017-08-17, 2024-01-01 (the published archives).
        Interval("3d", 3 * _DAY_MS, phase_ms=_DAY_MS),
        Interval("1w", 7 * _DAY_MS, phase_ms=4 * _DAY_MS),  # 1970-01-05 was a Monday
        Interval("1M", None),
    )
}
"""All intervals by name, shortest first (Binance docs, "Kline/Candlestick chart intervals")."""
