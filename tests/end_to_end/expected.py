"""What should be stored, and what is: truths as frames, and the real data beside the project."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.stand_in_candles import Row, end_ms, replayed

__all__ = [
    "COIN",
    "ETH",
    "SPOT",
    "USDT",
    "Key",
    "Truth",
    "archive_truth",
    "expected_frame",
    "real_data",
    "stored_frame",
    "streams_toml",
]

ROOT = Path(__file__).resolve().parents[2]

Key = tuple[str, str, str]
"""Trade type, symbol, interval."""

SPOT: Key = ("spot", "BTCUSDT", "1m")
ETH: Key = ("spot", "ETHUSDT", "1m")
USDT: Key = ("usdt_futures", "ETHUSDT", "1m")
COIN: Key = ("coin_futures", "BTCUSD_PERP", "3m")

Truth = Mapping[Key, Sequence[Row]]
"""The closes of each series in the order in which they were sent."""


def streams_toml(streams: Iterable[Key]) -> str:
    """The part of a recorder.toml that names these series."""
    wanted: dict[str, dict[str, list[str]]] = {}
    for trade_type, symbol, interval in streams:
        wanted.setdefault(trade_type, {}).setdefault(interval, []).append(symbol)
    lines = []
    for trade_type, intervals in wanted.items():
        lines.append(f"[streams.{trade_type}]")
        for interval, symbols in intervals.items():
            lines.append(f"{interval} = {json.dumps(symbols, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def real_data(names: Iterable[str]) -> list[Path]:
    """Files of Binance's real data beside the project; without them the test is skipped."""
    folder = ROOT / "../shared/data"
    paths = [folder / name for name in names]
    for path in paths:
        if not path.exists():
            pytest.skip(f"REAL DATA ABSENT: {path.relative_to(ROOT)}")
    return paths


def archive_truth(paths: Sequence[Path]) -> dict[Key, list[Row]]:
    """The rows of archive files."""
    return replayed(paths)


def expected_frame(interval: str, rows: Sequence[Row]) -> pd.DataFrame:
    """The frame that a series' file should hold: of candles sent twice, what was sent last."""
    last = {row.t: row for row in rows}
    kept = [last[t] for t in sorted(last)]

    def moments(values: Sequence[int]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(pd.to_datetime(list(values), unit="ms", utc=True)).as_unit("ms")

    columns: dict[str, Any] = {"candle_begin_time": moments([row.t for row in kept])}
    for column, name in (
        ("open", "o"),
        ("high", "h"),
        ("low", "l"),
        ("close", "c"),
        ("volume", "v"),
        ("quote_volume", "q"),
        ("trade_num", "n"),
        ("taker_buy_base_asset_volume", "V"),
        ("taker_buy_quote_asset_volume", "Q"),
    ):
        values = [getattr(row, name) for row in kept]
        columns[column] = (
            pd.array(values).astype("int64") if name == "n" else list(map(float, values))
        )
    index = moments([end_ms(interval, row.t) for row in kept])
    return pd.DataFrame(columns, index=index.rename("candle_end_time"))


def stored_frame(store: Path, key: Key) -> pd.DataFrame:
    """What bare pandas reads out of a series' file."""
    trade_type, symbol, interval = key
    name = "1mo" if interval == "1M" else interval
    return pd.read_parquet(store / f"{trade_type}_{symbol}_{name}.pqt")
