"""Free space on the disk: log that it is used up, wait for it, and estimate how long it lasts."""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.counting import counted
from kline_trio.errors import DiskError, DiskFullError
from kline_trio.recorder.environment import Storage

logger = logging.getLogger("kline_trio.recorder.room")

_Result = TypeVar("_Result")

RETRY_SECONDS = 5.0
"""Between two attempts to write to a full disk."""

_LOG_SECONDS = 60.0
_DAY_SECONDS = 86_400.0
_FEW_DAYS = 30


@attrs.define(eq=False)
class DiskFullLog:
    """Logs that the disk is full, once a minute, and that it has space again."""

    problem: str | None = None
    """Why the last write failed; None if it did not."""
    _logged_at: float | None = None

    def full(self, error: DiskFullError, effect: str) -> None:
        """Log that a write failed, and what that means for the candles."""
        now, self.problem = trio.current_time(), str(error)
        if self._logged_at is None or now >= self._logged_at + _LOG_SECONDS:
            self._logged_at = now
            logger.error("disk full: %s; %s", error, effect)

    def written(self, effect: str) -> None:
        """Log the first write after failures."""
        self.problem = None
        if self._logged_at is not None:
            self._logged_at = None
            logger.info("there is disk space again%s", effect)


async def retry_while_full(
    job: Callable[..., Awaitable[_Result]],
    *arguments: Any,  # noqa: ANN401
    effects: tuple[str, str] = ("what is absent is filled in later", "; filling in goes on"),
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> _Result:
    """Repeat a job every five seconds while the disk is full. Return its result.

    Args:
      job: writes to the disk.
      arguments: of the job.
      effects: for the log: the effect of a full disk, and of its end.
      stop_asked: returns when the wait is to end.

    Raises:
      DiskFullError: a stop was asked.
    """
    log = DiskFullLog()
    while True:
        try:
            result = await job(*arguments)
        except DiskFullError as error:
            log.full(error, effects[0])
            with trio.move_on_after(RETRY_SECONDS) as pause:
                await stop_asked()
            if not pause.cancelled_caught:
                raise
        else:
            log.written(effects[1])
            return result


async def watch_disk_space(storage: Storage, series: Callable[[], Iterable[Series]]) -> None:
    """Log once a day, until cancelled, how long the free space lasts; warn below 30 days.

    Args:
      storage: the store on the disk.
      series: returns the series that are recorded now.
    """
    while True:
        try:
            room = await storage.commit_door.run(storage.store.room)
        except DiskError as error:
            logger.warning("the free disk space is not known: %s", error)
        else:
            days = room.days_left(series())
            logger.log(
                logging.WARNING if days < _FEW_DAYS else logging.INFO,
                "disk space: %.1f GB free%s",
                room.free_bytes / 1e9,
                f", enough for {counted(round(days), 'day')}" if days < math.inf else "",
            )
        await trio.sleep(_DAY_SECONDS)
