"""The state machine of one series, against a plain model of what the disk holds."""

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.recorder.auditor import past_of
from kline_trio.recorder.series_state import Added, Due, Listed, Removed, SeriesState, State
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.journal.ledger import State as GapState

SERIES = Series("spot", "BTCUSDT", "1m")
MINUTE_MS = 60_000
START_MS = 1_719_759_600_000  # 2024-06-30 15:00
GRACE_MS = 5_000


def minute(count: float) -> int:
    return START_MS + round(count * MINUTE_MS)


def minutes_of(gaps: tuple[Gap, ...]) -> list[tuple[float, float, Reason]]:
    return [
        (
            (one.span.from_ms - START_MS) / MINUTE_MS,
            (one.span.to_ms - START_MS) / MINUTE_MS,
            one.reason,
        )
        for one in gaps
    ]


def scanned(
    known: SeriesAccount | None = None, *stored: Span, now: float = 0.5, since_ms: int | None = None
) -> tuple[SeriesState, Due]:
    """A machine that was started, and the first gaps, which are not confirmed."""
    state = SeriesState(SERIES)
    state.handle(Added())
    state.start(minute(now))
    return state, state.begin(known, stored, since_ms, GRACE_MS)


def live(known: SeriesAccount | None = None, *stored: Span, now: float = 0.5) -> SeriesState:
    state, due = scanned(known, *stored, now=now)
    state.confirm(due, is_written=True)
    return state


def test_a_series_that_is_new_begins_with_the_candle_that_forms() -> None:
    state, due = scanned(now=10.5)
    assert stands(state) is State.SCANNING
    assert due.gaps == ()
    assert due.account == SeriesAccount(minute(10), minute(10))
    state.confirm(due, is_written=True)
    assert stands(state) is State.LIVE


def test_what_closed_while_no_recorder_ran_has_that_reason() -> None:
    known = SeriesAccount(minute(0), minute(10))
    _, due = scanned(known, Span(minute(10), minute(12)), Span(minute(15), minute(16)), now=20.5)
    assert minutes_of(due.gaps) == [
        (12, 15, Reason.RECORDER_DOWN),
        (16, 20, Reason.RECORDER_DOWN),
    ]
    assert due.account == SeriesAccount(minute(0), minute(20))


def test_what_closed_while_the_series_was_not_wanted_has_that_reason() -> None:
    known = SeriesAccount(minute(0), minute(10), retired_ms=minute(14))
    _, due = scanned(known, now=20.5)
    assert minutes_of(due.gaps) == [
        (10, 14, Reason.RECORDER_DOWN),
        (14, 20, Reason.NOT_CONFIGURED),
    ]


def test_what_closed_after_a_series_was_taken_out_before_its_scan_was_not_configured() -> None:
    """The time was not known when it was taken out, so that the journal has no end of it."""
    state = SeriesState(SERIES)
    state.handle(Added())
    state.handle(Removed())
    state.handle(Added(minute(20.5)))
    state.start(minute(14.5))
    due = state.begin(
        SeriesAccount(minute(0), minute(10)), [], None, GRACE_MS, began_ms=minute(14.5)
    )
    assert minutes_of(due.gaps) == [
        (10, 14, Reason.RECORDER_DOWN),
        (14, 20, Reason.NOT_CONFIGURED),
    ]


def test_what_closes_while_a_backfill_runs_is_the_recorders_absence() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.start(minute(20.5))
    known = SeriesAccount(minute(0), minute(10), retired_ms=minute(14))
    first = state.begin(known, [], None, GRACE_MS, is_recorder=False)
    assert minutes_of(first.gaps) == [
        (10, 14, Reason.RECORDER_DOWN),
        (14, 20, Reason.NOT_CONFIGURED),
    ]
    state.confirm(first, is_written=True)
    later = state.due(minute(23.5), GRACE_MS)
    assert minutes_of(later.gaps) == [(20, 23, Reason.RECORDER_DOWN)]


def test_the_wanted_past_is_a_gap_once() -> None:
    known = SeriesAccount(minute(0), minute(10))
    stored = Span(minute(10), minute(20))
    _, due = scanned(known, stored, now=20.5, since_ms=minute(-100))
    assert minutes_of(due.gaps) == [(-100, 0, Reason.NOT_CONFIGURED)]
    _, due = scanned(due.account, stored, now=20.5, since_ms=minute(-100))
    assert due.gaps == ()


def test_the_past_of_a_series_that_is_recorded_can_be_wanted_too() -> None:
    state = live(SeriesAccount(minute(0), minute(10)), Span(minute(10), minute(20)), now=20.5)
    assert past_of(state, minute(0), minute(20)) is None
    assert past_of(state, minute(5), minute(20)) is None
    found = past_of(state, minute(-3.5), minute(20))
    assert found is not None
    gap, account = found
    assert minutes_of((gap,)) == [(-4, 0, Reason.NOT_CONFIGURED)]
    assert account == SeriesAccount(minute(-4), minute(20))
    assert state.account == SeriesAccount(minute(0), minute(20))  # nothing was written yet
    state.confirm_moved(account)
    assert past_of(state, minute(-3.5), minute(20)) is None
    assert state.due(minute(22), GRACE_MS).account == SeriesAccount(minute(-4), minute(21))
    state.handle(Removed())
    assert past_of(state, minute(-9), minute(20)) is None  # its retirement is to be written first


def test_a_candle_that_closes_within_the_grace_around_a_start_is_named_later_as_down() -> None:
    state = live(SeriesAccount(minute(0), minute(9)), Span(minute(9), minute(10)), now=11.02)
    due = state.due(minute(12), GRACE_MS)
    assert minutes_of(due.gaps) == [(10, 11, Reason.RECORDER_DOWN)]


def test_what_was_not_received_is_due_a_grace_after_its_close() -> None:
    state = live()
    assert state.due(minute(1) + GRACE_MS - 1, GRACE_MS).gaps == ()
    due = state.due(minute(1) + GRACE_MS, GRACE_MS)
    assert minutes_of(due.gaps) == [(0, 1, Reason.NOT_RECEIVED)]


def test_due_changes_nothing_until_it_is_confirmed() -> None:
    """A stop, or a full disk, between the two names the same gaps again."""
    state = live()
    first = state.due(minute(3.5), GRACE_MS)
    assert state.watermark_ms == minute(0)
    assert state.due(minute(3.5), GRACE_MS) == first
    state.confirm(first, is_written=True)
    assert state.watermark_ms == minute(3)
    assert state.due(minute(3.5), GRACE_MS).gaps == ()


def test_a_candle_in_flight_is_no_gap_and_no_watermark_passes_it() -> None:
    state = live()
    state.received(minute(1))
    due = state.due(minute(3.5), GRACE_MS)
    assert minutes_of(due.gaps) == [
        (0, 1, Reason.NOT_RECEIVED),
        (2, 3, Reason.NOT_RECEIVED),
    ]
    assert due.account.watermark_ms == minute(1)
    state.confirm(due, is_written=True)
    assert state.moved() is None
    state.committed(minute(1), 5)
    assert state.moved() == SeriesAccount(minute(0), minute(3))


def test_a_candle_that_is_dropped_while_its_gaps_are_written_becomes_one() -> None:
    """A connection that is ended while the channel is full drops its candle at any moment."""
    state = live()
    state.committed(minute(0), 5)
    state.received(minute(1))
    due = state.due(minute(3.5), GRACE_MS)
    assert minutes_of(due.gaps) == [(2, 3, Reason.NOT_RECEIVED)]
    state.dropped(minute(1))
    state.confirm(due, is_written=True)
    assert state.watermark_ms == minute(1)
    assert minutes_of(state.due(minute(3.5), GRACE_MS).gaps) == [(1, 2, Reason.NOT_RECEIVED)]


def test_a_candle_that_comes_once_more_after_it_was_judged_is_no_news() -> None:
    """Dropped, it is not to be named: it is durable."""
    state = live()
    for at in (0, 1, 2):
        state.committed(minute(at), 5)
    state.confirm(state.due(minute(3.5), GRACE_MS), is_written=False)
    state.received(minute(1))
    state.dropped(minute(1))
    assert state.due(minute(3.5), GRACE_MS).gaps == ()
    assert state.watermark_ms == minute(3)


def test_nothing_is_sealed_while_a_candle_is_on_its_way() -> None:
    state = ended(5.5)
    for at in (5, 6, 7):
        state.committed(minute(at), 0)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    state.received(minute(8))
    assert state.seal([], minute(8)) is None
    state.committed(minute(8), 0)
    assert state.seal([], minute(8)) is not None


@pytest.mark.parametrize(
    ("event", "then"),
    [
        (Removed(), State.RETIRING),
        (Listed(trades=True), State.TRADING_AGAIN),
        (Listed(), State.LIVE),
    ],
)
def test_what_happens_while_the_ledger_is_read_for_an_end_counts_after_it(
    event: Removed | Listed, then: State
) -> None:
    state = ended(5.5)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert state.begin_sealing()
    state.handle(event)
    assert stands(state) is State.SEALING
    state.put_off_sealing()
    assert stands(state) is then
    assert not state.is_past_its_end


def test_a_symbol_that_trades_again_after_its_seal_has_its_closed_gaps_reopened() -> None:
    state = ended(5.5)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert state.begin_sealing()
    state.confirm_transition()
    state.handle(Listed(trades=True))
    assert stands(state) is State.WANTED
    state.start(minute(20.5))
    state.confirm(state.begin(None, [], None, GRACE_MS), is_written=True)
    assert stands(state) is State.TRADING_AGAIN


def test_durable_candles_that_are_not_due_yet_are_accounted_for() -> None:
    """So that a file which loses them while no recorder runs is found out by its watermark."""
    state = live()
    for at in (0, 1, 2):
        state.committed(minute(at), 5)
    state.received(minute(4))
    state.confirm(state.due(minute(1.5), GRACE_MS), is_written=False)
    moved = state.moved()
    assert moved == SeriesAccount(minute(0), minute(3))
    state.confirm_moved(moved)
    due = state.due(minute(4.5), GRACE_MS)
    assert minutes_of(due.gaps) == [(3, 4, Reason.NOT_RECEIVED)]
    state.received(minute(1))
    assert state.due(minute(2.5), GRACE_MS).account.watermark_ms == minute(3), "never back"


def test_a_candle_that_was_judged_as_in_flight_and_is_dropped_becomes_a_gap() -> None:
    state = live()
    for at in (0, 1, 2):
        state.received(minute(at))
    state.confirm(state.due(minute(3.5), GRACE_MS), is_written=False)
    state.committed(minute(0), 5)
    state.dropped(minute(1))
    state.committed(minute(2), 5)
    assert state.watermark_ms == minute(1)
    due = state.due(minute(3.5), GRACE_MS)
    assert minutes_of(due.gaps) == [(1, 2, Reason.NOT_RECEIVED)]
    state.confirm(due, is_written=True)
    assert state.watermark_ms == minute(3)


def test_what_comes_once_more_during_a_scan_moves_no_watermark_back() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.received(minute(2))
    state.start(minute(5.5))
    due = state.begin(SeriesAccount(minute(0), minute(4)), [], None, GRACE_MS)
    assert due.account.watermark_ms == minute(4)


def test_what_comes_once_more_during_a_retirement_moves_no_watermark_back() -> None:
    state = live(SeriesAccount(minute(0), minute(4)), now=4.5)
    state.committed(minute(4), 5)
    state.confirm(state.due(minute(5.5), GRACE_MS), is_written=True)
    moved = state.moved()
    assert moved is None
    state.handle(Removed())
    state.received(minute(2))
    assert state.retirement(None, GRACE_MS).account == SeriesAccount(
        minute(0), minute(5), minute(5)
    )


def test_a_candle_committed_during_a_scan_is_no_gap() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.start(minute(3.5))
    known = SeriesAccount(minute(0), minute(1))
    state.committed(minute(2), 5)
    due = state.begin(known, [Span(minute(1), minute(2))], None, GRACE_MS)
    assert due.gaps == ()


def test_a_candle_in_flight_during_a_scan_holds_the_watermark_back() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.received(minute(2))
    state.start(minute(5.5))
    due = state.begin(SeriesAccount(minute(0), minute(1)), [], None, GRACE_MS)
    assert minutes_of(due.gaps) == [
        (1, 2, Reason.RECORDER_DOWN),
        (3, 5, Reason.RECORDER_DOWN),
    ]
    assert due.account.watermark_ms == minute(2)


def test_candles_are_not_kept_in_memory_while_the_time_is_not_known() -> None:
    """REST that never answers must not cost memory: the scan finds them."""
    state = SeriesState(SERIES)
    state.handle(Added())
    for at in range(100):
        state.received(minute(at))
        state.committed(minute(at), 5)
    assert not state._candles.durable
    assert not state._candles.in_flight


def test_events_during_a_scan_count_after_it_in_their_order() -> None:
    state, due = scanned()
    state.handle(Removed())
    state.handle(Added(minute(5)))
    assert stands(state) is State.SCANNING
    state.confirm(due, is_written=True)
    assert stands(state) is State.RETIRING
    state.confirm_transition()
    assert stands(state) is State.WANTED
    assert state.started_ms == minute(5)


def test_a_series_that_is_removed_before_the_time_is_known_leaves_no_trace() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.handle(Listed(trades=True))
    state.handle(Removed())
    assert stands(state) is State.RETIRED


def test_retirement_ends_where_the_series_was_judged() -> None:
    state = live()
    state.handle(Removed())
    due = state.retirement(minute(2.5), GRACE_MS)
    assert minutes_of(due.gaps) == [(0, 2, Reason.NOT_RECEIVED)]
    assert due.account == SeriesAccount(minute(0), minute(2), minute(2))
    unjudged = state.retirement(None, GRACE_MS)
    assert unjudged.gaps == ()
    assert unjudged.account == SeriesAccount(minute(0), minute(0), minute(0))


def ended(at: float) -> SeriesState:
    """A series whose symbol was seen to have ended, with candles before."""
    state = live()
    for n in range(round(at)):
        state.committed(minute(n), 5)
    state.handle(Listed(ended_ms=minute(at)))
    return state


def gap(from_minute: float, to_minute: float, asked: int = 0) -> Gap:
    span = Span(minute(from_minute), minute(to_minute))
    return Gap(SERIES, span, minute(9), Reason.NOT_RECEIVED, GapState.PENDING, asked)


def stands(state: SeriesState) -> State:
    """Where it stands now; mypy would remember where it stood before."""
    return state.state


def test_a_second_copy_of_what_is_durable_may_be_dropped() -> None:
    state = live()
    state.received(minute(0))
    state.committed(minute(0), 5)
    state.received(minute(0))
    state.confirm(state.due(minute(1.5), GRACE_MS), is_written=False)
    state.dropped(minute(0))
    assert state.due(minute(1.5), GRACE_MS).gaps == ()


def test_a_second_copy_of_what_a_scan_found_may_be_dropped() -> None:
    state = SeriesState(SERIES)
    state.handle(Added())
    state.start(minute(1.5))
    state.received(minute(0))
    stored = [Span(minute(0), minute(1))]
    state.confirm(
        state.begin(SeriesAccount(minute(0), minute(0)), stored, None, GRACE_MS), is_written=True
    )
    state.dropped(minute(0))
    assert state.due(minute(1.5), GRACE_MS).gaps == ()


def test_the_end_waits_for_one_candle_more() -> None:
    state = ended(5.5)
    assert stands(state) is State.ENDING
    state.confirm(state.due(minute(7), GRACE_MS), is_written=True)
    assert not state.is_past_its_end
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert state.is_past_its_end


def test_nothing_is_sealed_that_was_not_asked_for() -> None:
    state = ended(5.5)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert state.seal([gap(5, 7)], minute(8)) is None
    assert state.seal([gap(5, 6, 1), gap(6, 7, 1)], minute(8)) is None, "one lies before the end"
    seal = state.seal([gap(6, 7, 1)], minute(8))
    assert seal is not None
    assert seal.closed.span == Span(minute(6), minute(7))
    assert (seal.closed.closes, seal.gaps) == (Reason.DELISTED, ())
    assert seal.account == SeriesAccount(minute(0), minute(7), minute(7))


def test_where_flat_candles_go_on_the_next_one_is_the_first_that_is_not_recorded() -> None:
    state = ended(5.5)
    for at in (5, 6):
        state.committed(minute(at), 0)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    seal = state.seal([], minute(8))
    assert seal is not None
    assert minutes_of(seal.gaps) == [(7, 8, Reason.DELISTED)]
    assert seal.account == SeriesAccount(minute(0), minute(8), minute(8))


def test_flat_candles_that_came_already_are_not_the_first_that_is_not_recorded() -> None:
    state = ended(5.5)
    for at in (5, 6, 7, 8, 9):
        state.committed(minute(at), 0)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    seal = state.seal([], minute(8))
    assert seal is not None
    assert minutes_of(seal.gaps) == [(10, 11, Reason.DELISTED)]


def test_a_trade_after_the_end_moves_it() -> None:
    state = ended(5.5)
    state.committed(minute(6), 5)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert not state.is_past_its_end


def test_an_end_that_is_dated_by_a_clock_that_is_behind_lies_after_the_trades_that_came() -> None:
    """REST was banned for hours, and frames alone may not move the clock so far."""
    state = live()
    for n in range(8):
        state.committed(minute(n), 5)
    state.handle(Listed(ended_ms=minute(2.5)))
    state.confirm(state.due(minute(8.5), GRACE_MS), is_written=True)
    assert not state.is_past_its_end
    state.confirm(state.due(minute(9.5), GRACE_MS), is_written=True)
    assert state.is_past_its_end


def test_a_symbol_that_trades_again_while_its_end_is_written_is_wanted_again() -> None:
    state = ended(5.5)
    state.confirm(state.due(minute(7.5), GRACE_MS), is_written=True)
    assert state.begin_sealing()
    state.handle(Listed(trades=True))
    assert stands(state) is State.SEALING
    state.confirm_transition()
    assert stands(state) is State.WANTED


@pytest.mark.parametrize("was", [State.LIVE, State.ENDING])
def test_a_symbol_that_trades_is_reopened(was: State) -> None:
    state = live() if was is State.LIVE else ended(5.5)
    assert stands(state) is was
    state.handle(Listed(trades=True))
    assert stands(state) is State.TRADING_AGAIN
    state.confirm_transition()
    assert stands(state) is State.LIVE


MEANWHILE = st.sampled_from(["nothing", "dropped", "received"])
RARELY = st.integers(0, 4)
"""What happens at 0 only. Else most lives would end before anything was judged."""


@attrs.define
class Disk:
    """What is durable, candle by candle."""

    account: SeriesAccount | None = None
    stored: set[int] = attrs.field(factory=set)
    ledger: dict[int, Gap] = attrs.field(factory=dict)

    def write(self, due: Due) -> None:
        for one in due.gaps:
            self.name(one)
        self.account = due.account

    def name(self, absence: Gap) -> None:
        for open_ms in SERIES.interval.open_times_ms(absence.span):
            assert open_ms not in self.stored, "a stored candle is named as a gap"
            old = self.ledger.get(open_ms)
            if old is None or old.state is GapState.FILLED:
                span = Span(open_ms, open_ms + MINUTE_MS)
                self.ledger[open_ms] = attrs.evolve(absence, span=span)

    def store(self, open_ms: int) -> None:
        self.stored.add(open_ms)
        if open_ms in self.ledger:
            self.ledger[open_ms] = attrs.evolve(
                self.ledger[open_ms], state=GapState.FILLED, filled_by=Source.STREAM
            )

    def spans(self) -> list[Span]:
        return list(SERIES.interval.runs(sorted(self.stored)))


class SeriesLife(RuleBasedStateMachine):
    """Candles, time, lists, users, full disks and crashes in any order."""

    @initialize()
    def begin(self) -> None:
        self.disk = Disk()
        self.now = 0.5
        self.state = SeriesState(SERIES)
        self.in_channel: list[int] = []
        self.looked: tuple[SeriesAccount | None, list[Span]] | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        self.state.handle(Added())
        self.look_through()
        self.commit_scan(has_space=True)

    @rule()
    def add(self) -> None:
        if self.state.state in (State.RETIRED, State.SEALED):
            self.state.handle(Added(minute(self.now)))

    @rule(dice=RARELY)
    def remove(self, dice: int) -> None:
        if not dice:
            self.state.handle(Removed())

    @rule(told=st.sampled_from(["trades", "ended", "neither"]))
    def list(self, told: str) -> None:
        if self.state.state is not State.RETIRED:
            ended_ms = minute(self.now) if told == "ended" else None
            self.state.handle(Listed(told == "trades", ended_ms))

    @rule(minutes=st.sampled_from([0.3, 1.0, 2.7]))
    def wait(self, minutes: float) -> None:
        self.now += minutes

    @rule(age=st.integers(0, 3))
    def receive(self, age: int) -> None:
        """The candle that closes just now, or one that comes late."""
        open_ms = SERIES.interval.open_time_ms(minute(self.now)) - age * MINUTE_MS
        self.now = max(self.now, (open_ms + MINUTE_MS - START_MS) / MINUTE_MS)
        self.state.received(open_ms)
        self.in_channel.append(open_ms)

    @precondition(lambda self: self.in_channel)
    @rule(nth=st.integers(0, 99), is_kept=st.booleans())
    def commit_or_drop(self, nth: int, is_kept: bool) -> None:
        open_ms = self.in_channel.pop(nth % len(self.in_channel))
        if is_kept:
            self.disk.store(open_ms)
            self.state.committed(open_ms, 5)
        elif open_ms not in self.in_channel:
            self.state.dropped(open_ms)

    @precondition(lambda self: any(
        one.state is GapState.PENDING for one in self.disk.ledger.values()
    ))  # fmt: skip
    @rule(has=st.booleans())
    def ask(self, has: bool) -> None:
        """REST is asked for all that is pending."""
        for open_ms, one in self.disk.ledger.items():
            if one.state is GapState.PENDING:
                if has:
                    self.disk.store(open_ms)
                    self.state.committed(open_ms, 5)
                else:
                    self.disk.ledger[open_ms] = attrs.evolve(one, asked=one.asked + 1)

    @rule()
    def look_through(self) -> None:
        """The slow part of a scan: other things happen before its commit."""
        self.state.start(minute(self.now))
        if self.state.state is State.SCANNING:
            from_ms = self.disk.account.watermark_ms if self.disk.account else 0
            spans = [p for s in self.disk.spans() for p in s.common_with(Span(from_ms, 2**60))]
            self.looked = self.disk.account, spans

    @rule(has_space=st.booleans(), meanwhile=MEANWHILE)
    def commit_scan(self, has_space: bool, meanwhile: str = "nothing") -> None:
        if self.state.state is State.SCANNING and self.looked is not None and has_space:
            due = self.state.begin(*self.looked, None, GRACE_MS)
            self.disk.write(due)
            self.happen(meanwhile)
            self.state.confirm(due, is_written=True)
            self.looked = None

    @rule(has_space=st.booleans(), meanwhile=MEANWHILE)
    def judge(self, has_space: bool, meanwhile: str) -> None:
        if self.state.state in (State.LIVE, State.ENDING, State.TRADING_AGAIN):
            due = self.state.due(minute(self.now), GRACE_MS)
            if due.gaps and not has_space:
                return
            if due.gaps:
                self.disk.write(due)
                self.happen(meanwhile)
            self.state.confirm(due, is_written=bool(due.gaps))

    def happen(self, meanwhile: str) -> None:
        """Between a plan and its confirmation, while the disk works."""
        if self.in_channel and meanwhile == "dropped":
            open_ms = self.in_channel.pop(0)
            if open_ms not in self.in_channel:
                self.state.dropped(open_ms)
        elif meanwhile == "received":
            self.receive(0)

    @rule()
    def keep(self) -> None:
        moved = self.state.moved()
        if moved is not None and self.state.state not in (State.RETIRED, State.SEALED):
            self.disk.account = moved
            self.state.confirm_moved(moved)

    @rule(has_space=st.booleans())
    def write_end(self, has_space: bool) -> None:
        """Retire, reopen or seal, whatever the state calls for."""
        if self.state.state is State.RETIRING and has_space:
            self.disk.write(self.state.retirement(minute(self.now), GRACE_MS))
            self.state.confirm_transition()
        elif self.state.state is State.TRADING_AGAIN and has_space:
            self.state.confirm_transition()
        elif self.state.state in (State.ENDING, State.SEALING):
            if not self.state.begin_sealing():
                return
            ledger = [one for one in self.disk.ledger.values() if one.state is not GapState.FILLED]
            seal = self.state.seal(ledger, minute(self.now))
            if seal is None:
                self.state.put_off_sealing()
            if seal is not None and has_space:
                for open_ms, one in self.disk.ledger.items():
                    inside = seal.closed.span.from_ms <= open_ms < seal.closed.span.to_ms
                    if inside and one.state is GapState.PENDING:
                        self.disk.ledger[open_ms] = attrs.evolve(
                            one, state=GapState.CLOSED, reason=Reason.DELISTED
                        )
                for one in seal.gaps:
                    self.disk.name(one)
                self.disk.account = seal.account
                self.state.confirm_transition()

    @rule(dice=RARELY, has_time=st.booleans())
    def crash(self, dice: int, has_time: bool) -> None:
        """Memory is gone, and what was in the channel; the next recorder wants it again."""
        if dice:
            return
        self.state = SeriesState(SERIES)
        self.in_channel.clear()
        self.looked = None
        if has_time:
            self.begin_anew()
        else:
            self.state.handle(Added())

    @invariant()
    def everything_up_to_the_stored_watermark_is_stored_or_in_the_ledger(self) -> None:
        account = self.disk.account
        if account is not None and account.first_ms < account.watermark_ms:
            for open_ms in SERIES.interval.open_times_ms(
                Span(account.first_ms, account.watermark_ms)
            ):
                one = self.disk.ledger.get(open_ms)
                is_explained = one is not None and one.state is not GapState.FILLED
                assert open_ms in self.disk.stored or is_explained, (
                    f"minute {(open_ms - START_MS) / MINUTE_MS} is neither"
                )

    @invariant()
    def nothing_is_both_stored_and_pending(self) -> None:
        for open_ms, one in self.disk.ledger.items():
            assert one.state is GapState.FILLED or open_ms not in self.disk.stored


TestSeriesLife = SeriesLife.TestCase
TestSeriesLife.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
