"""Print the blocks of README and docs that the tests could not run, after all tests."""

from collections.abc import Iterator

import pytest

_PROPERTY = "cannot run here"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the blocks that have a marker, with their reasons."""
    found = sorted(_left_out(terminalreporter))
    if found:
        terminalreporter.section(f"blocks that cannot run here: {len(found)}")
        for text in found:
            terminalreporter.line(text)


def _left_out(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for report in reporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == _PROPERTY and report.when == "call":
                yield str(value)
