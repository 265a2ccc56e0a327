"""Copies of accepted candles for whoever listens along; nobody can hold the store up."""

from collections.abc import Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle

__all__ = ["Audience", "Candles"]


@attrs.define(eq=False)
class Candles:
    """Accepted candles as they come: `async for candle in candles`.

    It ends when the recorder stops. A reader that is too slow loses its own copies, never the
    store's.
    """

    _receive: trio.MemoryReceiveChannel[ReceivedCandle]

    lost: int = attrs.field(init=False, default=0)
    """How many copies were dropped because this reader was behind."""

    def __aiter__(self) -> "Candles":
        return self

    async def __anext__(self) -> ReceivedCandle:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


@attrs.define(eq=False)
class Audience:
    """All who listen along."""

    _seats: dict[Candles, trio.MemorySendChannel[ReceivedCandle]] = attrs.field(
        init=False, factory=dict
    )

    def join(self, waiting: int) -> Candles:
        """A new reader, for which at most so many candles wait."""
        send, receive = trio.open_memory_channel[ReceivedCandle](waiting)
        candles = Candles(receive)
        self._seats[candles] = send
        return candles

    def publish(self, batch: Sequence[ReceivedCandle]) -> None:
        """Give each reader its copies; what does not fit is lost to that reader, and counted."""
        for candles, send in self._seats.items():
            for position, received in enumerate(batch):
                try:
                    send.send_nowait(received)
                except trio.WouldBlock:
                    candles.lost += len(batch) - position
                    break

    def leave(self) -> None:
        """End every reader's candles, after those that wait for it."""
        for send in self._seats.values():
            send.close()
