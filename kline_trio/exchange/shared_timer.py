"""A rest that several connections take together."""

import attrs
import trio

__all__ = ["SharedTimer"]


@attrs.define(eq=False)
class SharedTimer:
    """Who waits for the same moment is woken by one timer.

    At an even load most CPU goes into wake-ups, and a fifth of that into Trio's timers: to sleep
    is to be cancelled.
    """

    _waiting: dict[float, trio.lowlevel.ParkingLot] = attrs.field(init=False, factory=dict)
    """By moment: who waits beside the one that sleeps until then, and wakes them."""

    async def until(self, moment: float) -> None:
        """Wait until that time of Trio's clock.

        If who sleeps for all is cancelled, another goes on.
        """
        while trio.current_time() < moment:
            if moment in self._waiting:
                await self._waiting[moment].park()
                continue
            waiting = self._waiting[moment] = trio.lowlevel.ParkingLot()
            try:
                await trio.sleep_until(moment)
            finally:
                del self._waiting[moment]
                waiting.unpark_all()
