"""Log lines about markets that stay silent: the connection's own lines come once only."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
import trio

from kline_trio.counting import counted
from kline_trio.duration import duration_text

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_HOUR_SECONDS = 3_600.0
_REPORT_SECONDS = (60.0, 600.0, _HOUR_SECONDS)
"""After so long; then each hour."""


def reports_due(silent_seconds: float) -> int:
    """Return how many reports are due by now: after 1, 10 and 60 minutes, and then each hour."""
    first = sum(silent_seconds >= seconds for seconds in _REPORT_SECONDS)
    return first + max(0, int(silent_seconds / _HOUR_SECONDS) - 1)


class Market(Protocol):
    """What is asked of a listener."""

    @property
    def heard_at(self) -> float:
        """When the last valid candle came, by Trio's clock."""

    @property
    def lost(self) -> int:
        """How many connections have ended by themselves."""


@attrs.define
class _Silence:
    """The time since the last candle of a market."""

    since: float
    """By Trio's clock."""
    lost_before: int
    """Connections that had ended by then."""
    reports: int = 0


@attrs.define(eq=False)
class OutageLog:
    """Reports each silent market again and again, with the duration of its silence."""

    listeners: Mapping[str, Market]
    uses: Callable[[str], bool]
    """Returns whether a market is recorded."""
    _silences: dict[str, _Silence] = attrs.field(init=False, factory=dict)

    async def run(self) -> None:
        """Look each five seconds, until cancelled."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            for name, listener in self.listeners.items():
                if self.uses(name):
                    self._look(name, listener)
                else:
                    self._silences.pop(name, None)

    def _look(self, name: str, listener: Market) -> None:
        now = trio.current_time()
        known = self._silences.get(name)
        if known is None or listener.heard_at > known.since:
            since = listener.heard_at if known is not None else now
            self._silences[name] = _Silence(since, listener.lost)
            return
        due = reports_due(now - known.since)
        if due > known.reports:
            known.reports = due
            lost = listener.lost - known.lost_before
            logger.warning(
                "%s: no data for %s, %s",
                name,
                duration_text(now - known.since),
                counted(lost, "attempt"),
            )
