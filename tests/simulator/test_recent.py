"""A recent that forgets what is old."""

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.simulator.recent import Recent


@given(st.lists(st.integers(0, 30)), st.integers(1, 8))
def test_the_newest_are_kept(keys: list[int], size: int) -> None:
    """What it gives is right; at least the last ``size`` are there, at most twice as many."""
    recent = Recent[int, str](size)
    for place, key in enumerate(keys):
        recent.put(key, str(key))
        for newest in keys[max(0, place + 1 - size) : place + 1]:
            assert recent.get(newest) == str(newest)
    kept = [key for key in range(31) if recent.get(key) is not None]
    assert all(recent.get(key) == str(key) for key in kept)
    assert len(kept) <= 2 * size
