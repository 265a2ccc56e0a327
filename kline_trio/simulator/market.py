"""One market of the built-in exchange: its streams, its candles, and when they close.

Nothing here knows a clock or a connection; every moment is an argument, in exchange time.
"""

import re
from collections.abc import Iterable, Iterator

import attrs

from kline_trio.simulator.calendar import SECOND_MS, intervals_of, next_open_ms
from kline_trio.simulator.careers import Career, Notice, State, plain_state
from kline_trio.simulator.faults import LateClose, OmitClose, Outage, RepeatClose, ReviseClose
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.listing_events import Delisting, ListingEvent, NewListing
from kline_trio.simulator.memory import Memory
from kline_trio.simulator.prices import Hash, finished, hash_key, key_hash, mix
from kline_trio.simulator.quotes import Quotes
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.script import Script
from kline_trio.simulator.symbols import NEVER_MS, Listing, ascii_lower, listing_of

__all__ = ["Closing", "Market", "Series"]

LONGEST_LATE_MS = 30_000
"""Closing frames were seen up to about 30 s late (nautilus_trader issue 1705)."""

_KLINE_STREAM = re.compile(r"(?P<symbol>[^@]+)@kline_(?P<interval>[0-9]+[a-zA-Z])")
_SHARE = 1 << 20


@attrs.frozen
class Series:
    """One kline stream that this market feeds."""

    stream: str
    symbol: str
    interval: str


@attrs.frozen
class Closing:
    """One closing frame to be sent for a candle."""

    due_ms: int
    revised_later: bool = False
    """The values are not the final ones."""


class Market:
    """The candles and closes of one market, a pure function of the seed."""

    def __init__(
        self,
        trade_type: str,
        seed: int,
        symbols: Iterable[str],
        script: Script,
        record: Record,
        omitted_close_share: float = 0.0,
    ) -> None:
        self.trade_type = trade_type
        self.script = script
        self.record = record
        self.listings: dict[str, Listing] = {}
        new = [event.symbol for event in script.listing_events if isinstance(event, NewListing)]
        for symbol in (*symbols, *new):
            listing = listing_of(trade_type, symbol)
            if listing is not None:
                self.listings[symbol] = listing
        self._careers = dict(self._lived(script.listing_events))
        self._states = {symbol: plain_state(one) for symbol, one in self.listings.items()}
        self._by_stream = {ascii_lower(symbol): symbol for symbol in self.listings}
        self._seed = seed
        self._quotes: dict[str, Quotes] = {}
        self.closing_texts = Memory[tuple[str, int, int], str](4_096)
        """Of closes, by stream, open time and due time: redundant connections get the same."""
        self._hashes: dict[str, Hash] = {}
        self._omitted = round(omitted_close_share * _SHARE)

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

    def candle(self, symbol: str, interval: str, open_ms: int, now_ms: int) -> Kline | None:
        """Return a candle as it stands now; None where nothing was traded at all."""
        if self.absence(symbol, open_ms, next_open_ms(interval, open_ms)):
            return None
        return self.kline(symbol, interval, open_ms, max(now_ms, open_ms + 1))

    def cadence_ms(self, series: Series) -> int:
        """Return the time between two pushes of a forming candle.

        Source: Binance spot docs, web-socket-streams.md (1000 ms for ``1s``, else 2000 ms);
        USD-M and COIN-M docs, "Kline/Candlestick Streams" (250 ms).
        """
        if self.trade_type != "spot":
            return 250
        return 1_000 if series.interval == "1s" else 2_000

    def phase_ms(self, series: Series) -> int:
        """Return where in the cadence a stream is pushed, so that streams do not beat as one."""
        return hash_key(self._seed, self.trade_type, series.stream) % self.cadence_ms(series)

    def kline(self, symbol: str, interval: str, open_ms: int, until_ms: int | None = None) -> Kline:
        """Return a candle as it stands at ``until_ms``, exclusive; closed by default."""
        quotes = self._quotes.get(symbol)
        if quotes is None:
            quotes = self._quotes[symbol] = Quotes(self._seed, self.listings[symbol])
        end_ms = next_open_ms(interval, open_ms)
        from_ms, until_ms = open_ms, end_ms if until_ms is None else min(until_ms, end_ms)
        career, tick = self._careers.get(symbol), 1
        if career is not None:
            tick = career.tick(open_ms)
            until_ms = min(until_ms, career.ends_ms)
            # Where nothing was traded yet, or no more, the last price stays.
            from_ms = min(max(from_ms, career.begins_ms), career.ends_ms)
        return quotes.kline(interval, (open_ms, end_ms), (from_ms, max(from_ms, until_ms)), tick)

    def closings(self, series: Series, open_ms: int) -> tuple[Closing, ...]:
        """Return the closing frames of one candle; without faults there is exactly one."""
        end_ms = next_open_ms(series.interval, open_ms)
        if self.is_out(series, open_ms):
            return ()
        due_ms = end_ms + self._late_ms(series, open_ms, end_ms - open_ms)
        fault = self.script.close_fault(series.stream, open_ms)
        match fault:
            case OmitClose():
                return ()
            case LateClose(late_ms=late_ms):
                return (Closing(end_ms + late_ms),)
            case RepeatClose(after_ms=after_ms):
                return (Closing(due_ms), Closing(due_ms + after_ms))
            case ReviseClose(after_ms=after_ms):
                return (Closing(due_ms, revised_later=True), Closing(due_ms + after_ms))
        if self._omitted and self._hash(series, open_ms, 1) % _SHARE < self._omitted:
            return ()
        return (Closing(due_ms),)

    def note_close(self, series: Series, open_ms: int, closings: tuple[Closing, ...]) -> None:
        """Put the faults of a candle's close on record, once its end has come."""
        end_ms = next_open_ms(series.interval, open_ms)
        career = self._careers.get(series.symbol)
        if career is not None and open_ms <= career.begins_ms < end_ms:
            self._note(NewListing.__name__, series, open_ms, career.begins_ms, career.begins_ms)
        out = None if closings else self.absence(series.symbol, open_ms, end_ms)
        if isinstance(out, ListingEvent):
            self._note(type(out).__name__, series, None, out.at_ms, out.at_ms)
            return
        fault = out or self.script.close_fault(series.stream, open_ms)
        if fault is not None or not closings:
            last_ms = max((closing.due_ms for closing in closings), default=end_ms)
            name = type(fault).__name__ if fault else OmitClose.__name__
            self._note(name, series, open_ms, end_ms, last_ms)

    def note_end(self, series: Series, at_ms: int) -> None:
        """Put on record that a stream ends with its symbol."""
        self._note(Delisting.__name__, series, None, at_ms, at_ms)

    def _note(
        self, fault: str, series: Series, open_ms: int | None, from_ms: int, until_ms: int
    ) -> None:
        self.record.add(
            Happened(
                fault=fault,
                trade_type=self.trade_type,
                stream=series.stream,
                open_ms=open_ms,
                from_ms=from_ms,
                until_ms=until_ms,
            )
        )

    def _lived(self, events: Iterable[ListingEvent]) -> Iterator[tuple[str, Career]]:
        by_symbol: dict[str, list[ListingEvent]] = {}
        for event in events:
            if event.symbol not in self.listings:
                raise ValueError(f"{self.trade_type} has no {event.symbol}: {event}")
            by_symbol.setdefault(event.symbol, []).append(event)
        for symbol, listing in self.listings.items():
            if symbol in by_symbol or listing.delivery_ms != NEVER_MS:
                yield symbol, Career(listing, by_symbol.get(symbol, ()))

    def absence(self, symbol: str, open_ms: int, end_ms: int) -> Outage | ListingEvent | None:
        """Return why a candle is none that anybody traded; None for one that is there."""
        career = self._careers.get(symbol)
        if career is not None:
            event = career.absence(open_ms, end_ms)
            if event is not None:
                return event
        return self.script.outage(symbol, open_ms, end_ms)

    def is_out(self, series: Series, open_ms: int) -> bool:
        """Tell whether there is no such candle."""
        end_ms = next_open_ms(series.interval, open_ms)
        return self.absence(series.symbol, open_ms, end_ms) is not None

    def career(self, symbol: str) -> Career | None:
        """Return what happens to a symbol; None if that is nothing."""
        return self._careers.get(symbol)

    def is_listed(self, symbol: str, now_ms: int) -> bool:
        """Tell whether exchangeInfo has a symbol at a moment."""
        career = self._careers.get(symbol)
        return symbol in self.listings and (career is None or career.at(now_ms).status is not None)

    def shown(self, now_ms: int) -> Iterator[tuple[Listing, State]]:
        """Give what exchangeInfo shows at a moment."""
        for symbol, listing in self.listings.items():
            career = self._careers.get(symbol)
            state = self._states[symbol] if career is None else career.at(now_ms)
            if state.status is not None:
                yield listing, state

    @property
    def notices(self) -> list[Notice]:
        """What ``!contractInfo`` tells of this market's symbols, by time."""
        found = [notice for career in self._careers.values() for notice in career.notices]
        return sorted(found, key=lambda notice: notice.due_ms)

    def lingers(self, series: Series, open_ms: int) -> bool:
        """Tell whether an ended candle is pushed once more as forming before it closes.

        A recorded spot session of 2021-08-14 has XMRBTC so, 2.3 s after the candle's end.
        """
        return self._hash(series, open_ms, 2) % 4 == 0

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
        begun = self._hashes.get(series.stream)
        if begun is None:
            begun = key_hash(self._seed, self.trade_type, series.stream)
            self._hashes[series.stream] = begun
        return mix(finished(begun, open_ms, salt))
