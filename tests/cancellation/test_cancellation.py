"""Every await may be the last: `python -m tests.cancellation` tries more, by hand."""

import os

import pytest

from tests.cancellation import steps, stops
from tests.cancellation.lives import LIVES

SEED = int(os.environ.get("KLINE_TRIO_SEED", "1"))
STOPS = int(os.environ.get("KLINE_TRIO_STOPS", "20"))
"""How many stops each test makes."""


def test_a_stop_soon_after_a_start_leaves_no_hole() -> None:
    assert stops.campaign(STOPS, SEED, jobs=1) == 0


@pytest.mark.parametrize("mode", steps.MODES)
@pytest.mark.parametrize("life", LIVES)
def test_after_a_stop_at_any_step_everything_is_stored_or_explained(life: str, mode: str) -> None:
    count = len(steps.places_of(life, SEED))
    numbers = steps.chosen(count, STOPS, SEED)
    print(f"{life}, {mode}: {len(numbers):,} of {count:,} steps")
    assert steps.campaign([steps.Trial(life, mode, one, SEED) for one in numbers], jobs=1) == 0


@pytest.mark.parametrize("life", LIVES)
def test_a_step_is_the_same_one_each_time(life: str) -> None:
    """Or a stop that loses something could not be repeated."""
    places = steps.places_of(life, SEED)
    assert places == steps.places_of(life, SEED)
    number = len(places) // 2
    [(trial, outcome)] = steps.try_many([steps.Trial(life, "cancelled", number, SEED)])
    assert outcome.place == places[number - 1]
    assert f"--only {number}" in trial.command
