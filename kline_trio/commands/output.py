"""What the user sees: log lines in UTC, times, and progress, where somebody looks on."""

import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from kline_trio.quoting import one_line

__all__ = ["log_lines", "show_problems", "show_progress", "time_text"]

_STDERR = 2

_WAITING_LINES = 10_000

_LAST_LINES_SECONDS = 2.0
"""How long the end waits for a stderr that does not take its lines."""


class _NeverWaits(logging.handlers.QueueHandler):
    """Hands lines to another thread; a line that stderr does not take is lost."""

    def enqueue(self, record: logging.LogRecord) -> None:
        # A stuck terminal or pipe must not hold the recorder up.
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _Lines(logging.Formatter):
    """Makes one printable line of each record: others may have written a part of it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))


@contextmanager
def log_lines(*, debug: bool) -> Iterator[None]:
    """Write the package's log lines to stderr while the body runs, from a thread of their own."""
    formatter = _Lines("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_WAITING_LINES)
    handler = _NeverWaits(waiting)

    def write() -> None:
        # Neither a StreamHandler nor sys.stderr: a thread stuck in one holds its lock, and the
        # interpreter's end would wait for that.
        while (record := waiting.get()) is not None:
            with suppress(OSError):
                os.write(_STDERR, f"{formatter.format(record)}\n".encode(errors="backslashreplace"))

    # Not logging's QueueListener, whose stop() waits without limit and fails on a full queue.
    thread = threading.Thread(target=write, daemon=True)
    package = logging.getLogger("kline_trio")
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if debug else logging.INFO)
    thread.start()
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        with suppress(queue.Full):
            waiting.put(None, timeout=_LAST_LINES_SECONDS)
        thread.join(_LAST_LINES_SECONDS)


def time_text(time_ms: int) -> str:
    """Return a moment as ISO 8601, UTC; as a number if no calendar has it."""
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError):
        return f"{time_ms} ms"


def show_progress(text: str) -> None:
    """Show a line on stderr in the place of the last one, if that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def show_problems(problems: Collection[str]) -> int:
    """Print a line on stderr for each problem. Return the exit status: 1 if there are any."""
    for problem in problems:
        print(one_line(problem), file=sys.stderr)
    return 1 if problems else 0
