"""A rest that several connections take together."""

import math

import attrs
import trio

__all__ = ["Lull"]


@attrs.define(eq=False)
class Lull:
    """Who waits for the same moment is woken by one timer.

    At an even load most CPU goes into wake-ups, and a fifth of that into Trio's timers: to sleep
    is to be cancelled.
    """

    _waiting: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    _awake_at: float = attrs.field(init=False, default=math.inf)
    """Until when the one sleeps who wakes the others."""

    async def until(self, moment: float) -> None:
        """Wait until that time of Trio's clock.

        If who sleeps for all is cancelled, another goes on.
        """
        while trio.current_time() < moment:
            if self._awake_at <= moment:
                await self._waiting.park()
                continue
            self._awake_at = moment
            try:
                await trio.sleep_until(moment)
            finally:
                self._awake_at = math.inf
                self._waiting.unpark_all()
