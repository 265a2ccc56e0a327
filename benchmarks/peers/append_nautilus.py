"""nautilus_trader: its Parquet catalog, to which each write adds a file.

`consolidate_data` makes one of them; here after each hour, as this store merges at the latest.
"""

import sys
import tempfile

import pandas as pd
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.persistence.wranglers import BarDataWrangler

from benchmarks.peers.nautilus_bars import instrument
from benchmarks.peers.telling import costs_told
from benchmarks.spent import Spent, spending

_HOUR = 60
_AT_ONCE = 100_000


def _bars(history: str) -> tuple[list[Bar], BarType]:
    columns = ["open", "high", "low", "close", "volume"]
    whole = pd.read_parquet(history, columns=columns)
    # A frame of one block gives a read-only array, which the wrangler refuses.
    frame = pd.DataFrame(
        {name: whole[name].to_numpy() for name in columns}, whole.index, copy=False
    )
    pair, kind = instrument("BTCUSDT")
    return BarDataWrangler(kind, pair).process(frame), kind


def _catalog(folder: str, bars: list[Bar], kind: BarType) -> ParquetDataCatalog:
    catalog = ParquetDataCatalog(folder)
    for at in range(0, len(bars), _AT_ONCE):
        catalog.write_data(bars[at : at + _AT_ONCE])
    _consolidate(catalog, kind)
    return catalog


def _consolidate(catalog: ParquetDataCatalog, kind: BarType) -> None:
    # Files are named by the times of their bars, which are a minute apart: not contiguous.
    catalog.consolidate_data(Bar, identifier=str(kind), ensure_contiguous_files=False)


def _measured(bars: list[Bar], kind: BarType, *, consolidates: bool) -> Spent:
    with tempfile.TemporaryDirectory() as folder:
        catalog = _catalog(folder, bars[:-_HOUR], kind)
        with spending() as spent:
            for bar in bars[-_HOUR:]:
                catalog.write_data([bar])
            if consolidates:
                _consolidate(catalog, kind)
    return spent


def main(history: str, _: str) -> None:
    """Measure an hour, without and with a consolidation at its end."""
    bars, kind = _bars(history)
    found = []
    for consolidates, name in ((False, "nautilus, a file each"), (True, "nautilus, one file")):
        spent = _measured(bars, kind, consolidates=consolidates)
        found.append((name, _HOUR, spent, 60.0 if consolidates else 1.0))
    costs_told(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
