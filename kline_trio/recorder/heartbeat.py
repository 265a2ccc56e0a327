"""Keeps in the journal that the recorder runs, and what time it is on each exchange."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import trio

from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.recorder.environment import Storage

__all__ = ["Heartbeat"]

_SECONDS = 60
"""Between two heartbeats."""


@attrs.frozen(eq=False)
class Heartbeat:
    """What `status` knows of a recorder: whether it runs, and what time it is for it."""

    storage: Storage
    clocks: Mapping[str, ExchangeClock]
    """By trade type."""
    wall_clock: Callable[[], float]
    """Seconds since 1970. It only labels: nothing is decided by it in the recorder."""

    async def run(self) -> None:
        """Keep pid, exchange times and local time once a minute, until cancelled.

        Do so at once at the start, and as soon as a market's time becomes known. Without space on
        the disk, skip it until the next minute.

        Raises:
          DiskError: the journal cannot be written, for another reason than want of space.
        """
        while True:
            known = self._times_ms().keys()
            await self._keep(os.getpid())
            for _ in range(_SECONDS):
                await trio.sleep(1)
                if self._times_ms().keys() != known:
                    break

    async def end(self) -> None:
        """Keep that the recorder ends, and the last times, so that `status` can count on from them.

        Raises:
          DiskError: as for `run`.
        """
        await self._keep(None)

    async def _keep(self, pid: int | None) -> None:
        local_ms = round(self.wall_clock() * 1_000)
        with suppress(DiskFullError):
            store = self.storage.store
            await self.storage.commit_door.run(store.journal.beat, pid, self._times_ms(), local_ms)

    def _times_ms(self) -> dict[str, int]:
        return {
            name: clock.now_ms for name, clock in self.clocks.items() if clock.now_ms is not None
        }
