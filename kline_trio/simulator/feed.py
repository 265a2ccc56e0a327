"""Which events of the subscribed streams are due: made-up ones, or those of a replay.

A feed belongs to one connection.  It holds no queue: what is due is worked out when it is asked
for, so a slow connection gets its closing frames later and its overdue forming ones left out,
and costs no memory.
"""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple, Protocol

import attrs

from kline_trio.simulator.calendar import next_open_ms, open_ms
from kline_trio.simulator.frames import Event
from kline_trio.simulator.market import LONGEST_LATE_MS, Market, Series
from kline_trio.simulator.symbols import Notice

CONTRACT_INFO = "!contractInfo"
_NO_SERIES = Series(CONTRACT_INFO, "", "")
_LINGER_MS = 3_000


class Feed(Protocol):
    """What a connection asks for its events; times are exchange milliseconds."""

    def subscribe(self, stream: str, now_ms: int) -> None:
        """Begin a stream; nothing from before ``now_ms`` is owed."""

    def unsubscribe(self, stream: str) -> None:
        """End a stream at once."""

    def next_due_ms(self) -> int | None:
        """Return when something may next be due, None for never."""

    def take(self, now_ms: int, limit: int) -> list[Event]:
        """Return at most ``limit`` events that are due, in their order."""


@attrs.define(eq=False)
class _Subscription:
    """A stream from subscribe to unsubscribe; tasks of an earlier subscription are dropped."""

    series: Series
    pushed: tuple[int, int] = (-1, -1)
    """Open time and number of trades of the newest forming candle."""
    closes: dict[int, int] = attrs.field(factory=dict)
    """For each open time, when the candle closes."""


class _Task(NamedTuple):
    """Something to do at a moment; a heap orders tasks by the first two fields."""

    due_ms: int
    order: int
    action: "_Action"
    subscription: _Subscription
    opened_ms: int
    """Of the candle; with a notice, its place among them."""
    nth: int = 0
    """Of the closing frames of the candle."""


_Action = Callable[[_Task, int], Event | None]


class MadeUpFeed:
    """Forming candles at the market's cadence and closes at their seeded lateness.

    Args:
        market: Whose candles they are.
        forming: Whether any but closing frames are sent.
        notices: The events of ``!contractInfo``, by time; of both futures markets on both, since
            2026-06-30.
    """

    def __init__(
        self, market: Market, *, forming: bool = True, notices: Sequence[Notice] = ()
    ) -> None:
        self._market = market
        self._forming = forming
        self._notices = notices
        self._tasks: list[_Task] = []
        self._subscriptions: dict[str, _Subscription] = {}
        self._order = count()

    def subscribe(self, stream: str, now_ms: int) -> None:
        """See `Feed`; a stream that the market does not feed stays silent."""
        if stream == CONTRACT_INFO and self._notices:
            subscription = self._subscriptions[stream] = _Subscription(_NO_SERIES)
            place = bisect_left(self._notices, now_ms, key=lambda one: one.due_ms)
            self._add_notice(subscription, place)
            return
        series = self._market.series_of(stream)
        if series is None:
            return
        subscription = self._subscriptions[stream] = _Subscription(series)
        now_open_ms = open_ms(series.interval, now_ms)
        self._begin(subscription, now_ms)
        # the close of a candle that has ended may still be to come
        reach_ms = max(LONGEST_LATE_MS, self._market.script.longest_late_ms)
        earlier_ms = open_ms(series.interval, now_open_ms - 1)
        while next_open_ms(series.interval, earlier_ms) + reach_ms >= now_ms:
            for nth, due_ms in enumerate(self._market.closes_ms(series, earlier_ms)):
                if due_ms >= now_ms:
                    self._add_close(due_ms, subscription, earlier_ms, nth)
            earlier_ms = open_ms(series.interval, earlier_ms - 1)

    def unsubscribe(self, stream: str) -> None:
        """See `Feed`."""
        self._subscriptions.pop(stream, None)

    def next_due_ms(self) -> int | None:
        """See `Feed`."""
        return self._tasks[0].due_ms if self._tasks else None

    def take(self, now_ms: int, limit: int) -> list[Event]:
        """See `Feed`."""
        events: list[Event] = []
        while self._tasks and self._tasks[0].due_ms <= now_ms and len(events) < limit:
            task = heapq.heappop(self._tasks)
            if self._subscriptions.get(task.subscription.series.stream) is task.subscription:
                event = task.action(task, now_ms)
                if event is not None:
                    events.append(event)
        return events

    def _begin(self, subscription: _Subscription, now_ms: int) -> None:
        """Schedule the candles that are still to open or to end, if there are any."""
        series, timeline = subscription.series, self._market.timelines[subscription.series.symbol]
        # a stream may be subscribed before its symbol trades, and is silent until then
        since_ms = max(now_ms, timeline.begins_ms)
        if self._add_end(subscription, open_ms(series.interval, since_ms)) and self._forming:
            cadence_ms, phase_ms = self._market.cadence_ms(series), self._market.phase_ms(series)
            self._add(since_ms + (phase_ms - since_ms) % cadence_ms, self._push, subscription)

    def _add_end(self, subscription: _Subscription, opened_ms: int) -> bool:
        """Schedule the end of a candle; return False if its symbol has no more candles."""
        series = subscription.series
        if self._market.timelines[series.symbol].is_over(opened_ms):
            self._market.note_end(series)
            return False
        self._add(next_open_ms(series.interval, opened_ms), self._end, subscription, opened_ms)
        return True

    def _add(
        self,
        due_ms: int,
        action: _Action,
        subscription: _Subscription,
        opened_ms: int = 0,
        nth: int = 0,
    ) -> None:
        task = _Task(due_ms, next(self._order), action, subscription, opened_ms, nth)
        heapq.heappush(self._tasks, task)

    def _add_close(
        self, due_ms: int, subscription: _Subscription, opened_ms: int, nth: int
    ) -> None:
        subscription.closes.setdefault(opened_ms, due_ms)
        self._add(due_ms, self._close, subscription, opened_ms, nth)

    def _end(self, task: _Task, now_ms: int) -> None:
        """Schedule a candle's closing frames, and go on to the next candle."""
        subscription, series = task.subscription, task.subscription.series
        closes_ms = self._market.closes_ms(series, task.opened_ms)
        self._market.note_close(series, task.opened_ms, closes_ms)
        for nth, due_ms in enumerate(closes_ms):
            self._add_close(due_ms, subscription, task.opened_ms, nth)
        self._add_end(subscription, next_open_ms(series.interval, task.opened_ms))

    def _add_notice(self, subscription: _Subscription, place: int) -> None:
        if place < len(self._notices):
            self._add(self._notices[place].due_ms, self._notify, subscription, place)

    def _notify(self, task: _Task, now_ms: int) -> Event:
        notice = self._notices[task.opened_ms]
        self._add_notice(task.subscription, task.opened_ms + 1)
        return Event(task.due_ms, CONTRACT_INFO, notice.text)

    def _push(self, task: _Task, now_ms: int) -> Event | None:
        """Push a forming candle if trades have changed it; overdue pushes become one."""
        subscription, series = task.subscription, task.subscription.series
        if task.due_ms >= self._market.timelines[series.symbol].ends_ms:
            return None
        cadence_ms = self._market.cadence_ms(series)
        overdue = (now_ms - task.due_ms) // cadence_ms
        self._add(task.due_ms + max(1, overdue) * cadence_ms, self._push, subscription)
        if overdue:
            return None
        at_ms = task.due_ms
        opened_ms = open_ms(series.interval, at_ms)
        before_ms = open_ms(series.interval, opened_ms - 1)
        if (
            at_ms - opened_ms < _LINGER_MS
            and subscription.closes.get(before_ms, 0) > at_ms
            and self._market.lingers(series, before_ms)
        ):
            opened_ms = before_ms
        kline = self._market.candle(series.symbol, series.interval, opened_ms, at_ms)
        if kline is None or opened_ms == at_ms:
            return None
        # futures push "if there is something"; spot shows an empty candle once, as a flat bar
        nothing = kline.trade_num == 0 and self._market.trade_type != "spot"
        if nothing or subscription.pushed == (opened_ms, kline.trade_num):
            return None
        subscription.pushed = (opened_ms, kline.trade_num)
        return Event(at_ms, series.stream, self._market.text(kline, at_ms, closed=False))

    def _close(self, task: _Task, now_ms: int) -> Event:
        series = task.subscription.series
        task.subscription.closes.pop(task.opened_ms, None)
        text = self._market.closing_text(series, task.opened_ms, task.due_ms, task.nth)
        return Event(task.due_ms, series.stream, text, task.opened_ms)
