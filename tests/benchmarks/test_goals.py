"""What a benchmark may call met, not met, or not judged."""

import math
from pathlib import Path

import pytest

from benchmarks.all import verdict_in
from benchmarks.append import goals_met as append_goals
from benchmarks.appending import Cost
from benchmarks.calendar import Answer
from benchmarks.calendar import goals_met as calendar_goals
from benchmarks.contestants import OURS
from benchmarks.machine import conclude
from benchmarks.memory import Held
from benchmarks.memory import goals_met as memory_goals
from benchmarks.monitor import Cost as MonitorCost
from benchmarks.monitor import goals_met as monitor_goals
from benchmarks.paced import Paced
from benchmarks.page import Figure
from benchmarks.page import goals_met as page_goals
from benchmarks.receive import goals_met
from benchmarks.saturated import Row, Run


def paced(*memory_mb: float, of_a_core: float = 0.04) -> Paced:
    return Paced(0.02, 210_000, 3_000, of_a_core, 0.2, list(memory_mb))


def test_growth_takes_two_minutes_to_tell() -> None:
    """The end of the only minute is no growth against itself."""
    assert paced(80, 150).growth_mb is None
    assert paced(80, 150, 151.5).growth_mb == 1.5
    assert paced(80, 150, 170, 152).growth_mb == 2


@pytest.mark.parametrize(
    ("one", "goals"),
    [
        (paced(80, 150), [True, True]),
        (paced(80, 150, 160), [True, True, True]),
        (paced(80, 150, 161), [True, True, False]),
        (paced(80, 251), [True, False]),
        (paced(80, 150, of_a_core=0.051), [False, True]),
    ],
    ids=["a minute", "flat", "growing", "large", "dear"],
)
def test_what_paced_may_take(one: Paced, goals: list[bool]) -> None:
    assert one.goals == goals


def row(name: str, sockets: str, *frame_us: float, decodes: bool = True) -> Row:
    runs = [Run(each, 1e6 / each, 1.0, 0.05, 0) for each in frame_us]
    return Row(name, sockets, 60, decodes, runs)


def test_five_times_cheaper_is_a_goal_of_plain_sockets(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that do not decode, and those that did not run, are no measure."""
    others = [row("limit", "plain", 0.2, decodes=False), row("absent", "plain")]
    others += [row("dear", "plain", 50.0), row("best", "plain", 7.5, 7.0)]
    assert goals_met([row(OURS, "plain", 1.5, 1.4), *others], "plain") == [True, True]
    assert goals_met([row(OURS, "plain", 1.5), *others], "plain") == [True, False]
    assert capsys.readouterr().out.splitlines() == [
        "plain: 1.40 µs a frame, at most 1.5: met",
        "plain: 5.0 times cheaper than best, at least 5: met",
        "plain: 1.50 µs a frame, at most 1.5: met",
        "plain: 4.7 times cheaper than best, at least 5: not met",
    ]


def test_over_tls_the_ratio_is_told_and_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert goals_met([row(OURS, "TLS", 3.6), row("best", "TLS", 7.9)], "TLS") == [False]
    assert capsys.readouterr().out.splitlines() == [
        "TLS: 3.60 µs a frame, at most 3.5: not met",
        "TLS: 2.2 times cheaper than best: not judged, for what OpenSSL takes is in both",
    ]


def test_without_the_recorder_nothing_is_judged() -> None:
    """`--only` may leave it out."""
    assert goals_met([row("best", "plain", 7.0)], "plain") == []


@pytest.mark.parametrize(
    ("goals", "told", "status"),
    [([], "not judged", 0), ([True, True], "met", 0), ([True, False], "not met", 1)],
)
def test_what_nobody_judged_is_not_called_met(
    tmp_path: Path, goals: list[bool], told: str, status: int
) -> None:
    """The table of all benchmarks tells apart what an exit status cannot."""
    file = tmp_path / "result.json"
    assert not verdict_in(file)
    assert conclude([{"rows": 1}], file, goals) == status
    assert verdict_in(file) == told


def test_layouts_are_to_be_cheaper_than_the_original_and_flat_but_for_one_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    of_a_candle_ms = {
        "original": {"a month": 60.0, "a year": 500.0, "5 years": 2_000.0},
        "one file": {"a month": 0.5, "a year": 1.0, "5 years": 3.0},
        "months": {"a month": 0.5, "a year": 0.5, "5 years": 0.5},
        "dates": {"a month": 1.0, "a year": 2.0, "5 years": 1.6},
    }
    table = {
        (history, layout): Cost(cpu_ms, 1.0, 1.0)
        for layout, costs in of_a_candle_ms.items()
        for history, cpu_ms in costs.items()
    }
    assert append_goals(table) == [True, True, True, False, False]
    one, months, dates = capsys.readouterr().out.splitlines()
    assert one == (
        "one file: 500 times cheaper than the original at a year (at least 300);"
        " from a month to 5 years 6.00 times (not judged): met"
    )
    assert months.endswith("1.00 times (at most 1.5): met")
    assert dates.endswith(": not met")


def test_a_series_is_what_the_line_through_all_processes_rises_by(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert memory_goals([Held(100, 1, 120.5), Held(1_100, 2, 125.5)]) == [True]
    assert memory_goals([Held(100, 1, 120), Held(1_100, 2, 131)]) == [False]
    assert capsys.readouterr().out.splitlines() == [
        "120 MB, and 5.0 kB for each series (at most 10): met",
        "119 MB, and 11.0 kB for each series (at most 10): not met",
    ]


def test_a_few_series_are_lost_in_what_a_process_takes() -> None:
    assert memory_goals([Held(10, 1, 120)]) == []
    assert memory_goals([Held(10, 1, 120), Held(40, 1, 125)]) == []


@pytest.mark.parametrize(
    ("watched", "scraped", "goals"),
    [(1.019, 0.019, [True, True]), (1.03, 0.019, [False, True]), (0.9, 0.021, [True, False])],
)
def test_what_the_monitor_may_cost(watched: float, scraped: float, goals: list[bool]) -> None:
    """Labels for each series are a choice of the user, and not judged."""
    labelled = MonitorCost("labelled", 0.0, 0.5)
    table = [MonitorCost("receive", 1.0, watched), MonitorCost("idle", 0.0, scraped), labelled]
    assert monitor_goals(table) == goals


def test_what_an_answer_to_the_page_may_cost() -> None:
    """What only some systems tell is not judged on the others."""
    costs = [(20.0, 20), (20.1, 20), (math.nan, 50), (900.0, None)]
    table = [Answer("rows", cost, "ms", most) for cost, most in costs]
    assert calendar_goals(table) == [True, False]


def test_the_page_stays_below_its_limits_and_what_may_not_grow_at_all_does_not() -> None:
    """Numbers without a limit are only shown."""
    table = [
        Figure("first paint", 999.9, 1_000.0, "ms"),
        Figure("on the wire", 400.0, 400.0, "kB"),
        Figure("slowest", 5_000.0, None, "ms"),
        Figure("tasks", 0, 0.0, "more"),
        Figure("descriptors", 1, 0.0, "more"),
    ]
    assert page_goals(table) == [True, False, True, False]
