"""Keeps in the journal that the recorder runs, and what time it is on each exchange."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import trio

from kline_trio.errors import NoRoomError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.recorder.seams import Door
from kline_trio.storage.store import Store

__all__ = ["end_heartbeat", "keep_heartbeat"]

_SECONDS = 60
"""Between two heartbeats."""


async def keep_heartbeat(
    store: Store,
    commit_door: Door,
    clocks: Mapping[str, ExchangeClock],
    wall_clock: Callable[[], float],
) -> None:
    """Keep pid, exchange times and local time once a minute, until cancelled.

    Do so at once at the start, and as soon as a market's time becomes known. Without room on the
    disk, skip it until the next minute.

    Args:
      store: where to.
      commit_door: the way to its journal.
      clocks: by trade type.
      wall_clock: seconds since 1970. It only labels: nothing is decided by it in the recorder.

    Raises:
      DiskError: the journal cannot be written, for another reason than want of room.
    """
    while True:
        times = _known(clocks)
        await _beat(store, commit_door, os.getpid(), times, wall_clock)
        for _ in range(_SECONDS):
            await trio.sleep(1)
            if _known(clocks).keys() != times.keys():
                break


async def end_heartbeat(
    store: Store,
    commit_door: Door,
    clocks: Mapping[str, ExchangeClock],
    wall_clock: Callable[[], float],
) -> None:
    """Keep that the recorder ends, and the last times, so that `status` can count on from them.

    Raises:
      DiskError: as for `keep_heartbeat`.
    """
    await _beat(store, commit_door, None, _known(clocks), wall_clock)


async def _beat(
    store: Store,
    commit_door: Door,
    pid: int | None,
    times: Mapping[str, int],
    wall_clock: Callable[[], float],
) -> None:
    with suppress(NoRoomError):
        await commit_door.run(store.beat, pid, times, round(wall_clock() * 1_000))


def _known(clocks: Mapping[str, ExchangeClock]) -> dict[str, int]:
    return {name: clock.now_ms for name, clock in clocks.items() if clock.now_ms is not None}
