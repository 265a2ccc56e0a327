"""Asks REST for gaps of a series, and derives from the answer what becomes of them."""

import logging
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import attrgetter

import attrs
import trio

from kline_trio.candle import Candle, Series, Source
from kline_trio.errors import UnavailableError
from kline_trio.exchange.klines import Answer, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.recorder.witnesses import APART_SECONDS, Witnesses
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason

__all__ = ["Outcome", "RestSource"]

logger = logging.getLogger(__name__)

_LONGER = 6
"""Each wait between two attempts for the same gap is so many times the one before."""
_DAY_MS = 86_400_000
_OLD_MS = _DAY_MS
"""Patience suits a gap that closed just now. Of an older one than this, two answers are enough."""
_LEAST_ATTEMPTS = 2
"""One answer may be wrong."""
_UNPROVEN_WAIT_SECONDS = 2.0
"""The time is asked for at once where a candle's close is not proven."""


@attrs.frozen
class Outcome:
    """What an answer makes of gaps."""

    refills: tuple[FetchResult, ...]
    wait_seconds: Mapping[Span, float] = attrs.field(factory=dict)
    """After how long what is still absent of a span is to be asked for again."""
    undelivered_ms: int | None = None
    """The last candle with trades that the stream should have brought, and did not."""

    @property
    def candles(self) -> list[Candle]:
        """All candles of the answer that fill a gap."""
        return [candle for refill in self.refills for candle in refill.candles]


@attrs.frozen
class _First:
    """What the exchange says of a series' first candle."""

    open_time_ms: int
    at: float
    """When it said so, on our own clock."""
    is_sure: bool
    """Whether it has said so twice."""


@attrs.define(eq=False)
class RestSource:
    """The REST interfaces of the markets, as a source for gaps."""

    markets: Mapping[str, RestMarket]
    """By trade type."""
    attempts: int
    """How often a gap is asked for that the exchange does not have."""
    attempt_seconds: float
    """Between the first two attempts."""
    first_stored_ms: Callable[[Series, Span], Awaitable[int | None]]
    """Returns the open time of the first stored candle of a series within a span."""
    _first: dict[Series, _First] = attrs.field(init=False, factory=dict)
    _listings: dict[str, tuple[float, Mapping[str, Listing]]] = attrs.field(
        init=False, factory=dict
    )
    """By trade type: when they were asked for, and what was said."""
    _listing_locks: defaultdict[str, trio.Lock] = attrs.field(
        init=False, factory=lambda: defaultdict(trio.Lock)
    )
    """One task at a time asks a market for its list: spot's has 15 MB."""
    _absent: Witnesses = attrs.field(init=False, factory=Witnesses)
    """Complete answers, which tell what the exchange does not have."""
    _spoiled: Witnesses = attrs.field(init=False, factory=Witnesses)
    """Answers with rows that cannot be."""
    _doubtful: Witnesses = attrs.field(init=False, factory=Witnesses)
    """What rows of answers were that had others than were asked for."""
    _ended: Witnesses = attrs.field(init=False, factory=Witnesses)
    """Answers about the newest candle of a symbol that had ended; None: it had not."""
    _bad_rows: set[str] = attrs.field(init=False, factory=set)
    """The faults of rows that were logged: each is named once."""

    async def ask(self, series: Series, gaps: Sequence[Gap]) -> Outcome:
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
        if answer.unproven_ms:
            rest.clock.doubt.set()
        inside = [
            attrs.evolve(gap, span=span) for gap in gaps for span in gap.span.common_with(page.span)
        ]
        undelivered = [
            one.open_time_ms
            for gap in inside
            if gap.reason is Reason.NOT_RECEIVED
            for one in answer.candles
            if one.trade_num and gap.span.from_ms <= one.open_time_ms < gap.span.to_ms
        ]
        refills, waits = await self._judged(series, inside, answer)
        return Outcome(tuple(refills), waits, max(undelivered, default=None))

    async def _judged(
        self, series: Series, gaps: Sequence[Gap], answer: Answer
    ) -> tuple[list[FetchResult], dict[Span, float]]:
        """Return what becomes of gaps by an answer, and after how long to ask for what again.

        What the answer says nothing of, it does not count for: candles whose close is not proven,
        and whatever an answer about something else lacks. Rows of an answer that is not whole are
        taken when a second one has the same.
        """
        now, interval = trio.current_time(), series.interval
        spoiled = list(interval.runs(sorted(answer.spoiled_ms)))
        unsaid = list(interval.runs(sorted(answer.unproven_ms)))
        if not answer.is_complete:
            there = list(interval.runs(one.open_time_ms for one in answer.candles))
            unsaid = [piece for gap in gaps for piece in gap.span.without(there)]
        waits = dict.fromkeys(
            unsaid, _UNPROVEN_WAIT_SECONDS if answer.is_complete else APART_SECONDS
        )
        unsure = [] if answer.is_whole else self._unsure(series, gaps, answer, now)
        waits |= dict.fromkeys(unsure, APART_SECONDS)
        left_out = sorted({*unsaid, *unsure, *spoiled})
        refills, closing = [], []
        for gap in gaps:
            for span in gap.span.without(left_out):
                found = [
                    ms for ms in answer.candles if span.from_ms <= ms.open_time_ms < span.to_ms
                ]
                refill = FetchResult(series, span, tuple(found), Source.REST)
                wait = self._wait_seconds(gap)
                if len(found) == interval.count(span):
                    refills.append(refill)
                elif wait is None and self._absent.agree(series, span, answer.host, now):
                    closing.append((gap, refill))
                else:
                    refills.append(refill)
                    waits[span] = APART_SECONDS if wait is None else wait
            for bad in spoiled:
                for span in gap.span.common_with(bad):
                    is_sure = self._spoiled.agree(series, span, answer.host, now)
                    closes = Reason.OFF_THE_GRID if is_sure else None
                    refills.append(FetchResult(series, span, (), Source.REST, closes))
                    if not is_sure:
                        waits[span] = APART_SECONDS
        for said in (piece for gap in gaps for piece in gap.span.without(left_out)):
            self._absent.hear(series, said, answer.host, now)
        for bad in spoiled:
            self._spoiled.hear(series, bad, answer.host, now)
        if closing:
            closed, later = await self._closed(series, closing)
            refills += closed
            waits |= later
        return refills, waits

    def _unsure(
        self, series: Series, gaps: Sequence[Gap], answer: Answer, now: float
    ) -> list[Span]:
        """Return of which candles no other answer has had the same rows."""
        unsure = []
        for run in series.interval.runs(one.open_time_ms for one in answer.candles):
            for span in (piece for gap in gaps for piece in gap.span.common_with(run)):
                first, end = (
                    bisect_left(answer.candles, ms, key=attrgetter("open_time_ms"))
                    for ms in (span.from_ms, span.to_ms)
                )
                said = hash(answer.candles[first:end])
                if not self._doubtful.agree(series, span, answer.host, now, said):
                    unsure.append(span)
                self._doubtful.hear(series, span, answer.host, now, said)
        return unsure

    async def _closed(
        self, series: Series, closing: Sequence[tuple[Gap, FetchResult]]
    ) -> tuple[list[FetchResult], dict[Span, float]]:
        """Return the refills that close these gaps, or else after how long to ask again.

        That a symbol had ended takes two answers with the same newest candle, 10 seconds apart.
        What is stored is no answer's to deny.
        """
        try:
            last_ms = await self._last_ms(series, [gap for gap, _ in closing])
        except UnavailableError:
            # What else the answer brought is kept all the same.
            return [], {refill.span: APART_SECONDS for _, refill in closing}
        until_ms = max(refill.span.from_ms for _, refill in closing)
        stored_ms = await self._stored_after(last_ms, series, until_ms)
        closed, waits, now = [], {}, trio.current_time()
        for _, refill in closing:
            # The newest candle of an ended symbol stays the same.
            ended_ms = last_ms if last_ms < refill.span.from_ms else None
            is_sure = last_ms == math.inf or self._ended.agree(
                series, refill.span, "", now, ended_ms
            )
            self._ended.hear(series, refill.span, "", now, ended_ms)
            closes = Reason.EXCHANGE_HAD_NONE if ended_ms is None else Reason.DELISTED
            is_denied = stored_ms < refill.span.from_ms
            if is_sure and not is_denied:
                closed.append(attrs.evolve(refill, closes=closes))
            else:
                waits[refill.span] = APART_SECONDS
        return closed, waits

    def refused(self, gaps: Sequence[Gap]) -> Outcome:
        """Derive what becomes of gaps that the exchange will not answer for, whatever the page.

        Like an absence, a refusal is believed when it stays the same over all attempts.
        """
        waits = self._waits(gaps)
        refills = [
            FetchResult(gap.series, gap.span, (), Source.REST, Reason.REFUSED if is_last else None)
            for gap in gaps
            for is_last in [gap.span not in waits]
        ]
        return Outcome(tuple(refills), waits)

    async def before_the_first(self, series: Series, gaps: Sequence[Gap]) -> Outcome:
        """Close what is older than the series' first candle, rather than ask for years of it.

        Two answers about the first candle must agree, 10 seconds apart. What is stored is no
        answer's to deny.

        Raises:
          RefusedError: the exchange will not answer, or not this question.
          UnavailableError: no host gave an answer that can be used.
        """
        now = trio.current_time()
        said = self._first.get(series)
        if said is None or (not said.is_sure and now - said.at >= APART_SECONDS):
            oldest_ms = await self._oldest_ms(series)
            if oldest_ms is None:
                return Outcome(())
            is_sure = said is not None and said.open_time_ms == oldest_ms
            said = self._first[series] = _First(oldest_ms, trio.current_time(), is_sure)
        if all(gap.span.from_ms >= said.open_time_ms for gap in gaps):
            # So it is for nearly every page: the store need not be looked into.
            return Outcome(())
        stored_ms = await self.first_stored_ms(series, Span(0, said.open_time_ms))
        before = Span(0, said.open_time_ms if stored_ms is None else stored_ms)
        closes = Reason.NOT_LISTED if said.is_sure else None
        spans = [span for gap in gaps for span in gap.span.common_with(before)]
        waits = {} if said.is_sure else dict.fromkeys(spans, APART_SECONDS)
        refills = [FetchResult(series, span, (), Source.REST, closes) for span in spans]
        return Outcome(tuple(refills), waits)

    def _waits(self, gaps: Iterable[Gap]) -> dict[Span, float]:
        """Return after how long to ask again for those gaps that are not given up."""
        waits = ((gap.span, self._wait_seconds(gap)) for gap in gaps)
        return {span: seconds for span, seconds in waits if seconds is not None}

    def _wait_seconds(self, gap: Gap) -> float | None:
        """Return when to ask again; None: what this attempt does not bring is not there."""
        now_ms = self.markets[gap.series.trade_type].clock.now_ms
        is_old = now_ms is not None and gap.span.to_ms < now_ms - _OLD_MS
        attempts = _LEAST_ATTEMPTS if is_old else max(_LEAST_ATTEMPTS, self.attempts)
        if gap.asked + 1 >= attempts:
            return None
        if is_old:
            return min(self.attempt_seconds, APART_SECONDS)
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
        rest, hint_ms = self.markets[series.trade_type], None
        if rest.market.pages_end_first:
            listing = await self._listing(series, -math.inf)
            hint_ms = listing.onboard_ms if listing else None
        return _that_has_come(await rest.oldest_open_time_ms(series, hint_ms), rest)

    async def _last_ms(self, series: Series, gaps: Iterable[Gap]) -> float:
        """Return after which candle of a series none comes; infinity while its symbol is traded."""
        waited = [
            sum(self._wait_seconds(attrs.evolve(gap, asked=n)) or 0.0 for n in range(gap.asked))
            for gap in gaps
        ]
        # A list of before the first attempt might not know of the end.
        listing = await self._listing(series, trio.current_time() - min(waited))
        if listing is not None and listing.is_trading:
            return math.inf
        rest = self.markets[series.trade_type]
        newest_ms = _that_has_come(await rest.newest_open_time_ms(series), rest)
        return -math.inf if newest_ms is None else newest_ms

    async def _stored_after(self, last_ms: float, series: Series, until_ms: int) -> float:
        """Return the first stored candle, before a gap, that REST denies; infinity if none.

        REST may lack the last candle that a stream brought, but not a day of them.
        """
        from_ms = max(last_ms + _DAY_MS, 0)
        if from_ms >= until_ms:
            return math.inf
        stored_ms = await self.first_stored_ms(series, Span(int(from_ms), until_ms))
        return math.inf if stored_ms is None else stored_ms


def _that_has_come(open_time_ms: int | None, rest: RestMarket) -> int | None:
    """Return the open time of a candle.

    Raises:
      UnavailableError: it is of a time to come. The clock may be behind, but not for a day.
    """
    now_ms = rest.clock.now_ms
    if open_time_ms is not None and now_ms is not None and open_time_ms > now_ms + _DAY_MS:
        raise UnavailableError(f"REST tells of a candle of a time to come: {open_time_ms}")
    return open_time_ms
