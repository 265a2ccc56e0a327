"""One series as a state machine, from wanted to sealed (pure).

    state          event                   next           what is written before
    -------------  ----------------------  -------------  --------------------------------------
    retired        added                   wanted         -
    wanted         exchange time known     scanning       -
    wanted         removed                 retired        -
    scanning       scan committed          live           the first gaps, and the account
    live           symbol ended            ending         -
    live, ending   symbol trades           trading again  -
    live, ending   removed                 retiring       -
    ending         list says neither       live           -
    ending         a trade after the end   ending         - (the end moves behind the trade)
    ending         past its end            sealing        -
    sealing        end committed           sealed         the delisted row, and the account
    sealing        not all was asked for   ending         -
    trading again  reopening committed     live           rows closed as delisted, pending anew
    retiring       retirement committed    retired        due gaps, and the account
    sealed         added, symbol trades    wanted         -

Every other pair of state and event changes nothing. A transition with a write has two phases:
`begin`, `due`, `retirement` and `seal` return what to write and change nothing, and `confirm` or
`confirm_transition` is called after the commit. Events that arrive between the two wait, in order.

Candles come at any time. A candle is in flight from `received` to `committed`; it is no gap then,
and no watermark passes it. All times are the exchange's.
"""

import enum
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import attrs

from kline_trio.candle import MAX_TIME_MS, Series, Source
from kline_trio.interval import Interval, Span
from kline_trio.spans import SpanSet, joined
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount
from kline_trio.storage.journal.ledger import State as GapState

_ON_ITS_WAY_MS = 10_000
"""How long an answer of REST may take: a series of 1s always has a gap that waits for one."""


class State(enum.Enum):
    """Where a series stands; the table above has the transitions."""

    WANTED = "wanted"
    SCANNING = "scanning"
    LIVE = "live"
    ENDING = "ending"
    SEALING = "sealing"
    TRADING_AGAIN = "trading again"
    RETIRING = "retiring"
    RETIRED = "retired"
    SEALED = "sealed"


@attrs.frozen
class Added:
    """The series is to be recorded."""

    now_ms: int | None = None
    """When; None if the exchange's time is not known."""
    listed_ms: int | None = None
    """When its symbol began to trade, if that was seen: its candles are due from there on."""


@attrs.frozen
class Removed:
    """The series is not to be recorded any more."""


@attrs.frozen
class Listed:
    """What the exchange's list says of the symbol."""

    trades: bool = False
    ended_ms: int | None = None
    """When it was seen that the symbol trades no more."""


@attrs.frozen
class Presence:
    """When the series was recorded, which says why a candle is absent. All are open times."""

    retired_ms: int
    """Before this no recorder ran; from here to `started_ms` the series was not wanted."""
    started_ms: int
    since_then: Reason
    """Why a candle is absent that closes later."""

    def explained(self, series: Series, spans: Iterable[Span], now_ms: int) -> Iterator[Gap]:
        """Give the gaps of spans with their reasons, by whether the series was recorded then."""
        reasons = (
            (Reason.RECORDER_DOWN, 0, self.retired_ms),
            (Reason.NOT_CONFIGURED, self.retired_ms, self.started_ms),
            (self.since_then, self.started_ms, MAX_TIME_MS),
        )
        for span in spans:
            for reason, from_ms, to_ms in reasons:
                if from_ms < to_ms:
                    for piece in span.common_with(Span(from_ms, to_ms)):
                        yield Gap(series, piece, now_ms, reason)


@attrs.frozen
class Due:
    """What to write of a series, and what its state becomes with the commit."""

    series: Series
    gaps: tuple[Gap, ...]
    judged_ms: int
    """Each due candle that opens before is durable, in flight or a gap."""
    account: SeriesAccount
    presence: Presence
    in_flight: frozenset[int]
    """The open times that were in flight, and so are no gaps."""
    stored: tuple[Span, ...] = ()
    """The candles that a scan found."""


@attrs.frozen
class Seal:
    """The end of a series, to be written."""

    closed: FetchResult
    """Closes the gaps after the end as delisted."""
    gaps: tuple[Gap, ...]
    """The first candle that is not recorded, where flat candles go on."""
    account: SeriesAccount


_SETTLED = (State.LIVE, State.ENDING, State.SEALED, State.RETIRED)
"""In the other states a transition is under way, and events wait for its end."""
_FORGOTTEN = (State.SEALED, State.RETIRED)
_AFTER_THE_COMMIT = {
    State.SCANNING: State.LIVE,
    State.SEALING: State.SEALED,
    State.TRADING_AGAIN: State.LIVE,
    State.RETIRING: State.RETIRED,
}


@attrs.define(eq=False)
class _Candles:
    """Which candles of a series are durable or in flight; those before `judged_ms` are forgotten.

    The numbers are open times.
    """

    judged_ms: int = MAX_TIME_MS
    """Each due candle that opens before is durable, in the ledger, in flight or lost."""
    durable: SpanSet = attrs.field(factory=SpanSet)
    in_flight: set[int] = attrs.field(factory=set)
    lost: set[int] = attrs.field(factory=set)
    """Judged while they were in flight, and dropped since because the disk was full."""

    @property
    def watermark_ms(self) -> int:
        """Each due candle that opens before is durable or in the ledger."""
        return min([self.judged_ms, *self.in_flight, *self.lost])

    def first_unknown_ms(self, interval: Interval, open_time_ms: int) -> int:
        """Return the first candle from this one on that is not durable."""
        while self.durable.holds(open_time_ms):
            open_time_ms = interval.end_time_ms(open_time_ms)
        return open_time_ms

    def gaps(
        self, interval: Interval, from_ms: int, until_ms: int, stored: Iterable[Span] = ()
    ) -> list[Span]:
        """Return the candles of a stretch that are neither durable, stored nor in flight."""
        if from_ms >= until_ms:
            return []
        in_flight = [Span(ms, interval.end_time_ms(ms)) for ms in self.in_flight]
        present = sorted([*self.durable, *stored, *in_flight])
        return list(Span(from_ms, until_ms).without(present))

    def adopt(self, due: Due) -> None:
        """Move `judged_ms` to where a due was computed, after the commit of its gaps."""
        for span in due.stored:
            self.durable.add(span)
        self.judged_ms = due.judged_ms
        self.in_flight = {ms for ms in self.in_flight if not self.durable.holds(ms)}
        spans = [gap.span for gap in due.gaps]
        named = {ms for ms in self.lost for one in spans if one.from_ms <= ms < one.to_ms}
        # A candle that was in flight then, and is neither durable nor in flight now, was dropped.
        left = {ms for ms in due.in_flight - self.in_flight if ms < due.judged_ms}
        dropped = {ms for ms in left if not self.durable.holds(ms)}
        self.lost = (self.lost - named) | dropped
        self.durable.remove_before(due.judged_ms)


@attrs.define(eq=False)
class SeriesState:
    """The state of one series."""

    series: Series
    state: State = attrs.field(init=False, default=State.RETIRED)
    account: SeriesAccount | None = attrs.field(init=False, default=None)
    """As the journal has it; None until the series is live."""
    started_ms: int | None = attrs.field(init=False, default=None)
    """When recording began; None if that is not known."""

    _events: deque[Added | Removed | Listed] = attrs.field(init=False, factory=deque)
    """Those that wait for the end of a transition."""
    _listed_ms: int | None = attrs.field(init=False, default=None)
    _end: Span | None = attrs.field(init=False, default=None)
    """The candle after the one in which the symbol's end was seen. A list is some minutes old when
    it is requested again, so one candle more is waited for."""
    _traded_ms: int = attrs.field(init=False, default=0)
    """The open time of the newest durable candle with trades that came since the start."""
    _presence: Presence | None = attrs.field(init=False, default=None)
    _candles: _Candles = attrs.field(init=False, factory=_Candles)

    # Events.

    def handle(self, event: Added | Removed | Listed) -> None:
        """Take an event in; it takes effect in order, after a transition that is under way."""
        if self.state is State.WANTED and isinstance(event, Removed):
            self._events.clear()
            self._enter(State.RETIRED)
        else:
            self._events.append(event)
            self._settle()

    def start(self, now_ms: int) -> None:
        """Begin to scan a wanted series, since the exchange's time is known."""
        if self.state is State.WANTED:
            self.state = State.SCANNING
            self.started_ms = now_ms if self.started_ms is None else self.started_ms

    def received(self, open_time_ms: int) -> None:
        """Note that a candle is on its way to the disk.

        A judged candle is durable, in the ledger or lost already, and may come once more.
        """
        if self.state in _FORGOTTEN:
            return
        candles = self._candles
        is_judged = self.account is not None and open_time_ms < candles.judged_ms
        if not is_judged:
            candles.in_flight.add(open_time_ms)

    def committed(self, open_time_ms: int, trade_num: int) -> None:
        """Note that a candle is durable."""
        candles = self._candles
        candles.in_flight.discard(open_time_ms)
        candles.lost.discard(open_time_ms)
        # Candles that were durable before a scan began are found by the scan.
        if self.state is State.SCANNING or open_time_ms >= candles.judged_ms:
            candles.durable.add(Span(open_time_ms, self.series.interval.end_time_ms(open_time_ms)))
        if trade_num:
            self._traded_ms = max(self._traded_ms, open_time_ms)
        if self._end is not None and open_time_ms >= self._end.from_ms and trade_num:
            self._end = self._candle_after(open_time_ms)

    def dropped(self, open_time_ms: int) -> None:
        """Note that a received candle will not become durable, because the disk was full."""
        candles = self._candles
        if open_time_ms in candles.in_flight:
            candles.in_flight.discard(open_time_ms)
            if open_time_ms < candles.judged_ms and self.account is not None:
                candles.lost.add(open_time_ms)

    def _enter(self, state: State) -> None:
        self.state = state
        if state in _FORGOTTEN:
            self.account = self._end = self._presence = None
            self._candles = _Candles()
        self._settle()

    def _settle(self) -> None:
        while self._events and self.state in _SETTLED:
            self._adopt(self._events.popleft())

    def _adopt(self, event: Added | Removed | Listed) -> None:
        match self.state, event:
            case ((State.RETIRED | State.SEALED), Added(now_ms, listed_ms)):
                self.state = State.WANTED
                self.started_ms, self._listed_ms = now_ms, listed_ms
            case State.SEALED, Listed(trades=True):
                self.state, self.started_ms, self._listed_ms = State.WANTED, None, None
                # Again when the series is live: its closed gaps are reopened then.
                self._events.appendleft(event)
            case ((State.LIVE | State.ENDING), Removed()):
                self.state, self._end = State.RETIRING, None
            case ((State.LIVE | State.ENDING), Listed(trades=True)):
                self.state, self._end = State.TRADING_AGAIN, None
            case State.LIVE, Listed(ended_ms=int(seen_ms)):
                # The clock may have been behind: no trade is later than the end.
                self._end = self._candle_after(max(seen_ms, self._traded_ms))
                self.state = State.ENDING
            case State.ENDING, Listed(ended_ms=None):
                self.state, self._end = State.LIVE, None
            case _:
                pass

    # What to write. Nothing here changes anything.

    @property
    def watermark_ms(self) -> int:
        """Each due candle that opens before is durable or in the ledger."""
        return self._candles.watermark_ms

    @property
    def next_due_ms(self) -> int:
        """The end of the next candle to judge; 0 if a judged candle was dropped since."""
        if self.account is None:
            return MAX_TIME_MS
        candles = self._candles
        return 0 if candles.lost else self.series.interval.end_time_ms(candles.judged_ms)

    @property
    def is_past_its_end(self) -> bool:
        """Whether the first candle that must not exist was judged."""
        return self._end is not None and self.watermark_ms >= self._end.to_ms

    def moved(self) -> SeriesAccount | None:
        """Return the account with the present watermark; None if the journal has it.

        The watermark passes durable candles that are not due yet.
        """
        if self.account is None:
            return None
        mark_ms = self._candles.first_unknown_ms(self.series.interval, self.watermark_ms)
        if mark_ms <= self.account.watermark_ms:
            return None
        return attrs.evolve(self.account, watermark_ms=mark_ms)

    def due(self, now_ms: int, grace_ms: int) -> Due:
        """Return the due candles that are missing, as gaps, and the account with its watermark.

        Candles that closed within the grace before now are not due yet.
        """
        assert self.account is not None
        assert self._presence is not None
        interval, candles = self.series.interval, self._candles
        until_ms = max(candles.judged_ms, interval.open_time_ms(now_ms - grace_ms))
        spans = list(interval.runs(sorted(candles.lost)))
        spans += candles.gaps(interval, candles.judged_ms, until_ms)
        account = self._marked(self.account, until_ms)
        gaps = tuple(self._presence.explained(self.series, spans, now_ms))
        in_flight = frozenset(candles.in_flight)
        return Due(self.series, gaps, until_ms, account, self._presence, in_flight)

    def begin(
        self,
        known: SeriesAccount | None,
        stored: Iterable[Span],
        since_ms: int | None,
        grace_ms: int,
        *,
        is_recorder: bool = True,
        began_ms: int | None = None,
    ) -> Due:
        """Return the first gaps and the account of a series that was scanned.

        Args:
          known: its account in the journal.
          stored: its candles from that account's watermark on.
          since_ms: from when on its past is wanted; None: not at all.
          grace_ms: how long after its close a candle may take to come.
          is_recorder: whether its candles are received from now on.
          began_ms: when this recorder first heard the exchange's time.
        """
        assert self.started_ms is not None
        interval, now_ms, candles = self.series.interval, self.started_ms, self._candles
        present = joined([*stored, *candles.durable])
        if known is None:
            first_ms = present[0].from_ms if present else interval.open_time_ms(now_ms)
            known = SeriesAccount(first_ms, first_ms)
        started_ms = retired_ms = interval.open_time_ms(now_ms)
        if known.retired_ms is not None:
            last_ms = max(known.watermark_ms, interval.open_time_ms(known.retired_ms))
            retired_ms = min(started_ms, last_ms)
        elif is_recorder and began_ms is not None:
            # Taken out before it was scanned, it has no end in the journal; the recorder ran.
            retired_ms = min(started_ms, interval.open_time_ms(began_ms))
        since_then = Reason.NOT_RECEIVED if is_recorder else Reason.RECORDER_DOWN
        presence = Presence(retired_ms, started_ms, since_then)
        judged_ms = known.watermark_ms
        until_ms = max(judged_ms, interval.open_time_ms(now_ms - grace_ms))
        spans = candles.gaps(interval, judged_ms, until_ms, present)
        gaps = [*presence.explained(self.series, spans, now_ms)]
        first_ms = known.first_ms
        since = [ms for ms in (since_ms, self._listed_ms) if ms is not None]
        if since and interval.open_time_ms(min(since)) < first_ms:
            past = Span(interval.open_time_ms(min(since)), first_ms)
            gaps.append(Gap(self.series, past, now_ms, Reason.NOT_CONFIGURED))
            first_ms = past.from_ms
        account = self._marked(SeriesAccount(first_ms, known.watermark_ms), until_ms)
        in_flight = frozenset(candles.in_flight)
        return Due(self.series, tuple(gaps), until_ms, account, presence, in_flight, tuple(present))

    def retirement(self, now_ms: int | None, grace_ms: int) -> Due:
        """Return the last gaps, and the account that ends with the last judged candle.

        Args:
          now_ms: the exchange's time; None: nothing more may be judged.
          grace_ms: how long after its close a candle may take to come.
        """
        assert self.account is not None
        assert self._presence is not None
        if now_ms is None:
            account = self._marked(self.account, self.watermark_ms)
            judged_ms = self._candles.judged_ms
            due = Due(self.series, (), judged_ms, account, self._presence, frozenset())
        else:
            due = self.due(now_ms, grace_ms)
        retired = attrs.evolve(due.account, retired_ms=due.account.watermark_ms)
        return attrs.evolve(due, account=retired)

    def seal(self, ledger: Sequence[Gap], now_ms: int | None) -> Seal | None:
        """Return the end of a series; None while a gap is still to be asked for.

        A candle in flight may have trades after the end, so the end waits for it.

        Args:
          ledger: its pending rows, and all its rows after the end.
          now_ms: the exchange's time, if it is known.
        """
        assert self.account is not None
        assert self._end is not None
        end, mark_ms = self._end, self.watermark_ms
        if not self.is_past_its_end or self._candles.in_flight or self._candles.lost:
            return None
        for one in ledger:
            is_new = not one.asked and one.span.from_ms < mark_ms - _ON_ITS_WAY_MS
            if one.state is GapState.PENDING and (one.span.from_ms < end.from_ms or is_new):
                return None
        is_absent = any(
            one.span.from_ms < mark_ms <= one.span.to_ms
            and (one.state is GapState.PENDING or one.reason is Reason.DELISTED)
            for one in ledger
        )
        gaps: tuple[Gap, ...] = ()
        ends_ms = mark_ms
        if not is_absent:
            first_ms = self._candles.first_unknown_ms(self.series.interval, mark_ms)
            ends_ms = self.series.interval.end_time_ms(first_ms)
            span, seen_ms = Span(first_ms, ends_ms), now_ms or ends_ms
            gaps = (Gap(self.series, span, seen_ms, Reason.DELISTED, GapState.CLOSED),)
        closed = FetchResult(
            self.series, Span(end.from_ms, mark_ms), (), Source.REST, Reason.DELISTED
        )
        account = attrs.evolve(self.account, watermark_ms=ends_ms, retired_ms=ends_ms)
        return Seal(closed, gaps, account)

    def _marked(self, account: SeriesAccount, until_ms: int) -> SeriesAccount:
        """Return an account with its watermark at a time, or at the first candle in flight.

        It never goes back: a candle in flight before the old watermark comes once more.
        """
        mark_ms = max(account.watermark_ms, min([until_ms, *self._candles.in_flight]))
        return attrs.evolve(account, watermark_ms=mark_ms)

    def _candle_after(self, moment_ms: int) -> Span:
        interval = self.series.interval
        from_ms = interval.end_time_ms(interval.open_time_ms(moment_ms))
        return Span(from_ms, interval.end_time_ms(from_ms))

    # After the commit.

    def confirm(self, due: Due, *, is_written: bool) -> None:
        """Adopt a due after its commit. It ends a scan.

        Args:
          due: the result of `due` or `begin`.
          is_written: whether its account is in the journal; one without gaps need not be.
        """
        self._presence = due.presence
        self._candles.adopt(due)
        if is_written:
            self.account = due.account
        if self.state is State.SCANNING:
            self.confirm_transition()

    def confirm_moved(self, account: SeriesAccount) -> None:
        """Adopt an account after its commit."""
        if self.account is not None:
            self.account = account

    def begin_sealing(self) -> bool:
        """Hold events back from now on if the series is past its end; return whether it is."""
        if self.state is State.ENDING and self.is_past_its_end:
            self.state = State.SEALING
        return self.state is State.SEALING

    def put_off_sealing(self) -> None:
        """Go on ending, since a gap is to be asked for before the end can be written."""
        self._enter(State.ENDING)

    def confirm_transition(self) -> None:
        """End the transition that is under way; events that waited for it take effect."""
        self._enter(_AFTER_THE_COMMIT[self.state])
