"""Made-up trading: a pure function of seed, symbol and time, in exact integers.

A minute is the grain.  What a minute holds comes from hashes of its number, so a month of them is
one pass of numpy; where inside the minute each trade falls is a closed form, so the candle as it
stands at any moment costs a few microseconds.  Everything is a whole number of ticks, lots or
trades: one-minute candles sum to longer ones exactly, and no floating point can differ between
machines or between one call and the next.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kline_trio.simulator.calendar import MINUTE_MS, SECOND_MS
from kline_trio.simulator.frames import Kline, decimal_text
from kline_trio.simulator.symbols import Listing

_Ints = NDArray[np.int64]
_T = TypeVar("_T", int, _Ints)
Hash = hashlib.blake2b

_MASK = (1 << 64) - 1
_WAVES = ((20_160, 150_000), (1_440, 30_000), (60, 5_000), (7, 800), (1, 300))
"""Period in minutes and amplitude in millionths of each part of the price's wandering."""
_BLOCK = 120
"""Minutes computed at once: fewer take as long, more take memory."""
_BLOCKS_KEPT = 4
"""For each symbol: the blocks of the newest closes, and those that REST requests read. They take up
to 46 kB."""
_FEW_MINUTES = 15
_GOES_ON_FOR = 60
"""A sum continues an older sum if at most this many minutes lie between."""
_RUNS_KEPT = 32
"""Two for each interval."""


def hash_key(*parts: object) -> int:
    """Return 64 bits that depend on the text of all parts; the same in every process."""
    return int.from_bytes(started_hash(*parts).digest(), "little")


def started_hash(*parts: object) -> Hash:
    """Return the hash of `hash_key`, to go on from where more parts are to follow."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8)


def continued_hash(begun: Hash, *parts: int) -> int:
    """Return the `hash_key` of the parts that ``begun`` has and of these."""
    whole = begun.copy()
    for part in parts:
        whole.update(b"\x1f%d" % part)
    return int.from_bytes(whole.digest(), "little")


def mix(value: int) -> int:
    """Scramble 64 bits (the finisher of splitmix64, public domain, Sebastiano Vigna)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Figures(NamedTuple):
    """What was traded in a span: prices in ticks, volumes in lots, turnover in its own units.

    A tuple and not an attrs class: thousands a second are made and added.
    """

    open: int
    close: int
    high: int
    low: int
    volume: int
    turnover: int
    """Ticks times lots; on COIN-M hundred-millionths of a coin."""
    taker_volume: int
    taker_turnover: int
    trades: int
    first_trade: int
    """Number of the first trade, or of the next one to come where there is none."""

    def then(self, later: "Figures") -> "Figures":
        """Return the figures of this span and the one that follows it."""
        return Figures(
            self.open,
            later.close,
            max(self.high, later.high),
            min(self.low, later.low),
            self.volume + later.volume,
            self.turnover + later.turnover,
            self.taker_volume + later.taker_volume,
            self.taker_turnover + later.taker_turnover,
            self.trades + later.trades,
            self.first_trade,
        )


class _Minute(NamedTuple):
    whole: Figures
    average: int
    """Price at which the whole minute's volume is turned over, in ticks."""
    low_first: int
    """1 if the price turns at its low first, 0 if at its high."""


class Tape:
    """All trading of one symbol, for all time.

    Recently used minutes and running sums are cached; they never change the results.
    """

    def __init__(self, seed: int, listing: Listing) -> None:
        self.listing = listing
        key = hash_key(seed, listing.trade_type, listing.symbol)
        self._keys = [mix(key + salt) for salt in range(16)]
        self._block = lru_cache(_BLOCKS_KEPT)(self._computed_block)
        self._minute = lru_cache(2)(self._read_minute)
        self._runs: dict[int, tuple[int, Figures]] = {}
        """By first minute, least recently used first: the minute reached, and the sum up to it."""
        # coins x 10^8 that one contract is worth at a price of one tick
        self._contract = listing.contract_usd * 10 ** (8 + listing.price_decimals)

    def figures(self, open_ms: int, until_ms: int) -> Figures:
        """Return what was traded from ``open_ms`` (inclusive) to ``until_ms`` (exclusive).

        Args:
            open_ms: Any moment.
            until_ms: The same, or one after it.
        """
        first, head_ms = divmod(open_ms, MINUTE_MS)
        last, tail_ms = divmod(until_ms, MINUTE_MS)
        if first == last or (last == first + 1 and not tail_ms):
            return self._within(first, head_ms, until_ms - first * MINUTE_MS)
        if head_ms:
            rest = self.figures((first + 1) * MINUTE_MS, until_ms)
            return self._within(first, head_ms, MINUTE_MS).then(rest)
        whole = self._whole(first, last)
        return whole.then(self._within(last, 0, tail_ms)) if tail_ms else whole

    def _whole(self, first: int, last: int) -> Figures:
        """Add up the minutes from ``first`` to before ``last``, going on from the last sum."""
        reached, total = self._runs.get(first) or (last + 1, None)
        if total is None or not reached <= last <= reached + _GOES_ON_FOR:
            # A few minutes are added up one by one: their block is worked out once for all of it.
            few = last - first <= _FEW_MINUTES
            reached = first + 1 if few else last
            total = self._within(first, 0, MINUTE_MS) if few else self._sum(first, last)
        for minute in range(reached, last):
            total = total.then(self._within(minute, 0, MINUTE_MS))
        self._runs.pop(first, None)
        self._runs[first] = last, total
        if len(self._runs) > _RUNS_KEPT:
            del self._runs[next(iter(self._runs))]
        return total

    def _sum(self, first: int, last: int) -> Figures:
        columns = self._columns(first, last - first)
        added = ("volume", "turnover", "taker_volume", "taker_turnover", "trades")
        return Figures(
            open=int(columns["open"][0]),
            close=int(columns["close"][-1]),
            high=int(columns["high"].max()),
            low=int(columns["low"].min()),
            first_trade=int(columns["first_trade"][0]),
            **{name: int(columns[name].sum()) for name in added},
        )

    def _read_minute(self, number: int) -> _Minute:
        place, index = divmod(number, _BLOCK)
        *whole, average, low_first = self._block(place)[index].tolist()
        return _Minute(Figures(*whole), average, low_first)

    def _computed_block(self, place: int) -> _Ints:
        columns = self._columns(place * _BLOCK, _BLOCK)
        return np.column_stack(
            [columns[name] for name in (*Figures._fields, "average", "low_first")]
        )

    # -- inside one minute ------------------------------------------------------------------

    def _within(self, number: int, from_ms: int, to_ms: int) -> Figures:
        """Return the figures of a part of one minute, offsets in milliseconds."""
        minute = self._minute(number)
        whole, average = minute.whole, minute.average
        if not from_ms and to_ms == MINUTE_MS:
            return whole
        start, end = (self._trades_before(number, whole.trades, ms) for ms in (from_ms, to_ms))
        if start == end:
            # the last price, however long ago its trade was
            price = (
                self._price(minute, start - 1) if start else self._minute(number - 1).whole.close
            )
            return Figures(price, price, price, price, 0, 0, 0, 0, 0, whole.first_trade + start)
        opened, closed = self._price(minute, start), self._price(minute, end - 1)
        seen = [opened, closed]
        if whole.trades > 3:
            turns = (whole.trades // 3, 2 * whole.trades // 3)
            seen += [self._price(minute, turn) for turn in turns if start <= turn < end]
        old, old_taker = self._volumes(whole, start)
        new, new_taker = self._volumes(whole, end)
        return Figures(
            opened,
            closed,
            max(seen),
            min(seen),
            new - old,
            self._turnover(new, average) - self._turnover(old, average),
            new_taker - old_taker,
            self._turnover(new_taker, average) - self._turnover(old_taker, average),
            end - start,
            whole.first_trade + start,
        )

    def _turnover(self, volume: _T, average: _T) -> _T:
        return volume * self._contract // average if self._contract else volume * average

    def _trades_before(self, number: int, trades: int, offset_ms: int) -> int:
        """Count a minute's trades in its first ``offset_ms``; never falls as time goes on."""
        if offset_ms >= MINUTE_MS:
            return trades
        second, part_ms = divmod(offset_ms, SECOND_MS)
        here = self._pace(number, second)
        pace = here * SECOND_MS + (self._pace(number, second + 1) - here) * part_ms
        return trades * pace // (60 * 1024 * SECOND_MS)

    def _pace(self, number: int, second: int) -> int:
        jitter = mix(self._keys[0] + number * 60 + second) & 1023 if 0 < second < 60 else 0
        return second * 1024 + jitter

    def _price(self, minute: _Minute, index: int) -> int:
        """Return the price of the minute's trade ``index``: open, two turning points, close."""
        whole = minute.whole
        last = whole.trades - 1
        if last < 3:
            return whole.close if index and index == last else whole.open
        first_turn, second_turn = whole.trades // 3, 2 * whole.trades // 3
        turns = (whole.low, whole.high) if minute.low_first else (whole.high, whole.low)
        if index < first_turn:
            left, right, start, end = 0, first_turn, whole.open, turns[0]
        elif index < second_turn:
            left, right, start, end = first_turn, second_turn, *turns
        else:
            left, right, start, end = second_turn, last, turns[1], whole.close
        return start + (end - start) * (index - left) // (right - left)

    def _volumes(self, whole: Figures, trades: int) -> tuple[int, int]:
        """Return volume and taker volume of the first ``trades`` trades of a minute."""
        taker, maker = whole.taker_volume, whole.volume - whole.taker_volume
        if not 0 < trades < whole.trades:
            return (whole.volume, taker) if trades else (0, 0)
        bits = mix(self._keys[1] + whole.first_trade + trades)
        parts = whole.trades * 1024
        taker = taker * (trades * 1024 + (bits & 1023)) // parts
        maker = maker * (trades * 1024 + (bits >> 10 & 1023)) // parts
        return taker + maker, taker

    # -- many minutes at once ---------------------------------------------------------------

    def _columns(self, first: int, count: int) -> dict[str, _Ints]:
        """Return ``count`` minutes as columns; those without trades are flat."""
        columns = self._traded(first, count)
        traded = columns["trades"] > 0
        if not traded.all():
            held = np.maximum.accumulate(np.where(traded, np.arange(count), -1))
            before = self._last_trade_before(first) if held[0] < 0 else 0
            flat = np.where(held < 0, before, columns["close"][held])
            for name in ("open", "close", "high", "low", "average"):
                columns[name] = np.where(traded, columns[name], flat)
        return columns

    def _last_trade_before(self, minute: int) -> int:
        while True:
            columns = self._traded(minute - 256, 256)
            traded = np.flatnonzero(columns["trades"])
            if traded.size:
                return int(columns["close"][traded[-1]])
            minute -= 256

    def _traded(self, first: int, count: int) -> dict[str, _Ints]:
        listing = self.listing
        numbers = np.arange(first, first + count + 1, dtype=np.int64)
        level = self._levels(numbers)
        counter = (numbers * 1024 + self._bits(2, numbers, 1023)) * listing.trades_per_1000_minutes
        counter //= 1024 * 1000
        numbers, opened = numbers[:-1], level[:-1] + self._bits(3, numbers[:-1], 3) - 1
        trades = np.diff(counter)
        # one trade alone has one price, and a quiet symbol must not stand still for ever
        closed = np.where(trades > 1, level[1:], opened)
        wick = listing.level_ticks * (trades > 3)
        high = np.maximum(opened, closed) + wick * self._bits(4, numbers, 511) // 1_000_000
        low = np.minimum(opened, closed) - wick * self._bits(5, numbers, 511) // 1_000_000
        size = listing.lots_per_trade * self._bits(6, numbers, 1023) // 512
        volume = trades + trades * size
        taker_volume = volume * (256 + self._bits(7, numbers, 511)) // 1024
        average = (opened + closed + high + low) // 4
        return {
            "first_trade": counter[:-1],
            "trades": trades,
            "open": opened,
            "close": closed,
            "high": high,
            "low": low,
            "volume": volume,
            "turnover": self._turnover(volume, average),
            "taker_volume": taker_volume,
            "taker_turnover": self._turnover(taker_volume, average),
            "average": average,
            "low_first": self._bits(8, numbers, 1),
        }

    def _levels(self, numbers: _Ints) -> _Ints:
        """Return the wandering price at the start of each minute, in ticks."""
        wiggle = np.zeros(len(numbers), dtype=np.int64)
        for salt, (period, amplitude) in enumerate(_WAVES, 9):
            node, phase = np.divmod(numbers, period)
            left = self._bits(salt, node, 1023) - 512
            right = self._bits(salt, node + 1, 1023) - 512
            wiggle += amplitude * ((left * (period - phase) + right * phase) // period) // 512
        return self.listing.level_ticks * (1_000_000 + wiggle) // 1_000_000

    def _bits(self, salt: int, numbers: _Ints, mask: int) -> _Ints:
        """Hash each number to a whole number from 0 to ``mask``."""
        value = numbers.astype(np.uint64) + np.uint64(self._keys[salt])
        value += np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((value ^ (value >> np.uint64(31))) & np.uint64(mask)).astype(np.int64)


class Quotes:
    """The trading of one symbol as candles, in its market's number format."""

    def __init__(self, seed: int, listing: Listing) -> None:
        self._symbol = listing.symbol
        self._tape = Tape(seed, listing)
        amount = listing.price_decimals + listing.lot_decimals
        if listing.trade_type == "spot":  # prints eight decimals whatever the tick
            decimals = (listing.price_decimals, listing.lot_decimals, amount)
            self._price, self._lot, self._amount = ((10 ** (8 - one), 8) for one in decimals)
        else:  # futures print what the tick and lot have
            self._price, self._lot = (1, listing.price_decimals), (1, listing.lot_decimals)
            self._amount = 1, 8 if listing.contract_usd else amount

    def kline(self, interval: str, span: tuple[int, int], traded: tuple[int, int]) -> Kline:
        """Return a candle.

        Args:
            interval: Its interval.
            span: When it opens, and when the next one does.
            traded: From when, inclusive, to when, exclusive, its trades count; from a moment to
                the same one there is none, and the candle is flat at the last price before it.
        """
        figures = self._tape.figures(*traded)
        trades = figures.trades
        price, digits = self._price
        lot, lot_digits = self._lot
        amount, amount_digits = self._amount
        return Kline(
            symbol=self._symbol,
            interval=interval,
            open_time_ms=span[0],
            close_time_ms=span[1] - 1,
            first_trade_id=figures.first_trade if trades else -1,
            last_trade_id=figures.first_trade + trades - 1 if trades else -1,
            open=decimal_text(figures.open * price, digits),
            close=decimal_text(figures.close * price, digits),
            high=decimal_text(figures.high * price, digits),
            low=decimal_text(figures.low * price, digits),
            volume=decimal_text(figures.volume * lot, lot_digits),
            trade_num=trades,
            quote_volume=decimal_text(figures.turnover * amount, amount_digits),
            taker_buy_volume=decimal_text(figures.taker_volume * lot, lot_digits),
            taker_buy_quote_volume=decimal_text(figures.taker_turnover * amount, amount_digits),
        )
