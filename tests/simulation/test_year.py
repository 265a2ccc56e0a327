"""Weeks in virtual time end with nothing lost; `python -m tests.simulation.year` runs a year."""

import os
import re
import subprocess
import sys
from random import Random

from kline_trio.storage.journal.ledger import Reason
from tests.faulty_exchange import FAULTS
from tests.simulation.weather import DAY_MS, LASTING, START_MS, faults
from tests.simulation.year import whole

SEED = int(os.environ.get("KLINE_TRIO_SEED", "1"))


def test_weeks_with_random_faults_end_complete_and_explained() -> None:
    """Days without a recorder are among them, and symbols that come and go."""
    result = whole(SEED, days=12)
    assert result.wrong == []
    assert result.lives >= 2
    assert result.series > len(LASTING)
    assert result.stored > 12_000
    assert result.refilled > 2_000
    assert result.explained > 100
    reasons = {text.partition(",")[0] for text in result.reasons}
    assert reasons >= {
        Reason.NOT_RECEIVED,
        Reason.RECORDER_DOWN,
        Reason.DELISTED,
        Reason.EXCHANGE_HAD_NONE,
    }


def test_the_same_seed_is_the_same_trace() -> None:
    first, again, other = whole(7, days=1), whole(7, days=1), whole(8, days=1)
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_no_order_of_a_set_is_in_the_trace() -> None:
    """Or a seed that finds something could not be run again: strings hash otherwise each time."""
    command = [sys.executable, "-m", "tests.simulation.year", "--days", "2", "--seeds", "7"]
    traces = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        [trace] = re.findall(r"trace (\w{12}),", told.stdout)
        traces.add(trace)
    assert len(traces) == 1


def test_a_month_of_weather_has_everything_that_can_go_wrong() -> None:
    """A fault that is new in the simulator is to be in the storm, too."""
    storm = faults(Random(SEED), START_MS + 90 * DAY_MS)
    assert {type(one) for one in storm} == {*FAULTS}
