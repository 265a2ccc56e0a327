"""From the channel into the journal: what is committed here is accepted, and only that."""

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.errors import DiskFullError
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import Storage

__all__ = ["Writer"]

logger = logging.getLogger(__name__)

_MOST_IN_A_COMMIT = 10_000
_MOST_LINES_IN_A_COMMIT = 20


@attrs.define(eq=False)
class Writer:
    """Commits all that waits in the channel at once, then speaks of it.

    While the disk has no room it goes on receiving, so that the connections stay alive, and keeps
    what it can; what it drops is absent, as if it had never come.
    """

    storage: Storage
    rows_in_memory: int
    """How many candles wait at most for room."""
    committed: Callable[[Sequence[ReceivedCandle]], None]
    """Told of candles that are durable."""
    dropped_candle: Callable[[Series, int], None]
    """Told the open time of a candle that was received and is not kept."""

    recorded: int = attrs.field(init=False, default=0)
    """How many candles were accepted, revisions and duplicates included."""
    dropped: int = attrs.field(init=False, default=0)
    """How many were received and not kept, for want of room."""
    is_short_of_room: bool = attrs.field(init=False, default=False)
    _words: DiskFullLog = attrs.field(init=False, factory=DiskFullLog)
    _waiting: list[ReceivedCandle] = attrs.field(init=False, factory=list)

    async def run(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        """Accept candles until all listeners have closed their ends.

        If cancelled, what was accepted stays accepted, and what waits in the channel is lost.

        Raises:
          DiskFullError: the end has come, and there was no room for the last candles.
          DiskError: the journal could not commit.
        """
        with receive:
            async for first in receive:
                self._waiting = [first, *_all_of(receive, _MOST_IN_A_COMMIT - 1)]
                while self._waiting:
                    await self._commit(receive)

    async def _commit(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        batch = self._waiting[:_MOST_IN_A_COMMIT]
        try:
            await self.storage.commit_door.run(self.storage.store.journal.accept, batch)
        except DiskFullError as error:
            self._words.no_room(
                error, f"{len(self._waiting):,} candles wait, {self.dropped:,} were dropped"
            )
            self.is_short_of_room = True
            if not await self._wait_for_room(receive):
                raise
            return
        self.is_short_of_room = bool(self._waiting[len(batch) :]) and self.is_short_of_room
        del self._waiting[: len(batch)]
        self._words.room(f"; {self.dropped:,} candles were dropped")
        self.recorded += len(batch)
        _log(batch)
        self.committed(batch)

    async def _wait_for_room(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> bool:
        """Receive for a while; False if the end has come."""
        with trio.move_on_after(RETRY_SECONDS) as patience:
            async for received in receive:
                if len(self._waiting) < self.rows_in_memory:
                    self._waiting.append(received)
                else:
                    self.dropped += 1
                    self.dropped_candle(received.series, received.candle.open_time_ms)
        return patience.cancelled_caught


def _all_of(receive: trio.MemoryReceiveChannel[ReceivedCandle], most: int) -> list[ReceivedCandle]:
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
