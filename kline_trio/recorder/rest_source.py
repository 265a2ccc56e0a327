"""Asks REST for gaps of a series, and derives from the answer what becomes of them."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs
import trio

from kline_trio.candle import Candle, Series, Source
from kline_trio.exchange.klines import newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.storage.ledger import Absence, Reason, Refill

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
    _bad_rows: set[str] = attrs.field(init=False, factory=set)
    """The faults of rows that were logged: each is named once."""

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
        for reason in answer.bad_rows.keys() - self._bad_rows:
            self._bad_rows.add(reason)
            logger.warning("%s: REST: passed over %s", series, reason)
        inside = [
            attrs.evolve(gap, span=span) for gap in gaps for span in gap.span.common_with(page.span)
        ]
        waits = self._waits(inside)
        last_ms: float | None = None
        refills, undelivered = [], []
        for gap in inside:
            span, closes = gap.span, None
            found = [one for one in answer.candles if span.from_ms <= one.open_time_ms < span.to_ms]
            if span not in waits and len(found) < series.interval.count(span):
                if last_ms is None:
                    given_up = [one for one in inside if one.span not in waits]
                    last_ms = await self._last_ms(series, given_up)
                closes = Reason.DELISTED if last_ms < span.from_ms else Reason.EXCHANGE_HAD_NONE
            refills.append(Refill(series, span, tuple(found), Source.REST, closes))
            if gap.reason is Reason.NOT_RECEIVED:
                undelivered += [one.open_time_ms for one in found if one.trade_num]
        return Outcome(tuple(refills), waits, max(undelivered, default=None))

    def refused(self, gaps: Sequence[Absence]) -> Outcome:
        """Derive what becomes of gaps that the exchange will not answer for, whatever the page.

        Like an absence, a refusal is believed when it stays the same over all attempts.
        """
        waits = self._waits(gaps)
        refills = [
            Refill(gap.series, gap.span, (), Source.REST, Reason.REFUSED if is_last else None)
            for gap in gaps
            for is_last in [gap.span not in waits]
        ]
        return Outcome(tuple(refills), waits)

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
        before = Span(0, self._first_ms[series])
        refills = [
            Refill(series, span, (), Source.REST, Reason.NOT_LISTED)
            for gap in gaps
            for span in gap.span.common_with(before)
        ]
        return Outcome(tuple(refills))

    def _waits(self, gaps: Iterable[Absence]) -> dict[Span, float]:
        """Return after how long to ask again for those gaps that are not given up."""
        waits = ((gap.span, self._wait_seconds(gap)) for gap in gaps)
        return {span: seconds for span, seconds in waits if seconds is not None}

    def _wait_seconds(self, gap: Absence) -> float | None:
        """Return when to ask again; None: what this attempt does not bring is not there."""
        now_ms = self.markets[gap.series.trade_type].clock.now_ms
        is_old = now_ms is not None and gap.span.to_ms < now_ms - _OLD_MS
        if gap.asked + 1 >= (min(_OLD_ATTEMPTS, self.attempts) if is_old else self.attempts):
            return None
        if is_old:
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

    async def _last_ms(self, series: Series, gaps: Iterable[Absence]) -> float:
        """Return after which candle of a series none comes; infinity while its symbol is traded."""
        waited = [
            sum(self._wait_seconds(attrs.evolve(gap, asked=n)) or 0.0 for n in range(gap.asked))
            for gap in gaps
        ]
        # A list of before the first attempt might not know of the end.
        listing = await self._listing(series, trio.current_time() - min(waited))
        if listing is not None and listing.is_trading:
            return math.inf
        newest_ms = await self.markets[series.trade_type].newest_open_time_ms(series)
        return -math.inf if newest_ms is None else newest_ms
