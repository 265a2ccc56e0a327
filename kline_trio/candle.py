"""The vocabulary of the whole package: series, candle and source."""

import enum
import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import compress
from operator import attrgetter, gt
from typing import cast
from unicodedata import category

import attrs
import msgspec

from kline_trio.errors import ProtocolError
from kline_trio.interval import INTERVALS, Interval, Span

TRADE_TYPES = ("spot", "usdt_futures", "coin_futures")
"""The three markets, in the original design's spelling."""

_MAX_SYMBOL_LENGTH = 40
MAX_TIME_MS = 253_370_764_800_000
"""A time in the year 9999, the last year of the calendars. Later times are refused."""

NUMBERS = (
    "open", "high", "low", "close", "volume", "quote_volume",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume",
)  # fmt: skip
"""The fields of a candle that are finite and not negative. `trade_num` is not negative either."""
NOT_FINITE, NEGATIVE = "a number that is not finite", "a negative number"
PRICE_ORDER = {
    "a low above the open or the close": (("low", "open"), ("low", "close")),
    "a high below the open or the close": (("open", "high"), ("close", "high")),
}
"""The faults of a candle, each with pairs of prices: the first of a pair must not be greater."""
_PRICE_PAIRS = [(problem, *pair) for problem, pairs in PRICE_ORDER.items() for pair in pairs]
_PRICE_PROBLEMS, _LESSER_PRICES, _GREATER_PRICES = zip(*_PRICE_PAIRS, strict=True)
_lesser_prices, _greater_prices = attrgetter(*_LESSER_PRICES), attrgetter(*_GREATER_PRICES)
_numbers_of = attrgetter(*NUMBERS)
_names_of = attrgetter("trade_type", "symbol", "time_interval")

_DECIMAL = r"[0-9]{1,24}(?:\.[0-9]{1,24})?"
_EIGHT_DECIMALS = re.compile(rf"(?:{_DECIMAL} ){{7}}{_DECIMAL}", re.ASCII)
_LEAST_ROW_LENGTH = 12
_LENGTHS_MS = frozenset(one.duration_ms for one in INTERVALS.values())
_TO_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def upper_ascii(text: str) -> str:
    """Return the text with its ASCII letters in upper case, and no other character changed."""
    return text.translate(_TO_UPPER)


def check_symbol(symbol: str) -> None:
    """Refuse a text that cannot be the symbol of a series.

    Raises:
      ValueError: the text has another length, other characters or lower-case ASCII letters.
    """
    if not isinstance(symbol, str):
        raise ValueError(f"a symbol is a text, not {symbol!r:.200}")
    # Symbols can be Chinese: allow letters and digits of any script, with the marks of scripts such
    # as Thai and Hindi. Symbols become file names: allow no dot, slash or blank.
    if not 0 < len(symbol) <= _MAX_SYMBOL_LENGTH:
        raise ValueError(f"a symbol has 1 to {_MAX_SYMBOL_LENGTH} characters")
    if not all(one.isalnum() or one == "_" or category(one)[0] == "M" for one in symbol):
        raise ValueError("a symbol holds only letters, digits and _")
    if symbol != upper_ascii(symbol):
        raise ValueError("a symbol's ASCII letters are upper case")


@attrs.frozen(cache_hash=True)
class Series:
    """The candles of one symbol on one market at one interval. They sort by their three names.

    Raises:
      ValueError: a part is unknown, or the symbol could not be a file name.
    """

    trade_type: str = attrs.field(validator=attrs.validators.in_(TRADE_TYPES))
    """`spot`, `usdt_futures` or `coin_futures`."""

    symbol: str = attrs.field(validator=lambda _, __, symbol: check_symbol(symbol))
    """As in the exchange's lists: ASCII letters are upper case."""

    time_interval: str = attrs.field(validator=attrs.validators.in_(tuple(INTERVALS)))
    """The exchange's spelling: `1m` is a minute, `1M` a month."""

    @property
    def interval(self) -> Interval:
        """The interval of the candles, with its calendar."""
        return INTERVALS[self.time_interval]

    def __lt__(self, other: "Series") -> bool:
        # Not `order=True` of attrs, which takes ten times as long; thousands of series are sorted.
        return _names_of(self) < _names_of(other)

    def __str__(self) -> str:
        return f"{self.trade_type} {self.symbol}-{self.time_interval}"


class StreamedKline(msgspec.Struct):
    """The `k` object of a kline event, without unused keys (Binance docs, "Kline/Candlestick
    Streams").
    """

    t: int
    T: int
    s: str
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741 - the exchange's name
    v: str
    n: int
    x: bool
    q: str
    V: str
    Q: str


@attrs.frozen
class Candle:
    """One candle. `low <= open, close <= high`; volumes and counts are not negative.

    On coin_futures `volume` and `taker_buy_base_asset_volume` count contracts, and `quote_volume`
    and `taker_buy_quote_asset_volume` are base coin (Binance docs, COIN-M kline streams).
    """

    open_time_ms: int
    """The begin of the candle, inclusive."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trade_num: int
    taker_buy_base_asset_volume: float
    taker_buy_quote_asset_volume: float

    @classmethod
    def from_stream(cls, kline: StreamedKline, interval: Interval) -> "Candle":
        """Return the candle of a kline event's `k` object.

        Raises:
          ProtocolError: the candle is off the interval's grid or of another interval, or a number
            is malformed or contradicts another.
        """
        _check_times(kline.t, kline.T, interval)
        prices = (kline.o, kline.h, kline.l, kline.c, kline.v)
        return cls._checked(kline.t, prices, kline.n, (kline.q, kline.V, kline.Q))

    @classmethod
    def from_rest(cls, row: Sequence[object], interval: Interval) -> "Candle":
        """Return the candle of a row of a klines answer (Binance docs, "Kline/Candlestick Data").

        Raises:
          ProtocolError: the row has too few columns, is off the interval's grid or of another
            interval, or a number is malformed or contradicts another.
        """
        # Not `!=`: the exchange appends columns in later versions.
        if len(row) < _LEAST_ROW_LENGTH:
            raise ProtocolError("a row with too few columns")
        open_time_ms, close_time_ms = _whole(row[0]), _whole(row[6])
        _check_times(open_time_ms, close_time_ms, interval)
        return cls._checked(open_time_ms, row[1:6], row[8], (row[7], *row[9:11]))

    @classmethod
    def _checked(
        cls, open_time_ms: int, prices: Sequence[object], trades: object, sums: Sequence[object]
    ) -> "Candle":
        """Parse the numbers, given in the order of the fields, and check them together."""
        trade_num = _whole(trades)
        if not 0 <= trade_num < 2**63:
            raise ProtocolError("an impossible number of trades")
        open_, high, low, close, volume, quote_volume, *takers = _numbers((*prices, *sums))
        candle = cls(
            open_time_ms, open_, high, low, close, volume, quote_volume, trade_num, *takers
        )
        # Plain decimal text is neither negative nor infinite.
        problem = candle._price_problem()
        if problem is not None:
            raise ProtocolError(problem)
        return candle

    def _price_problem(self) -> str | None:
        broken = map(gt, _lesser_prices(self), _greater_prices(self))
        return next(compress(_PRICE_PROBLEMS, broken), None)

    def is_possible(self, interval: Interval) -> bool:
        """Return whether this can be a candle at all; its fields may be of any types."""
        return (
            isinstance(self.open_time_ms, int)
            and isinstance(self.trade_num, int)
            and all(isinstance(number, float) for number in _numbers_of(self))
            and 0 <= self.open_time_ms < MAX_TIME_MS
            and interval.is_open_time(self.open_time_ms)
            and all(map(math.isfinite, _numbers_of(self)))
            and min(*_numbers_of(self), self.trade_num) >= 0
            and self._price_problem() is None
        )


def _check_times(open_time_ms: int, close_time_ms: int, interval: Interval) -> None:
    if not 0 <= open_time_ms < MAX_TIME_MS or not interval.is_open_time(open_time_ms):
        raise ProtocolError("an open time off the interval's grid")
    # Not `!=`: the last candle before an outage can be shorter (BTCUSDT, 2023-03-24 12:39).
    length_ms = close_time_ms + 1 - open_time_ms
    is_inside = open_time_ms <= close_time_ms < interval.end_time_ms(open_time_ms)
    if not is_inside or (length_ms != interval.duration_ms and length_ms in _LENGTHS_MS):
        raise ProtocolError("a candle of another interval")


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ProtocolError("a time or a count that is not a whole number")
    return value


def _numbers(texts: Sequence[object]) -> Iterator[float]:
    # float() alone would take "nan", "1_000", " 7" and a megabyte of digits. One match of all eight
    # takes half the time of eight matches. A blank inside a text makes a ninth number, which does
    # not match. Any 24 digits fit into a float.
    numbers = cast("Sequence[str]", texts)
    try:
        plain = _EIGHT_DECIMALS.fullmatch(" ".join(numbers))
    except TypeError:
        plain = None
    if plain is None:
        raise ProtocolError("a number that is not plain decimal text")
    return map(float, numbers)


def within(candles: Sequence[Candle], span: Span) -> tuple[Candle, ...]:
    """Return those of the candles, which come by open time, that open in a span."""
    first, end = (
        bisect_left(candles, ms, key=attrgetter("open_time_ms"))
        for ms in (span.from_ms, span.to_ms)
    )
    return tuple(candles[first:end])


class Source(enum.StrEnum):
    """The source of a candle's values. The journal stores these words."""

    STREAM = "stream"
    REST = "rest"
    ARCHIVE = "archive"
    REPAIR = "repair"
    """REST or archive, taken by `check --repair` in place of the stored values."""

    @property
    def replaces(self) -> bool:
        """Whether this source replaces stored values. Other sources only fill gaps."""
        return self in (Source.STREAM, Source.REPAIR)


@attrs.frozen
class ReceivedCandle:
    """A closed candle on its way from a listener to the writer."""

    series: Series
    candle: Candle
    receive_time: datetime = attrs.field()
    """When the candle arrived, by the local clock, in UTC. It is a label: no decision uses it."""
    source: Source = Source.STREAM

    @receive_time.validator
    def _check_aware(self, _: object, moment: datetime) -> None:
        if moment.tzinfo is not UTC:
            raise ValueError("receive_time is in UTC")

    @property
    def trade_type(self) -> str:
        """The series' market."""
        return self.series.trade_type

    @property
    def symbol(self) -> str:
        """The series' symbol."""
        return self.series.symbol

    @property
    def time_interval(self) -> str:
        """The series' interval, in the exchange's spelling."""
        return self.series.time_interval
