"""Periodic jobs beside the recording: guard the store, keep heartbeats, give back memory."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import trio

from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.storage.memory import trim_heap

__all__ = ["Heartbeat", "guard", "trim_memory"]

_GUARD_SECONDS = 10.0
"""A commit checks too; this is for times without commits."""
_HEARTBEAT_SECONDS = 60
_TRIM_SECONDS = 60.0


async def guard(storage: Storage) -> None:
    """Compare the files that the store holds open with their names, until cancelled.

    Raises:
      StoreInUseError: the lock's file was deleted or replaced.
      DiskError: the journal was, or another program wrote to it.
    """
    while True:
        await trio.sleep(_GUARD_SECONDS)
        await storage.commit_door.run(storage.store.check_held)


async def trim_memory(door: SerialExecutor) -> None:
    """Give freed memory back to the system once a minute, until cancelled."""
    while True:
        await trio.sleep(_TRIM_SECONDS)
        await door.run(trim_heap)


@attrs.frozen(eq=False)
class Heartbeat:
    """Keeps in the journal that the recorder runs, and each exchange time, for `status`."""

    storage: Storage
    clocks: Mapping[str, ExchangeClock]
    """By trade type."""
    wall_clock: Callable[[], float]
    """Seconds since 1970. A label only: the recorder decides nothing by it."""

    async def run(self) -> None:
        """Keep pid, exchange times and local time once a minute, until cancelled.

        Do so at once at the start, and as soon as a market's time becomes known. Without space on
        the disk, skip it until the next minute.

        Raises:
          DiskError: the journal cannot be written, for another reason than want of space.
        """
        while True:
            known = self._times_ms().keys()
            await self._beat(os.getpid())
            for _ in range(_HEARTBEAT_SECONDS):
                await trio.sleep(1)
                if self._times_ms().keys() != known:
                    break

    async def end(self) -> None:
        """Keep that the recorder ends, and the last times, so that `status` can count on from them.

        Raises:
          DiskError: as for `run`.
        """
        await self._beat(None)

    async def _beat(self, pid: int | None) -> None:
        local_ms = round(self.wall_clock() * 1_000)
        with suppress(DiskFullError):
            store = self.storage.store
            await self.storage.commit_door.run(store.beat, pid, self._times_ms(), local_ms)

    def _times_ms(self) -> dict[str, int]:
        return {
            name: clock.now_ms for name, clock in self.clocks.items() if clock.now_ms is not None
        }
