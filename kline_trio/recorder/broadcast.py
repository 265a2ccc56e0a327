"""Copies of committed candles for programs that listen along. No reader can hold the store up.

Each reader has bounded queues of its own. If a queue is full, its oldest copy is lost to that
reader, and counted. Publishing is synchronous and never waits.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.interval import Span

__all__ = ["Broadcast", "Candles", "Filled", "Fills"]

_Copy = TypeVar("_Copy")


@attrs.frozen
class Filled:
    """Candles that went into the files without coming through the program, as an archive's do.

    Read them from the store: `kline_trio.read`.
    """

    series: Series
    span: Span
    """From the begin of the first candle, inclusive, to the end of the last, exclusive."""
    source: Source


@attrs.define(eq=False)
class _Queue(Generic[_Copy]):
    """The newest copies of one kind that wait for a reader."""

    copies: deque[_Copy]
    lost: int = 0

    def put(self, batch: Sequence[_Copy]) -> None:
        """Append the copies, oldest first; drop and count the oldest ones that do not fit."""
        most = self.copies.maxlen
        assert most is not None
        self.lost += max(0, len(self.copies) + len(batch) - most)
        self.copies.extend(batch)


@attrs.define(eq=False)
class _Reader(Generic[_Copy]):
    """An async iterator over queues.

    Several tasks may iterate over one reader; each copy then goes to one of them.
    """

    _queues: tuple[_Queue[_Copy], ...]
    """The reader takes from the first one that is not empty."""
    _is_closed: bool
    _waiting: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)

    @property
    def lost(self) -> int:
        """How many copies this reader has lost, because it was too slow."""
        return sum(queue.lost for queue in self._queues)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Copy:
        # Both checkpoints come before a copy is taken, so a cancellation loses none.
        await trio.lowlevel.checkpoint()
        while True:
            for queue in self._queues:
                if queue.copies:
                    return queue.copies.popleft()
            if self._is_closed:
                raise StopAsyncIteration
            await self._waiting.park()

    def wake(self) -> None:
        """Let the tasks that wait look into the queues again."""
        self._waiting.unpark_all()

    def close(self) -> None:
        """End the iteration once the queues are empty."""
        self._is_closed = True
        self.wake()


@attrs.define(eq=False)
class Candles(_Reader[ReceivedCandle]):
    """Committed candles as they come: `async for received in candles`.

    Candles of the stream come before refills, if both wait. So candles do not come in the order
    of time, and one candle can come more than once; `received.source` says from where. The
    iteration ends when the recorder has stopped and all copies were taken.

    Several tasks may iterate over one reader; each copy then goes to one of them.
    """

    @property
    def lost_refills(self) -> int:
        """How many of the lost copies did not come from the stream."""
        return self._queues[1].lost

    def put(self, live: Sequence[ReceivedCandle], refills: Sequence[ReceivedCandle]) -> None:
        """Append the copies to their queues."""
        for queue, batch in zip(self._queues, (live, refills), strict=True):
            queue.put(batch)
        self.wake()


@attrs.define(eq=False)
class Fills(_Reader[Filled]):
    """What went into the files past the program: `async for filled in fills`.

    The iteration ends when the recorder has stopped and all announcements were taken.
    """

    def put(self, filled: Filled) -> None:
        """Append one announcement."""
        self._queues[0].put([filled])
        self.wake()


@attrs.define(eq=False)
class Broadcast:
    """All readers of one recorder."""

    # Weak, so that a reader that a program has dropped costs nothing. Not sets: their order is
    # not that of subscription, and seeded tests could not be repeated.
    _candles: weakref.WeakKeyDictionary[Candles, None] = attrs.field(
        init=False, factory=weakref.WeakKeyDictionary
    )
    _fills: weakref.WeakKeyDictionary[Fills, None] = attrs.field(
        init=False, factory=weakref.WeakKeyDictionary
    )
    _is_closed: bool = attrs.field(init=False, default=False)

    def subscribe(self, waiting: int) -> Candles:
        """Return a new reader of the candles that are published from now on.

        Args:
          waiting: how many candles of the stream, and how many refills, wait for it at most.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        candles = Candles((_queue(waiting), _queue(waiting)), self._is_closed)
        self._candles[candles] = None
        return candles

    def subscribe_fills(self, waiting: int) -> Fills:
        """Return a new reader of the fills that are published from now on.

        Args:
          waiting: how many announcements wait for it at most.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        fills = Fills((_queue(waiting),), self._is_closed)
        self._fills[fills] = None
        return fills

    def publish(self, batch: Sequence[ReceivedCandle]) -> None:
        """Give each reader its copies of committed candles."""
        if self._candles:
            stream = Source.STREAM
            live = [one for one in batch if one.source is stream]
            refills = [one for one in batch if one.source is not stream]
            for candles in self._candles:
                candles.put(live, refills)

    def publish_fill(self, filled: Filled) -> None:
        """Tell each reader that candles went into the files."""
        for fills in self._fills:
            fills.put(filled)

    def close(self) -> None:
        """End each reader, after it has taken all that waits for it; new ones end at once."""
        self._is_closed = True
        readers: list[_Reader[Any]] = [*self._candles, *self._fills]
        for reader in readers:
            reader.close()


def _queue(waiting: int) -> _Queue[_Copy]:
    if isinstance(waiting, bool) or not isinstance(waiting, int) or waiting < 1:
        raise ValueError(f"waiting is at least 1, not {waiting!r}")
    return _Queue(deque(maxlen=waiting))
