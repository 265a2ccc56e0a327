"""Rows of many symbols for lakes: months of the published archives, each times made-up factors.

So no two symbols have the same numbers, which would compress to nothing, and all have the digits
of real candles. Where the archives are absent, the candles are made up.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.archives import archive_candles
from benchmarks.made_up import MINUTE_MS, START_MS, minutes
from kline_trio.candle import Candle, Series
from kline_trio.lake.schema import CANDLES, TIME, VALUES
from kline_trio.storage.table import BEGIN, END, schema

__all__ = ["MINUTES", "Month", "lake_table", "months", "resampled", "stored_table", "symbol_name"]

MINUTES = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360,
    "8h": 480, "12h": 720, "1d": 1_440, "3d": 4_320, "1w": 10_080, "1M": 43_200,
}  # fmt: skip
"""Of a candle, by interval; without 1s, of which no archive is at hand."""
_ARCHIVES = (
    (Series("spot", "BTCUSDT", "1m"), "BTCUSDT-1m-2023-03-*.zip"),
    (Series("usdt_futures", "AVAXUSDT", "1m"), "AVAXUSDT-1m-*.csv.gz"),
    (Series("usdt_futures", "FILUSDT", "1m"), "FILUSDT-1m-*.csv.gz"),
)
_LENGTH = 43_200
"""Minutes: 30 days."""
_PRICES = ("open", "high", "low", "close")
_QUOTE = ("quote_volume", "taker_buy_quote_asset_volume")
_MOST_DIGITS = 8

Values = dict[str, "npt.NDArray[Any]"]


@attrs.frozen
class Month:
    """A month of minutes of one symbol."""

    name: str
    values: Values
    """By column."""
    digits: Mapping[str, int]
    """How many each column has behind the point."""

    @classmethod
    def of(cls, name: str, candles: Sequence[Candle]) -> "Month":
        """Return the month of candles, which begin again at their end if they are too few."""
        columns: Values = {
            column: np.resize(np.array([getattr(one, column) for one in candles]), _LENGTH)
            for column in VALUES
        }
        digits = {column: _digits(values) for column, values in columns.items()}
        for group in (_PRICES, _QUOTE, ("volume", "taker_buy_base_asset_volume")):
            most = max(digits[column] for column in group)
            digits |= dict.fromkeys(group, most)
        return cls(name, columns, digits)

    def times(self, price: float, volume: float) -> Values:
        """Return the values of a symbol that has other prices and volumes, rounded as these."""
        found: Values = {}
        for column, values in self.values.items():
            if column == "trade_num":
                found[column] = np.ceil(values * volume).astype(np.int64)
                continue
            factor = price if column in _PRICES else volume
            factor *= price if column in _QUOTE else 1
            found[column] = np.round(values * factor, self.digits[column])
        return found


def months(data: Path) -> list[Month]:
    """Return months of real candles, or one of made-up ones if there are none."""
    klines = data / "klines"
    if not klines.is_dir():
        print(f"REAL DATA ABSENT ({klines}): the candles are made up", file=sys.stderr)
        return [Month.of("made up", minutes(0, _LENGTH))]
    return [
        Month.of(series.symbol, archive_candles(klines, series, pattern))
        for series, pattern in _ARCHIVES
    ]


def resampled(values: Values, step: int) -> Values:
    """Return longer candles, each of so many minutes; what is left at the end is dropped."""
    count = len(values["open"]) // step

    def grouped(column: str) -> "npt.NDArray[Any]":
        return values[column][: count * step].reshape(count, step)

    found: Values = {column: grouped(column).sum(axis=1) for column in VALUES}
    found["open"], found["close"] = grouped("open")[:, 0], grouped("close")[:, -1]
    found["high"], found["low"] = grouped("high").max(axis=1), grouped("low").min(axis=1)
    return found


def lake_table(
    some: Sequence[Month], symbols: int, interval: str, first: int = 0, rows: int | None = None
) -> Iterator[pa.Table]:
    """Give the rows of the lake's candles, symbol for symbol.

    Args:
      some: the values; the symbols take them in turn.
      symbols: how many.
      interval: of the candles; the market is spot.
      first: the number of the first candle, from the begin of the month on.
      rows: how many candles of each symbol; None: a month.
    """
    for number in range(symbols):
        columns = _columns(some, number, interval, first, rows)
        count = len(columns[BEGIN])
        texts = {"trade_type": "spot", "time_interval": interval, "source": "stream"}
        texts |= {"symbol": symbol_name(number), "month": _month(int(columns[BEGIN][0]))}
        for name, text in texts.items():
            columns[name] = pa.array([text] * count)
        columns["revision"] = np.zeros(count, np.int32)
        for name in (BEGIN, END):
            columns[name] = pa.array(columns[name] * 1_000).cast(TIME)
        yield pa.table([columns[name] for name in CANDLES.names], schema=CANDLES)


def stored_table(
    some: Sequence[Month], number: int, interval: str, first: int, rows: int
) -> pa.Table:  # fmt: skip
    """Return rows of one symbol as the local store has them."""
    columns = _columns(some, number, interval, first, rows)
    wanted = schema(Series("spot", symbol_name(number), interval))
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


def symbol_name(number: int) -> str:
    """Return the name of a symbol."""
    return f"S{number:04}USDT"


def _columns(
    some: Sequence[Month], number: int, interval: str, first: int, rows: int | None
) -> dict[str, Any]:
    """Return times, in milliseconds, and values of one symbol."""
    step, month = MINUTES[interval], some[number % len(some)]
    price, volume = np.random.default_rng(number).uniform(0.5, 2.0, 2)
    values = resampled(month.times(price, volume), step)
    have = len(values["open"])
    at = first + np.arange(have if rows is None else rows)
    begins = START_MS + at * step * MINUTE_MS
    columns: dict[str, Any] = {BEGIN: begins, END: begins + step * MINUTE_MS}
    for name in VALUES:
        column = values[name][at % have]
        columns[name] = column if name == "trade_num" else np.round(column, month.digits[name])
    return columns


def _month(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m}"


def _digits(values: "npt.NDArray[Any]") -> int:
    numbers = (n for n in range(_MOST_DIGITS) if (np.round(values, n) == values).all())
    return next(numbers, _MOST_DIGITS)
