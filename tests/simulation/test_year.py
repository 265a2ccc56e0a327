"""Weeks in virtual time end with nothing lost; `python -m tests.simulation.year` runs a year."""

import os

import pytest

from tests.simulation.year import whole


@pytest.mark.parametrize("nth", [0, 1])
def test_weeks_with_random_faults_end_complete_and_explained(nth: int) -> None:
    result = whole(int(os.environ.get("KLINE_TRIO_SEED", "1")) + nth, days=10)
    assert result.wrong == []
    assert result.stored > 20_000
    assert result.refilled > 250
    assert result.explained > 20


def test_the_same_seed_is_the_same_trace() -> None:
    assert whole(7, days=2).digest == whole(7, days=2).digest
    assert whole(8, days=2).digest != whole(7, days=2).digest
