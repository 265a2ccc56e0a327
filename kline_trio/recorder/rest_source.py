"""Asks REST for gaps of a series, and derives from the answer what becomes of them."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs
import trio

from kline_trio.candle import Candle, Series
from kline_trio.exchange.klines import Answer, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.storage.ledger import Absence, Origin, Reason, Refill

__all__ = ["Outcome", "RestSource"]

logger = logging.getLogger(__name__)

_LONGER = 6
"""Each wait between two attempts for the same gap is so many times the one before."""
_OLD_MS = 86_400_000
"""Patience suits a gap that closed just now. Of an older one than this, two answers are enough."""
_OLD_ATTEMPTS = 2
_OLD_WAIT_SECONDS = 10.0


@attrs.frozen
class Outcome:
    """What an answer makes of gaps."""

    refills: tuple[Refill, ...]
    wait_seconds: Mapping[Span, float] = attrs.field(factory=dict)
    """After how long what is still absent of a span is to be asked for again."""
    undelivered_ms: int | None = None
    """The last candle with trades that the stream should have brought, and did not."""

    @property
    def candles(self) -> list[Candle]:
        """All candles of the answer that fill a gap."""
        return [candle for refill in self.refills for candle in refill.candles]


@attrs.define(eq=False)
class RestSource:
    """The REST interfaces of the markets, as a source for gaps."""

    markets: Mapping[str, RestMarket]
    """By trade type."""
    attempts: int
    """How often a gap is asked for that the exchange does not have."""
    attempt_seconds: float
    """Between the first two attempts."""
    _first_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """The open time of a series' first candle on the exchange."""
    _listings: dict[str, tuple[float, Mapping[str, Listing]]] = attrs.field(
        init=False, factory=dict
    )
    """By trade type: when they were asked for, and what was said."""
    _listing_locks: defaultdict[str, trio.Lock] = attrs.field(
        init=False, factory=lambda: defaultdict(trio.Lock)
    )
    """One task at a time asks a market for its list: spot's has 15 MB."""
    _bad_rows: Counter[str] = attrs.field(init=False, factory=Counter)

    async def ask(self, series: Series, gaps: Sequence[Absence]) -> Outcome:
        """Ask for the newest of the gaps, and for as many before it as fit on the same page.

        Args:
          series: whose gaps.
          gaps: at least one, by time; all their candles have closed.

        Raises:
          RefusedError: the exchange will not answer, or not this question.
          UnavailableError: no host gave an answer that can be used.
        """
        rest = self.markets[series.trade_type]
        page = newest_page(rest.market, series.interval, [gap.span for gap in gaps])
        is_long = any(
            gap.reason is Reason.NOT_CONFIGURED or gap.asked or gap.span.from_ms < page.span.from_ms
            for gap in gaps
        )
        if is_long and (unlisted := await self.before_the_first(series, gaps)).refills:
            return unlisted
        answer = await rest.klines(series, page, float(-page.span.to_ms))
        self._count_bad_rows(series, answer)
        inside = [
            attrs.evolve(gap, span=span) for gap in gaps for span in gap.span.common_with(page.span)
        ]
        refills = [await self._refill(gap, answer) for gap in inside]
        undelivered = [
            candle.open_time_ms
            for gap, refill in zip(inside, refills, strict=True)
            for candle in refill.candles
            if gap.reason is Reason.NOT_RECEIVED and candle.trade_num
        ]
        return Outcome(tuple(refills), self._waits(inside), max(undelivered, default=None))

    def refused(self, gaps: Iterable[Absence]) -> Outcome:
        """Derive what becomes of gaps that the exchange will not answer for, whatever the page.

        Like an absence, a refusal is believed when it stays the same over all attempts.
        """
        asked = list(gaps)
        refills = [
            Refill(gap.series, gap.span, (), Origin.REST, Reason.REFUSED if is_last else None)
            for gap in asked
            for is_last in [self._is_last(gap)]
        ]
        return Outcome(tuple(refills), self._waits(asked))

    async def before_the_first(self, series: Series, gaps: Iterable[Absence]) -> Outcome:
        """Close what is older than the series' first candle, rather than ask for years of it.

        Raises:
          RefusedError: the exchange will not answer, or not this question.
          UnavailableError: no host gave an answer that can be used.
        """
        if series not in self._first_ms:
            oldest_ms = await self._oldest_ms(series)
            if oldest_ms is None:
                return Outcome(())
            self._first_ms[series] = oldest_ms
        first_ms = self._first_ms[series]
        before = [
            Span(gap.span.from_ms, min(gap.span.to_ms, first_ms))
            for gap in gaps
            if gap.span.from_ms < first_ms
        ]
        return Outcome(
            tuple(Refill(series, span, (), Origin.REST, Reason.NOT_LISTED) for span in before)
        )

    async def _refill(self, gap: Absence, answer: Answer) -> Refill:
        span = gap.span
        found = tuple(
            one for one in answer.candles if span.from_ms <= one.open_time_ms < span.to_ms
        )
        closes = None
        if len(found) < gap.series.interval.count(span) and self._is_last(gap):
            is_over = await self._is_over(gap)
            closes = Reason.DELISTED if is_over else Reason.EXCHANGE_HAD_NONE
        return Refill(gap.series, span, found, Origin.REST, closes)

    def _is_old(self, gap: Absence) -> bool:
        now_ms = self.markets[gap.series.trade_type].clock.now_ms
        return now_ms is not None and gap.span.to_ms < now_ms - _OLD_MS

    def _is_last(self, gap: Absence) -> bool:
        """Whether what this attempt does not bring is taken as not there."""
        attempts = min(_OLD_ATTEMPTS, self.attempts) if self._is_old(gap) else self.attempts
        return gap.asked + 1 >= attempts

    def _waits(self, gaps: Iterable[Absence]) -> dict[Span, float]:
        return {gap.span: self._wait_seconds(gap) for gap in gaps if not self._is_last(gap)}

    def _wait_seconds(self, gap: Absence) -> float:
        if self._is_old(gap):
            return min(self.attempt_seconds, _OLD_WAIT_SECONDS)
        return self.attempt_seconds * float(_LONGER) ** min(gap.asked, 6)

    async def _listing(self, series: Series, since: float) -> Listing | None:
        """Return what the exchange said of the symbol since then."""
        async with self._listing_locks[series.trade_type]:
            known = self._listings.get(series.trade_type)
            if known is None or known[0] < since:
                known = trio.current_time(), await self.markets[series.trade_type].listings()
                self._listings[series.trade_type] = known
        return known[1].get(series.symbol)

    async def _oldest_ms(self, series: Series) -> int | None:
        rest = self.markets[series.trade_type]
        if not rest.market.pages_end_first:
            return await rest.oldest_open_time_ms(series)
        listing = await self._listing(series, -math.inf)
        if listing is None or listing.onboard_ms is None:
            return None
        return series.interval.open_time_ms(listing.onboard_ms)

    async def _is_over(self, gap: Absence) -> bool:
        """Return whether the series had ended before the gap: its symbol is traded no more."""
        rest = self.markets[gap.series.trade_type]
        # A list of before the first attempt might not know of the end.
        waited = [self._wait_seconds(attrs.evolve(gap, asked=n)) for n in range(gap.asked)]
        listing = await self._listing(gap.series, trio.current_time() - sum(waited))
        if listing is not None and listing.is_trading:
            return False
        newest_ms = await rest.newest_open_time_ms(gap.series)
        return newest_ms is None or newest_ms < gap.span.from_ms

    def _count_bad_rows(self, series: Series, answer: Answer) -> None:
        for reason, count in answer.bad_rows.items():
            if reason not in self._bad_rows:
                logger.warning("%s: REST: passed over %s", series, reason)
            self._bad_rows[reason] += count
