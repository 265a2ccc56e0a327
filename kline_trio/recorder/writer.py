"""From the channel into the journal. A candle is accepted when its commit has succeeded."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.counting import counted
from kline_trio.errors import DiskFullError
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import Storage

_MOST_IN_A_COMMIT = 10_000


@attrs.define(eq=False)
class Writer:
    """Commits all candles that wait in the channel at once, then calls `committed`.

    While the disk is full, go on receiving, so that the connections stay alive, and keep up to
    `rows_in_memory` candles. Candles dropped then count as never received.
    """

    storage: Storage
    rows_in_memory: int
    """How many candles wait for space at most."""
    committed: Callable[[Sequence[ReceivedCandle]], None]
    """Called with candles that are durable."""
    dropped_candle: Callable[[Series, int], None]
    """Called with series and open time of a candle that was received and is not kept."""

    recorded: int = attrs.field(init=False, default=0)
    """How many candles were accepted, revisions and duplicates included."""
    commits: int = attrs.field(init=False, default=0)
    commit_seconds: float = attrs.field(init=False, default=0.0)
    """How long the last commit took, the wait for the journal included."""
    is_short_of_room: bool = attrs.field(init=False, default=False)
    dropped: int = attrs.field(init=False, default=0)
    """How many candles were received and not kept, for want of space."""
    _disk_log: DiskFullLog = attrs.field(init=False, factory=DiskFullLog)
    _waiting: list[ReceivedCandle] = attrs.field(init=False, factory=list)

    @property
    def disk_problem(self) -> str | None:
        """Why the last candles could not be committed; None if they could."""
        return self._disk_log.problem

    @property
    def waiting(self) -> int:
        """How many received candles are not durable yet, besides those in the channel."""
        return len(self._waiting)

    async def run(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        """Accept candles until all listeners have closed their ends.

        If cancelled, accepted candles stay accepted, and those in the channel are lost.

        Raises:
          DiskFullError: all ends are closed, and there was no space for the last candles.
          DiskError: the journal could not commit.
        """
        with receive:
            async for first in receive:
                self._waiting = [first]
                with suppress(trio.WouldBlock, trio.EndOfChannel):
                    while len(self._waiting) < _MOST_IN_A_COMMIT:
                        self._waiting.append(receive.receive_nowait())
                while self._waiting:
                    await self._commit(receive)

    async def _commit(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        batch, began = self._waiting[:_MOST_IN_A_COMMIT], trio.current_time()
        try:
            await self.storage.commit_door.run(self.storage.store.journal.accept, batch)
        except DiskFullError as error:
            waiting = counted(len(self._waiting), "candle waits", "candles wait")
            dropped = counted(self.dropped, "was dropped", "were dropped")
            self._disk_log.full(error, f"{waiting}, {dropped}")
            self.is_short_of_room = True
            if not await self._wait_for_space(receive):
                raise
            return
        del self._waiting[: len(batch)]
        self.is_short_of_room = self.is_short_of_room and bool(self._waiting)
        dropped = counted(self.dropped, "candle was dropped", "candles were dropped")
        self._disk_log.written(f"; {dropped}")
        self.recorded += len(batch)
        self.commits += 1
        self.commit_seconds = trio.current_time() - began
        self.committed(batch)

    async def _wait_for_space(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> bool:
        """Receive for a while. Return False if all ends are closed."""
        with trio.move_on_after(RETRY_SECONDS) as pause:
            async for received in receive:
                if len(self._waiting) < self.rows_in_memory:
                    self._waiting.append(received)
                else:
                    self.dropped += 1
                    self.dropped_candle(received.series, received.candle.open_time_ms)
        return pause.cancelled_caught
