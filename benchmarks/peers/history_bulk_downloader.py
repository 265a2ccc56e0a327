"""binance-bulk-downloader: its `_download`, with `requests.get` reading local files.

It goes no further than CSV files: they are unpacked, and that is all.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from binance_bulk_downloader import downloader

from benchmarks.peers.telling import unpacking_told


class _Answer:
    """What requests gives for a GET."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def raise_for_status(self) -> None:
        """All is well."""

    def iter_content(self, chunk_size: int) -> Iterator[bytes]:
        """The content, in pieces."""
        for at in range(0, len(self._content), chunk_size):
            yield self._content[at : at + chunk_size]


class _Requests:
    """The module `requests`, as far as it is used."""

    def __init__(self, real: Any, zips: Path) -> None:  # noqa: ANN401 - a module
        self.exceptions = real.exceptions
        self._zips = zips

    def get(self, url: str) -> _Answer:
        symbol, name = url.split("/")[-3::2]
        return _Answer((self._zips / symbol / name).read_bytes())


def _work(zips: Path, into: Path) -> None:
    one = downloader.BinanceBulkDownloader(str(into), data_frequency="1m", asset="spot")
    for path in sorted(zips.glob("*/*.zip")):
        one._download(f"data/spot/daily/klines/{path.parent.name}/1m/{path.name}")


def main(zips: str, runs: str) -> None:
    """Measure it."""
    downloader.requests = _Requests(downloader.requests, Path(zips))
    unpacking_told("binance-bulk-downloader", _work, zips, runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
