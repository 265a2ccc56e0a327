"""Which candles are due and have not come: the calendar against what was received (pure).

Sockets prove nothing: streams stall, skip quiet candles, acknowledge what they never send, and
replay nothing after a reconnect. One rule covers all of it: what has not been received a grace
after its close is absent.
"""

import operator
from collections.abc import Collection, Iterable, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span

__all__ = ["Completeness"]

_NAMES = operator.attrgetter("trade_type", "symbol", "time_interval")
"""Orders as Series do, and several times faster."""


@attrs.define
class _Watched:
    """What is known of one series' candles."""

    judged_ms: int | None = None
    """Of candles that open before this each was received or has been named absent; None as long
    as it is not known from where on candles are due."""
    stored: list[Span] = attrs.field(factory=list)
    """What was durable before it was watched, in order."""
    received: set[int] = attrs.field(factory=set)
    """Open times from `judged_ms` on."""
    in_flight: set[int] = attrs.field(factory=set)
    """Open times that were received and are not durable yet."""
    lost: set[int] = attrs.field(factory=set)
    """Open times that were judged as received, and did not become durable."""

    def is_open(self, open_time_ms: int) -> bool:
        """Whether it is still to be judged if this candle has come."""
        return self.judged_ms is None or open_time_ms >= self.judged_ms


@attrs.define(eq=False)
class Completeness:
    """Compares what is due with what has come. All times are the exchange's."""

    grace_ms: int
    """How long after its close a candle may take to come."""
    _watched: dict[Series, _Watched] = attrs.field(init=False, factory=dict)
    _agenda: dict[str, dict[int, list[Series]]] = attrs.field(init=False, factory=dict)
    """By trade type, and by when the next candle that is to be judged of a series ends: thousands
    share a few moments. To look at all of them each second would cost some percent of a core, and
    so would a heap, which compares those of one moment with each other."""
    _losers: set[Series] = attrs.field(init=False, factory=set)
    """Series with candles that were judged as received, and lost."""

    def watch(self, series: Series, from_ms: int, stored: Iterable[Span] = ()) -> None:
        """From this open time on the series' candles are due.

        Args:
          series: whose.
          from_ms: from when on.
          stored: what is durable of it already, in order: years of it are a few spans.
        """
        watched = self._watch_of(series)
        watched.judged_ms = from_ms
        watched.stored = list(stored)
        self._put_down(series, from_ms)

    def forget(self, series: Series) -> None:
        """The series' candles are due no more."""
        self._watched.pop(series, None)

    def receive(self, series: Series, open_time_ms: int) -> None:
        """A candle has come, and is on its way to the disk."""
        watched = self._watch_of(series)
        watched.in_flight.add(open_time_ms)
        if watched.is_open(open_time_ms):
            watched.received.add(open_time_ms)

    def accept(self, series: Series, open_time_ms: int) -> None:
        """A candle is durable."""
        watched = self._watch_of(series)
        watched.in_flight.discard(open_time_ms)
        if watched.is_open(open_time_ms):
            watched.received.add(open_time_ms)

    def drop(self, series: Series, open_time_ms: int) -> None:
        """A candle that came will not become durable: there was no room for it."""
        watched = self._watched.get(series)
        if watched is not None and open_time_ms in watched.in_flight:
            watched.in_flight.discard(open_time_ms)
            if watched.is_open(open_time_ms):
                watched.received.discard(open_time_ms)
            else:
                watched.lost.add(open_time_ms)
                self._losers.add(series)

    def absent(
        self, now_ms: Mapping[str, int], among: Collection[Series] | None = None
    ) -> dict[Series, tuple[Span, ...]]:
        """What is due by now and was not received; it is named once.

        Args:
          now_ms: the exchange's time, by trade type. Markets whose time is not known are left out.
          among: of which series; None: of all.
        """
        found = {}
        for series in self._due(now_ms) if among is None else among:
            watched = self._watched.get(series)
            now = now_ms.get(series.trade_type)
            if watched is not None and now is not None and watched.judged_ms is not None:
                spans = self._judge(series, watched, watched.judged_ms, now - self.grace_ms)
                self._put_down(series, watched.judged_ms)
                if spans:
                    found[series] = spans
        return found

    def _watch_of(self, series: Series) -> _Watched:
        watched = self._watched.get(series)
        if watched is None:
            watched = self._watched[series] = _Watched()
        return watched

    def _put_down(self, series: Series, judged_ms: int) -> None:
        agenda = self._agenda.setdefault(series.trade_type, {})
        agenda.setdefault(series.interval.end_time_ms(judged_ms), []).append(series)

    def _due(self, now_ms: Mapping[str, int]) -> list[Series]:
        """The series that have something to be judged."""
        due = {one for one in self._losers if one.trade_type in now_ms}
        self._losers -= due
        for trade_type, agenda in self._agenda.items():
            until_ms = now_ms.get(trade_type, 0) - self.grace_ms
            for end_ms in [moment for moment in agenda if moment <= until_ms]:
                due.update(agenda.pop(end_ms))
        return sorted(due, key=_NAMES)

    @staticmethod
    def _judge(series: Series, watched: _Watched, judged_ms: int, now_ms: int) -> tuple[Span, ...]:
        interval = series.interval
        lost = tuple(interval.runs(sorted(watched.lost)))
        watched.lost.clear()
        due_ms = interval.open_time_ms(now_ms)
        if due_ms <= judged_ms:
            return lost
        span = Span(judged_ms, due_ms)
        gaps = tuple(
            gap
            for hole in interval.gaps(span, sorted(watched.received))
            for gap in hole.without(watched.stored)
        )
        watched.stored = [one for one in watched.stored if one.to_ms > due_ms]
        watched.judged_ms = due_ms
        watched.received = {ms for ms in watched.received if ms >= due_ms}
        return lost + gaps

    def watermarks_ms(self) -> dict[Series, int]:
        """For each watched series: of candles that open before this each is durable or named."""
        return {
            series: min([watched.judged_ms, *watched.in_flight, *watched.lost])
            for series, watched in self._watched.items()
            if watched.judged_ms is not None
        }
