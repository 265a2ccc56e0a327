"""Log lines on stderr: one line each, whatever others have put into them."""

import logging

import pytest

from kline_trio.commands.output import log_lines

logger = logging.getLogger("kline_trio.test")


@pytest.mark.parametrize(
    "foreign",
    ["HTTP 407 \x1b]0;pwned\x07", "first\n2033-01-01 00:00:00Z ERROR   second", "\u202etxt.exe"],
)
def test_foreign_text_cannot_steer_the_terminal_nor_forge_a_line(
    capfd: pytest.CaptureFixture[str], foreign: str
) -> None:
    with log_lines(debug=False):
        logger.warning("spot: not reached: %s", foreign)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "spot: not reached: " in lines[0]


def test_a_line_has_a_bound(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines(debug=False):
        logger.warning("no answer: %s", "x" * 1_000_000)
    line = capfd.readouterr().err
    assert "no answer: xxx" in line
    assert len(line) < 5_000
