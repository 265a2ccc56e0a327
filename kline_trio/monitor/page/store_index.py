"""The index of a store in memory, renewed in a worker thread while somebody looks."""

import logging
import math
import time
from collections.abc import Callable

import attrs
import trio

from kline_trio.errors import KlineTrioError, UnavailableError
from kline_trio.monitor.page.look import Look, look_at
from kline_trio.monitor.page.sources import Source

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 2.0
"""Between two looks: a person sees an outage when it begins."""
_YOUNG_SECONDS = 0.5
"""Between two looks at a store that has no series yet."""
_MOST_SHARE = 0.01
"""Of one core, that looks may take."""
_IDLE_SECONDS = 60.0
"""If nobody has looked for so long, the index is dropped: it may have 30 MB."""
_PATIENCE_SECONDS = 15.0


@attrs.define(eq=False)
class StoreIndex:
    """The newest look at a store."""

    source: Source
    read: Callable[..., Look] = look_at
    processor_clock: Callable[[], float] = time.thread_time
    """Seconds of a core that the calling thread has used."""
    latest: Look | None = attrs.field(init=False, default=None)
    """None: nobody has looked for a while, or the store cannot be read."""
    problem: str | None = attrs.field(init=False, default=None)
    """Why the store cannot be read; None: it can, as far as is known."""
    _wanted_at: float = attrs.field(init=False, default=-math.inf)
    _wanted: trio.Event = attrs.field(init=False, factory=trio.Event)
    _tried: trio.Event = attrs.field(init=False, factory=trio.Event)

    def want(self) -> None:
        """Note that somebody looks."""
        self._wanted_at = trio.current_time()
        self._wanted.set()

    async def get(self) -> Look:
        """Return the newest look; wait for the first.

        Raises:
          UnavailableError: the store cannot be read, or not in time.
        """
        self.want()
        if self.latest is None:
            with trio.move_on_after(_PATIENCE_SECONDS):
                await self._tried.wait()
        if self.latest is None:
            raise UnavailableError(self.problem or "the store is not read yet: try again")
        return self.latest

    async def run(self) -> None:
        """Look again and again while somebody wants it, until cancelled."""
        while True:
            await self._wanted.wait()
            took_seconds = await self._look()
            is_young = self.latest is not None and not self.latest.places
            least = _YOUNG_SECONDS if is_young else _LEAST_SECONDS
            await trio.sleep(max(least, took_seconds / _MOST_SHARE))
            if trio.current_time() > self._wanted_at + _IDLE_SECONDS:
                self.latest, self.problem = None, None
                self._wanted, self._tried = trio.Event(), trio.Event()

    async def _look(self) -> float:
        """Look once; return how many seconds of a core it took, whether it failed or not."""
        source, took_seconds = self.source, 0.0
        find_present = source.present()

        def job() -> Look:
            nonlocal took_seconds
            began = self.processor_clock()
            try:
                return self.read(
                    source.store_path, find_present, self.latest, with_census=not source.has_census
                )
            finally:
                took_seconds = self.processor_clock() - began

        try:
            # Abandoned if cancelled: a dead disk must not hold up the recorder's stop.
            self.latest = await trio.to_thread.run_sync(job, abandon_on_cancel=True)
            self.problem = None
        except KlineTrioError as error:
            if self.problem is None:
                logger.warning("page: the store cannot be read: %s", error)
            self._fail(str(error))
        except Exception as error:
            # If the looks ended, the last one would say for ever that all is well.
            if self.problem is None:
                logger.exception("page: the store cannot be read")
            self._fail(f"{error}; see the log")
        self._tried.set()
        return took_seconds

    def _fail(self, why: str) -> None:
        if self.problem is not None:
            # Nothing may look complete by what was read a while ago.
            self.latest = None
        self.problem = f"the store cannot be read: {why}"
