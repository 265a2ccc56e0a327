"""Ask REST for the gaps of a series, and derive from the answer what becomes of each gap."""

import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import attrs
import trio

from kline_trio.candle import Candle, Series, Source, within
from kline_trio.config import CompletenessConfig
from kline_trio.errors import UnavailableError
from kline_trio.exchange.klines import Answer, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import DAY_MS, Span
from kline_trio.listing import Listing
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason

logger = logging.getLogger(__name__)

APART_SECONDS = 10.0
"""Two answers of one host count as two if they are this far apart."""
_REMEMBER_SECONDS = 3_600.0
"""Longer than the longest wait between two attempts."""
_WAIT_FACTOR = 6
"""Each wait between two attempts for a gap is this many times the one before."""
_OLD_MS = DAY_MS
"""A gap that ended longer ago is old. Patience suits a gap that closed just now: of an old one,
two answers are enough."""
_LEAST_ATTEMPTS = 2
"""One answer may be wrong."""
_UNPROVEN_WAIT_SECONDS = 2.0
"""If no row proves a candle's close, the clock asks for the time at once."""

_ABSENT = "absent"
_SPOILED = "only bad rows"


@attrs.frozen
class Outcome:
    """The effect of an answer on gaps."""

    refills: tuple[FetchResult, ...]
    wait_seconds: Mapping[Span, float] = attrs.field(factory=dict)
    """Seconds until the next attempt for those candles of a span that are still absent."""
    undelivered_ms: int | None = None
    """The open time of the last candle with trades that the stream should have brought."""

    @property
    def candles(self) -> list[Candle]:
        """All candles of the answer that fill a gap."""
        return [candle for refill in self.refills for candle in refill.candles]


@attrs.frozen
class _Statement:
    """A claim of a host about the candles of a span."""

    span: Span
    host: str
    at: float
    """Local seconds."""
    claim: object


@attrs.define(eq=False)
class _Witnesses:
    """The statements of the last answer, and of the hour before it.

    A single statement may be wrong; two that agree are a proof. Two statements count as two if
    they are of different hosts, or 10 seconds apart. A restart forgets all statements.
    """

    _statements: defaultdict[Series, list[_Statement]] = attrs.field(
        init=False, factory=lambda: defaultdict(list)
    )

    def confirm(self, series: Series, span: Span, host: str, now: float, claim: object) -> bool:
        """Keep a claim about the candles of a span.

        Return whether other statements make the same claim about all of these candles.
        """
        known, left = self._statements[series], [span]
        if known and (last_at := known[-1].at) < now:
            # Measured from the answer before: also after a long ban that one is a witness.
            known[:] = [one for one in known if last_at - one.at < _REMEMBER_SECONDS]
        for one in known:
            if one.claim == claim and (one.host != host or now - one.at >= APART_SECONDS):
                left = [piece for part in left for piece in part.without([one.span])]
        known.append(_Statement(span, host, now, claim))
        return not left


@attrs.frozen
class _First:
    """A series' first candle, as the exchange has it."""

    open_time_ms: int
    at: float
    """Local seconds of the answer."""
    is_sure: bool
    """Whether two answers agreed."""


@attrs.define(eq=False)
class RestSource:
    """Requests the candles of gaps from REST, and derives what becomes of each gap."""

    markets: Mapping[str, RestMarket]
    """By trade type."""
    patience: CompletenessConfig
    first_stored_ms: Callable[[Series, Span], Awaitable[int | None]]
    """Returns the open time of the first stored candle of a series within a span."""
    _first: dict[Series, _First] = attrs.field(init=False, factory=dict)
    _listings: dict[str, tuple[float, Mapping[str, Listing]]] = attrs.field(
        init=False, factory=dict
    )
    """By trade type: the local seconds of the request, and the list."""
    _listing_locks: defaultdict[str, trio.Lock] = attrs.field(
        init=False, factory=lambda: defaultdict(trio.Lock)
    )
    """One task at a time asks a market for its list: spot's has 15 MB."""
    _witnesses: _Witnesses = attrs.field(init=False, factory=_Witnesses)
    _bad_rows: set[str] = attrs.field(init=False, factory=set)
    """The faults of rows that were logged: each is logged once."""

    async def ask(self, series: Series, gaps: Sequence[Gap]) -> Outcome:
        """Ask for the newest of the gaps, and for as many before it as fit on the same page.

        The gaps, at least one, come by time, and all their candles have closed.

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
            for one in within(answer.candles, gap.span)
            if one.trade_num
        ]
        refills, waits = await self._judged(series, inside, answer)
        return Outcome(tuple(refills), waits, max(undelivered, default=None))

    async def _judged(
        self, series: Series, gaps: Sequence[Gap], answer: Answer
    ) -> tuple[list[FetchResult], dict[Span, float]]:
        """Return the result of an answer for each gap, and the seconds until each span's next try.

        An answer does not count for the candles that it says nothing of: those whose close is not
        proven, and all that an answer to another question lacks. The rows of an answer that is not
        whole are taken when a second answer has the same rows.
        """
        now, interval, confirm = trio.current_time(), series.interval, self._witnesses.confirm
        spoiled = list(interval.runs(sorted(answer.spoiled_ms)))
        unanswered = list(interval.runs(sorted(answer.unproven_ms)))
        if not answer.is_complete:
            there = list(interval.runs(one.open_time_ms for one in answer.candles))
            unanswered = [piece for gap in gaps for piece in gap.span.without(there)]
        waits = dict.fromkeys(
            unanswered, _UNPROVEN_WAIT_SECONDS if answer.is_complete else APART_SECONDS
        )
        unconfirmed = [] if answer.is_whole else self._unconfirmed(series, gaps, answer, now)
        waits |= dict.fromkeys(unconfirmed, APART_SECONDS)
        left_out = sorted({*unanswered, *unconfirmed, *spoiled})
        refills, closing = [], []
        for gap in gaps:
            for span in gap.span.without(left_out):
                refill = FetchResult(series, span, within(answer.candles, span), Source.REST)
                wait = self._wait_seconds(gap)
                is_sure = confirm(series, span, answer.host, now, _ABSENT)
                if len(refill.candles) == interval.count(span):
                    refills.append(refill)
                elif wait is None and is_sure:
                    closing.append((gap, refill))
                else:
                    refills.append(refill)
                    waits[span] = APART_SECONDS if wait is None else wait
            for bad in spoiled:
                for span in gap.span.common_with(bad):
                    is_sure = confirm(series, span, answer.host, now, _SPOILED)
                    closes = Reason.OFF_THE_GRID if is_sure else None
                    refills.append(FetchResult(series, span, (), Source.REST, closes))
                    if not is_sure:
                        waits[span] = APART_SECONDS
        for bad in spoiled:
            # Also for the bad rows between the gaps.
            confirm(series, bad, answer.host, now, _SPOILED)
        if closing:
            closed, later = await self._closed(series, closing)
            refills += closed
            waits |= later
        return refills, waits

    def _unconfirmed(
        self, series: Series, gaps: Sequence[Gap], answer: Answer, now: float
    ) -> list[Span]:
        """Return the spans whose rows no other answer confirms."""
        unconfirmed = []
        for run in series.interval.runs(one.open_time_ms for one in answer.candles):
            for span in (piece for gap in gaps for piece in gap.span.common_with(run)):
                claim = ("rows", hash(within(answer.candles, span)))
                if not self._witnesses.confirm(series, span, answer.host, now, claim):
                    unconfirmed.append(span)
        return unconfirmed

    async def _closed(
        self, series: Series, closing: Sequence[tuple[Gap, FetchResult]]
    ) -> tuple[list[FetchResult], dict[Span, float]]:
        """Return the refills that close gaps, and the seconds until the other gaps' next try.

        Two answers with the same newest candle, 10 seconds apart, prove that a symbol has ended.
        No answer proves it if later candles are stored.
        """
        try:
            last_ms = await self._last_ms(series, [gap for gap, _ in closing])
        except UnavailableError:
            # The other refills of the answer are kept.
            return [], {refill.span: APART_SECONDS for _, refill in closing}
        until_ms = max(refill.span.from_ms for _, refill in closing)
        stored_ms = await self._stored_after(last_ms, series, until_ms)
        closed, waits, now = [], {}, trio.current_time()
        for _, refill in closing:
            # The newest candle of an ended symbol stays the same.
            ended_ms = last_ms if last_ms < refill.span.from_ms else None
            claim = ("newest candle", ended_ms)
            is_same = self._witnesses.confirm(series, refill.span, "", now, claim)
            is_sure = last_ms == math.inf or is_same
            closes = Reason.EXCHANGE_HAD_NONE if ended_ms is None else Reason.DELISTED
            is_denied = stored_ms < refill.span.from_ms
            if is_sure and not is_denied:
                closed.append(attrs.evolve(refill, closes=closes))
            else:
                waits[refill.span] = APART_SECONDS
        return closed, waits

    def refused(self, gaps: Iterable[Gap]) -> Outcome:
        """Derive what becomes of gaps that the exchange will not answer for, whatever the page.

        A refusal closes a gap if it stays the same over all attempts, as an absence does.
        """
        refills, waits = [], {}
        for gap in gaps:
            wait = self._wait_seconds(gap)
            closes = Reason.REFUSED if wait is None else None
            refills.append(FetchResult(gap.series, gap.span, (), Source.REST, closes))
            if wait is not None:
                waits[gap.span] = wait
        return Outcome(tuple(refills), waits)

    async def before_the_first(self, series: Series, gaps: Sequence[Gap]) -> Outcome:
        """Close the gaps before the series' first candle, instead of asking for years of them.

        Two answers about the first candle must agree, 10 seconds apart. A stored candle is never
        before the first one.

        Raises:
          RefusedError: the exchange will not answer, or not this question.
          UnavailableError: no host gave an answer that can be used.
        """
        now = trio.current_time()
        first = self._first.get(series)
        if first is None or (not first.is_sure and now - first.at >= APART_SECONDS):
            oldest_ms = await self._oldest_ms(series)
            if oldest_ms is None:
                return Outcome(())
            is_sure = first is not None and first.open_time_ms == oldest_ms
            first = self._first[series] = _First(oldest_ms, trio.current_time(), is_sure)
        if all(gap.span.from_ms >= first.open_time_ms for gap in gaps):
            # The usual case: do not search the store.
            return Outcome(())
        stored_ms = await self.first_stored_ms(series, Span(0, first.open_time_ms))
        before = Span(0, first.open_time_ms if stored_ms is None else stored_ms)
        closes = Reason.NOT_LISTED if first.is_sure else None
        spans = [span for gap in gaps for span in gap.span.common_with(before)]
        waits = {} if first.is_sure else dict.fromkeys(spans, APART_SECONDS)
        refills = [FetchResult(series, span, (), Source.REST, closes) for span in spans]
        return Outcome(tuple(refills), waits)

    def _wait_seconds(self, gap: Gap) -> float | None:
        """Return the seconds until the next attempt for a gap; None: this attempt is the last."""
        now_ms = self.markets[gap.series.trade_type].clock.now_ms
        is_old = now_ms is not None and gap.span.to_ms < now_ms - _OLD_MS
        attempts = _LEAST_ATTEMPTS if is_old else max(_LEAST_ATTEMPTS, self.patience.attempts)
        if gap.asked + 1 >= attempts:
            return None
        if is_old:
            return min(self.patience.attempt_seconds, APART_SECONDS)
        return self.patience.attempt_seconds * float(_WAIT_FACTOR) ** min(gap.asked, 6)

    async def _listing(self, series: Series, since: float) -> Listing | None:
        """Return the symbol's entry in a list that was requested at `since` or later."""
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
        return _not_in_the_future(await rest.oldest_open_time_ms(series, hint_ms), rest)

    async def _last_ms(self, series: Series, gaps: Iterable[Gap]) -> float:
        """Return the open time of a series' last candle; infinity while its symbol is traded."""
        waited = [
            sum(self._wait_seconds(attrs.evolve(gap, asked=n)) or 0.0 for n in range(gap.asked))
            for gap in gaps
        ]
        # A list of before the first attempt may be older than the end.
        listing = await self._listing(series, trio.current_time() - min(waited))
        if listing is not None and listing.is_trading:
            return math.inf
        rest = self.markets[series.trade_type]
        newest_ms = _not_in_the_future(await rest.newest_open_time_ms(series), rest)
        return -math.inf if newest_ms is None else newest_ms

    async def _stored_after(self, last_ms: float, series: Series, until_ms: int) -> float:
        """Return the first stored candle that REST should have after the last one; or infinity.

        REST may lack the last candles that a stream brought, but not a day of them.
        """
        from_ms = max(last_ms + DAY_MS, 0)
        if from_ms >= until_ms:
            return math.inf
        stored_ms = await self.first_stored_ms(series, Span(int(from_ms), until_ms))
        return math.inf if stored_ms is None else stored_ms


def _not_in_the_future(open_time_ms: int | None, rest: RestMarket) -> int | None:
    """Return the open time unchanged.

    Raises:
      UnavailableError: it is a day ahead of the exchange's clock, which is never so far behind.
    """
    now_ms = rest.clock.now_ms
    if open_time_ms is not None and now_ms is not None and open_time_ms > now_ms + DAY_MS:
        raise UnavailableError(f"REST tells of a candle of a time to come: {open_time_ms}")
    return open_time_ms
