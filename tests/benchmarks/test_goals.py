"""What a benchmark may call met, not met, or not judged."""

import pytest

from benchmarks.paced import Paced


def paced(*memory_mb: float, of_a_core: float = 0.04) -> Paced:
    return Paced(0.02, 210_000, 3_000, of_a_core, 0.2, list(memory_mb))


def test_growth_takes_two_minutes_to_tell() -> None:
    """The end of the only minute is no growth against itself."""
    assert paced(80, 150).growth_mb is None
    assert paced(80, 150, 151.5).growth_mb == 1.5
    assert paced(80, 150, 170, 152).growth_mb == 2


@pytest.mark.parametrize(
    ("one", "good"),
    [
        (paced(80, 150), True),
        (paced(80, 150, 160), True),
        (paced(80, 150, 161), False),
        (paced(80, 251), False),
        (paced(80, 150, of_a_core=0.051), False),
    ],
    ids=["a minute", "flat", "growing", "large", "dear"],
)
def test_paced_goals(one: Paced, *, good: bool) -> None:
    assert one.good is good
