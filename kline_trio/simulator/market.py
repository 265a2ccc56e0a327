"""One market of the built-in exchange: its streams, its candles, and when they close.

Nothing here knows a clock or a connection; every moment is an argument, in exchange time.
"""

import re
from collections.abc import Iterable

import attrs

from kline_trio.simulator.calendar import SECOND_MS, intervals_of, next_open_ms
from kline_trio.simulator.faults import LateClose, OmitClose, RepeatClose, ReviseClose
from kline_trio.simulator.frames import Kline, decimal_text
from kline_trio.simulator.prices import Tape, hash_key, mix
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.script import Script
from kline_trio.simulator.symbols import Listing, ascii_lower, listing_of

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
        for symbol in symbols:
            listing = listing_of(trade_type, symbol)
            if listing is not None:
                self.listings[symbol] = listing
        self._by_stream = {ascii_lower(symbol): symbol for symbol in self.listings}
        self._seed = seed
        self._tapes: dict[str, Tape] = {}
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
        if self.script.outage(symbol, open_ms, next_open_ms(interval, open_ms)):
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
        listing = self.listings[symbol]
        tape = self._tapes.get(symbol)
        if tape is None:
            tape = self._tapes[symbol] = Tape(self._seed, listing)
        end_ms = next_open_ms(interval, open_ms)
        figures = tape.figures(open_ms, end_ms if until_ms is None else min(until_ms, end_ms))
        # spot prints eight decimals whatever the tick; futures print what the tick and lot have
        spot = self.trade_type == "spot"
        ticks = 10 ** (8 - listing.price_decimals) if spot else 1
        lots = 10 ** (8 - listing.lot_decimals) if spot else 1
        amount = listing.price_decimals + listing.lot_decimals
        amounts = 10 ** (8 - amount) if spot else 1
        price_digits = 8 if spot else listing.price_decimals
        lot_digits = 8 if spot else listing.lot_decimals
        amount_digits = 8 if spot or listing.contract_usd else amount
        first = figures.first_trade if figures.trades else -1
        return Kline(
            symbol=symbol,
            interval=interval,
            open_time_ms=open_ms,
            close_time_ms=end_ms - 1,
            first_trade_id=first,
            last_trade_id=first + figures.trades - 1 if figures.trades else -1,
            open=decimal_text(figures.open * ticks, price_digits),
            close=decimal_text(figures.close * ticks, price_digits),
            high=decimal_text(figures.high * ticks, price_digits),
            low=decimal_text(figures.low * ticks, price_digits),
            volume=decimal_text(figures.volume * lots, lot_digits),
            trade_num=figures.trades,
            quote_volume=decimal_text(figures.turnover * amounts, amount_digits),
            taker_buy_volume=decimal_text(figures.taker_volume * lots, lot_digits),
            taker_buy_quote_volume=decimal_text(figures.taker_turnover * amounts, amount_digits),
        )

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
        fault = self.script.outage(series.symbol, open_ms, end_ms) or self.script.close_fault(
            series.stream, open_ms
        )
        if fault is None and closings:
            return
        self.record.add(
            Happened(
                fault=type(fault).__name__ if fault else OmitClose.__name__,
                trade_type=self.trade_type,
                stream=series.stream,
                open_ms=open_ms,
                from_ms=next_open_ms(series.interval, open_ms),
                until_ms=max(
                    (closing.due_ms for closing in closings),
                    default=next_open_ms(series.interval, open_ms),
                ),
            )
        )

    def is_out(self, series: Series, open_ms: int) -> bool:
        """Tell whether a candle lies in an outage whole."""
        end_ms = next_open_ms(series.interval, open_ms)
        return self.script.outage(series.symbol, open_ms, end_ms) is not None

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
        return mix(hash_key(self._seed, self.trade_type, series.stream, open_ms, salt))


def first_version(kline: Kline) -> Kline:
    """Return a candle with other values, each lawful in itself, as it stood before a revision."""
    return attrs.evolve(kline, close=kline.open, trade_num=kline.trade_num + 1)
