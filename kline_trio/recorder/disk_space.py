"""The room on the disk: what is said while there is none, and how long it will last."""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.errors import DiskError, DiskFullError
from kline_trio.recorder.environment import Storage

__all__ = ["RETRY_SECONDS", "DiskFullLog", "retry_while_full", "watch_disk_space"]

logger = logging.getLogger("kline_trio.recorder.room")

_Result = TypeVar("_Result")

RETRY_SECONDS = 5.0
"""Between two attempts to write to a disk that had no room."""

_SAY_SECONDS = 60.0
_DAY_SECONDS = 86_400.0
_FEW_DAYS = 30


@attrs.define(eq=False)
class DiskFullLog:
    """Says that the disk has no room, once a minute, and that it has again."""

    _said_at: float | None = None

    def no_room(self, error: DiskFullError, effect: str) -> None:
        """The disk had none just now.

        Args:
          error: what it said.
          effect: what that means for the candles.
        """
        now = trio.current_time()
        if self._said_at is None or now >= self._said_at + _SAY_SECONDS:
            self._said_at = now
            logger.error("no room: %s; %s", error, effect)

    def room(self, effect: str) -> None:
        """Something could be written."""
        if self._said_at is not None:
            self._said_at = None
            logger.info("there is room again%s", effect)


async def retry_while_full(job: Callable[..., Awaitable[_Result]], *arguments: Any) -> _Result:  # noqa: ANN401
    """Do a job as often as it takes until there is room for it; say so."""
    words = DiskFullLog()
    while True:
        try:
            result = await job(*arguments)
        except DiskFullError as error:
            words.no_room(error, "what is absent is filled in later")
            await trio.sleep(RETRY_SECONDS)
        else:
            words.room("; filling in goes on")
            return result


async def watch_disk_space(storage: Storage, series: Callable[[], Iterable[Series]]) -> None:
    """Say once a day, until cancelled, how long the room lasts; warn where that is not long.

    Args:
      storage: whose room.
      series: returns what is recorded now.
    """
    while True:
        try:
            room = await storage.commit_door.run(storage.store.room)
        except DiskError as error:
            logger.warning("the room on the disk is not known: %s", error)
        else:
            days = room.days_left(series())
            logger.log(
                logging.WARNING if days < _FEW_DAYS else logging.INFO,
                "room: %.1f GB free%s",
                room.free_bytes / 1e9,
                f", enough for {days:,.0f} days" if days < math.inf else "",
            )
        await trio.sleep(_DAY_SECONDS)
