"""Stderr as a log with a panel below it, if it is a terminal."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    # Loaded when there is a panel: most recorders write to no terminal.
    from rich.console import Console, RenderableType

_STDERR = 2
_ERASE = "\r\x1b[J"
"""From the begin of this line to the end of the screen."""
_UP = "\x1b[{}A"


@attrs.define(eq=False)
class Screen:
    """Writes lines to stderr, and keeps a panel below them."""

    may_draw: bool
    """Whether a terminal gets a panel at all."""
    _panel: "Callable[[], RenderableType] | None" = attrs.field(init=False, default=None)
    _console: "Console | None" = attrs.field(init=False, default=None)
    _is_drawn: bool = attrs.field(init=False, default=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    """Held while one thread writes."""

    @property
    def is_terminal(self) -> bool:
        """Whether a panel can be drawn."""
        return self.may_draw and os.isatty(_STDERR) and os.environ.get("TERM", "dumb") != "dumb"

    def show(self, panel: "Callable[[], RenderableType]") -> None:
        """Draw a panel from now on, whenever lines are written; if this is a terminal.

        Args:
          panel: returns what to draw. It is called in the thread that writes.
        """
        if self.is_terminal:
            self._panel = panel

    def write(self, lines: Sequence[str]) -> None:
        """Write lines above the panel, and draw the panel anew. Errors of stderr are ignored."""
        text = "".join(f"{line}\n" for line in lines)
        with self._lock:
            if self._panel is not None:
                below = self._drawn(self._panel)
                # The cursor waits at the panel's begin. A terminal that becomes narrower breaks
                # the panel's lines, and only from the begin on all of them can be erased.
                up = _UP.format(below.count("\n")) if "\n" in below else ""
                text = f"{_ERASE}{text}{below}{up}\r"
                self._is_drawn = True
            if text:
                _write(text)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the panel while the body prints. The next `write` draws it below."""
        with self._lock:
            self._erase()
            yield

    def close(self) -> None:
        """Erase the panel. Later lines have none."""
        with self._lock:
            self._panel = None
            self._erase()

    def _erase(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
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
