"""The room on the disk: what is said while there is none, and how long it will last."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.errors import DiskError, NoRoomError
from kline_trio.recorder.seams import Door
from kline_trio.storage.store import Store

__all__ = ["RETRY_SECONDS", "NoRoomWords", "days_left", "watch_room", "with_room"]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

RETRY_SECONDS = 5.0
"""Between two attempts to write to a disk that had no room."""

_SAY_SECONDS = 60.0
_DAY_SECONDS = 86_400.0
_FEW_DAYS = 30
_BYTES_A_ROW = 48.0
"""Where no file has been written yet; real ones take 25 to 50."""
_FEW_ROWS = 1_000
"""Files of fewer rows are mostly footers, and say little of the bytes that a row takes."""
_MONTH_SECONDS = 2_629_746.0


@attrs.define(eq=False)
class NoRoomWords:
    """Says that the disk has no room, once a minute, and that it has again."""

    _said_at: float | None = None

    def no_room(self, error: NoRoomError, effect: str) -> None:
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


async def with_room(door: Door, job: Callable[..., _Result], *arguments: Any) -> _Result:  # noqa: ANN401
    """Run a job behind a door, as often as it takes until there is room for it; say so."""
    words = NoRoomWords()
    while True:
        try:
            result = await door.run(job, *arguments)
        except NoRoomError as error:
            words.no_room(error, "what is absent is filled in later")
            await trio.sleep(RETRY_SECONDS)
        else:
            words.room("; filling in goes on")
            return result


def days_left(free_bytes: int, series: Iterable[Series], bytes_a_row: float) -> float:
    """How long the room lasts for candles of these series; for ever, if there are none."""
    a_second = sum(
        1_000 / one.interval.duration_ms if one.interval.duration_ms else 1 / _MONTH_SECONDS
        for one in series
    )
    return free_bytes / (a_second * bytes_a_row * _DAY_SECONDS) if a_second else math.inf


async def watch_room(
    store: Store, commit_door: Door, series: Callable[[], Iterable[Series]]
) -> None:
    """Say once a day, until cancelled, how long the room lasts; warn where that is not long."""
    while True:
        try:
            totals = await commit_door.run(store.totals)
            free_bytes = await commit_door.run(store.free_bytes)
        except DiskError as error:
            logger.warning("the room on the disk is not known: %s", error)
        else:
            enough = totals.rows >= _FEW_ROWS * totals.files > 0
            bytes_a_row = totals.size_bytes / totals.rows if enough else _BYTES_A_ROW
            days = days_left(free_bytes, series(), bytes_a_row)
            logger.log(
                logging.WARNING if days < _FEW_DAYS else logging.INFO,
                "room: %.1f GB free%s",
                free_bytes / 1e9,
                f", enough for {days:,.0f} days" if days < math.inf else "",
            )
        await trio.sleep(_DAY_SECONDS)
