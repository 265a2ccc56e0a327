"""What time it is on the exchange, by its own words alone (pure, but for who waits for them)."""

from collections import deque
from itertools import pairwise

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.exchange.agreement import Agreement, Witness
from kline_trio.interval import Span

__all__ = ["ExchangeClock"]

_DAY_MS = 86_400_000
_MONTH_MS = 28 * _DAY_MS
_LONGEST_BAN_MS = 4 * _DAY_MS
"""REST may be banned for three days, and with it the time endpoint."""
_STEP_MS = 60_000
"""The shortest candle, as long as no frame of a shorter one was heard."""
_HEARD = 5
"""Of so many frames the median is no lie as long as two of them lie."""
_ENOUGH = 3
"""Of so many the median is no lie if one is a lie."""
_PAUSES = 6
"""The median is two pauses old, and some are longer than others."""
_ANSWER_SECONDS = 10.0
"""An answer that took longer does not come soon: REST may be banned for days."""
_STANDING_SECONDS = 10.0


@attrs.define(eq=False)
class ExchangeClock:
    """The latest time that two independent witnesses of a market have told, each that or a later
    one. It never runs on by itself, and never back.

    The witnesses are the frames, the time endpoint, and the newest candle that REST has. To come
    into the next candle, two different frames are enough, or one word of each of two witnesses.
    Further on, and at the start, two must agree (`Agreement`): lies of different times, such as of
    a frame and of the endpoint, would bear each other out. A wrong local clock can do no harm, and
    an exchange whose time runs 600 times faster, or stands years away, is recorded like any other.
    """

    now_ms: int | None = attrs.field(init=False, default=None)
    """None as long as no two witnesses have told a time."""
    _first_ms: list[int] = attrs.field(init=False, factory=list)
    """What the first frames told, whether or not it was believed."""
    doubt: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the time endpoint should be asked: a frame tells of a later time than is believed,
    or somebody needs to know."""
    _newest: tuple[int, Series | None] | None = attrs.field(init=False, default=None)
    """What the frame of the latest time told, and whose it was, unless that was refuted."""
    _second_ms: int | None = attrs.field(init=False, default=None)
    """What the latest of the other frames told."""
    _answer_ms: int | None = attrs.field(init=False, default=None)
    """What the time endpoint told last."""
    _heard_ms: deque[int] = attrs.field(init=False, factory=lambda: deque(maxlen=_HEARD))
    """What the last frames told that told different times."""
    _minutes_ms: deque[int] = attrs.field(init=False, factory=lambda: deque(maxlen=_HEARD))
    """The same, but the first of each minute: many candles close at the same time."""
    _step_ms: int = attrs.field(init=False, default=_STEP_MS)
    """The shortest interval of which frames came."""
    _agreements: dict[frozenset[Witness], Agreement] = attrs.field(init=False, factory=dict)
    """What each two witnesses tell of times that are further ahead; empty if they tell of none."""
    _standing: tuple[int, float] | None = attrs.field(init=False, default=None)
    """The earliest that the witnesses told before any was believed, and since when, by Trio's
    clock, it was that.
    """
    _answers: int = attrs.field(init=False, default=0)
    """How many answers the time endpoint has given."""
    _answer_due: float | None = attrs.field(init=False, default=None)
    """Up to when the next one is waited for, by Trio's clock; None: nobody waits for it."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set for those who wait, when `now_ms` may have moved."""

    @property
    def is_doubted(self) -> bool:
        """Whether the time endpoint should be asked."""
        return self.doubt.is_set()

    @property
    def newest_symbol(self) -> str | None:
        """The symbol of the frame of the latest time; None if it is not known."""
        return self._newest[1].symbol if self._newest and self._newest[1] else None

    @property
    def latest_ms(self) -> int | None:
        """The latest time that may be true: what one frame has told, if it is not far from now.

        It says when a series was wanted, and so why a candle is absent. A candle that it calls
        closed too early is asked for only when `now_ms` says so too.
        """
        if self._newest is not None and self.reaches(self._newest[0]):
            return max(self._newest[0], self.now_ms or 0)
        return self.now_ms

    @property
    def began_ms(self) -> int | None:
        """When it was first heard of: frames may tell the time before the endpoint does."""
        now_ms = self.now_ms
        if now_ms is None:
            return None
        possible = (ms for ms in self._first_ms if 0 <= now_ms - ms <= _LONGEST_BAN_MS)
        return next(possible, now_ms)

    def hear(self, event_time_ms: int, series: Series | None = None) -> None:
        """Take in the event time of a valid frame.

        Args:
          event_time_ms: the time.
          series: whose candle it was. The same frame over two connections is one witness.
        """
        if len(self._first_ms) < _HEARD:
            self._first_ms.append(event_time_ms)
        if event_time_ms not in self._heard_ms:
            self._heard_ms.append(event_time_ms)
        if not self._minutes_ms or event_time_ms // _STEP_MS != self._minutes_ms[-1] // _STEP_MS:
            self._minutes_ms.append(event_time_ms)
        if series is not None:
            self._step_ms = min(self._step_ms, series.interval.duration_ms or _MONTH_MS)
        if self._newest is None or event_time_ms > self._newest[0]:
            if self._newest is not None:
                self._second_ms = self._newest[0]
            self._newest = (event_time_ms, series)
        elif (event_time_ms, series) != self._newest:
            self._second_ms = max(event_time_ms, self._second_ms or 0)
        if self._second_ms is not None and self.reaches(self._second_ms):
            self.now_ms = max(self._second_ms, self.now_ms or 0)
            if self._answer_due is not None:
                self._wake()
        if not self._is_weighed(Witness.FRAMES, event_time_ms):
            self.doubt.set()

    async def believed(self, event_time_ms: int) -> Span:
        """Wait until it is known whether a time has come, and return which times are believed.

        It waits for answers of the time endpoint, if it must, but not for ever: as long as the
        endpoint says nothing, every time is believed that is near those of the last frames, so
        that a blocked REST ends no recording. What is more than a day old is not believed: no
        connection lives for longer than a day.

        Args:
          event_time_ms: of a frame that was heard.
        """
        if not self.reaches(event_time_ms) and not await self._is_answered(event_time_ms):
            return self._span_of_frames()
        known_ms = self._answer_ms if self.now_ms is None else self.now_ms
        assert known_ms is not None
        return Span(known_ms - _DAY_MS, self._next_candle_ms(known_ms))

    def _span_of_frames(self) -> Span:
        """Return which times are believed while the endpoint gives no answer.

        The median of the last minutes in which frames came stands for now; at the start, that of
        the last frames.
        """
        least_ms, most_ms = self.now_ms or _DAY_MS, MAX_TIME_MS
        is_known_for_long = len(self._minutes_ms) >= _ENOUGH
        in_order = sorted(self._minutes_ms if is_known_for_long else self._heard_ms)
        if len(in_order) >= _ENOUGH:
            median_ms = in_order[(len(in_order) - 1) // 2]
            # A market of one quiet series may be heard of once a month. Two lies make two pauses.
            pauses_ms = sorted(later - one for one, later in pairwise(in_order))
            pause_ms = pauses_ms[len(in_order) == _HEARD]
            least_ms = max(least_ms, median_ms)
            most_ms = max(self._next_candle_ms(median_ms), median_ms + _PAUSES * pause_ms)
        return Span(least_ms - _DAY_MS, most_ms)

    async def _is_answered(self, event_time_ms: int) -> bool:
        """Wait until a time has come, or an answer says that it has not; False if none comes."""
        if self._answer_due is None:
            self._answer_due = trio.current_time() + _ANSWER_SECONDS
        # The next answer may be to a question from before the frame came.
        before, refuted = self._answers, 0
        with trio.move_on_at(self._answer_due):
            while not self.reaches(event_time_ms) and refuted < 2:
                self.doubt.set()
                await self._news.wait()
                if self._answers > before:
                    assert self._answer_ms is not None
                    before = self._answers
                    refuted += event_time_ms >= self._next_candle_ms(self._answer_ms)
            return True
        return False

    def confirm(self, time_ms: int) -> bool:
        """Take in what the time endpoint said. Return whether it is believed."""
        self._answer_ms = time_ms
        self._answers += 1
        self._answer_due = None
        # First: a frame that told a much later time is no witness of this one. It may lie.
        self._refute(self._next_candle_ms(time_ms))
        if self._newest is not None:
            self._believe_near(min(time_ms, self._newest[0]))
        is_believed = self._is_weighed(Witness.ENDPOINT, time_ms)
        if self.is_doubted:
            self.doubt = trio.Event()
        self._wake()
        return is_believed

    def confirm_by_candle(self, open_time_ms: int) -> bool:
        """Take in the newest candle of a busy symbol, after the endpoint's answer.

        Return whether that answer is believed now.
        """
        if self._answer_ms is None:
            return False
        self._believe_near(min(self._answer_ms, open_time_ms))
        if not self.reaches(open_time_ms):
            # The next one opens with its first trade.
            self._tell(Witness.CANDLES, Span(open_time_ms, open_time_ms + 2 * _STEP_MS))
        # What all of them say has come, whichever lies.
        frame_ms = self._newest[0] if self._newest is not None else MAX_TIME_MS
        common_ms = min(self._answer_ms, open_time_ms, frame_ms)
        if self.now_ms is None:
            self._believe_standing(common_ms)
        elif frame_ms < MAX_TIME_MS:
            self._believe(common_ms)
        self._wake()
        return self.reaches(self._answer_ms)

    def _believe_standing(self, time_ms: int) -> None:
        """Begin with what all witnesses say has come, if it has been the same for ten seconds.

        So it is where nothing is traded now. An answer that is wrong is not wrong for long.
        """
        now = trio.current_time()
        if self._standing is None or self._standing[0] != time_ms:
            self._standing = (time_ms, now)
        elif now >= self._standing[1] + _STANDING_SECONDS:
            self._believe(time_ms)

    def reaches(self, time_ms: int) -> bool:
        """Return whether a time is in the candle of now or in the next one."""
        return self.now_ms is not None and time_ms < self._next_candle_ms(self.now_ms)

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _refute(self, bound_ms: int) -> None:
        """Forget what frames have told of later times: it would stand by any later lie."""
        if self._newest is not None and self._newest[0] >= bound_ms:
            left_ms, self._second_ms = self._second_ms, None
            self._newest = None if left_ms is None or left_ms >= bound_ms else (left_ms, None)

    def _believe(self, time_ms: int) -> None:
        self.now_ms = max(time_ms, self.now_ms or 0)

    def _believe_near(self, time_ms: int) -> None:
        """Believe what one word of each of two witnesses tells, if it is no further on."""
        if self.reaches(time_ms):
            self._believe(time_ms)

    def _is_weighed(self, witness: Witness, time_ms: int) -> bool:
        """Return whether a time is believed, now that this witness has told it, too."""
        if self.reaches(time_ms):
            # Here is a witness that it is not so late yet. The candles of a halted symbol are none.
            self._agreements.clear()
            return True
        self._tell(witness, Span(time_ms, time_ms + 1))
        return self.reaches(time_ms)

    def _tell(self, witness: Witness, time: Span) -> None:
        """Weigh a time that is further ahead against what each other witness tells."""
        for other in set(Witness) - {witness}:
            pair = frozenset((witness, other))
            agreed_ms = self._agreements.setdefault(pair, Agreement()).tell(witness, time)
            if agreed_ms is not None:
                self._believe(agreed_ms)
                self._wake()

    def _next_candle_ms(self, time_ms: int) -> int:
        """Return the end of the candle after the one of a time."""
        return (time_ms // self._step_ms + 2) * self._step_ms
