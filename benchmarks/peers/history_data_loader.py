"""binance-data-loader: its processor of downloaded zip files, a Parquet file each."""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

from binance_data_loader.processor import DataProcessor

from benchmarks.peers.telling import told
from benchmarks.spent import spending


def _work(zips: Path, into: Path) -> int:
    good, bad = DataProcessor().process_zip_files(sorted(zips.glob("*/*.zip")), into, zips)
    assert not bad, bad[0]
    return sum(one["rows"] for one in good)


def main(zips: str, runs: str) -> None:
    """Measure it."""
    found = []
    for _ in range(int(runs)):
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(io.StringIO()),
            spending() as spent,
        ):
            rows = _work(Path(zips), Path(folder))
        found.append(("binance-data-loader", rows, spent, "a file a day; not durable"))
    told(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
