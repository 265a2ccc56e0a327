"""The log on stderr: as lines, as JSON or for journald, written by a thread of its own."""

import json
import logging
import logging.handlers
import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import attrs

from kline_trio.commands.screen import Screen
from kline_trio.counting import counted
from kline_trio.quoting import one_line

_STDERR = 2
_WAITING_LINES = 10_000
_KEPT_LINES = 1_000
"""Room that only warnings and errors may use."""
_LAST_LINES_SECONDS = 2.0
"""The most time to wait at the end for a stderr that is blocked."""
_DRAW_SECONDS = 1.0
_LINES_AT_ONCE = 1_000
_FOLD_SECONDS = 60.0
"""A warning that comes again within this time is counted, and not written."""
_MOST_FOLDED = 1_000
"""Different warnings that are remembered."""
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
"""Of syslog (systemd's sd-daemon(3))."""
_ERRORS = logging.Formatter()


class TextFormatter(logging.Formatter):
    """Makes one printable line of each record, which may quote foreign text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return f"{moment} {record.levelname:<7} {_line(record)}"


class JournaldFormatter(logging.Formatter):
    """Makes a line with a syslog priority; journald adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{_line(record)}"


class JsonFormatter(logging.Formatter):
    """Makes an object of one line: time, level, logger, message, and the error if there is one.

    These keys stay. Later versions may add others.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        found = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found)


def _line(record: logging.LogRecord) -> str:
    error = f"\n{_ERRORS.formatException(record.exc_info)}" if record.exc_info else ""
    return one_line(record.getMessage() + error)


class NonblockingHandler(logging.handlers.QueueHandler):
    """Hands records to another thread. If stderr is blocked, the queue fills, and lines are lost:
    those below WARNING first.
    """

    def __init__(self, waiting: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over, or drop it: a blocked terminal must not delay the recorder."""
        room = _WAITING_LINES - self.waiting.qsize()
        if record.levelno < logging.WARNING and room <= _KEPT_LINES:
            self.lost += 1
            return
        try:
            self.waiting.put_nowait(record)
        except queue.Full:
            self.lost += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the record with its text made: its arguments may change."""
        record.message = record.getMessage()
        record.msg, record.args = record.message, None
        return record


@attrs.define(eq=False)
class Folding:
    """Leaves out warnings that come again within a minute, and counts them (pure)."""

    _seen: dict[tuple[str, int, str], tuple[float, int]] = attrs.field(init=False, factory=dict)
    """By logger, level and text: when the warning was written, and how often it came since."""

    def is_repeated(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether a warning was written within the last minute; count it then."""
        if record.levelno < logging.WARNING:
            return False
        key = (record.name, record.levelno, record.getMessage())
        if key in self._seen:
            at, count = self._seen[key]
            self._seen[key] = (at, count + 1)
            return True
        if len(self._seen) < _MOST_FOLDED:
            self._seen[key] = (now, 0)
        return False

    def due(self, now: float) -> Iterator[logging.LogRecord]:
        """Give a record for each warning whose minute is over and that came again in it."""
        for key, (at, count) in list(self._seen.items()):
            if now >= at + _FOLD_SECONDS:
                del self._seen[key]
                if count:
                    name, level, text = key
                    again = f"{text} ({counted(count, 'more time')})"
                    yield logging.LogRecord(name, level, "", 0, again, None, None)


def _formatter(log_format: str) -> logging.Formatter:
    if log_format == "json":
        return JsonFormatter()
    return JournaldFormatter() if _is_journald() else TextFormatter()


def _is_journald() -> bool:
    """Return whether stderr goes to journald (systemd.exec(5), `$JOURNAL_STREAM`)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(_STDERR)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


@attrs.define(eq=False)
class LogWriter:
    """Writes the records of a queue to a screen, in a thread of its own."""

    waiting: "queue.Queue[logging.LogRecord | None]"
    """Ends with None."""
    screen: Screen
    formatter: logging.Formatter
    handler: NonblockingHandler = attrs.field(init=False)
    _folding: Folding = attrs.field(init=False, factory=Folding)

    def __attrs_post_init__(self) -> None:
        self.handler = NonblockingHandler(self.waiting)

    def run(self) -> None:
        """Write records as they come, until None comes."""
        is_open = True
        while is_open:
            records, is_open = self._next()
            now = time.monotonic() if is_open else math.inf
            found = [one for one in records if not self._folding.is_repeated(one, now)]
            found += self._folding.due(now)
            if (lost := self.handler.lost) and (self.waiting.empty() or not is_open):
                self.handler.lost = 0
                text = (
                    f"{counted(lost, 'log line was', 'log lines were')} lost: stderr took no more"
                )
                found.append(logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None))
            self.screen.write([self.formatter.format(one) for one in found])
        self.screen.close()

    def _next(self) -> tuple[list[logging.LogRecord], bool]:
        """Wait for records for a while; return them, and whether more may come."""
        records: list[logging.LogRecord] = []
        with suppress(queue.Empty):
            record = self.waiting.get(timeout=_DRAW_SECONDS)
            while record is not None:
                records.append(record)
                if len(records) >= _LINES_AT_ONCE:
                    return records, True
                record = self.waiting.get_nowait()
            return records, False
        return records, True


@contextmanager
def log_lines(
    *, debug: bool = False, quiet: bool = False, log_format: str = "text"
) -> Iterator[Screen]:
    """Write the package's log to stderr while the body runs, in a separate thread.

    Give the screen, which can show a panel.

    Args:
      debug: write lines of all levels.
      quiet: write warnings and errors only.
      log_format: `text` or `json`.
    """
    screen = Screen(may_draw=log_format == "text" and not quiet)
    writer = LogWriter(queue.Queue(_WAITING_LINES), screen, _formatter(log_format))
    # Not logging's QueueListener, whose stop() waits without limit and fails on a full queue.
    thread = threading.Thread(target=writer.run, daemon=True)
    package = logging.getLogger("kline_trio")
    level = package.level
    package.addHandler(writer.handler)
    package.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    thread.start()
    try:
        yield screen
    finally:
        package.removeHandler(writer.handler)
        package.setLevel(level)
        with suppress(queue.Full):
            writer.waiting.put(None, timeout=_LAST_LINES_SECONDS)
        thread.join(_LAST_LINES_SECONDS)
