"""What `status --live` prints of a running recorder's lake; tests/end_to_end has the rest."""

import attrs
import pytest

from kline_trio.commands.live import live_lines
from kline_trio.monitor.as_json import as_values
from kline_trio.recorder.statistics import LakeStatistics
from tests.monitor.observations import lake, statistics

SENT = "3,000 candles sent since the start"


def lake_line(found: LakeStatistics | None) -> str | None:
    values = {"verdict": "ok", "since_seconds": 5.0, "reasons": [], "pid": 7}
    values["statistics"] = as_values(attrs.evolve(statistics(), lake=found))
    return next((one for one in live_lines(values) if one.startswith("lake")), None)


def test_a_recorder_without_a_lake_has_no_line() -> None:
    assert lake_line(None) is None


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (lake(), f"lake: published 30 min ago, {SENT}"),
        (lake(publications=0), f"lake: nothing published for 30 min, {SENT}"),
        (
            lake(is_publishing=True, left=1),
            f"lake: published 30 min ago, {SENT}, publishing now, 1 candle to go",
        ),
        (
            lake(copies=1, copies_expected=2),
            f"lake: published 30 min ago, {SENT}, 1 of 2 recorders of this shard",
        ),
        (
            lake(problem="HTTP 403"),
            f"lake: published 30 min ago, {SENT}; the last attempt failed: HTTP 403",
        ),
        (
            lake(upkeep_problem="no answer"),
            f"lake: published 30 min ago, {SENT}; it could not be looked after: no answer",
        ),
    ],
)
def test_the_line_of_a_lake(found: LakeStatistics, line: str) -> None:
    assert lake_line(found) == line
