"""What the user sees: log lines on stderr, in UTC."""

import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["log_lines"]

_WAITING_LINES = 10_000


class _NeverWaits(logging.handlers.QueueHandler):
    """Hands lines to another thread; where stderr does not take them, they are lost."""

    def enqueue(self, record: logging.LogRecord) -> None:
        # A stuck terminal or pipe must not hold the recorder up.
        with suppress(queue.Full):
            self.queue.put_nowait(record)


@contextmanager
def log_lines(*, debug: bool) -> Iterator[None]:
    """Write the package's log lines to stderr while the body runs, from a thread of their own."""
    lines = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    lines.setFormatter(formatter)
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_WAITING_LINES)
    handler = _NeverWaits(waiting)
    thread = logging.handlers.QueueListener(waiting, lines)
    package = logging.getLogger("kline_trio")
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if debug else logging.INFO)
    thread.start()
    try:
        yield
    finally:
        package.removeHandler(handler)
        thread.stop()
