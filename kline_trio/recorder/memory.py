"""Keeps the memory of a program that runs for months at what it uses."""

import trio

from kline_trio.recorder.seams import Door
from kline_trio.storage.memory import give_back

__all__ = ["keep_giving_back"]

_SECONDS = 60.0


async def keep_giving_back(door: Door) -> None:
    """Give freed memory back to the system now and then, until cancelled."""
    while True:
        await trio.sleep(_SECONDS)
        await door.run(give_back)
