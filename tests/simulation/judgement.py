"""What a storm left in a store, held against what the exchange knows of itself."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.protocol import stream_name
from kline_trio.interval import Span
from kline_trio.simulator.market import Market
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.status import SeriesStatus
from kline_trio.storage.table import candles_of
from kline_trio.storage.universe import UniverseFile
from tests.builders import candle_of, truth
from tests.faulty_exchange import Fault, FaultyExchange, Refuse, RestFault, WrongRows
from tests.simulation.weather import HOUR_MS, LASTING, PATTERNS, START_MS, is_meant

_CLEAR_MS = 4 * HOUR_MS
"""Within it a recorder has heard the time, and has named what it lacks: in a stall it asks for the
time each ten seconds of ours, which are more than three hours."""
_LOOKED_MS = 16 * HOUR_MS
"""Within it a recorder has seen the list of symbols, and has done what it means: it looks each four
hours, and a few times in vain."""
_BANNED_MS = 48 * HOUR_MS
"""For so long a ban keeps a recorder from a market: two minutes of ours."""


@attrs.frozen
class Judgement:
    """All that may be wrong with a store."""

    exchange: FaultyExchange
    faults: Sequence[Fault]
    lives: Sequence[tuple[int, int]]
    """From when to when, in the exchange's time, each recorder lived."""
    store: Path
    accounts: Mapping[Series, SeriesAccount]
    ledger: Sequence[Gap]
    stored: dict[Series, list[Candle]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for series in sorted(self.accounts):
            table = stored_table(self.store, series)
            self.stored[series] = [] if table is None else candles_of(table)

    @property
    def end_ms(self) -> int:
        """When the last recorder ended, in the exchange's time."""
        return self.lives[-1][1]

    def absences(self, series: Series) -> list[Gap]:
        """What the ledger says of a series."""
        return [one for one in self.ledger if one.series == series]

    def wrong(self) -> Iterator[str]:
        """Give a line for all that is not as it should be."""
        meant = {
            Series(one.trade_type, symbol, one.time_interval)
            for one in PATTERNS
            for symbol in self.exchange.markets[one.trade_type].listings
            if is_meant(one.trade_type, symbol)
        }
        for series in sorted({*LASTING, *meant, *self.accounts}):
            of_series = _OfSeries(self, series)
            account = self.accounts.get(series)
            found = of_series.wrong_beginning(account)
            if account is not None:
                found += of_series.wrong_end(account)
                found += of_series.wrong_candles(account)
                found += of_series.wrong_reasons()
            for line in found:
                yield f"{series} {line}"
        yield from self._wrong_universe()

    def wrong_status(self, told: Iterable[SeriesStatus]) -> Iterator[str]:
        """Give a line for each series of which `status` does not tell the truth.

        Args:
          told: measured up to the watermarks.
        """
        by_series = {one.series: one for one in told}
        for series, have in self.stored.items():
            mine, account, interval = by_series[series], self.accounts[series], series.interval
            times = {one.open_time_ms for one in have}
            span = Span(account.first_ms, account.watermark_ms)
            due = interval.count(span) if span.from_ms < span.to_ms else 0
            stored = sum(span.from_ms <= ms < span.to_ms for ms in times)
            absent = sum(
                interval.count(piece)
                for one in self.absences(series)
                if one.state is not State.FILLED
                for piece in one.span.common_with(span)
            )
            seen = (mine.rows, mine.due, mine.stored, sum(mine.absent.values()))
            if seen != (len(times), due, stored, absent):
                yield f"{series}: status says {seen}, not {(len(times), due, stored, absent)}"
            if mine.unexplained or due != stored + absent:
                yield f"{series}: {due} due, {stored} stored, {absent} absent: {mine.unexplained}"

    def _wrong_universe(self) -> Iterator[str]:
        latest = UniverseFile.open(self.store).latest
        for trade_type, market in self.exchange.markets.items():
            for listing, state in market.shown(self.end_ms):
                seen = latest[trade_type].get(listing.symbol)
                if seen is None or (seen.status, seen.tick_size) != (state.status, state.tick_size):
                    yield f"{trade_type} {listing.symbol} is {state}, and was seen as {seen}"

    def is_banned(self, trade_type: str, from_ms: int, to_ms: int) -> bool:
        """Whether the market may have kept a recorder from it, or from half of it."""
        return any(
            isinstance(fault, RestFault | Refuse)
            and MARKETS[fault.trade_type].pool == MARKETS[trade_type].pool
            and fault.status in (418, 429)
            and fault.until_ms > from_ms - _BANNED_MS
            and fault.from_ms < to_ms
            for fault in self.faults
        )

    def is_halted(self, trade_type: str, from_ms: int, to_ms: int) -> bool:
        """Whether nothing of the market is traded at an hour of these: then nobody but its time
        endpoint tells the time, and one witness is none.
        """
        market = self.exchange.markets[trade_type]
        return any(
            all(state.status != "TRADING" for _, state in market.shown(at_ms))
            for at_ms in range(from_ms, to_ms, HOUR_MS)
        )


@attrs.frozen
class _OfSeries:
    """The judgement of one series."""

    whole: Judgement
    series: Series

    @property
    def _market(self) -> Market:
        return self.whole.exchange.markets[self.series.trade_type]

    def _life_of(self) -> tuple[int, int]:
        """From when to when the symbol is traded."""
        timeline = self._market.timelines[self.series.symbol]
        return max(timeline.begins_ms, START_MS), min(timeline.ends_ms, self.whole.end_ms)

    def _exists(self, open_ms: int) -> bool:
        end_ms = self.series.interval.end_time_ms(open_ms)
        return self._market.absence(self.series.symbol, open_ms, end_ms) is None

    def _is_flat(self, open_ms: int) -> bool:
        """Whether it is one of the candles that go on after the last trade; nobody needs them."""
        return open_ms >= self._life_of()[1] and self._exists(open_ms)

    @property
    def _goes_on_flat(self) -> bool:
        return self._market.timelines[self.series.symbol].goes_on_flat

    def _trades(self, at_ms: int) -> bool:
        return self._market.timelines[self.series.symbol].at(at_ms).status == "TRADING"

    def wrong_beginning(self, account: SeriesAccount | None) -> list[str]:
        """Whether it is accounted for from the first candle on that could be known of."""
        begins_ms, _ = self._life_of()
        if begins_ms == START_MS:
            # With the first candle after the exchange has told the time.
            if account is None or not START_MS <= account.first_ms < START_MS + HOUR_MS:
                return [f"is accounted for as {account}"]
            return []
        if not self._is_seen_to_begin(begins_ms):
            return []
        first_ms = self.series.interval.open_time_ms(begins_ms)
        if account is None or account.first_ms > first_ms:
            return [f"began at {first_ms}, and is accounted for as {account}"]
        return []

    def _is_seen_to_begin(self, begins_ms: int) -> bool:
        """Whether a recorder could know from when on the symbol is traded."""
        if self.whole.is_banned(self.series.trade_type, begins_ms, begins_ms + _LOOKED_MS):
            return False
        lives = self.whole.lives
        for from_ms, to_ms in lives:
            if from_ms + _LOOKED_MS < begins_ms < to_ms - _LOOKED_MS:
                return True
        # Also when nobody was there: the list had not had it before.
        gaps = pairwise(lives)
        return any(
            gone_ms < begins_ms < from_ms
            and to_ms - from_ms > _LOOKED_MS
            and all(self._trades(at_ms) for at_ms in range(from_ms, from_ms + _LOOKED_MS, HOUR_MS))
            and not self.whole.is_banned(self.series.trade_type, from_ms, from_ms + _LOOKED_MS)
            for (_, gone_ms), (from_ms, to_ms) in gaps
        )

    def wrong_end(self, account: SeriesAccount) -> list[str]:
        """Whether it is accounted for up to the end of its symbol's life, or to that of ours."""
        last_ms = self.whole.end_ms
        if self._trades(last_ms):
            if account.watermark_ms < last_ms - _CLEAR_MS or account.retired_ms is not None:
                return [f"is accounted for up to {account} only"]
            return []
        ledger = self.whole.absences(self.series)
        sealed = (Reason.DELISTED, account.watermark_ms, account.watermark_ms)
        last = ledger[-1] if ledger else None
        if last is None or (last.reason, last.span.to_ms, account.retired_ms) != sealed:
            return [f"is not sealed: {account}, {last}"]
        # A flat candle may have been on its way.
        if last.state is not State.CLOSED and not self._is_flat(last.span.from_ms):
            return [f"is not sealed: {account}, {last}"]
        if not self._is_seen_to_trade(account.watermark_ms):
            return []
        open_ms = account.watermark_ms
        while open_ms < last_ms:
            if self._exists(open_ms) and not self._is_flat(open_ms):
                return [f"is sealed at {account.watermark_ms}, and has a candle at {open_ms}"]
            open_ms = self.series.interval.end_time_ms(open_ms)
        return []

    def _is_seen_to_trade(self, after_ms: int) -> bool:
        """Whether a recorder could know that the symbol is traded after that moment."""
        return any(
            all(self._trades(ms) for ms in range(at_ms, at_ms + _LOOKED_MS, HOUR_MS))
            and not self.whole.is_banned(self.series.trade_type, at_ms, at_ms + _LOOKED_MS)
            for from_ms, to_ms in self.whole.lives
            for at_ms in range(max(from_ms, after_ms), to_ms - _LOOKED_MS, HOUR_MS)
        )

    def wrong_candles(self, account: SeriesAccount) -> list[str]:
        """Whether each candle up to the watermark is the exchange's own, or was never traded."""
        first_ms, until_ms = account.first_ms, account.watermark_ms
        traded = truth(self.whole.exchange, self.series, first_ms, until_ms)
        wanted = {one.open_time_ms: one for one in traded if self._exists(one.open_time_ms)}
        everything = self.whole.stored[self.series]
        stored = {one.open_time_ms: one for one in everything if one.open_time_ms < until_ms}
        lost = [ms for ms in wanted if ms not in stored and not self._is_flat(ms)]
        differ = [
            ms
            for ms, one in stored.items()
            if wanted.get(ms, one) != one and self._last_sent(ms) != one
        ]
        never = [ms for ms in stored if ms not in wanted]
        found = [
            f"{what}: {len(those)}, first {those[0]}"
            for what, those in (("lost", lost), ("not what was traded", differ), ("never", never))
            if those
        ]
        opens_ms = [one.open_time_ms for one in everything]
        found += self._wrong_ledger(account, set(opens_ms))
        beyond = [ms for ms in opens_ms if ms >= self.whole.end_ms]
        if beyond:
            found.append(f"of a time to come: {len(beyond)}, first {beyond[0]}")
        if len(opens_ms) > len(set(opens_ms)):
            found.append("some are there twice")
        return found

    def _wrong_ledger(self, account: SeriesAccount, stored: set[int]) -> Iterator[str]:
        """Whether each due candle is a row or a gap of the ledger, and not both."""
        interval = self.series.interval
        gaps = {
            open_ms
            for one in self.whole.absences(self.series)
            if one.state is not State.FILLED
            for open_ms in interval.open_times_ms(one.span)
        }
        both = sorted(stored & gaps)
        if both:
            yield f"stored and absent: {len(both)}, first {both[0]}"
        if account.watermark_ms > account.first_ms:
            due = interval.open_times_ms(Span(account.first_ms, account.watermark_ms))
            holes = [ms for ms in due if ms not in stored and ms not in gaps]
            if holes:
                yield f"without a row of the ledger: {len(holes)}, first {holes[0]}"

    def _last_sent(self, open_ms: int) -> Candle:
        """Return a candle as it was sent last: nobody asks again for one that closed."""
        trade_type, stream = self.series.trade_type, stream_name(self.series)
        return candle_of(self.whole.exchange.last_sent(trade_type, stream, open_ms))

    def wrong_reasons(self) -> list[str]:
        """Whether each absence has the reason that the exchange's record and our lives give it."""
        lives = self.whole.lives
        found = []
        for one in self.whole.absences(self.series):
            for open_ms in self.series.interval.open_times_ms(one.span):
                end_ms = self.series.interval.end_time_ms(open_ms)
                is_there = self._exists(open_ms)
                if one.state is State.CLOSED:
                    if (is_there and not self._is_flat(open_ms)) or one.reason not in self._reasons(
                        open_ms
                    ):
                        found.append(f"{open_ms}: closed, {one.reason}; there: {is_there}")
                elif one.state is State.FILLED:
                    if not is_there:
                        found.append(f"{open_ms}: filled, and never was")
                elif end_ms < self.whole.end_ms - _CLEAR_MS:
                    found.append(f"{open_ms}: still pending")
                # Who is banned, or listens where nothing is traded, does not hear what time it is,
                # and may end before.
                heard = (self.series.trade_type, end_ms, end_ms + _CLEAR_MS)
                if (
                    one.reason is Reason.RECORDER_DOWN
                    and _lived_through(lives, end_ms)
                    and not self.whole.is_banned(*heard)
                    and not self.whole.is_halted(*heard)
                ):
                    found.append(f"{open_ms}: the recorder was not down")
        return found

    def _is_before_the_first(self, open_ms: int) -> bool:
        """Whether it began in a halt or an outage, so that there is no candle up to here."""
        begins_ms, _ = self._life_of()
        if begins_ms == START_MS:
            return False
        span = Span(self.series.interval.open_time_ms(begins_ms), open_ms + 1)
        return not any(map(self._exists, self.series.interval.open_times_ms(span)))

    def _is_end_denied(self, open_ms: int) -> bool:
        """Whether REST may have told of a candle after this one: then it is not the end."""
        return any(
            isinstance(fault, WrongRows)
            and fault.trade_type == self.series.trade_type
            and 0 < fault.ahead_ms <= 24 * HOUR_MS
            and fault.until_ms > open_ms
            for fault in self.whole.faults
        )

    def _reasons(self, open_ms: int) -> set[Reason]:
        """Why it may be taken as true that there is no such candle."""
        begins_ms, ends_ms = self._life_of()
        interval = self.series.interval
        if interval.end_time_ms(open_ms) <= begins_ms or self._is_before_the_first(open_ms):
            return {Reason.NOT_LISTED, Reason.EXCHANGE_HAD_NONE}
        if open_ms >= ends_ms:
            if self._goes_on_flat or self._is_end_denied(open_ms):
                return {Reason.DELISTED, Reason.EXCHANGE_HAD_NONE}
            return {Reason.DELISTED}
        at_ms = open_ms
        while not self._exists(at_ms):
            end_ms = interval.end_time_ms(at_ms)
            if not all(self._trades(ms) for ms in range(at_ms, end_ms, 60_000)):
                # Who sees it without a status that trades, and no candle since, takes it as ended.
                return {Reason.DELISTED, Reason.EXCHANGE_HAD_NONE}
            at_ms = end_ms
        return {Reason.EXCHANGE_HAD_NONE}


def _lived_through(lives: Sequence[tuple[int, int]], end_ms: int) -> bool:
    """Whether a recorder lived at a candle's end, so long that it had heard what time it is, and
    went on for long enough to name what it lacks.
    """
    return any(from_ms + _CLEAR_MS < end_ms < to_ms - _CLEAR_MS for from_ms, to_ms in lives)
