"""The series that are recorded, each a state machine, and when their next candles fall due (pure).

Events of candles, of the configuration and of the exchange's lists come in by synchronous calls.
The auditor asks what is due, writes it, and confirms it.
"""

import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import attrs

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.recorder.series_state import Added, Due, Listed, Removed, SeriesState, State
from kline_trio.storage.ledger import Account

__all__ = ["SeriesSet"]

_NAMES = operator.attrgetter("trade_type", "symbol", "time_interval")
"""Orders as Series do, and several times faster."""
_NOTHING: Mapping[Series, int] = {}


@attrs.define(eq=False)
class SeriesSet:
    """All series that are or were recorded."""

    grace_ms: int
    """How long after its close a candle may take to come."""
    _states: dict[Series, SeriesState] = attrs.field(init=False, factory=dict)
    _wanted: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _told: dict[Series, Listed] = attrs.field(init=False, factory=dict)
    """What the exchange's lists said last, of what was added since."""
    _agenda: dict[str, dict[int, list[Series]]] = attrs.field(init=False, factory=dict)
    """By trade type, and by when the next candle to be judged ends: thousands of series share a few
    moments. To look at all of them each second would cost some percent of a core, and so would a
    heap, which compares those of one moment with each other."""

    def __contains__(self, series: Series) -> bool:
        """Return whether the series is to be recorded."""
        return series in self._wanted

    def state_of(self, series: Series) -> State:
        """Return where a series stands; one that never was recorded is retired."""
        state = self._states.get(series)
        return State.RETIRED if state is None else state.state

    def in_state(self, *wanted: State) -> list[SeriesState]:
        """Return the machines in one of these states, by series."""
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
          wanted: which.
          now_ms: the exchange's time, by trade type, as far as it is known.
          listed_ms: of symbols that are new on the exchange, since when they trade.
        """
        before, self._wanted = self._wanted, frozenset(wanted)
        for series in sorted(self._wanted - before, key=_NAMES):
            state = self._states.setdefault(series, SeriesState(series))
            self._told.pop(series, None)
            state.handle(Added(now_ms.get(series.trade_type), listed_ms.get(series)))
        for series in before - self._wanted:
            self._states[series].handle(Removed())
            self._drop_if_retired(series)

    def on_listings(self, ended_ms: Mapping[Series, int], trading: Collection[Series]) -> None:
        """Take in what the exchange's lists say of the recorded series.

        Args:
          ended_ms: those whose symbols trade no more, and when that was seen.
          trading: those whose symbols trade.
        """
        for series in self._wanted:
            state = self._states[series]
            told = Listed(series in trading, ended_ms.get(series))
            known = self._told.get(series, Listed())
            is_news = (told.trades, told.ended_ms is None) != (known.trades, known.ended_ms is None)
            if is_news:
                self._told[series] = told
                state.handle(told)

    def received(self, series: Series, open_time_ms: int) -> None:
        """A candle is on its way to the disk."""
        state = self._states.get(series)
        if state is not None:
            state.received(open_time_ms)

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """These candles are durable."""
        for item in batch:
            state = self._states.get(item.series)
            if state is not None:
                state.committed(item.candle.open_time_ms, item.candle.trade_num)

    def dropped(self, series: Series, open_time_ms: int) -> None:
        """A received candle will not become durable."""
        state = self._states.get(series)
        if state is not None:
            state.dropped(open_time_ms)
            if state.has_lost:
                self._note(series, 0)

    # What falls due.

    def due(self, now_ms: Mapping[str, int]) -> list[Due]:
        """Return what falls due of all series by now, and change nothing.

        Args:
          now_ms: the exchange's time, by trade type. Markets without one are left out.
        """
        return [
            state.due(now_ms[state.series.trade_type], self.grace_ms)
            for state in sorted(self._falling_due(now_ms), key=lambda one: _NAMES(one.series))
        ]

    def moved(self) -> dict[Series, Account]:
        """Return the accounts whose watermarks the journal does not have yet."""
        found = ((series, state.moved()) for series, state in self._states.items())
        return {series: account for series, account in found if account is not None}

    def confirm_moved(self, accounts: Mapping[Series, Account]) -> None:
        """Adopt accounts that are in the journal now."""
        for series, account in accounts.items():
            self._states[series].confirm_moved(account)

    def confirm(
        self, dues: Collection[Due], written: Collection[Series], now_ms: Mapping[str, int]
    ) -> None:
        """Adopt what was due, after the commit.

        Args:
          dues: what fell due, or some of it.
          written: the series whose accounts are in the journal with it.
          now_ms: what `due` was given; nothing for the first gaps of series that were scanned.
        """
        adopted = {due.series for due in dues}
        for trade_type, moment_ms in now_ms.items():
            agenda = self._agenda.get(trade_type, {})
            for end_ms in [one for one in agenda if one <= moment_ms - self.grace_ms]:
                left = [one for one in agenda[end_ms] if one not in adopted and self._is_due(one)]
                if left:
                    agenda[end_ms] = left
                else:
                    del agenda[end_ms]
        for due in dues:
            state = self._states[due.series]
            state.confirm(due, is_written=due.series in written)
            self._note(due.series, 0 if state.has_lost else state.next_due_ms)

    def confirm_retired(self, series: Iterable[Series]) -> None:
        """Forget series, after the commit of their ends."""
        for one in series:
            self._states[one].confirm_retired()
            self._drop_if_retired(one)

    def _drop_if_retired(self, series: Series) -> None:
        if self._states[series].state is State.RETIRED:
            del self._states[series]

    def _note(self, series: Series, end_ms: int) -> None:
        self._agenda.setdefault(series.trade_type, {}).setdefault(end_ms, []).append(series)

    def _falling_due(self, now_ms: Mapping[str, int]) -> Iterator[SeriesState]:
        found: set[Series] = set()
        for trade_type, agenda in self._agenda.items():
            if trade_type in now_ms:
                until_ms = now_ms[trade_type] - self.grace_ms
                for end_ms, several in agenda.items():
                    if end_ms <= until_ms:
                        found.update(several)
        return (self._states[series] for series in found if self._is_due(series))

    def _is_due(self, series: Series) -> bool:
        """Whether candles of a series fall due, now that its scan is over."""
        return self.state_of(series) in (State.LIVE, State.ENDING, State.TRADING_AGAIN)
