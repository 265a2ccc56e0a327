"""Looks at a recorder once a second; all readers share the snapshot and its verdict."""

from collections.abc import Callable

import attrs
import trio

from kline_trio.monitor.health import Health, Thresholds
from kline_trio.recorder.statistics import Statistics

_LOOK_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class Observation:
    """One snapshot with its verdict."""

    statistics: Statistics
    health: Health
    is_simulated: bool

    def verdict(self) -> dict[str, object]:
        """Return the verdict and its reasons, for JSON."""
        health = self.health
        assert health.since is not None
        return {
            "verdict": str(health.verdict),
            "ready": health.is_ready,
            "simulated": self.is_simulated,
            "since_seconds": round(trio.current_time() - health.since, 1),
            "reasons": [
                {
                    "code": str(one.code),
                    "verdict": str(one.verdict),
                    "subject": one.subject,
                    "text": one.text,
                }
                for one in health.reasons
            ],
        }


@attrs.define(eq=False)
class Watch:
    """The newest observation of one recorder."""

    statistics: Callable[[], Statistics]
    limits: Thresholds
    is_simulated: bool = False
    latest: Observation = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.latest = self._observe(Health())

    async def run(self) -> None:
        """Observe once a second, until cancelled."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            self.latest = self._observe(self.latest.health)

    def _observe(self, before: Health) -> Observation:
        found = self.statistics()
        health = before.after(found, self.limits, trio.current_time())
        return Observation(statistics=found, health=health, is_simulated=self.is_simulated)
