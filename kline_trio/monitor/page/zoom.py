"""The cells of the calendar: hours, days, weeks and months of UTC (pure)."""

import enum
from collections.abc import Iterator

import attrs

from kline_trio.candle import MAX_TIME_MS
from kline_trio.interval import INTERVALS, Interval

MOST_CELLS = 1_500


class Zoom(enum.StrEnum):
    """How long a cell is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """From Monday on."""
    MONTH = "month"

    @property
    def calendar(self) -> Interval:
        """The calendar of the cells: that of candles as long."""
        return INTERVALS[_INTERVALS[self]]


_INTERVALS = {Zoom.HOUR: "1h", Zoom.DAY: "1d", Zoom.WEEK: "1w", Zoom.MONTH: "1M"}
_USUAL_CELLS = {Zoom.HOUR: 168, Zoom.DAY: 90, Zoom.WEEK: 104, Zoom.MONTH: 36}


@attrs.frozen
class Window:
    """The cells that a reader asks for."""

    zoom: Zoom
    edges_ms: tuple[int, ...]
    """The begins of the cells, and the end of the last."""

    @property
    def starts_ms(self) -> tuple[int, ...]:
        """The begins of the cells."""
        return self.edges_ms[:-1]

    @property
    def end_ms(self) -> int:
        """The end of the last cell."""
        return self.edges_ms[-1]

    @classmethod
    def of(cls, zoom: Zoom, from_ms: int | None, to_ms: int | None, now_ms: int) -> "Window":
        """Return the cells that have a moment of `[from_ms, to_ms)`.

        Args:
          zoom: how long the cells are.
          from_ms: None: some cells before the end, as many as fit a screen.
          to_ms: exclusive. None: the end of the present cell.
          now_ms: the present time.

        Raises:
          ValueError: these are no cells, or too many.
        """
        calendar = zoom.calendar
        last_ms = calendar.open_time_ms(now_ms if to_ms is None else max(0, to_ms - 1))
        if from_ms is None:
            first_ms = last_ms
            for _ in range(_USUAL_CELLS[zoom] - 1):
                first_ms = calendar.open_time_ms(max(0, first_ms - 1))
        else:
            first_ms = calendar.open_time_ms(from_ms)
            if to_ms is not None and to_ms <= from_ms:
                raise ValueError("to_ms must be after from_ms")
        edges = [first_ms]
        for edge_ms in _ends(calendar, first_ms, last_ms):
            edges.append(edge_ms)
            if len(edges) > MOST_CELLS + 1:
                text = f"there are more than {MOST_CELLS:,} cells of one {zoom} in this time"
                raise ValueError(f"{text}: ask for less, or for longer cells")
        return cls(zoom, tuple(edges))


def _ends(calendar: Interval, first_ms: int, last_ms: int) -> Iterator[int]:
    end_ms = calendar.end_time_ms(first_ms)
    while True:
        yield end_ms
        if end_ms > last_ms or end_ms >= MAX_TIME_MS:
            return
        end_ms = calendar.end_time_ms(end_ms)
