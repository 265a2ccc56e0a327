"""What is asked of a running command by signals: to stop, or to read its configuration anew."""

import logging
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import attrs
import trio

__all__ = ["Asked", "listen_for"]

logger = logging.getLogger(__name__)

_TO_STOP = (signal.SIGINT, signal.SIGTERM)


@attrs.define(eq=False)
class Asked:
    """What was asked of a running command, by signals or in advance."""

    seconds: float
    """After how many it is to stop by itself, from when that is first waited for."""
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _news: trio.Event = attrs.field(factory=trio.Event)
    _until: float | None = None

    def tell(self, number: int) -> None:
        """A signal came."""
        if number == signal.SIGHUP:
            logger.info("SIGHUP: reading the configuration anew")
        else:
            name = signal.Signals(number).name
            logger.info("%s: stopping; a second signal ends at once", name)
            self._stop.set()
        self._news.set()

    async def to_stop(self) -> bool:
        """Wait for something to be asked: True for a stop, False for reading anew."""
        with trio.move_on_at(self._end()) as patience:
            await self._news.wait()
        if patience.cancelled_caught or self._stop.is_set():
            return True
        self._news = trio.Event()
        return False

    async def wait_to_stop(self) -> None:
        """Wait for a stop to be asked."""
        with trio.move_on_at(self._end()):
            await self._stop.wait()

    def _end(self) -> float:
        if self._until is None:
            self._until = trio.current_time() + self.seconds
        return self._until


@contextmanager
def listen_for(seconds: float, more: Iterable[signal.Signals]) -> Iterator[Asked]:
    """Gives what signals ask from now on; a second one to stop ends the process at once.

    Signals count from the start, also while a store is still being opened.

    Args:
      seconds: after how many a stop counts as asked.
      more: signals besides SIGINT and SIGTERM.
    """
    asked = Asked(seconds)
    token = trio.lowlevel.current_trio_token()
    first: int | None = None

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal first
        if number in _TO_STOP:
            if first is not None:
                os._exit(128 + number)
            first = number
        token.run_sync_soon(asked.tell, number)

    # Not trio.open_signal_receiver: it hands a signal to a task, and none may be free to take it.
    before = {number: signal.signal(number, receive) for number in (*_TO_STOP, *more)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
