"""The time of the exchange, derived from its own words alone (pure, except for waiting)."""

from collections import deque
from itertools import pairwise

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.exchange.agreement import Agreement, Witness
from kline_trio.interval import Span

_DAY_MS = 86_400_000
_MONTH_MS = 28 * _DAY_MS
_LONGEST_BAN_MS = 4 * _DAY_MS
"""REST, and with it the time endpoint, may be banned for three days."""
_STEP_MS = 60_000
"""The shortest candle, as long as no frame of a shorter one came."""
_REMEMBERED = 5
"""Of five frames the median is true as long as no more than two are false."""
_ENOUGH = 3
"""Of three frames the median is true if no more than one is false."""
_PAUSES = 6
"""The median is two pauses old, and some pauses are longer than others."""
_ANSWER_SECONDS = 10.0
"""Wait no longer for an answer of the time endpoint: REST may be banned for days."""
_STANDING_SECONDS = 10.0


@attrs.define(eq=False)
class _FrameTimes:
    """The event times of valid frames, whether or not they were accepted (pure)."""

    first_ms: list[int] = attrs.field(init=False, factory=list)
    """The first event times."""
    newest: tuple[int, Series | None] | None = attrs.field(init=False, default=None)
    """The latest event time and its series, unless it was refuted."""
    second_ms: int | None = attrs.field(init=False, default=None)
    """The latest event time of the other frames."""
    _last_ms: deque[int] = attrs.field(init=False, factory=lambda: deque(maxlen=_REMEMBERED))
    """The last event times that differ."""
    _minutes_ms: deque[int] = attrs.field(init=False, factory=lambda: deque(maxlen=_REMEMBERED))
    """The first event time of each of the last minutes: many candles close at the same time."""
    _step_ms: int = attrs.field(init=False, default=_STEP_MS)
    """The shortest interval of which frames came."""

    def add(self, event_time_ms: int, series: Series | None) -> None:
        """Take in an event time. The same frame over two connections counts once."""
        if len(self.first_ms) < _REMEMBERED:
            self.first_ms.append(event_time_ms)
        if event_time_ms not in self._last_ms:
            self._last_ms.append(event_time_ms)
        if not self._minutes_ms or event_time_ms // _STEP_MS != self._minutes_ms[-1] // _STEP_MS:
            self._minutes_ms.append(event_time_ms)
        if series is not None:
            self._step_ms = min(self._step_ms, series.interval.duration_ms or _MONTH_MS)
        if self.newest is None or event_time_ms > self.newest[0]:
            if self.newest is not None:
                self.second_ms = self.newest[0]
            self.newest = (event_time_ms, series)
        elif (event_time_ms, series) != self.newest:
            self.second_ms = max(event_time_ms, self.second_ms or 0)

    def refute(self, bound_ms: int) -> None:
        """Forget later event times: they would confirm any later false time."""
        if self.newest is not None and self.newest[0] >= bound_ms:
            left_ms, self.second_ms = self.second_ms, None
            self.newest = None if left_ms is None or left_ms >= bound_ms else (left_ms, None)

    def next_candle_ms(self, time_ms: int) -> int:
        """Return the end of the candle after the one of a time."""
        return (time_ms // self._step_ms + 2) * self._step_ms

    def span_without_endpoint(self, now_ms: int | None) -> Span:
        """Return the event times to accept while the time endpoint gives no answer.

        The median of the last minutes in which frames came stands for now; at the start, the
        median of the last frames.
        """
        least_ms, most_ms = now_ms or _DAY_MS, MAX_TIME_MS
        is_known_for_long = len(self._minutes_ms) >= _ENOUGH
        in_order = sorted(self._minutes_ms if is_known_for_long else self._last_ms)
        if len(in_order) >= _ENOUGH:
            median_ms = in_order[(len(in_order) - 1) // 2]
            # A market of one quiet series may have a frame a month. Two false times make two
            # pauses.
            pauses_ms = sorted(later - one for one, later in pairwise(in_order))
            pause_ms = pauses_ms[len(in_order) == _REMEMBERED]
            least_ms = max(least_ms, median_ms)
            most_ms = max(self.next_candle_ms(median_ms), median_ms + _PAUSES * pause_ms)
        return Span(least_ms - _DAY_MS, most_ms)


@attrs.define(eq=False)
class ExchangeClock:
    """The latest time that two independent witnesses of a market confirm: each gave that time or a
    later one. The clock never runs on by itself, and never back.

    The witnesses are the frames, the time endpoint, and the newest candle of REST. A step into the
    next candle takes two different frames, or one time from each of two witnesses. A longer step,
    and the start, take two witnesses that agree (`Agreement`). Without that rule, two different
    false times, one of a frame and one of the endpoint, would confirm the earlier of the two.
    The local clock is never read as a time of day. So a simulated exchange, whose time runs 600
    times as fast or is years away, is recorded correctly.
    """

    now_ms: int | None = attrs.field(init=False, default=None)
    """None as long as no two witnesses confirm a time."""
    doubt: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the time endpoint should be asked: an event time is later than the accepted ones,
    or another part of the program needs to know."""
    _frames: _FrameTimes = attrs.field(init=False, factory=_FrameTimes)
    _agreements: dict[frozenset[Witness], Agreement] = attrs.field(init=False, factory=dict)
    """For each two witnesses, the times further ahead; empty if they gave none."""
    _standing: tuple[int | None, float] | None = attrs.field(init=False, default=None)
    """The earliest time that all witnesses gave before the first was accepted, and since when, by
    Trio's clock, it is the same. The time is None if a frame gave it: frames run on."""
    _answer_ms: int | None = attrs.field(init=False, default=None)
    """The last answer of the time endpoint."""
    _answers: int = attrs.field(init=False, default=0)
    """The number of its answers."""
    _answer_due: float | None = attrs.field(init=False, default=None)
    """Wait for the next answer until then, by Trio's clock; None: no task waits for it."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set for the tasks that wait, when `now_ms` may have moved."""

    @property
    def newest_symbol(self) -> str | None:
        """The symbol of the frame with the latest event time; None if it is not known."""
        newest = self._frames.newest
        return newest[1].symbol if newest and newest[1] else None

    @property
    def latest_ms(self) -> int | None:
        """The latest time that may be true: the event time of one frame, if it is near to now.

        It says when a series was wanted, and so why a candle is absent. If it calls a candle closed
        too early, the candle is requested only when `now_ms` says so too.
        """
        newest = self._frames.newest
        if newest is not None and self.reaches(newest[0]):
            return max(newest[0], self.now_ms or 0)
        return self.now_ms

    @property
    def began_ms(self) -> int | None:
        """The time of the first true frame: frames may give the time before the endpoint does."""
        now_ms = self.now_ms
        if now_ms is None:
            return None
        possible = (ms for ms in self._frames.first_ms if 0 <= now_ms - ms <= _LONGEST_BAN_MS)
        return next(possible, now_ms)

    def add_frame(self, event_time_ms: int, series: Series | None = None) -> None:
        """Take in the event time of a valid frame, and the series of its candle."""
        self._frames.add(event_time_ms, series)
        second_ms = self._frames.second_ms or 0
        is_later = second_ms > (self.now_ms or 0)
        if is_later and self._accept_near(second_ms) and self._answer_due is not None:
            self._wake()
        if not self._is_weighed(Witness.FRAMES, event_time_ms):
            self.doubt.set()

    async def accepted_span(self, event_time_ms: int) -> Span:
        """Wait until an event time is confirmed or refuted; return the event times to accept.

        If it must, it waits for answers of the time endpoint, for a bounded time. As long as the
        endpoint gives none, accept times near those of the last frames, so that a blocked REST ends
        no recording. Refuse times more than a day old: no connection lives for longer than a day.
        """
        if not self.reaches(event_time_ms) and not await self._is_answered(event_time_ms):
            return self._frames.span_without_endpoint(self.now_ms)
        known_ms = self._answer_ms if self.now_ms is None else self.now_ms
        assert known_ms is not None
        return Span(known_ms - _DAY_MS, self._frames.next_candle_ms(known_ms))

    async def _is_answered(self, event_time_ms: int) -> bool:
        """Wait until a time is reached, or two answers refute it; return False if none comes."""
        if self._answer_due is None:
            self._answer_due = trio.current_time() + _ANSWER_SECONDS
        # The next answer may belong to a request from before the frame came.
        before, refuted = self._answers, 0
        with trio.move_on_at(self._answer_due):
            while not self.reaches(event_time_ms) and refuted < 2:
                self.doubt.set()
                await self._news.wait()
                if self._answers > before:
                    assert self._answer_ms is not None
                    before = self._answers
                    refuted += event_time_ms >= self._frames.next_candle_ms(self._answer_ms)
            return True
        return False

    def confirm(self, time_ms: int) -> bool:
        """Take in an answer of the time endpoint. Return whether it is accepted."""
        self._answer_ms = time_ms
        self._answers += 1
        self._answer_due = None
        # First: a frame with a much later time is no witness of this one. It may be false.
        self._frames.refute(self._frames.next_candle_ms(time_ms))
        if self._frames.newest is not None:
            self._accept_near(min(time_ms, self._frames.newest[0]))
        is_accepted = self._is_weighed(Witness.ENDPOINT, time_ms)
        if self.doubt.is_set():
            self.doubt = trio.Event()
        self._wake()
        return is_accepted

    def confirm_by_candle(self, open_time_ms: int) -> bool:
        """Take in the newest candle of a busy symbol, after the endpoint's answer.

        Return whether that answer is accepted now.
        """
        if self._answer_ms is None:
            return False
        self._accept_near(min(self._answer_ms, open_time_ms))
        if not self.reaches(open_time_ms):
            # The next candle opens with its first trade.
            self._weigh(Witness.CANDLES, Span(open_time_ms, open_time_ms + 2 * _STEP_MS))
        # The earliest time of all witnesses has come, whichever of them is false.
        frame_ms = self._frames.newest[0] if self._frames.newest is not None else MAX_TIME_MS
        common_ms = min(self._answer_ms, open_time_ms, frame_ms)
        if self.now_ms is None:
            self._accept_standing(common_ms, frame_ms)
        elif frame_ms < MAX_TIME_MS:
            self._accept(common_ms)
        self._wake()
        return self.reaches(self._answer_ms)

    def _accept_standing(self, time_ms: int, frame_ms: int) -> None:
        """Begin with the earliest time of all witnesses if it stayed the same for ten seconds.

        That happens where nothing is traded now. A false answer of the endpoint does not last long.
        A frame's time may move on: where a day lasts a second, the frames that are read are hours
        behind the answers, and more so with each that waits.
        """
        now = trio.current_time()
        stays_ms = None if time_ms == frame_ms else time_ms
        if self._standing is None or self._standing[0] != stays_ms:
            self._standing = (stays_ms, now)
        elif now >= self._standing[1] + _STANDING_SECONDS:
            self._accept(time_ms)

    def reaches(self, time_ms: int) -> bool:
        """Return whether a time is in the candle of now or in the next one."""
        return self.now_ms is not None and time_ms < self._frames.next_candle_ms(self.now_ms)

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _accept(self, time_ms: int) -> None:
        self.now_ms = max(time_ms, self.now_ms or 0)

    def _accept_near(self, time_ms: int) -> bool:
        """Accept a time that two frames or two witnesses gave, if it is near to now."""
        is_near = self.reaches(time_ms)
        if is_near:
            self._accept(time_ms)
        return is_near

    def _is_weighed(self, witness: Witness, time_ms: int) -> bool:
        """Return whether a time is accepted, now that this witness gave it, too."""
        if self.reaches(time_ms):
            # This witness shows that it is not so late yet. A halted symbol's candles do not.
            self._agreements.clear()
            return True
        self._weigh(witness, Span(time_ms, time_ms + 1))
        return self.reaches(time_ms)

    def _weigh(self, witness: Witness, time: Span) -> None:
        """Weigh a time that is further ahead against the times of each other witness."""
        for other in set(Witness) - {witness}:
            pair = frozenset((witness, other))
            agreed_ms = self._agreements.setdefault(pair, Agreement()).add(witness, time)
            if agreed_ms is not None:
                self._accept(agreed_ms)
                self._wake()
