"""From the channel into the journal: what is committed here is accepted, and only that."""

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.recorder.audience import Audience
from kline_trio.recorder.seams import Door
from kline_trio.storage.store import Store

__all__ = ["Writer"]

logger = logging.getLogger(__name__)

_MOST_IN_A_COMMIT = 10_000
_MOST_LINES_IN_A_COMMIT = 20


@attrs.define(eq=False)
class Writer:
    """Commits all that waits in the channel at once, then speaks of it."""

    store: Store
    commit_door: Door
    audience: Audience
    accepted: Callable[[set[Series]], None]
    """Told which series have accepted candles that wait for a merge."""

    recorded: int = attrs.field(init=False, default=0)
    """How many candles were accepted, revisions and duplicates included."""

    async def run(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        """Accept candles until all listeners have closed their ends.

        If cancelled, what was accepted stays accepted, and what waits in the channel is lost.

        Raises:
          DiskError: the journal could not commit.
        """
        with receive:
            async for first in receive:
                batch = [first, *_waiting(receive, _MOST_IN_A_COMMIT - 1)]
                await self.commit_door.run(self.store.accept, batch)
                self.recorded += len(batch)
                _log(batch)
                self.audience.publish(batch)
                self.accepted({received.series for received in batch})


def _waiting(receive: trio.MemoryReceiveChannel[ReceivedCandle], most: int) -> list[ReceivedCandle]:
    waiting: list[ReceivedCandle] = []
    while len(waiting) < most:
        try:
            waiting.append(receive.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return waiting


def _log(batch: Sequence[ReceivedCandle]) -> None:
    level = logging.INFO
    if len(batch) > _MOST_LINES_IN_A_COMMIT:
        series = len({received.series for received in batch})
        logger.info("Recorded %s candles of %s series", f"{len(batch):,}", f"{series:,}")
        level = logging.DEBUG
    if logger.isEnabledFor(level):
        for received in batch:
            moment = received.receive_time.replace(microsecond=0)
            logger.log(level, "Recorded %s at %s", received.series, moment)
