"""Compare the store with the calendar all the time, and write what the series' states call for.

The auditor performs effects and owns no state of a series. Each effect is one transaction behind
the commit door: compute what is due, commit it, and let the states adopt it, with no checkpoint
before or after. So no state is ahead of the disk, whatever ends the recorder. If the disk is full,
nothing was adopted, and everything is computed again later.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span, time_text
from kline_trio.recorder.disk_space import RETRY_SECONDS, retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.grouped_log import first_names
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import SeriesState, State
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.reports import write_coverage

logger = logging.getLogger(__name__)

_AUDIT_SECONDS = 1.0
_LAG_MS = 120_000
"""How far the clock may lag at a start, when the newest candle alone tells the time."""
_EXPORT_SECONDS = 60.0
_EXPORT_SECONDS_A_ROW = 0.001
"""Some hundred times what it takes to export a row of the ledger."""
_BEHIND_MS = 45_000
"""How far behind a connection may be before its candles are asked for: connections have been 30 s
late (nautilus_trader#1705)."""
_EVER_MS = 2**62
_SERIES_AT_ONCE = 250
"""The gaps of as many series are one transaction, of some 20 ms, for which candles may wait."""
_FILES_AT_ONCE = 1_000
"""As many files are adopted in one transaction, some 0.1 s at most."""
_KEEP_SECONDS = 600.0
"""How often to write all watermarks: the next start looks through the stored candles from there."""


@attrs.define(eq=False)
class _Export:
    """Exports the ledger when it has changed, as a whole: the longer it gets, the more rarely."""

    storage: Storage
    due_at: float = -math.inf
    """Local seconds."""
    _changes: int = attrs.field(init=False, default=0)
    """The ledger's number of changes at the last export."""

    async def run(self) -> None:
        """Export the ledger if it has changed; skip it if the disk is full."""
        # Through the door, where no change is under way that a reader does not see yet.
        store, rows = self.storage.store, 0
        changes = await self.storage.commit_door.run(store.journal.ledger_changes)
        if changes != self._changes:
            with suppress(DiskFullError):
                rows = await self.storage.merge_door.run(write_coverage, store.path)
                self._changes = changes
        wait = max(_EXPORT_SECONDS, rows * _EXPORT_SECONDS_A_ROW)
        self.due_at = trio.current_time() + wait


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
    """Returns False while received candles wait for space on the disk."""
    delivered_ms: Callable[[str], int | None] = lambda _: None
    """Returns up to which exchange time a market's connections have delivered; None: none lives."""
    is_recorder: bool = True
    """False for a backfill, which receives nothing and does not know which series have ended."""

    _export: _Export = attrs.field(
        init=False, default=attrs.Factory(lambda self: _Export(self.storage), takes_self=True)
    )
    _has_seen_files: bool = attrs.field(init=False, default=False)
    """Whether the files of all series were compared with the manifest since the start."""
    _kept_at: float = attrs.field(init=False, factory=trio.current_time)

    async def run(self, sealed: Callable[[Sequence[Series]], None]) -> None:
        """Once a second, until cancelled, write due gaps, watermarks and the ends of series.

        After each audit, call `sealed` with the sealed series that are still to be recorded. While
        the disk is full, repeat the audit later.

        Raises:
          DiskError: the store cannot be read or written, for another reason than a full disk.
        """
        while True:
            try:
                await self.audit()
            except DiskFullError:
                # The writer logs it.
                await trio.sleep(RETRY_SECONDS)
            over = [one.series for one in self.series.in_state(State.SEALED)]
            if wanted := [one for one in over if one in self.series]:
                sealed(wanted)
            if trio.current_time() >= self._export.due_at:
                await self._export.run()
            await trio.sleep(_AUDIT_SECONDS)

    @property
    def is_stock_taken(self) -> bool:
        """Whether the stored candles of every series are known."""
        return not self.series.in_state(State.WANTED, State.SCANNING)

    async def take_stock(self) -> None:
        """Audit until the stored candles of every series are known.

        Raises:
          DiskError: the store could not be read or written. A full disk is waited for.
        """
        while not self.is_stock_taken:
            await retry_while_full(self.audit)
            await trio.sleep(_AUDIT_SECONDS)

    async def audit(self) -> None:
        """Write what the states call for: first gaps, retirements, ends, and what falls due.

        Raises:
          DiskError: the store could not be read or written. Nothing was adopted that is not in it.
        """
        await self._retire()
        await self._scan()
        await self._reopen()
        if self.may_judge():
            # Ends first: the gaps of a moment ago were asked for by now.
            await self._seal()
            await self._judge()
        if trio.current_time() >= self._kept_at + _KEEP_SECONDS:
            await self._keep_watermarks()

    async def keep(self) -> None:
        """Write what falls due and all watermarks, so that the next start has less to look for.

        Raises:
          DiskError: the store could not be written, and not because the disk is full.
        """
        with suppress(DiskFullError):
            await self._retire()
            if self.may_judge():
                await self._judge()
            await self._keep_watermarks()
        await self._export.run()

    async def begin_earlier(self, since_ms: int) -> None:
        """Name the candles from a moment on as gaps of all series that begin later.

        Call it once stock is taken. Series of which a transition is under way are left out.

        Raises:
          DiskError: the store could not be written.
        """
        while await self._write_past(since_ms):
            self.storage.gaps_named.ring()

    async def _write_past(self, since_ms: int) -> bool:
        """Write the past of some series as gaps; return whether there were any."""
        async with self.storage.commit_door.held() as run:
            found = []
            for one in self.series.in_state(State.LIVE, State.ENDING):
                now_ms = self.clocks[one.series.trade_type].now_ms
                if now_ms is not None and (past := past_of(one, since_ms, now_ms)) is not None:
                    found.append((one, *past))
            found = found[:_SERIES_AT_ONCE]
            if found:
                accounts = {one.series: account for one, _, account in found}
                await run(self.storage.store.journal.settle, [gap for _, gap, _ in found], accounts)
                self.series.confirm_moved(accounts)
        return bool(found)

    async def _judge(self) -> None:
        dues = self.series.due(self._times_ms())
        # Without gaps only the watermark moves, which need not be written now.
        self.series.confirm([due for due in dues if not due.gaps], ())
        while any(due.gaps for due in dues) and await self._write_gaps():
            self.storage.gaps_named.ring()

    async def _write_gaps(self) -> bool:
        """Write the gaps of some series; return whether there were any.

        If thousands of series were cut at once, several transactions write their gaps, and candles
        are committed between them.
        """
        # While the door was waited for, candles may have come: compute what is due behind it.
        async with self.storage.commit_door.held() as run:
            if not self.may_judge():
                return False
            times = self._times_ms()
            dues = [due for due in self.series.due(times) if due.gaps][:_SERIES_AT_ONCE]
            gaps = [gap for due in dues for gap in due.gaps]
            accounts = {due.series: due.account for due in dues}
            if gaps:
                await run(self.storage.store.journal.settle, gaps, accounts)
                self.series.confirm(dues, accounts)
        return bool(gaps)

    def _times_ms(self) -> dict[str, int]:
        """Return the exchange time up to which candles may be judged, by trade type.

        Candles that a connection will deliver late are not gaps.
        """
        times = {}
        for name, clock in self.clocks.items():
            if (now_ms := clock.now_ms) is not None:
                delivered_ms = self.delivered_ms(name)
                behind_ms = now_ms if delivered_ms is None else min(now_ms, delivered_ms)
                times[name] = max(behind_ms, now_ms - _BEHIND_MS)
        return times

    async def _keep_watermarks(self) -> None:
        async with self.storage.commit_door.held() as run:
            moved = self.series.moved()
            if moved:
                await run(self.storage.store.journal.settle, (), moved)
            self.series.confirm_moved(moved)
        self._kept_at = trio.current_time()

    async def _retire(self) -> None:
        """Write when series were retired; candles that had not closed by then are not theirs."""
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
            await run(
                self.storage.store.journal.settle, gaps, {due.series: due.account for due in dues}
            )
            self.series.confirm_transition(retiring)

    async def _scan(self) -> None:
        """Look up the stored candles of wanted series, and write the first gaps."""
        for one in self.series.in_state(State.WANTED):
            clock = self.clocks[one.series.trade_type]
            if clock.began_ms is not None:
                one.start(clock.began_ms)
        scanning = [one.series for one in self.series.in_state(State.SCANNING)]
        if not scanning:
            return
        store, commit_door = self.storage.store, self.storage.commit_door
        # At the start the files of all series: readers of a retired series want to know, too.
        await self._adopt_changed_files(scanning if self._has_seen_files else None)
        self._has_seen_files = True
        accounts = await commit_door.run(store.journal.accounts)
        wanted = {one: accounts[one].watermark_ms if one in accounts else 0 for one in scanning}
        stored = await self.storage.merge_door.run(store.look_through, wanted)
        if ahead := self._ahead(accounts, scanning):
            await self._rewind(ahead)
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
            started = {due.series: due.account for due in dues}
            retired = self._not_recorded(accounts) if self.is_recorder else {}
            await run(store.journal.settle, gaps, {**retired, **started})
            self.series.confirm(dues, started)
        self.storage.gaps_named.ring()

    def _ahead(
        self, accounts: Mapping[Series, SeriesAccount], among: Iterable[Series]
    ) -> dict[Series, SeriesAccount]:
        """Return the accounts whose watermarks lie beyond the exchange's time."""
        found = {}
        for one in among:
            account, now_ms = accounts.get(one), self.clocks[one.trade_type].latest_ms or 0
            if account is not None and account.watermark_ms == account.retired_ms:
                # A sealed series ends with a candle that may have been forming.
                now_ms = one.interval.end_time_ms(one.interval.open_time_ms(now_ms))
            if account is not None and account.watermark_ms > now_ms + _LAG_MS:
                found[one] = account
        return found

    async def _rewind(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Set watermarks back to the last stored candle; the next scan writes the gaps after it.

        An earlier version trusted a single witness of the time, and judged candles of the future.
        """
        store = self.storage.store
        wanted = {one: account.first_ms for one, account in accounts.items()}
        stored = await self.storage.merge_door.run(store.look_through, wanted)
        furthest_ms = max(account.watermark_ms for account in accounts.values())
        logger.warning(
            "%s: accounted for up to %s, which the exchange has not come to; looked through anew"
            " from the last stored candle on",
            first_names([str(one) for one in accounts]),
            time_text(furthest_ms),
        )
        for one, account in accounts.items():
            now_ms = self.clocks[one.trade_type].latest_ms or 0
            past = Span(0, one.interval.open_time_ms(now_ms))
            ends_ms = [piece.to_ms for span in stored[one] for piece in span.common_with(past)]
            back_ms = max(ends_ms, default=min(account.first_ms, past.to_ms))
            back = SeriesAccount(min(account.first_ms, back_ms), back_ms)
            await self.storage.commit_door.run(store.journal.rewind, {one: back}, now_ms)

    async def _adopt_changed_files(self, among: Sequence[Series] | None) -> None:
        """Write gaps for the candles that damaged, replaced or deleted files have lost."""
        store = self.storage.store
        wanted = None if among is None else frozenset(among)
        files = await self.storage.commit_door.run(store.journal.files, wanted)
        changed = await self.storage.merge_door.run(store.changed_files, files)
        for begin in range(0, len(changed), _FILES_AT_ONCE):
            part = changed[begin : begin + _FILES_AT_ONCE]
            await self.storage.commit_door.run(store.journal.adopt, part)

    def _not_recorded(
        self, accounts: Mapping[Series, SeriesAccount]
    ) -> dict[Series, SeriesAccount]:
        """Return the accounts of series that were recorded up to the last stop, as retired.

        They are retired from this recorder's begin on: the scan may come hours later. The time of a
        market without recorded series is not known: another market's is taken.
        """
        began_ms = {
            name: clock.began_ms
            for name, clock in self.clocks.items()
            if clock.began_ms is not None
        }
        first_ms = min(began_ms.values())
        return {
            one: attrs.evolve(account, retired_ms=began_ms.get(one.trade_type, first_ms))
            for one, account in accounts.items()
            if account.retired_ms is None and self.series.state_of(one) is State.RETIRED
        }

    async def _reopen(self) -> None:
        """Reopen the gaps that were closed as delisted, of symbols that trade again."""
        if not self.series.in_state(State.TRADING_AGAIN):
            return
        async with self.storage.commit_door.held() as run:
            again = self.series.in_state(State.TRADING_AGAIN)
            reopened = await run(self.storage.store.journal.reopen, [one.series for one in again])
            self.series.confirm_transition(again)
        if reopened:
            self.storage.gaps_named.ring()

    async def _seal(self) -> None:
        """Write the ends of series whose symbols trade no more, once all gaps were asked for."""
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
                *await run(store.journal.pending_gaps, [one.series]),
                *await run(store.journal.gaps_in, one.series, Span(one.watermark_ms - 1, _EVER_MS)),
            ]
            seal = one.seal(ledger, self.clocks[one.series.trade_type].now_ms)
            if seal is None:
                one.put_off_sealing()
                return
            await run(
                store.journal.settle, seal.gaps, {one.series: seal.account}, (), [seal.closed]
            )
            self.series.confirm_transition([one])


def past_of(one: SeriesState, since_ms: int, now_ms: int) -> tuple[Gap, SeriesAccount] | None:
    """Return the gap and the account of a series whose past is wanted from a moment on (pure).

    Return None if it is accounted for, or while a transition is under way.
    """
    from_ms, account = one.series.interval.open_time_ms(since_ms), one.account
    is_settled = one.state in (State.LIVE, State.ENDING)
    if account is None or not is_settled or from_ms >= account.first_ms:
        return None
    gap = Gap(one.series, Span(from_ms, account.first_ms), now_ms, Reason.NOT_CONFIGURED)
    return gap, attrs.evolve(account, first_ms=from_ms)
