"""binance-historical-data: what it does with a daily file, with a copy in place of the download.

It goes no further than CSV files: they are unpacked, and that is all.
"""

import shutil
import sys
from datetime import date
from pathlib import Path

from binance_historical_data import BinanceDataDumper

from benchmarks.peers.telling import unpacking_told


def _work(zips: Path, into: Path) -> None:
    def copied(url: str, path: str) -> int:
        symbol, name = url.split("/")[-3::2]
        shutil.copyfile(zips / symbol / name, path)
        return 1

    one = BinanceDataDumper(str(into), asset_class="spot", data_type="klines", data_frequency="1m")
    one._download_raw_file = copied
    for folder in sorted(zips.iterdir()):
        Path(one.get_local_dir_to_data(folder.name, "daily")).mkdir(parents=True)
        for path in sorted(folder.glob("*.zip")):
            day = date.fromisoformat(path.stem[-len("2024-02-01") :])
            assert one._download_data_for_1_ticker_1_date(folder.name, day, "daily") == day


def main(zips: str, runs: str) -> None:
    """Measure it."""
    unpacking_told("binance-historical-data", _work, zips, runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
