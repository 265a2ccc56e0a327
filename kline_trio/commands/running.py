"""A command that runs until a signal or a time: its log, and the exchange that it runs against."""

import argparse
import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import attrs
import trio

from kline_trio.commands.output import log_lines
from kline_trio.config import Config

__all__ = ["Requests", "exchange_of", "run"]

logger = logging.getLogger("kline_trio.signals")

_TO_STOP = (signal.SIGINT, signal.SIGTERM)


@attrs.define(eq=False)
class Requests:
    """The requests to a running command, by signals or by `--for`: to stop, or to reload."""

    seconds: float
    """Stop this many seconds after the first wait."""
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _any: trio.Event = attrs.field(factory=trio.Event)
    _until: float | None = None

    def receive(self, number: int) -> None:
        """Take the request of a signal."""
        if number == signal.SIGHUP:
            logger.info("SIGHUP: reading the configuration anew")
        else:
            name = signal.Signals(number).name
            logger.info("%s: stopping; a second signal ends at once", name)
            self._stop.set()
        self._any.set()

    async def is_stop(self) -> bool:
        """Wait for the next request. Return True for a stop, False for a reload."""
        with trio.move_on_at(self._end()) as patience:
            await self._any.wait()
        if patience.cancelled_caught or self._stop.is_set():
            return True
        self._any = trio.Event()
        return False

    async def wait_for_stop(self) -> None:
        """Wait for the request to stop."""
        with trio.move_on_at(self._end()):
            await self._stop.wait()

    def _end(self) -> float:
        if self._until is None:
            self._until = trio.current_time() + self.seconds
        return self._until


@contextmanager
def _listen_for(seconds: float, more: Iterable[signal.Signals]) -> Iterator[Requests]:
    """Give the requests of signals from now on; a second one to stop ends the process at once.

    Signals count from the start, also while a store is still being opened.
    """
    requests = Requests(seconds)
    token = trio.lowlevel.current_trio_token()
    first: int | None = None

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal first
        if number in _TO_STOP:
            if first is not None:
                os._exit(128 + number)
            first = number
        token.run_sync_soon(requests.receive, number)

    # Not trio.open_signal_receiver: it hands a signal to a task, and none may be free to take it.
    before = {number: signal.signal(number, receive) for number in (*_TO_STOP, *more)}
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
      main: called with the requests.
      options: `seconds` is the time of `--for`, or None.
      more: signals besides SIGINT and SIGTERM that make requests.
    """
    seconds = math.inf if options.seconds is None else options.seconds
    ended_as_asked = False

    async def watched() -> None:
        nonlocal ended_as_asked
        with _listen_for(seconds, more) as requests:
            await main(requests)
        ended_as_asked = True

    with log_lines(debug=options.debug):
        trio.run(watched)
    # A `Cancelled` that gets lost in a library would end the program in silence, with status 0
    # (trio-websocket#184): a recorder that stops unasked must never look like one that was asked.
    if not ended_as_asked:
        raise RuntimeError("it ended without having been asked to")


@asynccontextmanager
async def exchange_of(
    config: Config, options: argparse.Namespace
) -> AsyncIterator[Callable[[Config], Config]]:
    """Give the function that leads a configuration to the exchange of `options`, real or not."""
    if not options.simulate:
        yield lambda config: config
        return
    # A recorder of the real exchange starts in less time without the built-in one.
    from kline_trio.commands.simulate import exchange_beside

    async with exchange_beside(config, options) as lead:
        yield lead
