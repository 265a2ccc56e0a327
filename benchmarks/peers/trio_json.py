"""trio-websocket, and `json.loads` of each frame: the simplest thing on Trio that can work."""

import json
import ssl

import trio
import trio_websocket

from benchmarks.peers.counting import Asked, Counter

_SUBSCRIBED_AT_ONCE = 200


async def _receive(asked: Asked, streams: list[str], counter: Counter) -> None:
    context = ssl.create_default_context(cafile=asked.ca) if asked.ca else None
    url = f"{asked.websocket}/stream"
    async with trio_websocket.open_websocket_url(url, context) as socket:
        for start in range(0, len(streams), _SUBSCRIBED_AT_ONCE):
            some = streams[start : start + _SUBSCRIBED_AT_ONCE]
            await socket.send_message(
                json.dumps({"method": "SUBSCRIBE", "params": some, "id": start})
            )
        while True:
            event = json.loads(await socket.get_message())
            if "data" in event and event["data"]["k"]["x"]:
                counter.closed(event["data"]["s"])


async def _main() -> None:
    counter, asked = Counter(), Asked()
    async with trio.open_nursery() as nursery:
        for streams in asked.streams:
            nursery.start_soon(_receive, asked, streams, counter)


if __name__ == "__main__":
    trio.run(_main)
