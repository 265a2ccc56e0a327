"""The one place where it becomes known that candles are durable."""

from collections.abc import Callable, Sequence

import attrs

from kline_trio.candle import ReceivedCandle

__all__ = ["Committed"]


@attrs.frozen(eq=False)
class Committed:
    """Tells subscribers of candles whose transaction is committed, whichever source they are of.

    Called with a batch right after the commit, without a checkpoint between. Subscribers are called
    in their order. They are synchronous, and never wait for a door.
    """

    subscribers: tuple[Callable[[Sequence[ReceivedCandle]], None], ...]

    def __call__(self, batch: Sequence[ReceivedCandle]) -> None:
        """Tell all subscribers of a batch."""
        for subscriber in self.subscribers:
            subscriber(batch)
