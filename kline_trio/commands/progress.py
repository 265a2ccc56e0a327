"""How far a command is: its present step in the last lines of stderr, if that is a terminal."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import attrs

from kline_trio.commands.screen import Screen
from kline_trio.storage.step import Step

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kline_trio.commands.bar import Bar

_DRAW_SECONDS = 0.2
_LAST_SECONDS = 2.0
"""The most time to wait at the end for a terminal that is blocked."""


@attrs.define(eq=False)
class Progress:
    """The present step of a command, which is drawn whenever its screen is."""

    screen: Screen
    _present: tuple[Step, float] | None = attrs.field(init=False, default=None)
    """The step and when it began."""
    _bar: "Bar | None" = attrs.field(init=False, default=None)

    def show(self, step: Step) -> None:
        """Show a step from now on. This never waits for the terminal."""
        is_first = self._present is None
        self._present = (step, time.monotonic())
        if is_first:
            self.screen.show(self._draw)

    def hidden(self) -> AbstractContextManager[None]:
        """Show nothing while the body prints lines."""
        return self.screen.hidden()

    def _draw(self) -> "RenderableType":
        # Imported here: it loads rich.
        from kline_trio.commands.bar import Bar

        assert self._present is not None
        if self._bar is None:
            self._bar = Bar()
        return self._bar.draw(*self._present, time.monotonic())


class _LinesAbove(logging.Handler):
    """Writes warnings and errors above what is drawn, as a command without a log prints them."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message of a record."""
        self.screen.write([self.format(record)])


@contextmanager
def open_progress(*, may_draw: bool = True) -> Iterator[Progress]:
    """Draw the steps of the body, a few times a second, in a separate thread.

    Nothing is drawn in the first moment, nor if stderr is no terminal. At the end, also of an
    interrupt, the lines are erased.

    Args:
      may_draw: whether a terminal gets anything at all.
    """
    screen = Screen(may_draw=may_draw)
    if not screen.is_terminal:
        yield Progress(screen)
        return
    is_over = threading.Event()

    def draw() -> None:
        while not is_over.wait(_DRAW_SECONDS):
            screen.write([])
        screen.close()

    # A daemon: a terminal that is blocked must not keep the command from its end.
    thread = threading.Thread(target=draw, daemon=True)
    package, handler = logging.getLogger("kline_trio"), _LinesAbove(screen)
    package.addHandler(handler)
    thread.start()
    try:
        yield Progress(screen)
    finally:
        package.removeHandler(handler)
        is_over.set()
        thread.join(_LAST_SECONDS)
