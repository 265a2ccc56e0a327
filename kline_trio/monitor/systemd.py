"""Notifications to systemd: ready, alive, reloading, stopping, and the state in a line.

The protocol is that of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio

from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.monitor.health import Code, reasons
from kline_trio.monitor.watch import Observation, Watch
from kline_trio.quoting import shown

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_STATUS_LETTERS = 500
"""systemd reads at most 4,096 bytes of a datagram."""
_EXTEND_EACH_SECONDS = 5.0
_EXTEND_SECONDS = 60
"""How much longer a start may take, from each extension on."""


@attrs.frozen
class NotifySocket:
    """The socket of the service manager, and what it asks for."""

    path: bytes
    """A file, or an abstract name that begins with a zero byte."""
    watchdog_seconds: float | None = None
    """The service manager restarts a process that was silent for so long; None: never."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> "NotifySocket | None":
        """Return the socket that the environment names; None if it names none for this process."""
        name = environment.get("NOTIFY_SOCKET", "")
        if not name.startswith(("/", "@")):
            return None
        path = os.fsencode(name)
        watchdog = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        is_wanted = is_ours and watchdog.isascii() and watchdog.isdigit() and int(watchdog) > 0
        return cls(
            b"\0" + path[1:] if name.startswith("@") else path,
            int(watchdog) / 1e6 if is_wanted else None,
        )

    def send(self, *lines: str) -> None:
        """Send lines in one datagram, without waiting.

        Raises:
          OSError: nobody listens, or too many datagrams wait there.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            content = "\n".join(lines).encode(errors="replace")
            sender.sendto(content, socket.MSG_DONTWAIT, self.path)


def status_line(found: Observation) -> str:
    """Return a line about a recorder: the verdict, with its first reason or a summary (pure)."""
    health = found.health
    words = "SIMULATED " if found.is_simulated else ""
    if health.reasons:
        more = len(health.reasons) - 1
        others = f" (and {more:,} more)" if more else ""
        return f"{words}{health.verdict}: {shown(health.reasons[0].text, _STATUS_LETTERS)}{others}"
    markets = found.statistics.markets
    series = sum(market.series for market in markets)
    connections = sum(len(market.listener.connections) for market in markets)
    counts = f"{series:,} series, {counted(connections, 'connection')}"
    return f"{words}{health.verdict}: {counts}"


@attrs.define(eq=False)
class Notifier:
    """Keeps the service manager informed about a recorder. Without a socket, it does nothing.

    The watchdog is fed while the event loop turns and no job of the disk is stuck. A silent
    exchange, a lost network and a full disk are no reasons to be restarted: nothing would be
    better after it.
    """

    _socket: NotifySocket | None
    _is_stop_asked: Callable[[], bool] = lambda: False
    """Whether the process was asked to stop; its start may take no longer then."""
    _watch: Watch | None = attrs.field(init=False, default=None)
    _is_ready: bool = attrs.field(init=False, default=False)
    _is_stopping: bool = attrs.field(init=False, default=False)
    _owed: tuple[str, ...] = attrs.field(init=False, default=())
    """The last change of state, as long as it could not be sent."""
    _status: str | None = attrs.field(init=False, default=None)
    """The state in words that was sent last."""
    _is_failing: bool = attrs.field(init=False, default=False)

    @property
    def is_wanted(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    def ready(self) -> None:
        """Notify that the recorder records."""
        self._is_ready = True
        self._change("READY=1", "STATUS=recording")

    def stopping(self) -> None:
        """Notify that the recorder stops."""
        self._is_stopping = True
        self._change("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Notify that the configuration is read again while the body runs, and then that it was."""
        # The service manager needs the time, to tell this reload from an earlier one.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._change("RELOADING=1", f"MONOTONIC_USEC={now_us}")
        try:
            yield
        finally:
            self._change("READY=1")

    async def follow(self, watch: Watch) -> None:
        """Show the verdict of a watch, until cancelled."""
        self._watch = watch
        try:
            await trio.sleep_forever()
        finally:
            self._watch = None

    async def run(self) -> None:
        """Notify until cancelled: begin before the recorder is opened, end after it is closed."""
        if self._socket is None:
            return
        watchdog = self._socket.watchdog_seconds
        # Half of the time that it allows, as sd_watchdog_enabled(3) recommends.
        feed_each = math.inf if watchdog is None else watchdog / 2
        tick = min(_TICK_SECONDS, feed_each)
        began = now = trio.current_time()
        feed_at = math.inf if watchdog is None else began
        extend_at = began + _EXTEND_EACH_SECONDS
        while True:
            # A tick ahead: a tick later, half of the time would be over.
            is_fed = now + tick > feed_at and self._is_alive
            is_extended = self._is_opening and now >= extend_at
            status = self._status_now(now - began)
            lines = [
                *self._owed,
                *(["WATCHDOG=1"] if is_fed else ()),
                *([f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1_000_000}"] if is_extended else ()),
                *([f"STATUS={status}"] if status != self._status else ()),
            ]
            if lines and self._send(*lines):
                self._owed, self._status = (), status
                feed_at = now + feed_each if is_fed else feed_at
                extend_at = now + _EXTEND_EACH_SECONDS if is_extended else extend_at
            await trio.sleep(tick)
            now = trio.current_time()

    @property
    def _is_opening(self) -> bool:
        return not self._is_ready and not self._is_stop_asked()

    @property
    def _is_alive(self) -> bool:
        """Whether the watchdog is to be fed, now that the event loop turns."""
        if self._watch is None:
            return self._is_ready
        # Not Health.is_stuck, which goes on for `recover_seconds` after the job has ended.
        found = reasons(self._watch.latest.statistics, self._watch.limits)
        return self._is_ready and not any(one.code is Code.STUCK for one in found)

    def _status_now(self, seconds: float) -> str:
        """Return the state in words, `seconds` after the start of the process."""
        if self._is_stopping:
            return "stopping: what was received is committed and merged"
        if self._watch is not None:
            return status_line(self._watch.latest)
        if self._is_ready:
            # The watch begins, or begins anew with another configuration.
            return "recording"
        return f"opening the store for {duration_text(seconds)}"

    def _change(self, *lines: str) -> None:
        """Send a change of state; if that is not possible now, send it with the next tick."""
        if self._socket is not None:
            self._owed = () if self._send(*lines) else lines

    def _send(self, *lines: str) -> bool:
        """Send lines. Return False, and log why, if that is not possible."""
        assert self._socket is not None
        try:
            self._socket.send(*lines)
        except OSError as error:
            if not self._is_failing:
                text = error.strerror or error
                logger.warning("systemd: it cannot be notified: %s; recording goes on", text)
            self._is_failing = True
            return False
        self._is_failing = False
        return True
