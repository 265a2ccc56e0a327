"""Copies of committed candles for the program around the recorder. No reader can block the store.

Each reader has bounded queues of its own. If a queue is full, its oldest copy is lost to that
reader, and counted. Publishing is synchronous and never waits.
"""

import weakref
from collections import Counter, deque
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.interval import Span

_Copy = TypeVar("_Copy")


@attrs.frozen
class Filled:
    """Candles that went into the files past the program, as those of archives do.

    Read them from the store: `kline_trio.read`.
    """

    series: Series
    span: Span
    """From the begin of the first candle, inclusive, to the end of the last, exclusive."""
    source: Source


@attrs.define(eq=False)
class _Reader(Generic[_Copy]):
    """An async iterator over queues.

    Several tasks may iterate over one reader; each copy then goes to one of them.
    """

    _queues: tuple[deque[_Copy], ...]
    """Each has a limit. The reader takes from the first one that is not empty."""
    _is_closed: bool
    _lost: Counter[int] = attrs.field(init=False, factory=Counter)
    """How many copies of each queue were lost, by its number."""
    _waiting: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)

    @property
    def lost(self) -> int:
        """How many copies this reader has lost, because it was too slow."""
        return self._lost.total()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Copy:
        # Both checkpoints come before a copy is taken, so a cancellation loses none.
        await trio.lowlevel.checkpoint()
        while True:
            for queue in self._queues:
                if queue:
                    return queue.popleft()
            if self._is_closed:
                raise StopAsyncIteration
            await self._waiting.park()

    def put(self, *batches: Sequence[_Copy]) -> None:
        """Append a batch to each queue; drop and count the oldest copies that do not fit."""
        for number, (queue, batch) in enumerate(zip(self._queues, batches, strict=True)):
            waiting = len(queue) + len(batch)
            queue.extend(batch)
            self._lost[number] += waiting - len(queue)
        self._waiting.unpark_all()

    def close(self) -> None:
        """End the iteration once the queues are empty."""
        self._is_closed = True
        self._waiting.unpark_all()


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
        return self._lost[1]


@attrs.define(eq=False)
class Fills(_Reader[Filled]):
    """Spans that went into the files past the program: `async for filled in fills`.

    The iteration ends when the recorder has stopped and all announcements were taken.
    """


@attrs.define(eq=False)
class Broadcast:
    """The readers of one recorder."""

    # Weak, so that a reader that a program has dropped costs nothing. Not WeakSets: they do not
    # keep the order of subscription, and seeded tests could not be repeated.
    _candles: weakref.WeakKeyDictionary[Candles, None] = attrs.field(
        init=False, factory=weakref.WeakKeyDictionary
    )
    _fills: weakref.WeakKeyDictionary[Fills, None] = attrs.field(
        init=False, factory=weakref.WeakKeyDictionary
    )
    _is_closed: bool = attrs.field(init=False, default=False)

    def subscribe(self, waiting: int) -> Candles:
        """Return a new reader of later candles. Of streams and of refills at most `waiting` wait.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        candles = Candles((_queue(waiting), _queue(waiting)), self._is_closed)
        self._candles[candles] = None
        return candles

    def subscribe_fills(self, waiting: int) -> Fills:
        """Return a new reader of later fills. At most `waiting` wait.

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
        """Give each reader of fills an announcement."""
        for fills in self._fills:
            fills.put([filled])

    def close(self) -> None:
        """End each reader once it has taken all copies that wait; end new readers at once."""
        self._is_closed = True
        for candles in self._candles:
            candles.close()
        for fills in self._fills:
            fills.close()


def _queue(waiting: int) -> deque[_Copy]:
    if isinstance(waiting, bool) or not isinstance(waiting, int) or waiting < 1:
        raise ValueError(f"waiting is at least 1, not {waiting!r}")
    return deque(maxlen=waiting)
