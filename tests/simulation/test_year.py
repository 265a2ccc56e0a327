"""Weeks in virtual time end with nothing lost; `python -m tests.simulation.year` runs a year."""

import os

from tests.simulation.year import whole


def test_weeks_with_random_faults_end_complete_and_explained() -> None:
    result = whole(int(os.environ.get("KLINE_TRIO_SEED", "1")), days=20)
    assert result.wrong == []
    assert result.stored > 40_000
    assert result.refilled > 500
    assert result.explained > 50


def test_the_same_seed_is_the_same_trace() -> None:
    assert whole(7, days=2).digest == whole(7, days=2).digest
    assert whole(8, days=2).digest != whole(7, days=2).digest
