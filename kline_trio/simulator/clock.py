"""Exchange time as a function of local time: started, sped up, leaping over empty stretches."""

from bisect import bisect_right
from collections.abc import Iterable
from math import inf

_ROUNDING_MS = 0.01
"""A wake-up computed for a moment must find that moment reached."""


class Clock:
    """Maps local seconds to exchange milliseconds; stands still before its start and at its end.

    Args:
        start_ms: Exchange time shown until the clock is started, and from which it runs.
        speed: Exchange seconds that pass in one local second.
        end_ms: Exchange time at which it stands still, None for never.
        leaps: (from, to) pairs in order: one local second after ``from`` the clock shows ``to``.
            In that second what was sent at ``from`` arrives, at any speed.
    """

    def __init__(
        self,
        start_ms: int,
        speed: float,
        end_ms: int | None = None,
        leaps: Iterable[tuple[int, int]] = (),
    ) -> None:
        if not 0 < speed < inf:
            raise ValueError(f"speed must be positive and finite, not {speed}")
        self.end_ms = end_ms
        self._speed = speed
        self._started_s: float | None = None
        self._shown_ms = [start_ms]
        self._played_ms = [0]
        for from_ms, to_ms in leaps:
            left_ms = min(int(from_ms + 1000 * speed), to_ms)
            self._played_ms.append(self._played_ms[-1] + left_ms - self._shown_ms[-1])
            self._shown_ms.append(to_ms)

    @property
    def started(self) -> bool:
        """Whether the clock runs or has run."""
        return self._started_s is not None

    def start(self, now_s: float) -> None:
        """Let the clock run from this local moment; a clock that runs is left alone."""
        if self._started_s is None:
            self._started_s = now_s

    def now_ms(self, now_s: float) -> int:
        """Return the exchange time at a local moment."""
        if self._started_s is None:
            return self._shown_ms[0]
        played_ms = (now_s - self._started_s) * 1000 * self._speed + _ROUNDING_MS
        part = max(0, bisect_right(self._played_ms, played_ms) - 1)
        shown_ms = self._shown_ms[part] + int(played_ms - self._played_ms[part])
        return shown_ms if self.end_ms is None else min(shown_ms, self.end_ms)

    def local_s(self, at_ms: int) -> float:
        """Return the local moment at which an exchange time is reached; infinite if never."""
        if self._started_s is None or (self.end_ms is not None and at_ms > self.end_ms):
            return inf
        part = max(0, bisect_right(self._shown_ms, at_ms) - 1)
        played_ms = self._played_ms[part] + at_ms - self._shown_ms[part]
        if part + 1 < len(self._played_ms):
            played_ms = min(played_ms, self._played_ms[part + 1])
        return self._started_s + played_ms / 1000 / self._speed
