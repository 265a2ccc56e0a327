"""The calendar of the exchange's sixteen candle intervals.

All times are milliseconds since 1970-01-01 UTC, and all calendars are UTC. A candle covers
`[open time, end)`. Its end is the open time of the next candle.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime

import attrs

_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
DAY_MS = 24 * _HOUR_MS
_DAY_OF_1970 = date(1970, 1, 1).toordinal()


@attrs.frozen(order=True)
class Span:
    """A time span of whole candles. It is never empty."""

    from_ms: int
    """The open time of the first candle."""
    to_ms: int
    """The end of the last candle, exclusive."""

    def __contains__(self, time_ms: int) -> bool:
        """Return whether a time lies in the span. `to_ms` does not."""
        return self.from_ms <= time_ms < self.to_ms

    def common_with(self, other: "Span") -> tuple["Span", ...]:
        """Return the intersection of two spans: one span, or none."""
        from_ms, to_ms = max(self.from_ms, other.from_ms), min(self.to_ms, other.to_ms)
        return (Span(from_ms, to_ms),) if from_ms < to_ms else ()

    def without(self, taken: Iterable["Span"]) -> Iterator["Span"]:
        """Give the parts of the span that others do not cover. The others are in order."""
        at_ms = self.from_ms
        for other in taken:
            if other.from_ms > at_ms:
                yield from Span(at_ms, other.from_ms).common_with(self)
            at_ms = max(at_ms, other.to_ms)
        if at_ms < self.to_ms:
            yield Span(at_ms, self.to_ms)


@attrs.frozen
class Interval:
    """The length and the calendar of candles."""

    name: str
    """The exchange's spelling, which is case-sensitive: `1m` is a minute, `1M` a month."""

    duration_ms: int | None
    """The length of each candle; None for the calendar month."""

    phase_ms: int = 0
    """An open time. All others differ from it by a multiple of the duration."""

    @classmethod
    def from_text(cls, text: str) -> "Interval":
        """Return the interval of a name. `1mo` also names `1M`.

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
        """The spelling in file names. On disks that ignore case, `1M` would collide with `1m`."""
        return "1mo" if self.name == "1M" else self.name

    def open_time_ms(self, time_ms: int) -> int:
        """Return the open time of the candle that covers a time."""
        if self.duration_ms is None:
            return _month_ms(time_ms, later=0)
        return time_ms - (time_ms - self.phase_ms) % self.duration_ms

    def end_time_ms(self, open_time_ms: int) -> int:
        """Return the end, exclusive, of the candle that opens at this time."""
        if self.duration_ms is None:
            return _month_ms(open_time_ms, later=1)
        return open_time_ms + self.duration_ms

    def next_open_time_ms(self, time_ms: int) -> int:
        """Return the first open time that is not before a moment."""
        open_ms = self.open_time_ms(time_ms)
        return open_ms if open_ms == time_ms else self.end_time_ms(open_ms)

    def is_open_time(self, time_ms: int) -> bool:
        """Return whether a candle opens at exactly this time."""
        return self.open_time_ms(time_ms) == time_ms

    def count(self, span: Span) -> int:
        """Return the number of candles in a span."""
        if self.duration_ms is None:
            return sum(1 for _ in self.open_times_ms(span))
        return (span.to_ms - span.from_ms) // self.duration_ms

    def open_times_ms(self, span: Span) -> Iterator[int]:
        """Give the open times of the span's candles, in order."""
        moment_ms = span.from_ms
        while moment_ms < span.to_ms:
            yield moment_ms
            moment_ms = self.end_time_ms(moment_ms)

    def runs(self, open_times_ms: Iterable[int]) -> Iterator[Span]:
        """Give the spans of consecutive candles. The open times are in order."""
        from_ms = to_ms = None
        for moment_ms in open_times_ms:
            if moment_ms != to_ms:
                if from_ms is not None and to_ms is not None:
                    yield Span(from_ms, to_ms)
                from_ms = moment_ms
            to_ms = self.end_time_ms(moment_ms)
        if from_ms is not None and to_ms is not None:
            yield Span(from_ms, to_ms)

    def gaps(self, span: Span, present_ms: Iterable[int]) -> Iterator[Span]:
        """Give the parts of a span that have no candles. The open times are in order.

        The cost depends on the number of candles that are present, not on the length of the gaps.
        """
        return span.without(self.runs(present_ms))


def _month_ms(time_ms: int, *, later: int) -> int:
    # Not datetime.fromtimestamp: floats, and platforms that refuse years before 1970.
    day = date.fromordinal(_DAY_OF_1970 + time_ms // DAY_MS)
    month = day.year * 12 + day.month - 1 + later
    return (date(month // 12, month % 12 + 1, 1).toordinal() - _DAY_OF_1970) * DAY_MS


def time_text(time_ms: int) -> str:
    """Return a time as ISO 8601, UTC; as a number if it is beyond the calendar."""
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError):
        return f"{time_ms} ms"


_UNITS_MS = {"s": _SECOND_MS, "m": _MINUTE_MS, "h": _HOUR_MS}
_WITHIN_A_DAY = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h")

INTERVALS: dict[str, Interval] = {
    interval.name: interval
    for interval in (
        *(Interval(name, int(name[:-1]) * _UNITS_MS[name[-1]]) for name in _WITHIN_A_DAY),
        Interval("1d", DAY_MS),
        # Opens one day after multiples of three: 2017-08-17, 2024-01-01 (the published archives).
        Interval("3d", 3 * DAY_MS, phase_ms=DAY_MS),
        Interval("1w", 7 * DAY_MS, phase_ms=4 * DAY_MS),  # 1970-01-05 was a Monday
        Interval("1M", None),
    )
}
"""All intervals by name, shortest first (Binance docs, "Kline/Candlestick chart intervals")."""
