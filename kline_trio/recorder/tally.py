"""Counts of committed candles, and of how late they came, by series."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.statistics import (
    LAG_BOUNDS_SECONDS,
    LAG_STEP_SECONDS,
    Lags,
    lag_bucket,
)

_SLICE_SECONDS = 600.0
_SLICES = 6
"""Of an hour."""
_STEPS = 2
"""A reader that looks each second sees each step whole."""


@attrs.define(eq=False)
class _LagCounts:
    """Lags of one series or group; only ever added to."""

    counts: list[int] = attrs.field(init=False, factory=lambda: [0] * (len(LAG_BOUNDS_SECONDS) + 1))
    sum_seconds: float = attrs.field(init=False, default=0.0)
    max_seconds: float = attrs.field(init=False, default=0.0)

    def add(self, lag_seconds: float, bucket: int) -> None:
        self.counts[bucket] += 1
        self.sum_seconds += lag_seconds
        if lag_seconds > self.max_seconds:
            self.max_seconds = lag_seconds


def _lags(parts: Sequence[_LagCounts]) -> Lags:
    counts = [sum(column) for column in zip(*(one.counts for one in parts), strict=True)]
    return Lags(
        tuple(counts) or (0,) * (len(LAG_BOUNDS_SECONDS) + 1),
        sum(one.sum_seconds for one in parts),
        max((one.max_seconds for one in parts), default=0.0),
    )


@attrs.define(eq=False)
class SeriesTally:
    """The counts of one series."""

    last_open_ms: int | None = attrs.field(init=False, default=None)
    received: int = attrs.field(init=False, default=0)
    refilled: Counter[str] = attrs.field(init=False, factory=Counter)
    _slices: deque[tuple[int, _LagCounts]] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_SLICES)
    )
    """The number of each ten minutes by the local clock, and the lags in them."""

    def add_lag(self, lag_seconds: float, bucket: int, now: float) -> None:
        """Note the lag of a candle that was committed now, and its bucket."""
        number = int(now // _SLICE_SECONDS)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, _LagCounts()))
        self._slices[-1][1].add(lag_seconds, bucket)

    def last_hour(self, now: float) -> Lags:
        """Return the lags of the last hour, to ten minutes."""
        oldest = int(now // _SLICE_SECONDS) - _SLICES
        return _lags([one for number, one in self._slices if number > oldest])


@attrs.define(eq=False)
class MarketCloses:
    """The last close of a market, and the lags of its last seconds."""

    end_ms: int | None = attrs.field(init=False, default=None)
    """In exchange time."""
    lag_seconds: float | None = attrs.field(init=False, default=None)
    """Of the last candle of that end."""
    _steps: deque[tuple[int, _LagCounts]] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_STEPS)
    )

    def add(self, end_ms: int, lag_seconds: float | None) -> None:
        """Note a committed candle of the stream."""
        if self.end_ms is None or end_ms > self.end_ms:
            self.end_ms, self.lag_seconds = end_ms, lag_seconds
        elif end_ms == self.end_ms:
            # A batch is committed at one time, so the later batch has the longer lag.
            self.lag_seconds = lag_seconds

    def add_lag(self, lag_seconds: float, bucket: int, step: int) -> None:
        """Note a lag in a step."""
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, _LagCounts()))
        self._steps[-1][1].add(lag_seconds, bucket)

    def recent_lags(self) -> tuple[tuple[int, Lags], ...]:
        """Return the lags of the last two steps with candles, each with the step's number."""
        return tuple((step, _lags([counts])) for step, counts in self._steps)


@attrs.define(eq=False)
class Tally:
    """The counts of all series."""

    clock_ms: Callable[[str], int | None]
    """Returns the exchange's time of a market."""
    _series: defaultdict[Series, SeriesTally] = attrs.field(
        init=False, factory=lambda: defaultdict(SeriesTally)
    )
    _lags: defaultdict[tuple[str, str], _LagCounts] = attrs.field(
        init=False, factory=lambda: defaultdict(_LagCounts)
    )
    """By market and interval."""
    _totals: defaultdict[str, SeriesTally] = attrs.field(
        init=False, factory=lambda: defaultdict(SeriesTally)
    )
    """By market, of the series that are recorded no more, too."""
    _closes: defaultdict[str, MarketCloses] = attrs.field(
        init=False, factory=lambda: defaultdict(MarketCloses)
    )
    """By market."""

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Count candles that are durable now.

        The lag of a candle is measured by the exchange's time, as far as it is confirmed now. So
        a wrong local clock changes nothing; where little is traded, the time moves seldom, and
        lags are too short by that much.
        """
        now = trio.current_time()
        step = int(now // LAG_STEP_SECONDS)
        for one in batch:
            series, candle = one.series, one.candle
            tally, total = self._series[series], self._totals[series.trade_type]
            if tally.last_open_ms is None or candle.open_time_ms > tally.last_open_ms:
                tally.last_open_ms = candle.open_time_ms
            if one.source is not Source.STREAM:
                tally.refilled[one.source] += 1
                total.refilled[one.source] += 1
                continue
            tally.received += 1
            total.received += 1
            now_ms, closes = self.clock_ms(series.trade_type), self._closes[series.trade_type]
            end_ms = series.interval.end_time_ms(candle.open_time_ms)
            lag_seconds = None if now_ms is None else max(0, now_ms - end_ms) / 1_000
            closes.add(end_ms, lag_seconds)
            if lag_seconds is not None:
                bucket = lag_bucket(lag_seconds)
                tally.add_lag(lag_seconds, bucket, now)
                closes.add_lag(lag_seconds, bucket, step)
                self._lags[series.trade_type, series.time_interval].add(lag_seconds, bucket)

    def filled(self, filled: Filled) -> None:
        """Count candles that went into the files past the journal."""
        series, count = filled.series, filled.series.interval.count(filled.span)
        self._series[series].refilled[filled.source] += count
        self._totals[series.trade_type].refilled[filled.source] += count

    def of(self, series: Series) -> SeriesTally:
        """Return the counts of a series."""
        return self._series.get(series) or SeriesTally()

    def total(self, trade_type: str) -> SeriesTally:
        """Return the counts of a market."""
        return self._totals.get(trade_type) or SeriesTally()

    def closes(self, trade_type: str) -> MarketCloses:
        """Return the last closes of a market."""
        return self._closes.get(trade_type) or MarketCloses()

    def lags(self, trade_type: str) -> Mapping[str, Lags]:
        """Return the lags of a market since the start, by interval."""
        return {
            interval: _lags([counts])
            for (name, interval), counts in sorted(self._lags.items())
            if name == trade_type
        }

    def forget(self, recorded: Sequence[Series]) -> None:
        """Drop the counts of series that are recorded no more; those of markets stay."""
        for series in self._series.keys() - set(recorded):
            del self._series[series]
