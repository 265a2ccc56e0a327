"""Durations in words."""

import pytest

from kline_trio.duration import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119.9, "119 s"),
        (120.0, "2 min"),
        (7_199.0, "119 min"),
        (7_200.0, "2 h"),
        (7_800.0, "2 h 10 min"),
        (172_799.0, "47 h 59 min"),
        (172_800.0, "2 d"),
        (180_000.0, "2 d 2 h"),
    ],
)
def test_a_duration_is_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
