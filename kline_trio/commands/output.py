"""Output for the user: log lines, progress and problems."""

import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from kline_trio.quoting import one_line

_STDERR = 2

_WAITING_LINES = 10_000

_LAST_LINES_SECONDS = 2.0
"""The most time to wait at the end for a stderr that is blocked."""


class _NonblockingHandler(logging.handlers.QueueHandler):
    """Hands records to another thread. If stderr is blocked, records are lost."""

    def enqueue(self, record: logging.LogRecord) -> None:
        # A blocked terminal or pipe must not delay the recorder.
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _LineFormatter(logging.Formatter):
    """Makes one printable line of each record, which may quote foreign text."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))


@contextmanager
def log_lines(*, debug: bool) -> Iterator[None]:
    """Write the package's log lines to stderr while the body runs, in a separate thread."""
    formatter = _LineFormatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_WAITING_LINES)
    handler = _NonblockingHandler(waiting)

    def write() -> None:
        # Not a StreamHandler or sys.stderr: a thread that blocks in one holds its lock, and the
        # interpreter would wait for the lock at its end.
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


def show_progress(text: str) -> None:
    """If stderr is a terminal, replace its last line by a text."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def show_problems(problems: Collection[str]) -> int:
    """Print a line on stderr for each problem. Return the exit status: 1 if there are any."""
    for problem in problems:
        print(one_line(problem), file=sys.stderr)
    return 1 if problems else 0
