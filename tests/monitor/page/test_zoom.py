"""The cells that a reader asks for."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import MAX_TIME_MS
from kline_trio.monitor.page.zoom import MOST_CELLS, Window, Zoom
from tests.builders import DAY_MS, HOUR_MS, START_MS


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("zoom", "first", "end", "cells"),
    [
        (Zoom.HOUR, "2024-06-23 16:00", "2024-06-30 16:00", 168),
        (Zoom.DAY, "2024-04-02", "2024-07-01", 90),
        (Zoom.WEEK, "2022-07-04", "2024-07-01", 104),
        (Zoom.MONTH, "2021-07-01", "2024-07-01", 36),
    ],
)
def test_without_a_time_some_cells_up_to_now_are_shown(
    zoom: Zoom, first: str, end: str, cells: int
) -> None:
    window = Window.of(zoom, None, None, START_MS)
    assert window.starts_ms[0] == moment(first)
    assert window.end_ms == moment(end)
    assert len(window.starts_ms) == cells


def test_a_time_is_widened_to_whole_cells() -> None:
    window = Window.of(Zoom.DAY, START_MS, START_MS + DAY_MS, 0)
    day_ms = moment("2024-06-30")
    assert window.edges_ms == (day_ms, day_ms + DAY_MS, day_ms + 2 * DAY_MS)
    # An end between two cells belongs to the first.
    assert Window.of(Zoom.HOUR, START_MS, START_MS + HOUR_MS, 0).edges_ms == (
        START_MS, START_MS + HOUR_MS,
    )  # fmt: skip


def test_too_many_cells_are_refused() -> None:
    end_ms = START_MS + MOST_CELLS * HOUR_MS
    assert len(Window.of(Zoom.HOUR, START_MS, end_ms, 0).starts_ms) == MOST_CELLS
    with pytest.raises(ValueError, match="more than 1,500 cells of one hour"):
        Window.of(Zoom.HOUR, START_MS, end_ms + 1, 0)


@pytest.mark.parametrize("to_ms", [START_MS - 1, START_MS])
def test_an_end_before_the_begin_is_refused(to_ms: int) -> None:
    with pytest.raises(ValueError, match="to_ms must be after from_ms"):
        Window.of(Zoom.DAY, START_MS, to_ms, 0)


MOMENTS = st.integers(0, MAX_TIME_MS)


@given(zoom=st.sampled_from(Zoom), from_ms=MOMENTS, cells=st.integers(0, 2_000), now_ms=MOMENTS)
def test_cells_are_whole_and_hold_the_time(
    zoom: Zoom, from_ms: int, cells: int, now_ms: int
) -> None:
    to_ms = min(MAX_TIME_MS, from_ms + 1 + cells * HOUR_MS)
    if to_ms <= from_ms:
        return
    try:
        window = Window.of(zoom, from_ms, to_ms, now_ms)
    except ValueError:
        assert cells > MOST_CELLS - 2
        return
    assert window.edges_ms[0] <= from_ms
    assert window.starts_ms[-1] < to_ms <= window.end_ms
    assert all(zoom.calendar.is_open_time(one) for one in window.edges_ms)
    assert all(
        zoom.calendar.end_time_ms(one) == end
        for one, end in zip(window.edges_ms, window.edges_ms[1:], strict=False)
    )


@given(zoom=st.sampled_from(Zoom), now_ms=st.integers(0, MAX_TIME_MS - 1))
def test_the_usual_cells_end_with_the_present_one(zoom: Zoom, now_ms: int) -> None:
    window = Window.of(zoom, None, None, now_ms)
    assert window.starts_ms[-1] <= now_ms < window.end_ms
    assert window.edges_ms == tuple(sorted(set(window.edges_ms)))
