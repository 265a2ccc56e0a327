"""The published archives: real files as rows, and daily zip files made of made-up candles."""

import csv
import gzip
import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from kline_trio.candle import Candle, Series

__all__ = ["DATA", "archive_candles", "archive_paths", "checksum_line", "daily_zips"]

DATA = Path(__file__).parents[1] / "../shared/data"
"""Where real archives are looked for."""

_MICROSECONDS = 10**14
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000


def archive_paths(klines: Path, series: Series, pattern: str) -> list[Path]:
    """The series' files, in the order of time.

    Raises:
      FileNotFoundError: there are none.
    """
    paths = sorted((klines / series.trade_type).glob(pattern))
    if not paths:
        raise FileNotFoundError(f"no {pattern} in {klines / series.trade_type}")
    return paths


def archive_candles(klines: Path, series: Series, pattern: str) -> list[Candle]:
    """The rows of the series' files, in the order of time.

    Raises:
      FileNotFoundError: there are none.
    """
    paths = archive_paths(klines, series, pattern)
    return [_candle(row) for path in paths for row in _rows(path)]


def _rows(path: Path) -> list[list[str]]:
    if path.suffix == ".json":
        # The last row of an answer is the candle still forming.
        return [[str(cell) for cell in row] for row in json.loads(path.read_bytes())[:-1]]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = "".join(archive.read(name).decode() for name in archive.namelist())
    else:
        text = gzip.decompress(path.read_bytes()).decode()
    return [row for row in csv.reader(text.splitlines()) if row and row[0].isdigit()]


def _candle(row: list[str]) -> Candle:
    opened_ms = int(row[0])
    return Candle(
        open_time_ms=opened_ms // 1000 if opened_ms >= _MICROSECONDS else opened_ms,
        open=float(row[1]),
        high=float(row[2]),
        low=float(row[3]),
        close=float(row[4]),
        volume=float(row[5]),
        quote_volume=float(row[7]),
        trade_num=int(row[8]),
        taker_buy_base_asset_volume=float(row[9]),
        taker_buy_quote_asset_volume=float(row[10]),
    )


def daily_zips(symbol: str, candles: list[Candle]) -> Iterator[tuple[str, bytes]]:
    """The candles of whole days as spot's daily files of 1m: names and contents."""
    for day, group in itertools.groupby(candles, key=lambda candle: candle.open_time_ms // _DAY_MS):
        date = datetime.fromtimestamp(day * _DAY_MS / 1_000, UTC).date().isoformat()
        name = f"{symbol}-1m-{date}"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.csv", "".join(map(_line, group)))
        yield f"{name}.zip", packed.getvalue()


def checksum_line(name: str, content: bytes) -> bytes:
    """What the CHECKSUM file beside a file says."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _line(candle: Candle) -> str:
    # Spot has eight digits behind the point in every number; times in ms until the end of 2024.
    return (
        f"{candle.open_time_ms},{candle.open:.8f},{candle.high:.8f},{candle.low:.8f},"
        f"{candle.close:.8f},{candle.volume:.8f},{candle.open_time_ms + _MINUTE_MS - 1},"
        f"{candle.quote_volume:.8f},{candle.trade_num},"
        f"{candle.taker_buy_base_asset_volume:.8f},{candle.taker_buy_quote_asset_volume:.8f},0\n"
    )
