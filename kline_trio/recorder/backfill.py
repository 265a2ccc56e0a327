"""Asks the exchange for what is absent, the newest first, and stores what it has."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.klines import Answer, Page, newest_page
from kline_trio.exchange.rest import Listing, RestMarket
from kline_trio.interval import Span
from kline_trio.recorder.questions import Question, Questions
from kline_trio.recorder.rests import Rests
from kline_trio.recorder.room import with_room
from kline_trio.recorder.seams import Door
from kline_trio.storage.ledger import Absence, Origin, Reason, Refill
from kline_trio.storage.store import Store

__all__ = ["WORKERS", "Backfill"]

logger = logging.getLogger(__name__)

WORKERS = 4
"""For each pool: the exchange answers slowly, and there is no hurry that more would serve."""

_REFUSED_REST_SECONDS = 300.0


@attrs.define(eq=False)
class Backfill:
    """Fills what is absent, by workers that share the work."""

    markets: Mapping[str, RestMarket]
    """By trade type."""
    store: Store
    commit_door: Door
    attempts: int
    """How often something is asked for that the exchange does not have."""
    attempt_seconds: float
    """Between the first two of them."""
    now: Callable[[], datetime]
    """The wall clock, for labels."""
    accepted: Callable[[Sequence[ReceivedCandle]], None]
    """Told which candles now wait for a merge."""
    undelivered: Callable[[Series, int], None]
    """Told the open time of a candle that no stream brought though there were trades in it."""
    claim: Callable[[Series, Span, int], Span | None]
    """Takes over what of a span is better fetched elsewhere, at a time of the exchange."""
    until_ms: int | None = None
    """What opens later is not asked for; None: all is."""

    refilled: int = attrs.field(init=False, default=0)
    """How many candles were filled in."""
    _questions: Questions = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: Questions(self.attempt_seconds), takes_self=True),
    )
    _busy: set[Series] = attrs.field(init=False, factory=set)
    _rests: Rests = attrs.field(init=False, factory=Rests)
    _first_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    _listings: dict[str, tuple[float, dict[str, Listing]]] = attrs.field(init=False, factory=dict)
    """By trade type: when they were asked for, and what was said."""
    _over_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """Of series that had ended: up to where it was found that they have no candle more."""
    _refused_series: set[Series] = attrs.field(init=False, factory=set)
    _bad_rows: Counter[str] = attrs.field(init=False, factory=Counter)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def add(self, absences: Iterable[Absence]) -> None:
        """These are absent, and in the ledger."""
        wanted = Span(0, MAX_TIME_MS if self.until_ms is None else self.until_ms)
        now = trio.current_time()
        for absence in absences:
            self._questions.add(absence, absence.span.common_with(wanted), now)
        self._tell()

    def received(self, batch: Iterable[ReceivedCandle]) -> None:
        """What was absent may have come late by itself."""
        for item in batch:
            mine = self._questions.of(item.series)
            if mine and item.candle.open_time_ms < mine[-1].span.to_ms:
                self._questions.came(item.series, [item.candle.open_time_ms])

    def forget(self, series: Series) -> None:
        """What is absent of this series is asked for no more."""
        self._questions.forget(series)
        self._over_ms.pop(series, None)
        self._tell()

    def found_over(self, series: Series, up_to_ms: int) -> bool:
        """Whether the candle right before was found not to be, since the series had ended."""
        return self._over_ms.get(series) == up_to_ms

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to ask for."""
        return not self._questions

    async def until_done(self) -> None:
        """Wait until nothing is left to ask for."""
        while not self.is_done:
            await self._news.wait()

    async def work(self, trade_types: Collection[str]) -> None:
        """Ask for what is absent on these markets, until cancelled.

        Raises:
          DiskError: the store could not be written; want of room is waited for.
        """
        while True:
            series, due = self._next(trade_types)
            if series is None:
                news = self._news
                with trio.move_on_at(due):
                    await news.wait()
                continue
            self._busy.add(series)
            try:
                await self._ask(series)
            finally:
                self._busy.discard(series)
                self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _next(self, trade_types: Collection[str]) -> tuple[Series | None, float]:
        """Whose turn it is: that whose absence is the newest; or when to look again."""
        now = trio.current_time()
        best, newest_ms, again = None, -1, math.inf
        for series, mine in self._questions:
            if series.trade_type not in trade_types or series in self._busy:
                continue
            resting = self._rests.until(series)
            for one in mine:
                due = max(one.not_before, resting)
                if due > now:
                    again = min(again, due)
                elif one.span.to_ms > newest_ms:
                    best, newest_ms = series, one.span.to_ms
        return best, again

    async def _ask(self, series: Series) -> None:
        rest = self.markets[series.trade_type]
        now = trio.current_time()
        due = self._questions.closed(series, rest.clock.now_ms, now)
        if not due:
            return
        page = newest_page(rest.market, series.interval, [one.span for one in due])
        try:
            if await self._is_before_the_first(series, page, due):
                return
        except UnavailableError as error:
            if not self._is_handed_over(series, due):
                await self._failed(series, due, error)
            return
        if self._is_handed_over(series, due):
            return
        try:
            answer = await rest.klines(series, page, float(-page.span.to_ms))
            self._count_bad_rows(series, answer)
            await self._store(series, page, answer)
            self._rests.succeeded(series)
        except UnavailableError as error:
            await self._failed(series, due, error)

    async def _is_before_the_first(
        self, series: Series, page: Page, due: Sequence[Question]
    ) -> bool:
        """Close what is older than the series' first candle, rather than to ask for years of it."""
        long = any(
            one.reason is Reason.NOT_CONFIGURED or one.asked or one.span.from_ms < page.span.from_ms
            for one in due
        )
        if not long:
            return False
        if series not in self._first_ms:
            first_ms = await self._oldest_ms(series)
            if first_ms is None:
                return False
            self._first_ms[series] = first_ms
        first_ms = self._first_ms[series]
        before = [
            Span(one.span.from_ms, min(one.span.to_ms, first_ms))
            for one in self._questions.of(series)
            if one.span.from_ms < first_ms
        ]
        if not before:
            return False
        await self._commit(
            [Refill(series, span, (), Origin.REST, Reason.NOT_LISTED) for span in before]
        )
        for span in before:
            self._questions.drop(series, span)
        return True

    def _is_handed_over(self, series: Series, due: Sequence[Question]) -> bool:
        """Whether some of it is fetched elsewhere from now on."""
        now_ms = self.markets[series.trade_type].clock.now_ms
        if now_ms is None:
            return False
        # What has been asked for here is not asked for there.
        fresh = [one for one in due if not one.asked and one.reason is not Reason.ARCHIVE_LACKS]
        claimed = [self.claim(series, one.span, now_ms) for one in fresh]
        spans = [span for span in claimed if span is not None]
        for span in spans:
            self._questions.drop(series, span)
        return bool(spans)

    async def _store(self, series: Series, page: Page, answer: Answer) -> None:
        candles = {candle.open_time_ms: candle for candle in answer.candles}
        refills = []
        undelivered = -1
        for one in self._questions.inside(series, page.span):
            mine = [ms for ms in candles if one.span.from_ms <= ms < one.span.to_ms]
            closes = None
            if self._is_last(one) and len(mine) < series.interval.count(one.span):
                closes = Reason.EXCHANGE_HAD_NONE
                if await self._is_over(series, one):
                    closes = Reason.DELISTED
                    self._over_ms[series] = one.span.to_ms
            found = tuple(candles[ms] for ms in sorted(mine))
            if one.reason is Reason.NOT_RECEIVED:
                traded = [one.open_time_ms for one in found if one.trade_num]
                undelivered = max([undelivered, *traded])
            refills.append(Refill(series, one.span, found, Origin.REST, closes))
        await self._commit(refills)
        now = trio.current_time()
        for refill in refills:
            filled = [candle.open_time_ms for candle in refill.candles]
            self._questions.came(series, filled)
            for gap in series.interval.gaps(refill.span, filled):
                if refill.closes is None:
                    self._questions.asked(series, gap, now)
                else:
                    self._questions.drop(series, gap)
        self._announce(series, [candle for refill in refills for candle in refill.candles])
        if undelivered >= 0:
            self.undelivered(series, undelivered)

    async def _listing(self, series: Series, since: float) -> Listing | None:
        """What the exchange said of the symbol since then."""
        asked_at, listings = self._listings.get(series.trade_type, (-math.inf, {}))
        # Not each time anew: spot's list of symbols has 15 MB.
        if asked_at < since:
            listings = await self.markets[series.trade_type].listings()
            self._listings[series.trade_type] = trio.current_time(), listings
        return listings.get(series.symbol)

    async def _oldest_ms(self, series: Series) -> int | None:
        """The open time of the first candle that there is."""
        rest = self.markets[series.trade_type]
        if not rest.market.pages_end_first:
            return await rest.oldest_open_time_ms(series)
        listing = await self._listing(series, 0.0)
        if listing is None or listing.onboard_ms is None:
            return None
        return series.interval.open_time_ms(listing.onboard_ms)

    async def _is_over(self, series: Series, one: Question) -> bool:
        """Whether the series had ended before this: its symbol is traded no more."""
        listing = await self._listing(series, one.since)
        if listing is not None and listing.is_trading:
            return False
        newest_ms = await self.markets[series.trade_type].newest_open_time_ms(series)
        return newest_ms is None or newest_ms < one.span.from_ms

    async def _failed(
        self, series: Series, due: Sequence[Question], error: UnavailableError
    ) -> None:
        """Ask again later; said when it begins, not each time."""
        name, now = series.trade_type, trio.current_time()
        if not isinstance(error, RefusedError):
            begins = self._rests.failed(series, now)
        elif error.code is None:
            begins = self._rests.market_failed(name, now, _REFUSED_REST_SECONDS)
        else:
            await self._refused(series, due, error)
            return
        if begins:
            logger.warning("%s: REST gives no candles: %s; trying again", series, error)

    async def _refused(self, series: Series, due: Sequence[Question], error: RefusedError) -> None:
        """It refuses the series, whatever the page; that is believed when it stays so."""
        if series not in self._refused_series:
            self._refused_series.add(series)
            logger.warning("%s: the exchange refuses to answer: %s", series, error)
        asked = [one for old in due for one in self._questions.inside(series, old.span)]
        await self._commit(
            [
                Refill(
                    series,
                    one.span,
                    (),
                    Origin.REST,
                    Reason.REFUSED if self._is_last(one) else None,
                )
                for one in asked
            ]
        )
        now = trio.current_time()
        for one in asked:
            if self._is_last(one):
                self._questions.drop(series, one.span)
            else:
                self._questions.asked(series, one.span, now)

    def _is_last(self, one: Question) -> bool:
        """Whether what this attempt does not bring is taken as not there."""
        return one.asked + 1 >= self.attempts

    async def _commit(self, refills: Sequence[Refill]) -> None:
        await with_room(self.commit_door, self.store.refill, refills)

    def _announce(self, series: Series, candles: Sequence[Candle]) -> None:
        if not candles:
            return
        now = self.now()
        self.refilled += len(candles)
        self.accepted([ReceivedCandle(series, candle, now) for candle in candles])
        logger.info("Refilled %s candles of %s over REST", f"{len(candles):,}", series)

    def _count_bad_rows(self, series: Series, answer: Answer) -> None:
        for reason, count in answer.bad_rows.items():
            if reason not in self._bad_rows:
                logger.warning("%s: REST: passed over %s", series, reason)
            self._bad_rows[reason] += count
