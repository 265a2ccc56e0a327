"""The recorded series, each a state machine, and when their next candles fall due (pure).

Events of candles, of the configuration and of the exchange's lists are synchronous calls. The
auditor asks what is due, writes it, and confirms it.
"""

import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series
from kline_trio.recorder.series_state import Added, Due, Listed, Removed, SeriesState, State
from kline_trio.storage.journal.ledger import SeriesAccount

_NAMES = operator.attrgetter("trade_type", "symbol", "time_interval")
"""Orders as Series do, and several times faster."""
_NOTHING: Mapping[Series, int] = {}
_JUDGED = (State.LIVE, State.ENDING, State.TRADING_AGAIN)
"""The states in which candles fall due."""


@attrs.define(eq=False)
class SeriesSet:
    """All series that are or were recorded, by their states."""

    grace_ms: int
    """How long after its close a candle may take to come, in exchange time."""
    _states: dict[Series, SeriesState] = attrs.field(init=False, factory=dict)
    _wanted: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _listed: dict[Series, Listed] = attrs.field(init=False, factory=dict)
    """The last event of the exchange's lists since a series was added."""
    _next_due_ms: dict[tuple[str, str], int] = attrs.field(init=False, factory=dict)
    """By market and interval, the end of the first candle to judge: thousands of series share a few
    moments. A look at each of them every second would cost some percent of a core."""

    def __contains__(self, series: Series) -> bool:
        """Return whether a series is to be recorded."""
        return series in self._wanted

    @property
    def wanted(self) -> frozenset[Series]:
        """The series that are to be recorded."""
        return self._wanted

    def state_of(self, series: Series) -> State:
        """Return the state of a series; one that was never recorded is retired."""
        state = self._states.get(series)
        return State.RETIRED if state is None else state.state

    def is_accounted(self, trade_type: str) -> bool:
        """Return whether the journal has an account of each series of a market."""
        begins = self.in_state(State.WANTED, State.SCANNING)
        return all(one.series.trade_type != trade_type for one in begins)

    def in_state(self, *wanted: State) -> list[SeriesState]:
        """Return the machines in one of these states, in the order of their series."""
        found = [one for one in self._states.values() if one.state in wanted]
        return sorted(found, key=lambda one: _NAMES(one.series))

    # Events.

    def set_series(
        self,
        wanted: Iterable[Series],
        now_ms: Mapping[str, int | None],
        listed_ms: Mapping[Series, int] = _NOTHING,
    ) -> None:
        """Record these series from now on, and no others.

        Args:
          wanted: the series.
          now_ms: the exchange's time by trade type; None where it is not known.
          listed_ms: since when the symbols trade that are new on the exchange.
        """
        before, self._wanted = self._wanted, frozenset(wanted)
        for series in sorted(self._wanted - before, key=_NAMES):
            state = self._states.setdefault(series, SeriesState(series))
            self._listed.pop(series, None)
            state.handle(Added(now_ms.get(series.trade_type), listed_ms.get(series)))
        for series in before - self._wanted:
            self._states[series].handle(Removed())
            self._drop_if_retired(series)

    def on_listings(self, ended_ms: Mapping[Series, int], trading: Collection[Series]) -> None:
        """Handle the exchange's lists: when symbols were seen to trade no more, and which trade."""
        for series in self._wanted:
            new = Listed(series in trading, ended_ms.get(series))
            known = self._listed.get(series, Listed())
            if (new.trades, new.ended_ms is None) != (known.trades, known.ended_ms is None):
                self._listed[series] = new
                self._states[series].handle(new)

    def received(self, series: Series, open_time_ms: int) -> None:
        """Note that a candle is on its way to the disk."""
        state = self._states.get(series)
        if state is not None:
            state.received(open_time_ms)

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Note that candles are durable."""
        for item in batch:
            state = self._states.get(item.series)
            if state is not None:
                state.committed(item.candle.open_time_ms, item.candle.trade_num)

    def dropped(self, series: Series, open_time_ms: int) -> None:
        """Note that a received candle will not become durable."""
        state = self._states.get(series)
        if state is not None:
            state.dropped(open_time_ms)
            # A batch may drop thousands: do not look at the others of the group.
            group = _group(state)
            known_ms = self._next_due_ms.get(group, MAX_TIME_MS)
            self._next_due_ms[group] = min(known_ms, state.next_due_ms)

    # What falls due.

    def due(self, now_ms: Mapping[str, int]) -> list[Due]:
        """Return what falls due of all series by now, in their order, and change nothing.

        Args:
          now_ms: the exchange's time by trade type; markets without one are left out.
        """
        until_ms = {name: moment_ms - self.grace_ms for name, moment_ms in now_ms.items()}
        groups = {
            group
            for group, due_ms in self._next_due_ms.items()
            if due_ms <= until_ms.get(group[0], -math.inf)
        }
        found = [
            state
            for state in (self._states.values() if groups else ())
            if _group(state) in groups
            and state.state in _JUDGED
            and state.next_due_ms <= until_ms[state.series.trade_type]
        ]
        return [
            state.due(now_ms[state.series.trade_type], self.grace_ms)
            for state in sorted(found, key=lambda one: _NAMES(one.series))
        ]

    def moved(self) -> dict[Series, SeriesAccount]:
        """Return the accounts with watermarks that the journal does not have yet."""
        found = ((series, state.moved()) for series, state in self._states.items())
        return {series: account for series, account in found if account is not None}

    def confirm_moved(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Adopt accounts after their commit."""
        for series, account in accounts.items():
            self._states[series].confirm_moved(account)

    def confirm(self, dues: Collection[Due], written: Collection[Series]) -> None:
        """Adopt dues after their commit; `written` are the series whose accounts it wrote."""
        adopted = [self._states[due.series] for due in dues]
        for state, due in zip(adopted, dues, strict=True):
            state.confirm(due, is_written=due.series in written)
        for group in {_group(state) for state in adopted}:
            self._look_ahead(group)

    def confirm_transition(self, states: Collection[SeriesState]) -> None:
        """End the transitions of series after the commit of their rows."""
        for state in states:
            state.confirm_transition()
            self._drop_if_retired(state.series)
        for group in {_group(state) for state in states}:
            self._look_ahead(group)

    def _drop_if_retired(self, series: Series) -> None:
        if self._states[series].state is State.RETIRED:
            del self._states[series]

    def _look_ahead(self, group: tuple[str, str]) -> None:
        ends_ms = (one.next_due_ms for one in self._states.values() if _group(one) == group)
        self._next_due_ms[group] = min(ends_ms, default=MAX_TIME_MS)


def _group(state: SeriesState) -> tuple[str, str]:
    return state.series.trade_type, state.series.time_interval
