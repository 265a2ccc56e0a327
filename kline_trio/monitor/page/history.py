"""The last hour of a recorder, in steps of ten seconds (pure).

The watch feeds each snapshot; all readers share the columns.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import attrs

from kline_trio.recorder.statistics import (
    LAG_BOUNDS_SECONDS,
    LAG_STEP_SECONDS,
    Lags,
    MarketStatistics,
    Statistics,
)

STEP_SECONDS = LAG_STEP_SECONDS
STEPS = 360
"""Of an hour."""


@attrs.define
class _Step:
    """Ten seconds by Trio's clock."""

    number: int
    began_ms: int
    """By the local wall clock."""
    frames: int = 0
    candles: int = 0
    seconds: float = 0.0
    """How much of the step the counts cover."""
    lags: Mapping[str, Lags] = attrs.field(factory=dict)
    """By market."""


@attrs.frozen
class Sample:
    """One step that is over."""

    time_ms: int
    """When it began, by the local wall clock."""
    frames: float | None
    """A second; None: the recorder was not watched."""
    candles: int
    lag_p50: float | None
    """In seconds; None: no candle was committed."""
    lag_max: float | None


@attrs.frozen
class _Counts:
    """What had been counted up to a snapshot, by market."""

    at: float
    frames: Mapping[str, int]
    candles: Mapping[str, int]

    @classmethod
    def of(cls, markets: Iterable[MarketStatistics], at: float) -> "_Counts":
        """Return the counts of a snapshot."""
        markets = tuple(markets)
        return cls(
            at,
            {one.trade_type: one.listener.traffic.frames for one in markets},
            {one.trade_type: one.received for one in markets},
        )


@attrs.define(eq=False)
class History:
    """What a recorder received in the last hour, and how late it committed."""

    _steps: deque[_Step] = attrs.field(init=False, factory=lambda: deque(maxlen=STEPS + 1))
    """The last one is at work."""
    _before: _Counts | None = attrs.field(init=False, default=None)

    def look(self, found: Statistics, now: float) -> None:
        """Take a snapshot.

        Args:
          found: the snapshot.
          now: when it was made, by Trio's clock.
        """
        number = int(now // STEP_SECONDS)
        if not self._steps or self._steps[-1].number < number:
            began_ms = round((found.wall_time - (now - number * STEP_SECONDS)) * 1_000)
            self._steps.append(_Step(number, began_ms))
        before, counts = self._before, _Counts.of(found.markets, now)
        self._before = counts
        step = self._steps[-1]
        if before is not None:
            step.frames += _growth(before.frames, counts.frames)
            step.candles += _growth(before.candles, counts.candles)
            step.seconds += now - before.at
        # A commit after the last look of a step is seen at the first look of the next one.
        by_number = {one.number: one for one in list(self._steps)[-2:]}
        for market in found.markets:
            for nth, lags in market.recent_lags:
                if nth in by_number:
                    of_step = by_number[nth]
                    of_step.lags = {**of_step.lags, market.trade_type: lags}

    @property
    def newest(self) -> Sample | None:
        """The newest step that is over; None if none is."""
        return _sample(self._steps[-2]) if len(self._steps) > 1 else None

    def samples(self) -> list[Sample]:
        """Return the steps that are over, in order; a step in which nobody looked has none."""
        return [_sample(one) for one in list(self._steps)[:-1]]

    def columns(self) -> dict[str, list[object]]:
        """Return the steps that are over as columns."""
        samples = self.samples()
        return {name: [getattr(one, name) for one in samples] for name in attrs.fields_dict(Sample)}


def _growth(before: Mapping[str, int], now: Mapping[str, int]) -> int:
    # A market that is recorded no more has no counts, and one that is recorded again begins anew.
    return sum(max(0, count - before.get(name, count)) for name, count in now.items())


def _sample(step: _Step) -> Sample:
    lags = together(list(step.lags.values()))
    return Sample(
        step.began_ms,
        round(step.frames / step.seconds, 1) if step.seconds else None,
        step.candles,
        _rounded(median(lags)),
        _rounded(lags.max_seconds if lags.count else None),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def together(parts: Sequence[Lags]) -> Lags:
    """Return the lags of several markets or intervals as one."""
    counts = [sum(column) for column in zip(*(one.counts for one in parts), strict=True)]
    return Lags(
        tuple(counts) or (0,) * (len(LAG_BOUNDS_SECONDS) + 1),
        sum(one.sum_seconds for one in parts),
        max((one.max_seconds for one in parts), default=0.0),
    )


def median(lags: Lags) -> float | None:
    """Return the median, as if the lags of a bucket were evenly spread; None without lags."""
    wanted, seen, low = lags.count / 2, 0, 0.0
    for count, bound in zip(lags.counts, (*LAG_BOUNDS_SECONDS, lags.max_seconds), strict=True):
        high = min(bound, lags.max_seconds)
        if count and seen + count >= wanted:
            return low + (high - low) * (wanted - seen) / count
        seen, low = seen + count, high
    return None
