"""Stderr as a log with a panel below it: what a terminal gets, and what a pipe gets."""

import os
import pty
from collections.abc import Iterator

import pytest
from rich.text import Text

from kline_trio.commands import screen as module
from kline_trio.commands.screen import Screen


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The reading end of a terminal that is stderr."""
    reader, writer = pty.openpty()
    os.set_blocking(reader, False)
    monkeypatch.setattr(module, "_STDERR", writer)
    monkeypatch.setenv("TERM", "xterm")
    yield reader
    os.close(reader)
    os.close(writer)


def read(reader: int) -> str:
    return os.read(reader, 65_536).decode().replace("\r\n", "\n")


def test_lines_scroll_above_the_panel_and_the_cursor_waits_at_its_begin(terminal: int) -> None:
    screen = Screen(may_draw=True)
    screen.show(lambda: Text("one\ntwo\nthree"))
    screen.write(["a line"])
    assert read(terminal) == "\r\x1b[Ja line\none\ntwo\nthree\x1b[2A\r"
    screen.write([])
    assert read(terminal) == "\r\x1b[Jone\ntwo\nthree\x1b[2A\r"


def test_the_cursor_waits_at_the_begin_of_a_panel_of_one_line_too(terminal: int) -> None:
    """Else a terminal that became narrower would keep the first half of the line."""
    screen = Screen(may_draw=True)
    screen.show(lambda: Text("one"))
    screen.write([])
    assert read(terminal) == "\r\x1b[Jone\r"


def test_the_panel_is_hidden_while_others_print(terminal: int) -> None:
    screen = Screen(may_draw=True)
    screen.show(lambda: Text("one"))
    with screen.hidden():
        pass  # nothing is drawn yet, so nothing is erased
    screen.write([])
    assert read(terminal) == "\r\x1b[Jone\r"
    with screen.hidden():
        assert read(terminal) == "\r\x1b[J"
    screen.write([])
    assert read(terminal) == "\r\x1b[Jone\r"


def test_at_the_end_the_panel_is_gone(terminal: int) -> None:
    screen = Screen(may_draw=True)
    screen.show(lambda: Text("one"))
    screen.write(["a line"])
    read(terminal)
    screen.close()
    assert read(terminal) == "\r\x1b[J"
    screen.write(["later"])
    assert read(terminal) == "later\n"


def test_without_a_panel_nothing_but_lines_is_written(terminal: int) -> None:
    screen = Screen(may_draw=True)
    screen.write(["a line"])
    screen.close()
    assert read(terminal) == "a line\n"


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_no_panel(
    terminal: int, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    if term:
        monkeypatch.setenv("TERM", term)
    else:
        monkeypatch.delenv("TERM")
    screen = Screen(may_draw=True)
    assert not screen.is_terminal
    screen.show(lambda: Text("one"))
    screen.write(["a line"])
    assert read(terminal) == "a line\n"


def test_a_pipe_gets_no_panel_and_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(module, "_STDERR", writer)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(may_draw=True)
    screen.show(lambda: Text("one", "red"))
    screen.write(["a line"])
    screen.close()
    os.close(writer)
    assert os.read(reader, 1_000) == b"a line\n"
    os.close(reader)


def test_a_stderr_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(module, "_STDERR", writer)
    Screen(may_draw=True).write(["a line"])
    os.close(writer)
