"""Stderr as a log with a panel below it, if it is a terminal."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    # Loaded when there is a panel: most recorders write to no terminal.
    from rich.console import Console, RenderableType

_STDERR = 2
_ERASE = "\r\x1b[J"
"""From the begin of this line to the end of the screen."""
_UP = "\x1b[{}A\r"


@attrs.define(eq=False)
class Screen:
    """Writes lines to stderr, and keeps a panel below them. One thread at a time may write."""

    may_draw: bool
    """Whether a terminal gets a panel at all."""
    _panel: "Callable[[], RenderableType] | None" = attrs.field(init=False, default=None)
    _console: "Console | None" = attrs.field(init=False, default=None)
    _is_drawn: bool = attrs.field(init=False, default=False)

    @property
    def is_terminal(self) -> bool:
        """Whether a panel can be drawn."""
        return self.may_draw and os.isatty(_STDERR) and os.environ.get("TERM", "dumb") != "dumb"

    def show(self, panel: "Callable[[], RenderableType]") -> None:
        """Draw a panel from now on, whenever lines are written; if this is a terminal.

        Args:
          panel: returns what to draw. It is called in the log's thread.
        """
        if self.is_terminal:
            self._panel = panel

    def write(self, lines: Sequence[str]) -> None:
        """Write lines above the panel, and draw the panel anew. Errors of stderr are ignored."""
        text = "".join(f"{line}\n" for line in lines)
        if self._panel is not None:
            below = self._drawn(self._panel)
            # One line is left out of the count: the cursor stays in the panel's last line.
            text = f"{_ERASE}{text}{below}" + _UP.format(below.count("\n")) * ("\n" in below)
            self._is_drawn = True
        if text:
            _write(text)

    def close(self) -> None:
        """Erase the panel. Later lines have none."""
        if self._is_drawn:
            self._panel = None
            _write(_ERASE)

    def _drawn(self, panel: "Callable[[], RenderableType]") -> str:
        from rich.console import Console, ConsoleDimensions

        if self._console is None:
            # It knows NO_COLOR and TERM.
            self._console = Console(stderr=True)
        # Not the size in COLUMNS and LINES, which a shell may have exported long ago.
        with suppress(OSError):
            columns, rows = os.get_terminal_size(_STDERR)
            if columns and rows:  # a serial line has no size
                self._console.size = ConsoleDimensions(columns, rows)
        with self._console.capture() as found:
            self._console.print(panel())
        lines = found.get().rstrip("\n").split("\n")
        return "\n".join(lines[: self._console.height - 1])


def _write(text: str) -> None:
    # Not sys.stderr: a thread that blocks in it holds its lock, and the interpreter would wait for
    # the lock at its end.
    with suppress(OSError):
        os.write(_STDERR, text.encode(errors="backslashreplace"))
