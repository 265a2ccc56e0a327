"""Log lines about recorded candles: one for each, or a summary a minute where they are many."""

import enum
import logging
from collections.abc import Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.counting import counted
from kline_trio.interval import time_text
from kline_trio.recorder.series_set import SeriesSet

logger = logging.getLogger("kline_trio.recorder.writer")

_MOST_A_MINUTE = 20
_SUMMARY_SECONDS = 60.0
_MINUTE_MS = 60_000


class LogCandles(enum.StrEnum):
    """Which candles have log lines of their own."""

    AUTO = "auto"
    """All, if at most 20 close in a minute of the exchange's time; else none."""
    ALWAYS = "always"
    SUMMARY = "summary"
    """None; a summary a minute."""
    NEVER = "never"
    """None, and no summary."""


@attrs.define(eq=False)
class CandleLog:
    """Logs candles of the stream once they are durable.

    Whether candles are many is told by the configured series, not by what comes: so one log has
    one form. A commit of more candles is summed up, too, as in a fast replay.
    """

    series_set: SeriesSet
    mode: LogCandles = LogCandles.AUTO
    _known: tuple[frozenset[Series], bool] = attrs.field(init=False, default=(frozenset(), False))
    """The series, and whether they have many candles."""
    _count: int = attrs.field(init=False, default=0)
    """Of the next summary."""
    _names: set[Series] = attrs.field(init=False, factory=set)
    _newest_ms: int = attrs.field(init=False, default=0)

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Log candles that are durable now, or count them for the next summary."""
        stream = [one for one in batch if one.source is Source.STREAM]
        level = logging.INFO if self._has_lines(len(stream)) else logging.DEBUG
        if logger.isEnabledFor(level):
            for one in stream:
                end_ms = one.series.interval.end_time_ms(one.candle.open_time_ms)
                logger.log(level, "Recorded %s at %s", one.series, time_text(end_ms))
        if level == logging.DEBUG:
            ends = (one.series.interval.end_time_ms(one.candle.open_time_ms) for one in stream)
            self._newest_ms = max((self._newest_ms, *ends))
            self._names.update(one.series for one in stream)
            self._count += len(stream)

    async def run(self) -> None:
        """Write a summary each minute, until cancelled."""
        while True:
            await trio.sleep(_SUMMARY_SECONDS)
            self.summarize()

    def summarize(self) -> None:
        """Log how many candles have become durable since the last summary, if there are any."""
        if self._count and self.mode is not LogCandles.NEVER:
            logger.info(
                "Recorded %s of %s series, up to the close at %s",
                counted(self._count, "candle"),
                f"{len(self._names):,}",
                time_text(self._newest_ms),
            )
        self._count = 0
        self._names.clear()

    def _has_lines(self, count: int) -> bool:
        if self.mode is not LogCandles.AUTO:
            return self.mode is LogCandles.ALWAYS
        series = self.series_set.wanted
        if series is not self._known[0]:
            a_minute = sum(
                _MINUTE_MS / one.interval.duration_ms for one in series if one.interval.duration_ms
            )
            self._known = (series, a_minute > _MOST_A_MINUTE)
        return not self._known[1] and count <= _MOST_A_MINUTE
