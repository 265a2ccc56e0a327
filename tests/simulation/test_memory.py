"""Days in virtual time leave nothing behind; `python -m tests.simulation.memory` runs months.

Megabytes are not asked of so short a run: what is made once is still being made.
"""

import os
from collections.abc import Iterator

import pyarrow as pa
import pytest

from tests.simulation.memory import run


@pytest.fixture(autouse=True)
def allocator() -> Iterator[None]:
    """A run chooses Arrow's allocator, and other tests have their own."""
    before = pa.default_memory_pool()
    yield
    pa.set_memory_pool(before)


def test_days_of_cuts_and_roll_overs_leave_no_descriptor_and_no_task_behind() -> None:
    seed = int(os.environ.get("KLINE_TRIO_SEED", "1"))
    result = run(days=4, streams=10, interval="15m", seed=seed)
    assert [sample.day for sample in result.samples] == [1, 2, 3, 4]
    assert result.leaks_nothing
    # Of each day, but for the thousand that wait for somebody who takes them.
    assert result.samples[-1].recorded > 4 * 96 * 10 - 1_000
