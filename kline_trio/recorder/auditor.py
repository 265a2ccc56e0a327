"""Holds the store against the calendar, all the time: what is due and absent goes to the ledger."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, ReceivedCandle, Series
from kline_trio.errors import DiskError, NoRoomError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span
from kline_trio.recorder.backfill import Backfill
from kline_trio.recorder.completeness import Completeness
from kline_trio.recorder.endings import Endings
from kline_trio.recorder.room import RETRY_SECONDS, with_room
from kline_trio.recorder.seams import Door
from kline_trio.storage.ledger import Absence, Account, Origin, Reason, Refill, State
from kline_trio.storage.store import Store

__all__ = ["Auditor"]

_JUDGE_SECONDS = 1.0
_DAY_MS = 86_400_000
_EXPORT_SECONDS = 60.0
_EXPORT_SECONDS_A_ROW = 0.001
"""Some hundred times what it takes to write a row of the ledger out."""
_BEHIND_MS = 45_000
"""So far behind a connection may be until what it should have brought is asked for: connections
have been 30 s late (nautilus_trader#1705)."""
_ON_ITS_WAY_MS = 10_000
"""An answer may take so long; of candles of a second there is always one that waits for it."""
_KEEP_SECONDS = 600.0
"""How often watermarks are kept where nothing is absent: the next start looks through what is
stored from there on."""


@attrs.define(eq=False)
class Auditor:
    """Takes stock of what is stored, and from then on names what does not come."""

    store: Store
    commit_door: Door
    merge_door: Door
    completeness: Completeness
    clocks: Mapping[str, ExchangeClock]
    """By trade type."""
    backfill: Backfill
    since_ms: int | None
    """From when on the past is fetched; None: not at all."""
    may_judge: Callable[[], bool]
    """False as long as candles that came wait for room on the disk."""
    told_ms: Callable[[str], int | None]
    """Up to which time of the exchange a market's connections have delivered, if any lives."""
    sealed: Callable[[Series], None]
    """Told which series has come to its end, and is in the ledger with it."""

    _wanted: dict[Series, int | None] = attrs.field(init=False, factory=dict)
    """What is recorded, and since when, by the exchange's time, if that was known then."""
    _listed_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """Of symbols listed while we looked: from when on their candles count."""
    _endings: Endings = attrs.field(init=False, factory=Endings)
    _unstarted: set[Series] = attrs.field(init=False, factory=set)
    """What is wanted, and not known yet how much of it is stored."""
    _accounts: dict[Series, Account] = attrs.field(init=False, factory=dict)
    _started_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    _retired_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """Of what was recorded before, and for a time was not: since when that was."""
    _lost: set[Series] = attrs.field(init=False, factory=set)
    _kept_at: float = attrs.field(init=False, default=0.0)
    _export_at: float = attrs.field(init=False, default=-math.inf)
    _exported: int = attrs.field(init=False, default=0)
    """Up to which of its changes the ledger was written out."""

    async def run(self) -> None:
        """Audit until cancelled.

        Raises:
          DiskError: the store could not be read or written; want of room is waited for.
        """
        while True:
            try:
                await self.audit()
            except NoRoomError:
                # The writer says so already.
                await trio.sleep(RETRY_SECONDS)
            if trio.current_time() >= self._export_at:
                await self._export()
            await trio.sleep(_JUDGE_SECONDS)

    async def _export(self) -> None:
        # Through the door, where no change is under way that a reader does not see yet.
        changes, rows = await self.commit_door.run(self.store.ledger_changes), 0
        if changes != self._exported:
            with suppress(NoRoomError):
                rows = await self.merge_door.run(self.store.write_coverage)
                self._exported = changes
        # It is written as a whole: the longer it gets, the more rarely.
        wait = max(_EXPORT_SECONDS, rows * _EXPORT_SECONDS_A_ROW)
        self._export_at = trio.current_time() + wait

    @property
    def recorded(self) -> tuple[Series, ...]:
        """What is accounted for."""
        return tuple(self._accounts)

    def recount(self, series: Series) -> None:
        """A file of the series was lost: take stock of it anew."""
        self._lost.add(series)

    def want(self, series: Iterable[Series], listed_ms: Mapping[Series, int] | None = None) -> None:
        """These series are recorded from now on, and no others.

        Args:
          series: which.
          listed_ms: of symbols that are new on the exchange, from when on their candles count.
        """
        self._wanted = {
            one: self._wanted.get(one, self.clocks[one.trade_type].now_ms) for one in series
        }
        self._unstarted = {one for one in self._wanted if one not in self._accounts}
        self._listed_ms |= listed_ms or {}

    def see(self, ended: Mapping[Series, int], traded: Iterable[Series]) -> None:
        """What the exchange's lists say now: what has ended is sealed when it is accounted for.

        Args:
          ended: the series whose symbols are traded no more, and when that was seen.
          traded: those whose symbols are.
        """
        self._endings.see(ended, traded)

    def came(self, batch: Iterable[ReceivedCandle]) -> None:
        """These are stored by now, from wherever they came."""
        self._endings.came(batch)

    @property
    def is_stock_taken(self) -> bool:
        """Whether of everything wanted it is known what is stored."""
        return not self._unstarted

    async def audit(self) -> None:
        """Take stock of what is newly wanted; name what is due and has not come.

        Raises:
          DiskError: the store could not be read or written.
        """
        if gone := [one for one in self._accounts if one not in self._wanted]:
            await self._leave(gone)
        for trade_type, clock in self.clocks.items():
            new = [one for one in self._unstarted if one.trade_type == trade_type]
            if new and clock.now_ms is not None:
                await self._start(sorted(new), clock, clock.now_ms)
        lost = sorted(one for one in self._lost if one in self._accounts)
        if lost:
            await self._take_stock(lost)
            self._lost.difference_update(lost)
        if anew := self._endings.to_reopen(self._accounts):
            self.backfill.add(await self.commit_door.run(self.store.reopen, anew))
            self._endings.reopened(anew)
        if self.may_judge():
            # First, so that what was named a moment ago was asked for by now.
            await self._seal_what_has_ended()
            await self._judge()

    async def _start(self, new: list[Series], clock: ExchangeClock, now_ms: int) -> None:
        began_ms = _began_ms(now_ms, clock.first_heard_ms)
        for series in new:
            wanted_ms = self._wanted[series]
            self._started_ms[series] = began_ms if wanted_ms is None else wanted_ms
        try:
            await self._take_stock(new)
        except DiskError:
            for series in new:
                del self._started_ms[series]
            raise
        self._unstarted.difference_update(new)

    async def _leave(self, gone: Sequence[Series]) -> None:
        """Keep since when these are not recorded any more: what has not closed yet is not ours."""
        if self.may_judge():
            await self._judge()
        marks = self.completeness.watermarks_ms()
        accounts = {
            one: attrs.evolve(self._accounts[one], watermark_ms=marks[one], retired_ms=marks[one])
            for one in gone
        }
        await self._write([], accounts)
        for one in gone:
            self._forget(one)

    def _forget(self, series: Series) -> None:
        self.completeness.forget(series)
        self.backfill.forget(series)
        for known in (self._accounts, self._started_ms, self._retired_ms):
            known.pop(series, None)
        self._endings.forget(series)
        if series in self._wanted:  # again, while the disk was waited for
            self._unstarted.add(series)
        else:
            self._listed_ms.pop(series, None)

    async def _seal_what_has_ended(self) -> None:
        if not self._endings:
            return
        marks = self.completeness.watermarks_ms()
        ended = self._endings.over(marks)
        if not ended:
            return
        pending = await self.commit_door.run(self.store.asked_for, ended)
        open_yet = {
            one.series
            for one in pending
            if one.span.from_ms < ended[one.series].from_ms
            or (not one.asked and one.span.from_ms < marks[one.series] - _ON_ITS_WAY_MS)
        }
        absent = {(one.series, one.span.to_ms) for one in pending}
        for series, span in ended.items():
            # It may trade again, or be taken out, while the disk is waited for.
            is_still = self._endings.is_over(series, span) and series in self._wanted
            if series not in open_yet and is_still:
                ends_ms = marks[series]
                is_absent = (series, ends_ms) in absent or self.backfill.found_over(series, ends_ms)
                await self._seal(series, Span(span.from_ms, ends_ms), is_absent=is_absent)

    async def _seal(self, series: Series, after: Span, *, is_absent: bool) -> None:
        """Its last candle, and that there is none after it, stand in the ledger.

        Args:
          series: whose symbol is traded no more.
          after: what has passed since that was noticed; what is absent of it was asked for.
          is_absent: whether the last of it is. If not, flat candles go on, and the next one is the
            first that is not recorded.
        """
        self.backfill.forget(series)
        closed = Refill(series, after, (), Origin.REST, Reason.DELISTED)
        await with_room(self.commit_door, self.store.refill, [closed])
        absences, ends_ms = [], after.to_ms
        if not is_absent:
            span = Span(ends_ms, series.interval.end_time_ms(ends_ms))
            now_ms = self.clocks[series.trade_type].now_ms or span.to_ms
            absences = [Absence(series, span, now_ms, Reason.DELISTED, State.CLOSED)]
            ends_ms = span.to_ms
        account = self._accounts[series]
        retired = attrs.evolve(account, watermark_ms=ends_ms, retired_ms=ends_ms)
        await self._write(absences, {series: retired})
        self.sealed(series)
        # At once: a candle that fell due until the next look would be absent for ever.
        self._forget(series)

    async def keep(self) -> None:
        """Keep what is absent and up to where all is accounted for, so that the next start need
        not look for it; and write the ledger out.

        Raises:
          DiskError: it could not be written, and not for want of room.
        """
        with suppress(NoRoomError):
            absences = self._absent_now()
            await self.commit_door.run(self.store.settle, absences, self._moved(frozenset()))
        await self._export()

    def _absent_now(self) -> list[Absence]:
        times = {
            name: self._judged_ms(name, clock.now_ms)
            for name, clock in self.clocks.items()
            if clock.now_ms is not None
        }
        return [
            absence
            for series, spans in self.completeness.absent(times).items()
            for absence in self._explained(series, spans, times[series.trade_type])
        ]

    def _judged_ms(self, trade_type: str, now_ms: int) -> int:
        """Up to when candles may be missed: what a connection that is behind will bring is not."""
        told_ms = self.told_ms(trade_type)
        return now_ms if told_ms is None else max(min(now_ms, told_ms), now_ms - _BEHIND_MS)

    async def _judge(self) -> None:
        absences = self._absent_now()
        if absences or trio.current_time() >= self._kept_at + _KEEP_SECONDS:
            await self._settle(absences)

    async def _settle(self, absences: list[Absence], anew: Set[Series] = frozenset()) -> None:
        changed = self._moved(anew)
        if trio.current_time() < self._kept_at + _KEEP_SECONDS:
            # All 2,500 of a large universe are kept now and then only: what is absent must lie
            # before its own series' watermark, and that is all.
            named = {absence.series for absence in absences}.union(anew)
            changed = {one: account for one, account in changed.items() if one in named}
        else:
            self._kept_at = trio.current_time()
        await self._write(absences, changed)
        self._accounts |= changed
        self.backfill.add(absences)

    def _moved(self, anew: Set[Series]) -> dict[Series, Account]:
        marks = self.completeness.watermarks_ms()
        return {
            series: attrs.evolve(account, watermark_ms=marks[series], retired_ms=None)
            for series, account in self._accounts.items()
            if series in anew or marks[series] != account.watermark_ms
        }

    async def _write(self, absences: list[Absence], accounts: Mapping[Series, Account]) -> None:
        # What completeness has named it does not name again, so it must not get lost here.
        await with_room(self.commit_door, self.store.settle, absences, accounts)

    async def _take_stock(self, mine: list[Series]) -> None:
        """Look up what is stored, and name what is not though it was due."""
        accounts = await self.commit_door.run(self.store.accounts)
        files = await self.commit_door.run(self.store.files, frozenset(mine))
        known = {one: accounts[one] for one in mine if one in accounts}
        wanted = {one: known[one].watermark_ms if one in known else 0 for one in mine}
        changed = await self.merge_door.run(self.store.changed_files, files)
        await self.commit_door.run(self.store.adopt, changed)
        stored = await self.merge_door.run(self.store.look_through, wanted, files)
        self.backfill.add(await self.commit_door.run(self.store.asked_for, mine))
        absences: list[Absence] = []
        for series in mine:
            now_ms = self._started_ms[series]
            account = known.get(series) or _first_account(series, stored[series], now_ms)
            from_ms = wanted[series] if series in known else account.first_ms
            if account.retired_ms is not None:
                self._retired_ms[series] = account.retired_ms
            if series in self._accounts:
                # Of a lost file: what it held had been there, up to this watermark.
                before_ms = self._accounts[series].watermark_ms
                account = attrs.evolve(account, watermark_ms=before_ms)
            self.completeness.watch(series, from_ms, stored[series])
            counts_ms = self._counts_ms(series)
            if counts_ms is not None:
                since_ms = series.interval.open_time_ms(counts_ms)
                if since_ms < account.first_ms:
                    past = Span(since_ms, account.first_ms)
                    absences.append(Absence(series, past, now_ms, Reason.NOT_CONFIGURED))
                    account = attrs.evolve(account, first_ms=since_ms)
            self._accounts[series] = account
        found = self.completeness.absent(
            {one.trade_type: self._started_ms[one] for one in mine}, mine
        )
        for series, spans in found.items():
            absences += self._explained(series, spans, self._started_ms[series])
        await self._settle(absences, frozenset(mine))
        await self._retire(accounts)

    def _counts_ms(self, series: Series) -> int | None:
        """From when on the past of a series is fetched."""
        known = [ms for ms in (self.since_ms, self._listed_ms.get(series)) if ms is not None]
        return min(known, default=None)

    async def _retire(self, accounts: Mapping[Series, Account]) -> None:
        """Keep since when stored series are not recorded any more."""
        # Of a market that is not recorded at all no time is known, but that of another will do.
        now_ms = max(self._started_ms.values())
        gone = {
            one: attrs.evolve(account, retired_ms=self.clocks[one.trade_type].now_ms or now_ms)
            for one, account in accounts.items()
            if one not in self._wanted and account.retired_ms is None
        }
        if gone:
            await self._write([], gone)

    def _explained(self, series: Series, spans: Iterable[Span], now_ms: int) -> Iterator[Absence]:
        """The absences with their reasons: who was not there cannot have received anything."""
        interval = series.interval
        started_ms = interval.open_time_ms(self._started_ms[series])
        account = self._accounts[series]
        # Up to the watermark all was accounted for: what is absent there was lost again.
        down_ms = min(started_ms, account.watermark_ms)
        retired_ms = started_ms
        if series in self._retired_ms:
            retired_ms = min(started_ms, interval.open_time_ms(self._retired_ms[series]))
            retired_ms = max(down_ms, retired_ms)
        for span in spans:
            for reason, from_ms, to_ms in (
                (Reason.NOT_RECEIVED, 0, down_ms),
                (Reason.RECORDER_DOWN, down_ms, retired_ms),
                (Reason.NOT_CONFIGURED, retired_ms, started_ms),
                (Reason.NOT_RECEIVED, started_ms, MAX_TIME_MS),
            ):
                if from_ms < to_ms:
                    for piece in span.common_with(Span(from_ms, to_ms)):
                        yield Absence(series, piece, now_ms, reason)


def _began_ms(now_ms: int, first_heard_ms: int | None) -> int:
    """When the recorder began to listen: frames may tell the time before the endpoint does."""
    if first_heard_ms is not None and 0 <= now_ms - first_heard_ms <= _DAY_MS:
        return first_heard_ms
    return now_ms


def _first_account(series: Series, stored: Sequence[Span], now_ms: int) -> Account:
    """That of a series which has none: from its first candle on, stored or still to come."""
    first_ms = stored[0].from_ms if stored else series.interval.open_time_ms(now_ms)
    return Account(first_ms, first_ms)
