"""Holds the store against the calendar, all the time: writes what the series' states call for.

The auditor performs effects and owns no state of a series. Each effect is one transaction behind
the commit door: compute what is due, commit it, let the states adopt it, with no checkpoint before
or after. So whatever ends the recorder, no state is ahead of the disk. If the disk has no space,
nothing was adopted, and all is computed anew later.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span
from kline_trio.recorder.disk_space import RETRY_SECONDS, retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.gathering import some
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import SeriesState, State
from kline_trio.storage.ledger import Gap, SeriesAccount

__all__ = ["Auditor"]

logger = logging.getLogger(__name__)

_JUDGE_SECONDS = 1.0
_LAG_MS = 120_000
"""So far back the time may be believed at a start: the newest candle tells when it began."""
_EXPORT_SECONDS = 60.0
_EXPORT_SECONDS_A_ROW = 0.001
"""Some hundred times what it takes to write a row of the ledger out."""
_BEHIND_MS = 45_000
"""So far behind a connection may be until what it should have brought is asked for: connections
have been 30 s late (nautilus_trader#1705)."""
_EVER_MS = 2**62
_SERIES_AT_ONCE = 250
"""The gaps of as many are one transaction, of some 20 ms, for which candles may have to wait."""
_FILES_AT_ONCE = 1_000
"""As many are adopted in one transaction, some 0.1 s at most."""
_KEEP_SECONDS = 600.0
"""How often all watermarks are written: the next start looks through what is stored from there."""


@attrs.define(eq=False)
class Auditor:
    """Writes gaps, watermarks and ends of series as they fall due."""

    storage: Storage
    series: SeriesSet
    clocks: Mapping[str, ExchangeClock]
    """By trade type."""
    since_ms: int | None
    """From when on the past is fetched; None: not at all."""
    may_judge: Callable[[], bool] = lambda: True
    """False as long as candles that came wait for space on the disk."""
    told_ms: Callable[[str], int | None] = lambda _: None
    """Up to which time of the exchange a market's connections have delivered, if any lives."""
    is_recorder: bool = True
    """False for a backfill: it receives nothing, and does not know which series have ended."""

    _has_seen_files: bool = attrs.field(init=False, default=False)
    """Whether the files of all series were held against the manifest since the start."""
    _kept_at: float = attrs.field(init=False, factory=trio.current_time)
    _export_at: float = attrs.field(init=False, default=-math.inf)
    _exported: int = attrs.field(init=False, default=0)
    """Up to which of its changes the ledger was written out."""

    async def run(self, sealed: Callable[[Sequence[Series]], None]) -> None:
        """Audit until cancelled.

        Args:
          sealed: told which series have come to their end, and are in the ledger with it.

        Raises:
          DiskError: the store could not be read or written; want of space is waited for.
        """
        while True:
            try:
                await self.audit()
            except DiskFullError:
                # The writer says so already.
                await trio.sleep(RETRY_SECONDS)
            over = [one.series for one in self.series.in_state(State.SEALED)]
            if new := [one for one in over if one in self.series]:
                sealed(new)
            if trio.current_time() >= self._export_at:
                await self._export()
            await trio.sleep(_JUDGE_SECONDS)

    @property
    def is_stock_taken(self) -> bool:
        """Whether of every series it is known what is stored."""
        return not self.series.in_state(State.WANTED, State.SCANNING)

    async def take_stock(self) -> None:
        """Audit until it is known of every series what is stored.

        Raises:
          DiskError: the store could not be read or written; want of space is waited for.
        """
        while not self.is_stock_taken:
            await retry_while_full(self.audit)
            await trio.sleep(_JUDGE_SECONDS)

    async def audit(self) -> None:
        """Write what the states call for: first gaps, retirements, ends, and what falls due.

        Raises:
          DiskError: the store could not be read or written. Nothing was adopted that is not in it.
        """
        await self._retire()
        await self._scan()
        await self._reopen()
        if self.may_judge():
            # Ends first, so that what was named a moment ago was asked for by now.
            await self._seal()
            await self._judge()
        if trio.current_time() >= self._kept_at + _KEEP_SECONDS:
            await self._keep_watermarks()

    async def keep(self) -> None:
        """Write what falls due and all watermarks, so that the next start need not look for it.

        Raises:
          DiskError: it could not be written, and not for want of space.
        """
        with suppress(DiskFullError):
            await self._retire()
            if self.may_judge():
                await self._judge()
            await self._keep_watermarks()
        await self._export()

    async def _judge(self) -> None:
        times = self._times_ms()
        dues = self.series.due(times)
        # What is durable or in flight is no news to the disk, but for its watermarks.
        self.series.confirm([due for due in dues if not due.gaps], ())
        while any(due.gaps for due in dues) and await self._write_gaps():
            self.storage.gaps_named.ring()

    async def _write_gaps(self) -> bool:
        """Write the gaps of some series that have any; return whether there were some.

        Of thousands of series that were cut at once it takes several transactions, between which
        candles are committed.
        """
        # At the door candles may have come late, so what is due is computed behind it.
        async with self.storage.commit_door.held() as run:
            if not self.may_judge():
                return False
            times = self._times_ms()
            dues = [due for due in self.series.due(times) if due.gaps][:_SERIES_AT_ONCE]
            gaps = [gap for due in dues for gap in due.gaps]
            accounts = {due.series: due.account for due in dues}
            if gaps:
                await run(self.storage.store.settle, gaps, accounts)
                self.series.confirm(dues, accounts)
        return bool(gaps)

    def _times_ms(self) -> dict[str, int]:
        """Up to when candles may be missed, by trade type: what a connection that is behind will
        bring is not.
        """
        times = {}
        for name, clock in self.clocks.items():
            if clock.now_ms is not None:
                told_ms = self.told_ms(name)
                behind_ms = clock.now_ms if told_ms is None else min(clock.now_ms, told_ms)
                times[name] = max(behind_ms, clock.now_ms - _BEHIND_MS)
        return times

    async def _keep_watermarks(self) -> None:
        async with self.storage.commit_door.held() as run:
            moved = self.series.moved()
            if moved:
                await run(self.storage.store.settle, (), moved)
            self.series.confirm_moved(moved)
        self._kept_at = trio.current_time()

    async def _retire(self) -> None:
        """Write since when these are not recorded any more: what has not closed yet is not ours."""
        if not self.series.in_state(State.RETIRING):
            return
        async with self.storage.commit_door.held() as run:
            times = self._times_ms() if self.may_judge() else {}
            retiring = self.series.in_state(State.RETIRING)
            dues = [
                one.retirement(times.get(one.series.trade_type), self.series.grace_ms)
                for one in retiring
            ]
            gaps = [gap for due in dues for gap in due.gaps]
            await run(self.storage.store.settle, gaps, {due.series: due.account for due in dues})
            self.series.confirm_transition(retiring)

    async def _scan(self) -> None:
        """Look up what is stored of wanted series, and write the gaps that it leaves."""
        for one in self.series.in_state(State.WANTED):
            clock = self.clocks[one.series.trade_type]
            if clock.began_ms is not None:
                one.start(clock.began_ms)
        mine = [one.series for one in self.series.in_state(State.SCANNING)]
        if not mine:
            return
        store, commit_door = self.storage.store, self.storage.commit_door
        # At the start those of all series: who reads a retired one is to know, too.
        await self._adopt_changed_files(mine if self._has_seen_files else None)
        self._has_seen_files = True
        accounts = await commit_door.run(store.accounts)
        wanted = {one: accounts[one].watermark_ms if one in accounts else 0 for one in mine}
        stored = await self.storage.merge_door.run(store.look_through, wanted)
        if led_away := self._led_away(accounts, mine):
            await self._rewind(led_away)
            return
        async with commit_door.held() as run:
            dues = [
                one.begin(
                    accounts.get(one.series),
                    stored[one.series],
                    self.since_ms,
                    self.series.grace_ms,
                    is_recorder=self.is_recorder,
                    began_ms=self.clocks[one.series.trade_type].began_ms,
                )
                for one in self.series.in_state(State.SCANNING)
                if one.series in stored
            ]
            gaps = [gap for due in dues for gap in due.gaps]
            begun = {due.series: due.account for due in dues}
            now_ms = max(due.judged_ms for due in dues)
            gone = self._not_recorded(accounts, now_ms) if self.is_recorder else {}
            await run(store.settle, gaps, {**gone, **begun})
            self.series.confirm(dues, begun)
        self.storage.gaps_named.ring()

    def _led_away(
        self, accounts: Mapping[Series, SeriesAccount], among: Iterable[Series]
    ) -> dict[Series, SeriesAccount]:
        """Return the accounts whose watermarks lie beyond the exchange's time."""
        found = {}
        for one in among:
            account, now_ms = accounts.get(one), self.clocks[one.trade_type].latest_ms or 0
            if account is not None and account.watermark_ms == account.retired_ms:
                # A sealed series ends with the candle of then, which may be still to come.
                now_ms = one.interval.end_time_ms(one.interval.open_time_ms(now_ms))
            if account is not None and account.watermark_ms > now_ms + _LAG_MS:
                found[one] = account
        return found

    async def _rewind(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Set watermarks back to the last candle that is stored; the next scan names the rest.

        An earlier version believed one witness of the time, and judged what was still to come.
        """
        store = self.storage.store
        wanted = {one: account.first_ms for one, account in accounts.items()}
        stored = await self.storage.merge_door.run(store.look_through, wanted)
        furthest_ms = max(account.watermark_ms for account in accounts.values())
        logger.warning(
            "%s: accounted for up to %s, which the exchange has not come to; looked through anew"
            " from the last stored candle on",
            some([str(one) for one in accounts]),
            datetime.fromtimestamp(furthest_ms / 1_000, UTC).isoformat(" ", "seconds"),
        )
        for one, account in accounts.items():
            now_ms = self.clocks[one.trade_type].latest_ms or 0
            past = Span(0, one.interval.open_time_ms(now_ms))
            ends_ms = [piece.to_ms for span in stored[one] for piece in span.common_with(past)]
            back_ms = max(ends_ms, default=min(account.first_ms, past.to_ms))
            back = SeriesAccount(min(account.first_ms, back_ms), back_ms)
            await self.storage.commit_door.run(store.rewind, {one: back}, now_ms)

    async def _adopt_changed_files(self, among: Sequence[Series] | None) -> None:
        """Name what files have lost that are not as they were written, or are gone."""
        store = self.storage.store
        wanted = None if among is None else frozenset(among)
        files = await self.storage.commit_door.run(store.files, wanted)
        changed = await self.storage.merge_door.run(store.changed_files, files)
        for begin in range(0, len(changed), _FILES_AT_ONCE):
            some = changed[begin : begin + _FILES_AT_ONCE]
            await self.storage.commit_door.run(store.adopt, some)

    def _not_recorded(
        self, accounts: Mapping[Series, SeriesAccount], now_ms: int
    ) -> dict[Series, SeriesAccount]:
        """Return the accounts of series that were recorded up to the last stop, and are no more.

        Of a market that is not recorded at all no time is known, but that of another will do.
        """
        return {
            one: attrs.evolve(account, retired_ms=self.clocks[one.trade_type].now_ms or now_ms)
            for one, account in accounts.items()
            if account.retired_ms is None and self.series.state_of(one) is State.RETIRED
        }

    async def _reopen(self) -> None:
        """Let what was closed as delisted be asked for anew of symbols that trade again."""
        if not self.series.in_state(State.TRADING_AGAIN):
            return
        async with self.storage.commit_door.held() as run:
            again = self.series.in_state(State.TRADING_AGAIN)
            reopened = await run(self.storage.store.reopen, [one.series for one in again])
            self.series.confirm_transition(again)
        if reopened:
            self.storage.gaps_named.ring()

    async def _seal(self) -> None:
        """Write the ends of series whose symbols are traded no more, when all was asked for."""
        for one in self.series.in_state(State.ENDING, State.SEALING):
            if one.is_past_its_end or one.state is State.SEALING:
                await self._seal_one(one)

    async def _seal_one(self, one: SeriesState) -> None:
        store = self.storage.store
        async with self.storage.commit_door.held() as run:
            # From here on events wait: they may come while the ledger is read.
            if not one.begin_sealing():
                return
            ledger: list[Gap] = [
                *await run(store.asked_for, [one.series]),
                *await run(store.touching, one.series, Span(one.watermark_ms - 1, _EVER_MS)),
            ]
            seal = one.seal(ledger, self.clocks[one.series.trade_type].now_ms)
            if seal is None:
                one.put_off_sealing()
                return
            await run(store.settle, seal.gaps, {one.series: seal.account}, (), [seal.closed])
            self.series.confirm_transition([one])

    async def _export(self) -> None:
        # Through the door, where no change is under way that a reader does not see yet.
        store, rows = self.storage.store, 0
        changes = await self.storage.commit_door.run(store.ledger_changes)
        if changes != self._exported:
            with suppress(DiskFullError):
                rows = await self.storage.merge_door.run(store.write_coverage)
                self._exported = changes
        # It is written as a whole: the longer it gets, the more rarely.
        wait = max(_EXPORT_SECONDS, rows * _EXPORT_SECONDS_A_ROW)
        self._export_at = trio.current_time() + wait
