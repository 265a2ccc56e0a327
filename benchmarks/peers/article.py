"""The original design: websockets, `json.loads`, and a data frame for each closed candle.

The frames go through a queue to whoever writes them; here they are only counted.
"""

import asyncio
import json

import pandas as pd
import websockets

from benchmarks.peers.counting import Asked, Counter

_COLUMNS = ("o", "h", "l", "c", "v", "n", "q", "V", "Q")


async def _listen(url: str, streams: list[str], queue: asyncio.Queue[pd.DataFrame]) -> None:
    async with websockets.connect(f"{url}/stream?streams={'/'.join(streams)}") as socket:
        while True:
            candle = json.loads(await socket.recv())["data"]["k"]
            if candle["x"]:
                values = {name: float(candle[name]) for name in _COLUMNS}
                values["symbol"] = candle["s"]
                begin = pd.to_datetime(candle["t"], unit="ms", utc=True)
                await queue.put(pd.DataFrame(values, index=[begin]))


async def _main() -> None:
    counter, asked = Counter(), Asked()
    queue: asyncio.Queue[pd.DataFrame] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        for streams in asked.streams:
            tasks.create_task(_listen(asked.websocket, streams, queue))
        while True:
            frame = await queue.get()
            counter.closed(frame["symbol"].iloc[0])


if __name__ == "__main__":
    asyncio.run(_main())
