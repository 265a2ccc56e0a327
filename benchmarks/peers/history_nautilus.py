"""nautilus_trader: a frame of each symbol's zip files, its wrangler, and its Parquet catalog."""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.persistence.wranglers import BarDataWrangler

from benchmarks.peers.nautilus_bars import instrument
from benchmarks.peers.telling import told
from benchmarks.spent import spending

_COLUMNS = ["timestamp", "open", "high", "low", "close", "volume"]


def _work(zips: Path, into: Path) -> int:
    catalog = ParquetDataCatalog(str(into))
    rows = 0
    for folder in sorted(zips.iterdir()):
        frames = [
            pd.read_csv(path, header=None, usecols=range(6), names=_COLUMNS)
            for path in sorted(folder.glob("*.zip"))
        ]
        frame = pd.concat(frames)
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
        one, kind = instrument(folder.name)
        bars = BarDataWrangler(kind, one).process(frame.set_index("timestamp"))
        catalog.write_data(bars)
        rows += len(bars)
    return rows


def main(zips: str, runs: str) -> None:
    """Measure it."""
    found = []
    for _ in range(int(runs)):
        with tempfile.TemporaryDirectory() as folder, spending() as spent:
            rows = _work(Path(zips), Path(folder))
        found.append(("nautilus_trader", rows, spent, "6 of 11 columns; not durable"))
    told(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
