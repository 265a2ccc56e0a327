"""The log on stderr: its forms, and what happens when it is too much or nobody reads it."""

import json
import logging
import os
import sys
from collections.abc import Callable

import pytest

from kline_trio.commands.log import Folding, JournaldFormatter, log_lines

logger = logging.getLogger("kline_trio.test")


def record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("kline_trio.test", level, "", 0, text, None, None)


@pytest.mark.parametrize(
    "foreign",
    ["HTTP 407 \x1b]0;pwned\x07", "first\n2033-01-01 00:00:00Z ERROR   second", "\u202etxt.exe"],
)
def test_foreign_text_cannot_steer_the_terminal_nor_forge_a_line(
    capfd: pytest.CaptureFixture[str], foreign: str
) -> None:
    with log_lines():
        logger.warning("spot: not reached: %s", foreign)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "spot: not reached: " in lines[0]


def test_a_line_has_a_bound(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines():
        logger.warning("no answer: %s", "x" * 1_000_000)
    line = capfd.readouterr().err
    assert "no answer: xxx" in line
    assert len(line) < 5_000


def test_json_is_an_object_a_line_with_keys_that_stay(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines(log_format="json"):
        logger.info("spot: %s\nand more", "übel")
        try:
            raise LookupError("lost")
        except LookupError:
            logger.exception("a bug")
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert first.keys() == {"time", "level", "logger", "message"}
    assert (first["level"], first["logger"]) == ("info", "kline_trio.test")
    assert first["message"] == "spot: übel\nand more"
    assert first["time"].endswith("Z")
    assert "LookupError: lost" in second["error"]


def test_an_error_of_the_text_log_stays_on_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines():
        try:
            raise LookupError("lost")
        except LookupError:
            logger.exception("a bug")
    [line] = capfd.readouterr().err.splitlines()
    assert "ERROR   a bug" in line
    assert "LookupError: lost" in line


def test_quiet_leaves_warnings_and_errors(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines(quiet=True):
        logger.info("one")
        logger.warning("two")
    [line] = capfd.readouterr().err.splitlines()
    assert line.endswith("WARNING two")


@pytest.mark.parametrize(
    ("level", "begin"), [(logging.DEBUG, "<7>"), (logging.INFO, "<6>"), (logging.ERROR, "<3>")]
)
def test_journald_gets_a_priority_and_no_second_time(level: int, begin: str) -> None:
    assert JournaldFormatter().format(record("spot: lost", level)) == f"{begin}spot: lost"


def test_journald_is_known_by_its_stream(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(sys.__stderr__.fileno()) if sys.__stderr__ else os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{os.fstat(2).st_dev}:{os.fstat(2).st_ino}")
    with log_lines():
        logger.info("hello")
    assert found is not None
    assert capfd.readouterr().err == "<6>hello\n"
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    with log_lines():
        logger.info("hello")
    assert capfd.readouterr().err.endswith("Z INFO    hello\n")


def test_a_warning_that_comes_again_within_a_minute_is_counted() -> None:
    folding = Folding()
    written = [not folding.is_repeated(record("spot: lost"), float(now)) for now in range(10)]
    assert written == [True] + [False] * 9
    assert not list(folding.due(59.0))
    [again] = folding.due(60.0)
    assert again.getMessage() == "spot: lost (9 more times)"
    assert not folding.is_repeated(record("spot: lost"), 61.0)


def test_other_warnings_and_plain_lines_are_not_folded() -> None:
    folding = Folding()
    for text, level in (("one", logging.WARNING), ("two", logging.WARNING), ("one", logging.ERROR)):
        assert not folding.is_repeated(record(text, level), 0.0)
    for _ in range(3):
        assert not folding.is_repeated(record("three", logging.INFO), 0.0)
    assert not list(folding.due(100.0))


def test_thousands_of_different_warnings_take_no_more_memory() -> None:
    folding = Folding()
    for number in range(5_000):
        assert not folding.is_repeated(record(f"number {number}"), 0.0)
    assert len(folding._seen) <= 1_000


def test_folded_warnings_are_written_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines():
        for _ in range(4):
            logger.warning("spot: lost")
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition("WARNING ")[2] for line in lines] == [
        "spot: lost",
        "spot: lost (3 more times)",
    ]


def test_while_nobody_reads_lines_are_lost_and_counted_and_warnings_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("kline_trio.commands.screen._STDERR", writer)
    said = bytearray()
    package = logging.getLogger("kline_trio")
    package.propagate = False  # pytest would keep all lines
    try:
        with log_lines():
            # The pipe takes 64 KiB.
            for number in range(30_000):
                logger.info("line %d", number)
            logger.warning("the last one")
            os.set_blocking(reader, False)
            drain(reader, said, lambda: b"were lost" in said)
        drain(reader, said, lambda: True)
    finally:
        package.propagate = True
        os.close(writer)
        os.close(reader)
    lines = said.decode().splitlines()
    assert any(line.endswith("the last one") for line in lines)
    [lost] = [line for line in lines if "log lines were lost" in line]
    count = int(lost.split()[3].replace(",", ""))
    assert len([line for line in lines if "INFO" in line]) + count == 30_000


def drain(reader: int, said: bytearray, is_enough: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            said += os.read(reader, 1 << 20)
        except BlockingIOError:
            if is_enough():
                return
            time.sleep(0.01)
