"""The findings of `doctor` about a lake, and what they advise."""

import attrs
import pytest

from kline_trio.commands.finding import Verdict, text_of
from kline_trio.commands.lake_findings import judge_lake, lake_fault
from kline_trio.lake.inspection import LakeReport

URL = "s3://bucket/klines"
GOOD = LakeReport(url=URL, tables=("candles", "coverage"), clock_error_seconds=0.0)


def lines(report: LakeReport) -> list[str]:
    return [" ".join(text_of(one).split()) for one in judge_lake(report)]


def test_a_good_lake_has_three_good_lines() -> None:
    assert lines(GOOD) == [
        f"ok lake {URL}: reachable, 2 tables of this version",
        f"ok lake {URL}: this machine's clock and the object store's differ by 0 s",
        f"ok lake {URL}: writable, and a write is refused if its condition does not hold",
    ]


def test_a_lake_that_is_not_there_yet_is_good_too() -> None:
    assert "no table yet" in lines(attrs.evolve(GOOD, tables=()))[0]
    [line] = lines(LakeReport(url="/data/lake", is_new_folder=True))
    assert line == "ok lake /data/lake: the first publication makes this folder"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("unconfigured", "correct [lake]"),
        ("no_credentials", "may list, read and write"),
        ("unreachable", "check url and endpoint"),
    ],
)
def test_the_first_problem_is_the_only_line(name: str, advice: str) -> None:
    report = LakeReport(url=URL, **{name: f"{URL}: it is so"})  # type: ignore[arg-type]
    [finding] = judge_lake(report)
    assert finding.verdict is Verdict.ERROR
    assert finding.message == "it is so; the recorder goes on, and publishes later"
    assert advice in finding.advice


def test_a_lake_that_cannot_be_written_is_not_called_safe() -> None:
    found = judge_lake(LakeReport(url=URL, unwritable="denied"))
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.ERROR]
    assert "allow these credentials" in found[1].advice


def test_a_server_that_ignores_conditions_is_an_error() -> None:
    found = judge_lake(attrs.evolve(GOOD, unsafe="ignores If-Match"))
    assert found[-1].verdict is Verdict.ERROR
    assert "another object store" in found[-1].advice


@pytest.mark.parametrize(
    ("error", "words"), [(31.0, "31 s ahead of"), (-7_300.0, "2 h 1 min behind")]
)
def test_a_wrong_clock_is_a_warning(error: float, words: str) -> None:
    found = judge_lake(attrs.evolve(GOOD, clock_error_seconds=error))
    assert found[1].verdict is Verdict.WARNING
    assert words in found[1].message
    assert judge_lake(attrs.evolve(GOOD, clock_error_seconds=-29.0))[1].verdict is Verdict.OK


def test_foreign_things_are_a_warning_and_wrong_tables_errors() -> None:
    report = attrs.evolve(GOOD, foreign=("a", "b", "c", "d"), wrong_tables=("candles: newer",))
    found = judge_lake(report)
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.ERROR, Verdict.WARNING]
    assert "a, b, c and more" in found[2].message
    assert "upgrade" in found[1].advice


def test_a_fault_says_that_recording_goes_on() -> None:
    assert "the recorder goes on" in lake_fault(URL, "no answer", "try again").message
