"""A command on stores that is killed or interrupted changes no input, and can be repeated."""

import json
import subprocess
import sys

import pytest

from tests.storage.faults.commands import MODES
from tests.storage.support import child_environment


# A folder that was made and is still empty is then "in the way".
@pytest.mark.parametrize("mode", MODES)
def test_merge_relayout_and_repair_can_be_stopped_at_any_call(mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.faults.commands", mode, "80"],
        env=child_environment(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-8_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["first"] == []
    assert told["points"] >= 220
    assert told["stopped"] >= 0.9 * told["points"]
