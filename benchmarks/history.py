"""Rows a second from the archives' daily zip files to durable Parquet, on one core.

This store works as `backfill` does, from the HTTP client's answer on: checksums, checks of every
row, files that are read back and survive a power cut, and the ledger. The limit unzips, parses and
writes, and does nothing else. The least CPU of several runs counts.
"""

import argparse
import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import attrs
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.archives import checksum_line, daily_zips
from benchmarks.filling import fill_store
from benchmarks.machine import conclude, verdict
from benchmarks.made_up import minutes
from benchmarks.neighbours import add_stores_python, ask
from benchmarks.spent import Spent, spending

__all__ = ["main"]

_LEAST_ROWS = 400_000
"""A second of CPU."""
_DAYS = 29
_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_INTEGERS = ("open_time", "close_time", "count", "ignore")
_PEERS = (
    "history_freqtrade",
    "history_nautilus",
    "history_data_loader",
    "history_bulk_downloader",
    "history_historical_data",
)


@attrs.frozen
class Rate:
    """How fast somebody was."""

    name: str
    rows: int
    cpu_seconds: float
    wall_seconds: float
    note: str = ""
    """What is left out."""


def main(arguments: list[str]) -> int:
    """Print the table; 1 if this store is slower than it may be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two series and two runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_stores_python(parser)
    options = parser.parse_args(arguments)
    series, runs = (2, 2) if options.quick else (12, 5)
    _stay_on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        zips = Path(folder) / "zips"
        rows = _make(zips, series)
        print(f"{series} series, {series * _DAYS} daily zip files, {rows:,} rows of 1m")
        print(f"{'':<24} {'rows/s of CPU':>14} {'of wall':>10} {'CPU':>8} {'wall':>8}")
        rates = [_best(name, work, zips, rows, runs) for name, work in _OURS.items()]
        for peer in _PEERS:
            rates += _peer(options.stores_python, peer, zips, rows, runs)
    # A tenth of a second of work, twice, says too little of a second of it.
    goals = [] if options.quick else [rates[0].rows / rates[0].cpu_seconds >= _LEAST_ROWS]
    print(f"this store: at least {_LEAST_ROWS:,} a second of CPU: {verdict(goals)}")
    return conclude([attrs.asdict(rate) for rate in rates], options.json, goals)


def _stay_on_one_core() -> None:
    # What is started later inherits it; other systems have no such call.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)


def _make(zips: Path, series: int) -> int:
    """Daily files with their checksums, a folder for each symbol; how many rows they hold."""
    rows = 0
    for number in range(series):
        symbol = f"S{number:02}USDT"
        candles = minutes(0, _DAYS * 1_440, seed=number)
        (zips / symbol).mkdir(parents=True)
        for name, content in daily_zips(symbol, candles):
            (zips / symbol / name).write_bytes(content)
            (zips / symbol / f"{name}.CHECKSUM").write_bytes(checksum_line(name, content))
        rows += len(candles)
    return rows


def _best(name: str, work: Callable[[Path, Path], int], zips: Path, rows: int, runs: int) -> Rate:
    spent = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=zips.parent) as folder, spending() as used:
            stored = work(zips, Path(folder))
        assert stored == rows, f"{name}: {stored} of {rows} rows"
        spent.append(used)
    return _told(name, rows, spent)


def _peer(python: Path, peer: str, zips: Path, rows: int, runs: int) -> list[Rate]:
    answer = ask(python, peer, zips, str(runs))
    if not answer.rows:
        print(f"{peer.removeprefix('history_'):<24} {answer.reason}", flush=True)
    found = []
    for row in answer.rows:
        spent = Spent()
        spent.cpu_seconds, spent.wall_seconds = row["cpu_seconds"], row["wall_seconds"]
        assert row["rows"] == rows, row
        found.append(_told(row["name"], rows, [spent], row["note"]))
    return found


def _told(name: str, rows: int, spent: list[Spent], note: str = "") -> Rate:
    cpu = min(used.cpu_seconds for used in spent)
    wall = min(used.wall_seconds for used in spent)
    print(
        f"{name:<24} {rows / cpu:>14,.0f} {rows / wall:>10,.0f} {cpu:>6.2f} s {wall:>6.2f} s"
        f"  {note}",
        flush=True,
    )
    return Rate(name, rows, cpu, wall, note)


def _unzip_parse_write(zips: Path, into: Path) -> int:
    rows = 0
    kinds = {name: pa.int64() if name in _INTEGERS else pa.float64() for name in _COLUMNS}
    for folder in sorted(zips.iterdir()):
        tables = []
        for path in sorted(folder.glob("*.zip")):
            with zipfile.ZipFile(path) as archive:
                text = archive.read(archive.namelist()[0])
            tables.append(
                pyarrow.csv.read_csv(
                    io.BytesIO(text),
                    pyarrow.csv.ReadOptions(column_names=list(_COLUMNS), use_threads=False),
                    convert_options=pyarrow.csv.ConvertOptions(column_types=kinds),
                )
            )
        whole = pa.concat_tables(tables).drop_columns(["ignore"])
        pq.write_table(
            whole,
            into / f"{folder.name}.parquet",
            compression="zstd",
            compression_level=2,
            use_dictionary=False,
            column_encoding=dict.fromkeys(_INTEGERS[:-1], "DELTA_BINARY_PACKED"),
        )
        rows += whole.num_rows
    return rows


def _pandas(zips: Path, into: Path) -> int:
    rows = 0
    for folder in sorted(zips.iterdir()):
        frames = [
            pd.read_csv(path, header=None, names=_COLUMNS) for path in sorted(folder.glob("*.zip"))
        ]
        whole = pd.concat(frames)
        for name in ("open_time", "close_time"):
            whole[name] = pd.to_datetime(whole[name], unit="ms", utc=True)
        whole.set_index("close_time").to_parquet(
            into / f"{folder.name}.parquet", compression="zstd"
        )
        rows += len(whole)
    return rows


_OURS: dict[str, Callable[[Path, Path], int]] = {
    "this store": fill_store,
    "unzip, parse, write": _unzip_parse_write,
    "pandas": _pandas,
}
