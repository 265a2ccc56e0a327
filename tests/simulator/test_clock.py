"""Exchange time from local time."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.simulator.clock import Clock


def test_stands_still_until_started() -> None:
    """A clock that is not started shows its start, and no moment is ever reached."""
    clock = Clock(5_000, 60)
    assert clock.now_ms(123.0) == 5_000
    assert clock.local_s(5_000) == inf
    clock.start(10.0)
    clock.start(20.0)
    assert clock.now_ms(11.0) == 65_000


def test_leaps_and_ends() -> None:
    """The clock leaps over an empty stretch and stands still at its end."""
    clock = Clock(0, 1, end_ms=100_000, leaps=[(9_000, 90_000)])
    clock.start(0.0)
    assert [clock.now_ms(s) for s in (0, 9.999, 10, 15, 20, 99)] == [
        0,
        9_999,
        90_000,
        95_000,
        100_000,
        100_000,
    ]
    assert clock.local_s(50_000) == 10
    assert clock.local_s(95_000) == 15
    assert clock.local_s(100_001) == inf


@pytest.mark.parametrize("speed", [60, 600, 1_000_000])
def test_what_is_sent_before_a_leap_arrives_before_it(speed: float) -> None:
    """For a second of whoever receives it, the exchange is where it was, however fast it runs."""
    clock = Clock(0, speed, leaps=[(10_000, 5_000_000_000)])
    clock.start(0.0)
    sent_s = clock.local_s(10_000)
    assert clock.now_ms(sent_s + 0.99) <= 10_000 + 1_000 * speed
    assert clock.now_ms(sent_s + 1.0) == 5_000_000_000


@given(
    st.integers(0, 2_000_000_000_000),
    st.floats(0.001, 1_000_000),
    st.floats(0, 1_000_000),
    st.integers(0, 10_000_000_000),
)
def test_a_wake_up_finds_its_moment_reached(
    start_ms: int, speed: float, started_s: float, ahead_ms: int
) -> None:
    """Waking when a moment is said to be reached never finds the clock more than 1 ms short."""
    clock = Clock(start_ms, speed)
    clock.start(started_s)
    assert clock.now_ms(clock.local_s(start_ms + ahead_ms)) >= start_ms + ahead_ms - 1


@pytest.mark.parametrize("speed", [0, -1, inf])
def test_senseless_speeds_are_refused(speed: float) -> None:
    """A clock that stands, goes back or never arrives is an error of the caller."""
    with pytest.raises(ValueError, match="speed"):
        Clock(0, speed)
