"""The progress of a command in a terminal, and that nothing else ever gets any of it."""

import logging
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kline_trio.commands import screen as module
from kline_trio.commands.progress import open_progress
from kline_trio.storage.step import Step
from tests.storage.support import child_environment, write_minutes

ERASE = "\r\x1b[J"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The reading end of a terminal that is stderr."""
    reader, writer = pty.openpty()
    monkeypatch.setattr(module, "_STDERR", writer)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    yield reader
    os.close(reader)
    os.close(writer)


def read_until(reader: int, text: str) -> str:
    """Everything up to the text, which must come within seconds."""
    found = ""
    os.set_blocking(reader, False)
    deadline = time.monotonic() + 20
    while text not in found:
        assert time.monotonic() < deadline, found
        try:
            found += os.read(reader, 65_536).decode().replace("\r\n", "\n")
        except BlockingIOError:
            time.sleep(0.01)
    return found


def test_a_step_is_drawn_and_at_the_end_erased(terminal: int) -> None:
    with open_progress() as progress:
        progress.show(Step("reading the journal"))
        assert read_until(terminal, "reading the journal").startswith(ERASE)
        progress.show(Step("a.pqt", 1, 4, "file"))
        assert "1 of 4 files" in read_until(terminal, "\x1b[1A\r")
    assert read_until(terminal, ERASE).endswith(ERASE)


def test_an_interrupt_leaves_a_clean_line(terminal: int) -> None:
    def interrupted() -> None:
        with open_progress() as progress:
            progress.show(Step("reading the journal"))
            read_until(terminal, "reading the journal")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_until(terminal, ERASE).endswith(ERASE)


def test_lines_are_printed_where_no_bar_is(terminal: int) -> None:
    with open_progress() as progress:
        progress.show(Step("reading the journal"))
        read_until(terminal, "reading the journal")
        with progress.hidden():
            assert read_until(terminal, ERASE).endswith(ERASE)
            time.sleep(0.5)  # more than enough to draw, if it did
            os.set_blocking(terminal, False)
            with pytest.raises(BlockingIOError):
                os.read(terminal, 100)
        assert "reading the journal" in read_until(terminal, "reading the journal")


def test_a_warning_is_a_line_above(terminal: int) -> None:
    with open_progress() as progress:
        progress.show(Step("reading the journal"))
        read_until(terminal, "reading the journal")
        logging.getLogger("kline_trio.storage").warning("a.pqt is damaged")
        found = read_until(terminal, "a.pqt is damaged\nreading the journal")
    assert f"{ERASE}a.pqt is damaged\n" in found


def test_a_command_that_ends_at_once_draws_nothing(terminal: int) -> None:
    with open_progress() as progress:
        progress.show(Step("reading the journal"))
    os.set_blocking(terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal, 100)


def test_a_terminal_that_takes_no_more_does_not_delay_the_work(terminal: int) -> None:
    """As after Ctrl-S: the steps go on, and so does the end."""
    writer = module._STDERR
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 1_000)
    os.set_blocking(writer, True)
    began = time.monotonic()
    with open_progress() as progress:
        for n in range(10):
            progress.show(Step(f"{n}"))
            time.sleep(0.05)
    assert time.monotonic() - began < 5
    os.set_blocking(terminal, False)
    read_until(terminal, ERASE)


LAYOUT = "{symbol}_{trade_type}_{time_interval}.pqt"
COMMANDS = {
    "check": ["check", "data"],
    "snapshot": ["snapshot", "data", "copy"],
    "relayout": ["relayout", "data", "--into", "copy", "--layout", LAYOUT],
    "merge": ["merge", "data", "data", "--into", "copy"],
    "export": ["export", "data", "--csv", "candles.csv"],
}
PRINTED = {
    "check": "checked 1 file, 5 rows, {size} bytes: all good\n",
    "snapshot": "copy: 1 file, 2 candles in the journal\n",
    "relayout": "copy: 1 series, 7 candles\n"
    "now swap data and copy, and set the layout in recorder.toml\n",
    "merge": "copy: 1 series, 7 candles\n"
    "the stores disagree on 0 candles; see docs/storage.md, Merging\n",
    "export": "candles.csv: 1 series, 7 candles\n",
}


def run(words: list[str], folder: Path, stderr: int, term: str) -> str:
    """Run a command; return its stdout."""
    command = [sys.executable, "-m", "kline_trio", *words]
    environment = {**child_environment(), "TERM": term}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=-1, stderr=stderr, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_terminal_stderr_stays_empty(command: str, tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    [path] = (tmp_path / "data").glob("*.pqt")
    reader, writer = os.pipe()
    out = run(COMMANDS[command], tmp_path, writer, "xterm")
    os.close(writer)
    assert out == PRINTED[command].format(size=f"{path.stat().st_size:,}")
    assert os.read(reader, 1_000) == b""
    os.close(reader)


def test_a_dumb_terminal_gets_no_progress(tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    reader, writer = pty.openpty()
    run(COMMANDS["check"], tmp_path, writer, "dumb")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    os.close(reader)
    os.close(writer)


def test_without_a_terminal_rich_is_not_loaded(tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    code = (
        "import sys\n"
        "from kline_trio.commands.cli import main\n"
        "assert main(['check', 'data']) == 0\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_environment(), stdout=-1, text=True,
        stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("False\n")
