"""The command `check` for a lake."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from kline_trio.commands.progress import open_progress
from kline_trio.commands.store import print_faults
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.reading.address import lake_packages
from kline_trio.reading.readable import readable

_CONFIG = Path("recorder.toml")
"""`--simulate` finds a store by its name. A comparison of a lake reads no store."""


def check_lake(url: str, options: argparse.Namespace) -> int:
    """Check a lake, or compare it with the exchange. Return 1 if anything is wrong, else 0.

    Raises:
      ConfigError: there is no such lake, or an option is for stores.
      LakeError: the lake cannot be read.
    """
    if options.repair:
        hint = "repair on a recorder, which then publishes what was repaired"
        raise ConfigError([f"{url}: a lake cannot be repaired: {hint}"])
    if options.manifest is not None:
        raise ConfigError([f"{url}: --manifest is for files of this machine, and not for a lake"])
    with lake_packages():
        return _compare(url, options) if options.against else _check(url, options)


def _check(url: str, options: argparse.Namespace) -> int:
    if options.simulate:
        raise ConfigError([f"{url}: for a lake, --simulate is for comparing: add --against rest"])
    from kline_trio.lake.check import check
    from kline_trio.lake.reader import ReadableLake

    total: Counter[str] = Counter()
    with open_progress() as progress:
        lake = ReadableLake.open(url)
        lake.check()
        for file in check(lake.location, progress.show):
            if file.faults:
                with progress.hidden():
                    print_faults(file, sys.stdout)
            total.update(faults=len(file.faults), rows=file.rows, bytes=file.size_bytes)
            total["files"] += file.series is None
    verdict = counted(total["faults"], "fault") if total["faults"] else "all good"
    files, rows, size = (counted(total[f"{one}s"], one) for one in ("file", "row", "byte"))
    print(f"checked {files}, {rows}, {size}: {verdict}")
    return 1 if total["faults"] else 0


def _compare(url: str, options: argparse.Namespace) -> int:
    from kline_trio.commands.verify import compare

    lake = readable(url)
    ends_ms = lake.last_end_ms()
    if not ends_ms:
        raise ConfigError([f"{lake.name}: the lake has no candles: nothing is compared"])
    options.config = _CONFIG
    if options.simulate and options.start is None:
        # Each candle of the lake has closed by then.
        options.start = max(ends_ms.values())
    return compare(Config(streams=tuple(sorted(ends_ms))), options, lake)
