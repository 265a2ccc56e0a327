"""Rows of the lake's candles, made by hand for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from kline_trio.lake.schema import CANDLES, VALUES
from kline_trio.storage.table import BEGIN, END

START = datetime(2026, 10, 1, tzinfo=UTC)


def row(
    symbol: str,
    begin: datetime,
    *,
    close: float = 1.0,
    source: str = "stream",
    revision: int = 0,
    interval: str = "1m",
) -> dict[str, object]:
    """Return a row; all values but `close` are 1."""
    values: dict[str, object] = dict.fromkeys(VALUES, 1.0)
    return {
        "trade_type": "spot", "symbol": symbol, "time_interval": interval,
        "month": f"{begin:%Y-%m}", BEGIN: begin, **values, "trade_num": 1, "close": close,
        END: begin + timedelta(minutes=1), "source": source, "revision": revision,
    }  # fmt: skip


def table_of(rows: Sequence[dict[str, object]]) -> pa.Table:
    """Return rows as a table of the lake."""
    return pa.Table.from_pylist(list(rows), schema=CANDLES)


def minutes(symbols: Sequence[str], start: datetime, count: int) -> pa.Table:
    """Return so many minutes of each symbol, by symbol and time; each close is another."""
    rows = [
        row(symbol, start + timedelta(minutes=n), close=float(n + 1_000 * place))
        for place, symbol in enumerate(symbols)
        for n in range(count)
    ]
    return table_of(rows)
