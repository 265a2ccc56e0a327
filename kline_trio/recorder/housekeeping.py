"""Jobs beside the recording: heartbeats, and the comparison of older stores with their ledger."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import trio

from kline_trio.counting import counted, noun
from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import time_text
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.storage.holdings import Holdings, LedgerComparison, ledger_comparisons

logger = logging.getLogger("kline_trio.recorder.healing")

_HEARTBEAT_SECONDS = 60
_MOST_LOOKS = 10
"""A merge between look and transaction outdates a look; merges are a minute apart."""


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
            await self.storage.commit_door.run(store.journal.beat, pid, self._times_ms(), local_ms)

    def _times_ms(self) -> dict[str, int]:
        return {
            name: clock.now_ms for name, clock in self.clocks.items() if clock.now_ms is not None
        }


async def heal(storage: Storage) -> None:
    """Give every due candle that is neither stored nor in the ledger a gap row.

    An earlier version could lose such candles in silence. Each series is compared once; the
    journal keeps which ones were, in the transaction that writes their gap rows, so that a kill
    costs one series. At every start, pending candles that are stored become `filled`, too.

    Args:
      storage: the open store. While its disk is full, wait.

    Raises:
      DiskError: the store cannot be read or written, for another reason than want of space.
    """
    store, merge_door = storage.store, storage.merge_door
    compared = total = 0
    for comparison in await merge_door.run(ledger_comparisons, store.path, store.layout):
        for look in await merge_door.run(comparison.look):
            count = await _compare(storage, comparison, look)
            if count:
                total += count
                storage.gaps_named.ring()
        if comparison.is_first:
            compared += len(comparison.series)
    if compared:
        logger.info(
            "compared %s series with the ledger, once for this version: %s found missing",
            f"{compared:,}",
            counted(total, "candle"),
        )


async def _compare(storage: Storage, comparison: LedgerComparison, look: Holdings) -> int:
    """Write the gaps that a look found; look again if the files have changed since.

    Returns:
      how many candles became gaps.
    """
    for _ in range(_MOST_LOOKS):
        count: int | None = await retry_while_full(
            storage.commit_door.run, storage.store.journal.compare, look
        )
        if count:
            holes = look.missing()
            logger.warning(
                "%s: %s found missing, neither stored nor in the ledger, in %s from %s to %s;"
                " %s for now",
                look.series,
                counted(count, "candle"),
                counted(len(holes), "gap"),
                time_text(holes[0].from_ms),
                time_text(holes[-1].to_ms),
                noun(count, "it is asked", "they are asked"),
            )
        if count is not None:
            return count
        look = await storage.merge_door.run(comparison.look_again, look.series)
    logger.warning("%s: its files change too fast, it is compared at the next start", look.series)
    return 0
