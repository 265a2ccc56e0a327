"""Bytes a row: this store, the original design, the archive's own files, and a generous limit.

A month of 1m in one file. The archive publishes daily zip files; of some, only a month's rows in
gzip are at hand, and the last column says so. The limit takes each column as scaled integers, the
better of plain and delta, by values or by byte planes, at zstd level 19: smaller than any reader
could want it.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.archives import DATA, archive_candles, archive_paths, daily_zips
from benchmarks.machine import conclude, verdict
from benchmarks.made_up import BTC, minutes
from kline_trio.candle import Candle, Series
from kline_trio.storage.changes import Changes
from kline_trio.storage.parquet import rewrite_file
from kline_trio.storage.table import END, table_of, values_of

__all__ = ["main"]

_JUDGED = "BTCUSDT spot"
"""A month of real candles is the same on every machine, so that `--quick` judges it too."""
_MOST_BYTES = 42.0
"""A row of it."""
_CASES = {
    _JUDGED: (BTC, "BTCUSDT-1m-2023-03-*.zip"),
    "ETHUSDT spot, 10 days": (Series("spot", "ETHUSDT", "1m"), "ETHUSDT-1m-*.zip"),
    "AVAXUSDT USD-M": (Series("usdt_futures", "AVAXUSDT", "1m"), "AVAXUSDT-1m-*.csv.gz"),
    "FILUSDT USD-M": (Series("usdt_futures", "FILUSDT", "1m"), "FILUSDT-1m-*.csv.gz"),
    "BTCUSD_PERP, a day": (Series("coin_futures", "BTCUSD_PERP", "1m"), "BTCUSD_PERP-1m-*.zip"),
}
_MONTH = 29 * 1_440
_MOST_DIGITS = 10


@attrs.frozen
class Case:
    """The same candles in several forms, in bytes."""

    name: str
    rows: int
    store: int
    original: int
    archive: int
    limit: int
    archive_files: str
    """`.zip` are its own; others hold the same rows."""


@attrs.frozen
class _Given:
    """Candles, and what their archive files are."""

    name: str
    series: Series
    candles: list[Candle]
    archive_bytes: int
    archive_files: str


def main(arguments: list[str]) -> int:
    """Print the table; 1 if the store takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks size", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with klines/ in it")
    parser.add_argument("--quick", action="store_true", help="one case")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    print(
        f"{'bytes a row':<24} {'rows':>8} {'store':>7} {'original':>9} {'archive':>8} {'limit':>7}"
        "  archive files"
    )
    cases = []
    found = _inputs(options.data / "klines")
    for given in itertools.islice(found, 1 if options.quick else None):
        case = _case(given)
        cases.append(case)
        forms = (case.store, case.original, case.archive, case.limit)
        store, original, zipped, limit = (size / case.rows for size in forms)
        print(
            f"{case.name:<24} {case.rows:>8,} {store:>7.1f} {original:>9.1f} {zipped:>8.1f}"
            f" {limit:>7.1f}  {case.archive_files}",
            flush=True,
        )
    goals = [case.store <= _MOST_BYTES * case.rows for case in cases if case.name == _JUDGED]
    print(f"{_JUDGED}: at most {_MOST_BYTES:.0f} bytes a row: {verdict(goals)}")
    return conclude([attrs.asdict(case) for case in cases], options.json, goals)


def _inputs(klines: Path) -> Iterator[_Given]:
    if not klines.is_dir():
        print(f"REAL DATA ABSENT ({klines}): the candles are made up", file=sys.stderr)
        candles = minutes(0, _MONTH)
        zips = [content for _, content in daily_zips(BTC.symbol, candles)]
        yield _Given("made up, as BTCUSDT spot", BTC, candles, sum(map(len, zips)), ".zip")
        return
    for name, (series, pattern) in _CASES.items():
        paths = archive_paths(klines, series, pattern)
        candles = archive_candles(klines, series, pattern)
        size = sum(path.stat().st_size for path in paths)
        yield _Given(name, series, candles, size, "".join(PurePath(pattern).suffixes))


def _case(given: _Given) -> Case:
    table = table_of(given.series, given.candles)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        news = Changes(given.series, table, table.slice(0, 0))
        merged = rewrite_file(news, PurePosixPath("file.pqt"), folder, folder)
        original = folder / "original.pqt"
        table.to_pandas().to_parquet(original, compression="zstd")
        original_bytes = original.stat().st_size
    limit = sum(_least(values_of(table[column])) for column in table.column_names if column != END)
    return Case(
        given.name,
        table.num_rows,
        merged.size_bytes,
        original_bytes,
        given.archive_bytes,
        limit,
        given.archive_files,
    )


def _least(column: "npt.NDArray[np.float64 | np.int64]") -> int:
    """The fewest bytes of a column; the times of ends follow from those of begins."""
    numbers = _scaled(column)
    codec = pa.Codec("zstd", 19)
    forms = [numbers, np.diff(numbers, prepend=0)]
    planes = [form.view(np.uint8).reshape(-1, 8).T for form in forms]
    return min(len(codec.compress(form.tobytes(), asbytes=True)) for form in [*forms, *planes])


def _scaled(column: "npt.NDArray[np.float64 | np.int64]") -> "npt.NDArray[np.int64]":
    """The column without its decimal point, so that nothing is lost."""
    for digits in range(_MOST_DIGITS):
        numbers: npt.NDArray[np.int64] = np.rint(column * 10.0**digits).astype(np.int64)
        if (numbers / 10.0**digits == column).all():
            return numbers
    bits: npt.NDArray[np.int64] = column.view(np.int64)
    return bits
