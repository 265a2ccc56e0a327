"""python-binance, as its README says: a multiplex socket, and `recv` in a loop."""

import asyncio

from binance import AsyncClient, BinanceSocketManager

from benchmarks.peers.counting import Asked, Counter

_NEVER_FULL = 1 << 40
"""By default a connection ends when 100 messages wait, which a saturated one does at once."""


async def _receive(manager: BinanceSocketManager, streams: list[str], counter: Counter) -> None:
    async with manager.multiplex_socket(streams) as socket:
        while True:
            event = await socket.recv()
            if event["data"]["k"]["x"]:
                counter.closed(event["data"]["s"])


async def _main() -> None:
    counter, asked = Counter(), Asked()
    # Only `AsyncClient.create` would ask the exchange for something.
    manager = BinanceSocketManager(AsyncClient(), max_queue_size=_NEVER_FULL)
    manager.STREAM_URL = asked.websocket + "/"
    async with asyncio.TaskGroup() as tasks:
        for streams in asked.streams:
            tasks.create_task(_receive(manager, streams, counter))


if __name__ == "__main__":
    asyncio.run(_main())
