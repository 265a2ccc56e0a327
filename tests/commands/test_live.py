"""What `status --live` prints of a running recorder's lake; tests/end_to_end has the rest."""

from collections.abc import Mapping
from typing import Any

import pytest

from kline_trio.commands.live import live_lines
from kline_trio.monitor.as_json import observation_values
from kline_trio.recorder.statistics import LakeStatistics
from tests.monitor.observations import lake, observation


def lake_line(found: LakeStatistics | None) -> str | None:
    seen = observation(lake=found)
    values = observation_values(seen.statistics, seen.verdict(), None)
    answer: Mapping[str, Any] = values
    return next((one for one in live_lines(answer) if one.startswith("lake")), None)


def test_a_recorder_without_a_lake_has_no_line() -> None:
    assert lake_line(None) is None


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (lake(), "lake: published 30 min ago, 3,000 candles sent since the start"),
        (
            lake(publications=0, rows=0),
            "lake: nothing published for 30 min, 0 candles sent since the start",
        ),
        (
            lake(is_publishing=True, left=1, copies=1, copies_expected=2),
            "lake: published 30 min ago, 3,000 candles sent since the start, publishing now,"
            " 1 candle to go, 1 of 2 recorders of this shard",
        ),
        (
            lake(problem="HTTP 403"),
            "lake: published 30 min ago, 3,000 candles sent since the start;"
            " the last attempt failed: HTTP 403",
        ),
    ],
)
def test_the_line_of_a_lake(found: LakeStatistics, line: str) -> None:
    assert lake_line(found) == line
