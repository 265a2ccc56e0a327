"""Run a command until a signal or a time, with its log on stderr."""

import argparse
import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import attrs
import trio

from kline_trio.commands.log import log_lines
from kline_trio.commands.screen import Screen

logger = logging.getLogger("kline_trio.signals")

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@attrs.define(eq=False)
class Requests:
    """The requests to a running command, from signals and `--for`: to stop, or to reload."""

    seconds: float
    """Stop this many seconds after the first wait."""
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _any: trio.Event = attrs.field(factory=trio.Event)
    _deadline: float | None = None
    """By Trio's clock; None before the first wait."""
    _is_work_done: bool = False
    screen: Screen = attrs.field(init=False, factory=lambda: Screen(may_draw=False))
    """Where the command may show a panel."""

    def receive(self, number: int) -> None:
        """Note the request of a signal, and wake who waits for it."""
        if number == signal.SIGHUP:
            logger.info("SIGHUP: reading the configuration anew")
        else:
            name = signal.Signals(number).name
            logger.info("%s: stopping; a second signal ends at once", name)
            self._stop.set()
        self._any.set()

    async def is_stop(self) -> bool:
        """Wait for the next request. Return True for a stop, False for a reload."""
        with trio.move_on_at(self._stop_at()) as timeout:
            await self._any.wait()
        if timeout.cancelled_caught or self._stop.is_set():
            return True
        self._any = trio.Event()
        return False

    def is_stop_asked(self) -> bool:
        """Return whether a signal has asked for the stop."""
        return self._stop.is_set()

    async def wait_for_stop(self) -> None:
        """Wait for the request to stop."""
        with trio.move_on_at(self._stop_at()):
            await self._stop.wait()

    def finish(self) -> None:
        """Note that the work is done: the command may end without a request."""
        self._is_work_done = True

    @property
    def may_end(self) -> bool:
        """Whether the command has a reason to end: a signal, the end of `--for`, or done work."""
        is_over = self._deadline is not None and trio.current_time() >= self._deadline
        return self._stop.is_set() or is_over or self._is_work_done

    def _stop_at(self) -> float:
        if self._deadline is None:
            self._deadline = trio.current_time() + self.seconds
        return self._deadline


@contextmanager
def _handle_signals(seconds: float, more: Iterable[signal.Signals]) -> Iterator[Requests]:
    """Turn signals into requests while the body runs. A second stop signal ends the process.

    This includes the time in which a store is opened.
    """
    requests = Requests(seconds)
    token = trio.lowlevel.current_trio_token()
    is_stopping = False

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal is_stopping
        if number in _STOP_SIGNALS:
            if is_stopping:
                os._exit(128 + number)
            is_stopping = True
        token.run_sync_soon(requests.receive, number)

    # Not trio.open_signal_receiver: it needs a task that takes the signal, and all may be busy.
    before = {number: signal.signal(number, receive) for number in (*_STOP_SIGNALS, *more)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    main: Callable[[Requests], Awaitable[None]],
    options: argparse.Namespace,
    *more: signal.Signals,
) -> None:
    """Run a function under Trio, with the log on stderr.

    Args:
      main: called with the requests. It returns after a request to stop, or after it has called
        their `finish`.
      options: `seconds` is the time of `--for`, or None; `debug` logs more.
      more: signals besides SIGINT and SIGTERM that make requests.

    Raises:
      RuntimeError: the function ended without a reason.
    """
    seconds = math.inf if options.seconds is None else options.seconds

    async def run_main(screen: Screen) -> bool:
        with _handle_signals(seconds, more) as requests:
            requests.screen = screen
            await main(requests)
            return requests.may_end

    is_quiet, log_format = getattr(options, "quiet", False), getattr(options, "log_format", "text")
    with log_lines(debug=options.debug, quiet=is_quiet, log_format=log_format) as screen:
        try:
            has_reason = trio.run(run_main, screen)
        except trio.Cancelled:  # Trio has ended: there is no scope left that it could belong to
            has_reason = False
    # A `Cancelled` that a library loses would end the program silently, with status 0
    # (trio-websocket#184), as if a stop had been asked for. Mostly a nursery takes it for the end
    # of its own scope, and `main` returns early.
    if not has_reason:
        raise RuntimeError("it ended without having been asked to")
