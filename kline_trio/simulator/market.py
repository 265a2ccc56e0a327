"""One market of the built-in exchange: its streams, its candles, and when they close.

Nothing here knows a clock or a connection; every moment is an argument, in exchange time.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache, partial

import attrs

from kline_trio.simulator.calendar import SECOND_MS, intervals_of, next_open_ms
from kline_trio.simulator.faults import Incident, IncidentLog, Outage, Script
from kline_trio.simulator.frames import Kline, kline_event
from kline_trio.simulator.prices import Quotes, continued_hash, hash_key, mix, started_hash
from kline_trio.simulator.symbols import Listing, Notice, State, ascii_lower, listing_of

LONGEST_LATE_MS = 30_000
"""Closing frames were seen up to about 30 s late (nautilus_trader issue 1705)."""

_KLINE_STREAM = re.compile(r"(?P<symbol>[^@]+)@kline_(?P<interval>[0-9]+[a-zA-Z])")


@attrs.frozen
class Series:
    """One kline stream that this market feeds."""

    stream: str
    symbol: str
    interval: str


class Market:
    """The candles and closes of one market, a pure function of the seed.

    Args:
        script: What goes wrong in the market, and which market it is.
        seed: Decides prices, volumes and the lateness of closes.
        symbols: What is listed; names that the market would not have are left out.
        log: Where faults are noted when they strike.
    """

    def __init__(self, script: Script, seed: int, symbols: Iterable[str], log: IncidentLog) -> None:
        self.trade_type = script.trade_type
        self.script = script
        self.log = log
        named = {one: listing_of(self.trade_type, one) for one in (*symbols, *script.new_symbols)}
        self.listings: dict[str, Listing] = {
            symbol: listing for symbol, listing in named.items() if listing is not None
        }
        self.timelines = {symbol: script.timeline(one) for symbol, one in self.listings.items()}
        self._by_stream = {ascii_lower(symbol): symbol for symbol in self.listings}
        self._seed = seed
        self._quotes = cache(lambda symbol: Quotes(seed, self.listings[symbol]))
        self.closing_text = lru_cache(4_096)(self._closing_text)
        """Redundant connections get the same texts."""
        self._begun_hash = cache(partial(started_hash, seed, self.trade_type))

    def series_of(self, stream: str) -> Series | None:
        """Return the series behind a stream name, None for one that will stay silent.

        The symbol must be in lower case; upper case is acknowledged and silent
        (github.com/binance/binance-connector-java issue 24).
        """
        match = _KLINE_STREAM.fullmatch(stream)
        if match is None or match["interval"] not in intervals_of(self.trade_type):
            return None
        symbol = self._by_stream.get(match["symbol"])
        return None if symbol is None else Series(stream, symbol, match["interval"])

    def is_listed(self, symbol: str, now_ms: int) -> bool:
        """Return whether exchangeInfo has a symbol at a moment."""
        return symbol in self.listings and self.timelines[symbol].at(now_ms).status is not None

    def shown(self, now_ms: int) -> Iterator[tuple[Listing, State]]:
        """Give each symbol that exchangeInfo lists at a moment, with its state then."""
        for symbol, listing in self.listings.items():
            state = self.timelines[symbol].at(now_ms)
            if state.status is not None:
                yield listing, state

    @property
    def notices(self) -> Iterator[Notice]:
        """The events of ``!contractInfo`` about this market's symbols."""
        for timeline in self.timelines.values():
            yield from timeline.notices

    # -- candles ----------------------------------------------------------------------------

    def absence(self, symbol: str, open_ms: int, end_ms: int) -> tuple[str, int] | Outage | None:
        """Return why there is no such candle: an event's name and time, or an outage."""
        event = self.timelines[symbol].absence(open_ms, end_ms)
        return event or self.script.outage(symbol, open_ms, end_ms)

    def candle(self, symbol: str, interval: str, open_ms: int, now_ms: int) -> Kline | None:
        """Return a candle as it stands at ``now_ms``; None if there is no such candle."""
        if self.absence(symbol, open_ms, next_open_ms(interval, open_ms)) is not None:
            return None
        return self.kline(symbol, interval, open_ms, max(now_ms, open_ms + 1))

    def kline(self, symbol: str, interval: str, open_ms: int, until_ms: int | None = None) -> Kline:
        """Return a candle as it stands at ``until_ms``, exclusive; closed by default."""
        end_ms, timeline = next_open_ms(interval, open_ms), self.timelines[symbol]
        until_ms = min(timeline.ends_ms, end_ms if until_ms is None else min(until_ms, end_ms))
        # Where nothing was traded yet, or no more, the last price stays.
        from_ms = min(max(open_ms, timeline.begins_ms), timeline.ends_ms)
        traded = from_ms, max(from_ms, until_ms)
        return timeline.rounded(self._quotes(symbol).kline(interval, (open_ms, end_ms), traded))

    # -- when they are sent -----------------------------------------------------------------

    def cadence_ms(self, series: Series) -> int:
        """Return the time between two pushes of a forming candle.

        Source: Binance spot docs, web-socket-streams.md (1000 ms for ``1s``, else 2000 ms);
        USD-M and COIN-M docs, "Kline/Candlestick Streams" (250 ms).
        """
        if self.trade_type != "spot":
            return 250
        return 1_000 if series.interval == "1s" else 2_000

    def phase_ms(self, series: Series) -> int:
        """Return where in the cadence a stream is pushed, so that not all come at once."""
        return hash_key(self._seed, self.trade_type, series.stream) % self.cadence_ms(series)

    def lingers(self, series: Series, open_ms: int) -> bool:
        """Return whether an ended candle is pushed once more as forming before it closes.

        A recorded spot session of 2021-08-14 has XMRBTC so, 2.3 s after the candle's end.
        """
        return self._hash(series, open_ms, 2) % 4 == 0

    def closes_ms(self, series: Series, open_ms: int) -> tuple[int, ...]:
        """Return when closing frames of one candle are sent; without faults there is one."""
        end_ms = next_open_ms(series.interval, open_ms)
        if self.absence(series.symbol, open_ms, end_ms) is not None:
            return ()
        due_ms = end_ms + self._late_ms(series, open_ms, end_ms - open_ms)
        fault = self.script.close_fault(series.stream, open_ms)
        return (due_ms,) if fault is None else fault.dues_ms(due_ms, end_ms)

    def closed(self, series: Series, open_ms: int, nth: int) -> Kline:
        """Return the candle as its nth closing frame has it, counted from 0."""
        kline = self.kline(series.symbol, series.interval, open_ms)
        fault = self.script.close_fault(series.stream, open_ms)
        return kline if fault is None else fault.sent(kline, nth)

    def text(self, kline: Kline, event_ms: int, *, closed: bool) -> str:
        """Return the event of a candle as the market words it."""
        blanks = self.trade_type == "usdt_futures"
        return kline_event(kline, event_ms, closed=closed, blanks=blanks)

    def _closing_text(self, series: Series, open_ms: int, due_ms: int, nth: int) -> str:
        return self.text(self.closed(series, open_ms, nth), due_ms, closed=True)

    def _late_ms(self, series: Series, open_ms: int, length_ms: int) -> int:
        bits = self._hash(series, open_ms, 0)
        rare, bits = bits % 1000, bits // 1000
        if rare < 900:
            late_ms = 20 + bits % 780
        elif rare < 990:
            late_ms = SECOND_MS + bits % (4 * SECOND_MS)
        else:
            late_ms = 5 * SECOND_MS + bits % (LONGEST_LATE_MS - 5 * SECOND_MS)
        return late_ms % length_ms

    def _hash(self, series: Series, open_ms: int, salt: int) -> int:
        return mix(continued_hash(self._begun_hash(series.stream), open_ms, salt))

    def note_close(self, series: Series, open_ms: int, closes_ms: tuple[int, ...]) -> None:
        """Note the faults of a candle's close, once its end has come."""
        end_ms = next_open_ms(series.interval, open_ms)
        begins_ms = self.timelines[series.symbol].begins_ms
        if open_ms <= begins_ms < end_ms:
            self._note("NewListing", series, begins_ms, begins_ms, open_ms)
        absence = None if closes_ms else self.absence(series.symbol, open_ms, end_ms)
        if isinstance(absence, tuple):
            event, at_ms = absence
            self._note(event, series, at_ms, at_ms)
            return
        fault = absence or self.script.close_fault(series.stream, open_ms)
        if fault is not None:
            last_ms = max(closes_ms, default=end_ms)
            self._note(type(fault).__name__, series, end_ms, last_ms, open_ms)

    def note_end(self, series: Series) -> None:
        """Note that a stream ends with its symbol."""
        at_ms = self.timelines[series.symbol].ends_ms
        self._note("Delisting", series, at_ms, at_ms)

    def _note(
        self, fault: str, series: Series, from_ms: int, until_ms: int, open_ms: int | None = None
    ) -> None:
        stream = series.stream
        self.log.add(Incident(fault, self.trade_type, from_ms, until_ms, stream, open_ms))
