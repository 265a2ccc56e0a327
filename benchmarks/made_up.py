"""Candles for benchmarks: as many as are wanted, with the digits that real ones have."""

from datetime import UTC, datetime
from random import Random

import numpy as np
import pyarrow as pa

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.storage.table import BEGIN, END, table_of

__all__ = ["BTC", "MINUTE_MS", "START_MS", "made_table", "minutes", "received"]

BTC = Series("spot", "BTCUSDT", "1m")

MINUTE_MS = 60_000
START_MS = 1_706_745_600_000
"""2024-02-01 00:00 UTC: the month has 29 days."""
_BLOCK = 29 * 1_440


def minutes(first: int, count: int, seed: int = 1) -> list[Candle]:
    """A walk of prices with two digits and volumes with five, as BTCUSDT has on the spot market."""
    random = Random(seed)  # noqa: S311 - no secrets
    price = 60_000.0
    candles = []
    for minute in range(first, first + count):
        start = price
        price = round(max(1.0, price + random.uniform(-20, 20)), 2)
        volume = round(random.uniform(0, 30), 5)
        taker = round(volume * random.random(), 5)
        candles.append(
            Candle(
                open_time_ms=START_MS + minute * MINUTE_MS,
                open=start,
                high=round(max(start, price) + random.uniform(0, 9), 2),
                low=round(min(start, price) - random.uniform(0, 9), 2),
                close=price,
                volume=volume,
                quote_volume=round(volume * price, 7),
                trade_num=random.randrange(1, 3_000),
                taker_buy_base_asset_volume=taker,
                taker_buy_quote_asset_volume=round(taker * price, 7),
            )
        )
    return candles


def received(series: Series, candles: list[Candle]) -> list[ReceivedCandle]:
    """The candles as they come out of the channel."""
    moment = datetime.now(UTC)
    return [ReceivedCandle(series, candle, moment) for candle in candles]


def made_table(first: int, rows: int, series: Series = BTC) -> pa.Table:
    """So many minutes as a table: a month of values, over and over, at times that go on."""
    block = table_of(series, minutes(0, min(rows, _BLOCK)))
    whole = pa.concat_tables([block] * (rows // max(1, len(block)) + 1)).slice(0, rows)
    begins = START_MS + np.arange(first, first + rows) * MINUTE_MS
    for name, times in ((BEGIN, begins), (END, begins + MINUTE_MS)):
        at = whole.schema.get_field_index(name)
        column = pa.array(times, pa.int64()).cast(whole.schema.field(at).type)
        whole = whole.set_column(at, whole.schema.field(at), column)
    return whole
