"""Looks at a recorder once a second; all readers share the snapshot and its verdict."""

import json
import logging
from collections.abc import Callable, Mapping

import attrs
import trio

from kline_trio.monitor.health import Health, Thresholds
from kline_trio.recorder.statistics import Statistics

logger = logging.getLogger(__name__)

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
    follower: Callable[[Observation], None] | None = None
    """Called with each observation; None: nobody follows. A bug in it is logged once."""
    latest: Observation = attrs.field(init=False)
    _is_blind: bool = attrs.field(init=False, default=False)
    _is_lost: bool = attrs.field(init=False, default=False)
    """Whether the last call of the follower failed."""

    def __attrs_post_init__(self) -> None:
        self.latest = self._observe(Health())

    async def run(self) -> None:
        """Observe once a second, until cancelled. A bug is logged once, and health is bad then."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Observe now."""
        before = self.latest.health
        try:
            self.latest = self._observe(before)
            self._is_blind = False
        except Exception:
            # An old snapshot would say for ever that all is well.
            if not self._is_blind:
                logger.exception("monitor: the recorder cannot be observed")
            self._is_blind = True
            health = before.unobserved(self.limits, trio.current_time())
            self.latest = attrs.evolve(self.latest, health=health)
        self._lead()

    def _lead(self) -> None:
        if self.follower is None:
            return
        try:
            self.follower(self.latest)
            self._is_lost = False
        except Exception:
            # It must not end the watch: health would stay as it is for ever.
            if not self._is_lost:
                logger.exception("monitor: the page cannot follow the recorder")
            self._is_lost = True

    def _observe(self, before: Health) -> Observation:
        found = self.statistics()
        health = before.after(found, self.limits, trio.current_time())
        return Observation(statistics=found, health=health, is_simulated=self.is_simulated)


def json_line(values: Mapping[str, object]) -> bytes:
    """Return values as one line of JSON, in UTF-8."""
    text = json.dumps(values, ensure_ascii=False)
    # A path that is no UTF-8 has lone surrogates. Their backslash escape is JSON's, too.
    return text.encode(errors="backslashreplace") + b"\n"
