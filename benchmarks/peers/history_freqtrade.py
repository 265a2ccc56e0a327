"""freqtrade: its own parser of daily zip files, and its own store, Feather and Parquet.

`get_daily_ohlcv` is called as freqtrade calls it, with a session that reads local files.
"""

import asyncio
import sys
import tempfile
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType
from freqtrade.exchange.binance_public_data import get_daily_ohlcv

from benchmarks.peers.telling import told
from benchmarks.spent import spending


class _Answer:
    """What aiohttp gives for a GET."""

    status = 200

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> "_Answer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        return None

    async def read(self) -> bytes:
        return self._path.read_bytes()


class _Session:
    """An aiohttp session as far as it is used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, url: str) -> _Answer:
        return _Answer(self._folder / url.rsplit("/", 1)[-1])


async def _parsed(folder: Path, names: list[str]) -> pd.DataFrame:
    session: Any = _Session(folder)
    days = [date.fromisoformat(name[-len("2024-02-01") :]) for name in names]
    jobs = [get_daily_ohlcv(folder.name, "1m", CandleType.SPOT, day, session) for day in days]
    frames: list[pd.DataFrame] = await asyncio.gather(*jobs)
    return pd.concat(frames)


def _work(zips: Path, into: Path, form: str) -> int:
    handler = get_datahandler(into, form)
    rows = 0
    for folder in sorted(zips.iterdir()):
        names = sorted(path.stem for path in folder.glob("*.zip"))
        frame = asyncio.run(_parsed(folder, names))
        pair = f"{folder.name.removesuffix('USDT')}/USDT"
        handler.ohlcv_store(pair, "1m", frame, CandleType.SPOT)
        rows += len(frame)
    return rows


def main(zips: str, runs: str) -> None:
    """Measure both of its formats."""
    found = []
    for form in ("feather", "parquet"):
        for _ in range(int(runs)):
            with tempfile.TemporaryDirectory() as folder, spending() as spent:
                rows = _work(Path(zips), Path(folder), form)
            found.append((f"freqtrade, {form}", rows, spent, "6 of 11 columns; not durable"))
    told(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
