"""A finding of `doctor`: what was checked, the verdict, and what to do; as a line and as JSON."""

import enum
from collections.abc import Iterable

import attrs

from kline_trio.counting import counted
from kline_trio.quoting import one_line


class Verdict(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """The recorder works, and perhaps not as it is meant to."""
    ERROR = "error"
    """The recorder cannot do a part of its work."""


@attrs.frozen
class Finding:
    """The result of one check of one thing."""

    check: str
    """The kind of check, such as `route`."""
    subject: str
    """The checked thing: a host, a URL, a path, a symbol."""
    verdict: Verdict
    message: str
    """What was found, in numbers where there are any."""
    advice: str = ""
    """What to do; empty if there is nothing to do."""


def softened(findings: Iterable[Finding], relief: str) -> tuple[Finding, ...]:
    """Return the findings, with errors as warnings if the text says why they do less harm."""
    if not relief:
        return tuple(findings)
    return tuple(
        attrs.evolve(one, verdict=Verdict.WARNING, message=f"{one.message}; {relief}")
        if one.verdict is Verdict.ERROR
        else one
        for one in findings
    )


def text_of(finding: Finding, before: Finding | None = None) -> str:
    """Return the line of a finding, and the line of its advice if there is one.

    Advice that stands below the finding before is not repeated.
    """
    line = f"{finding.verdict:<8} {finding.check:<8} {finding.subject}: {finding.message}"
    is_new = finding.advice and (before is None or finding.advice != before.advice)
    return one_line(line) + (f"\n{'':<18}-> {one_line(finding.advice)}" if is_new else "")


def json_of(finding: Finding) -> dict[str, str]:
    """Return a finding for programs. The keys stay the same in later versions."""
    return attrs.asdict(finding)


def summary(findings: Iterable[Finding]) -> str:
    """Return how many findings have each verdict."""
    verdicts = [one.verdict for one in findings]
    warnings, errors = verdicts.count(Verdict.WARNING), verdicts.count(Verdict.ERROR)
    return (
        f"{verdicts.count(Verdict.OK)} ok, {counted(warnings, 'warning')},"
        f" {counted(errors, 'error')}"
    )
