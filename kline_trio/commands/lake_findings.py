"""The findings of `doctor` about the lake: pure, from a report."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kline_trio.commands.finding import Finding, Verdict
from kline_trio.counting import counted
from kline_trio.duration import duration_text

if TYPE_CHECKING:
    from kline_trio.lake.inspection import LakeReport

_CHECK = "lake"
_MOST_CLOCK_ERROR_SECONDS = 30
"""`vacuum` refuses to work from five minutes on."""
_MOST_SHOWN = 3
_WAITS = "the recorder goes on, and publishes later"


def judge_lake(report: "LakeReport") -> tuple[Finding, ...]:
    """Return the findings about a lake, in the order in which they were made."""
    return tuple(_findings(report))


def lake_fault(url: str, problem: str, advice: str) -> Finding:
    """Return the finding about a lake that cannot be examined."""
    return Finding(_CHECK, url, Verdict.ERROR, f"{problem}; {_WAITS}", advice)


def _findings(report: "LakeReport") -> Iterator[Finding]:
    url = report.url

    def fault(problem: str, advice: str) -> Finding:
        return lake_fault(url, problem.removeprefix(f"{url}: "), advice)

    if report.is_new_folder:
        yield _good(url, "the first publication makes this folder")
        return
    if report.unconfigured is not None:
        yield fault(
            report.unconfigured,
            "correct [lake] in recorder.toml, or the environment; a folder must be on a local disk",
        )
        return
    if report.no_credentials is not None:
        advice = "check that the bucket exists, and that these credentials may list, read and write"
        yield fault(report.no_credentials, advice)
        return
    if report.unreachable is not None:
        yield fault(report.unreachable, "check url and endpoint of [lake], and the network")
        return
    yield _good(url, f"reachable, {_content(report)}")
    for problem in report.wrong_tables:
        yield fault(problem, "name another place in [lake] url, or upgrade kline_trio")
    if report.foreign:
        shown = ", ".join(report.foreign[:_MOST_SHOWN])
        more = "" if len(report.foreign) <= _MOST_SHOWN else " and more"
        message = f"holds other things too: {shown}{more}; they are left alone"
        advice = "give the lake a place of its own, as s3://bucket/klines"
        yield Finding(_CHECK, url, Verdict.WARNING, message, advice)
    if report.wrong_tables:
        return  # nothing was written there
    if report.unwritable is not None:
        advice = "allow these credentials to write and delete there, or make room"
        yield fault(report.unwritable, advice)
        return
    if (error := report.clock_error_seconds) is not None:
        yield _clock(url, error)
    if report.unsafe is not None:
        yield fault(report.unsafe, "use another object store")
    else:
        yield _good(url, "writable, and a write is refused if its condition does not hold")


def _good(url: str, message: str) -> Finding:
    return Finding(_CHECK, url, Verdict.OK, message)


def _content(report: "LakeReport") -> str:
    if report.tables:
        return f"{counted(len(report.tables), 'table')} of this version"
    return "no table yet: the first publication makes them"


def _clock(url: str, error: float) -> Finding:
    if abs(error) <= _MOST_CLOCK_ERROR_SECONDS:
        return _good(
            url, f"this machine's clock and the object store's differ by {abs(error):.0f} s"
        )
    direction = "ahead of" if error > 0 else "behind"
    message = f"this machine's clock is {duration_text(abs(error))} {direction} the object store's"
    return Finding(_CHECK, url, Verdict.WARNING, message, "let NTP set the clock")
