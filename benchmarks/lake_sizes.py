"""What queries of a lake cost by the size of its files, and by the time of a partition.

The same rows are written as compaction writes them, in files of several sizes, and in partitions
of days, months, quarters and a year. Requests and bytes are those that a server of S3 in this
process answers, seconds are those of the same files in a folder, the least of several runs; each
run opens the table anew. `--picture` draws what was measured, also from the JSON of an earlier run.
"""

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.transaction import AddAction, RemoveAction

from benchmarks.archives import DATA
from benchmarks.lake_facts import environment
from benchmarks.lake_picture import picture
from benchmarks.lake_rows import MINUTES, Month, lake_table, months, symbol_name
from benchmarks.machine import conclude
from benchmarks.made_up import START_MS
from benchmarks.spent import spending
from kline_trio.lake.location import Location
from kline_trio.lake.merge import moment
from kline_trio.lake.schema import PARTITIONS
from kline_trio.lake.sorted_files import COLUMNS, write_sorted
from kline_trio.lake.tables import made_table
from kline_trio.storage.table import BEGIN, values_of
from tests.lake.memory_s3 import MemoryS3
from tests.lake.servers import Server, environment_of

__all__ = ["main"]

_MIB = 1 << 20
_TARGET_MIB = 128
_SYMBOL = symbol_name(7)
_MONTHS: Mapping[str, int] = {"day": 0, "month": 1, "quarter": 3, "year": 12}
"""Of a partition; a day has none."""


@attrs.frozen
class Case:
    """Rows, and the ways in which they are written."""

    name: str
    interval: str
    symbols: int
    days: int
    layouts: tuple[tuple[str, int], ...]
    """Partition and size of a file in MiB."""


_CASES = (
    Case("files", "1m", 120, 29, tuple(("month", size) for size in (4, 16, 64, 128))),
    Case("partitions", "5m", 60, 360, tuple((name, _TARGET_MIB) for name in _MONTHS)),
)
_QUICK = (
    Case("files", "1m", 10, 3, (("month", 1), ("month", 128))),
    Case("partitions", "5m", 10, 3, (("day", 128), ("month", 128))),
)


@attrs.frozen
class Reading:
    """What a query of one layout cost."""

    case: str
    partition: str
    target_mib: int
    files: int
    mean_mb: float
    """Of a file."""
    query: str
    reader: str
    rows: int
    requests: int
    read_mb: float
    wall_ms: float
    cpu_ms: float


@attrs.frozen
class _Query:
    name: str
    symbol: str | None
    since: datetime
    until: datetime


@attrs.frozen
class _Counting:
    """A server for all lakes: engines keep connections to the first endpoint that they see."""

    memory: MemoryS3
    bucket: str

    def take(self, place: Path) -> None:
        """Hold the files of a folder, below its name, and nothing else."""
        self.memory.objects.clear()
        for path in place.rglob("*"):
            if path.is_file():
                name = path.relative_to(place.parent)
                self.memory.add(f"{self.bucket}/{name}", path.read_bytes())


def main(arguments: list[str]) -> int:
    """Print the table; nothing is judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lake_sizes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with klines/ in it")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--picture", type=Path, metavar="SVG", help="draw what was measured")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="the JSON of an earlier run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.measured is not None:
        table = json.loads(options.measured.read_bytes())["table"]
    else:
        some = months(options.data)
        cases = _QUICK if options.quick else _CASES
        memory = MemoryS3()
        with memory.running() as endpoint:
            server = Server(endpoint)
            counting = _Counting(memory, server.bucket)
            with environment(environment_of(server)):
                table = [
                    attrs.asdict(one)
                    for case in cases
                    for one in _measured(counting, case, some, options.runs)
                ]
    if options.picture is not None:
        options.picture.write_text(picture(table), encoding="utf-8")
    return conclude(table, options.json, goals=[])


def _measured(server: _Counting, case: Case, some: Sequence[Month], runs: int) -> Iterator[Reading]:
    count = case.days * 1_440 // MINUTES[case.interval]
    symbols = [
        one.select(COLUMNS.names)
        for one in lake_table(some, case.symbols, case.interval, rows=count)
    ]
    print(
        f"{case.symbols} series of {case.interval}, {case.days} days, {case.symbols * count:,} rows"
    )
    for partition, target in case.layouts:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / f"{case.name}-{partition}-{target}"
            sizes = _write(place, case, partition, target * _MIB, symbols)
            server.take(place)
            for query in _queries(case):
                for reader, read in _READERS.items():
                    one = Reading(
                        case.name, partition, target, len(sizes), float(np.mean(sizes)) / 1e6,
                        query.name, reader, *_cost(server, place, query, read, runs),
                    )  # fmt: skip
                    print(_line(one), flush=True)
                    yield one


def _line(one: Reading) -> str:
    return (
        f"{one.partition:<8} {one.target_mib:>4} MiB {one.files:>4} of {one.mean_mb:>6.1f} MB "
        f"{one.query:<26} {one.reader:<8} {one.rows:>9,} {one.requests:>6,} requests"
        f" {one.read_mb:>8.2f} MB {one.wall_ms:>8.1f} ms {one.cpu_ms:>8.1f} ms of CPU"
    )


def _write(
    place: Path, case: Case, partition: str, target: int, symbols: Sequence[pa.Table]
) -> list[int]:
    """Write the rows into a new lake as one commit and a checkpoint; return the sizes of files."""
    location = Location(str(place))
    table = made_table(location, "candles").delta
    added: list[AddAction | RemoveAction] = []
    sizes = []
    for name, first, end in _spans(symbols[0], partition):
        values: dict[str, str | None] = {
            "trade_type": "spot", "time_interval": case.interval, "month": name,
        }  # fmt: skip
        below = "/".join(f"{key}={value}" for key, value in values.items())
        folder = place / "candles" / below
        folder.mkdir(parents=True)
        pieces = (one.slice(first, end - first) for one in symbols)
        for file in write_sorted(pieces, folder, target):
            path, size = f"{below}/{file.path.name}", file.path.stat().st_size
            now = round(time.time() * 1_000)
            sizes.append(size)
            added.append(AddAction(path, size, values, now, True, file.stats))  # noqa: FBT003
    table.create_write_transaction(
        added, mode="append", schema=table.schema(), partition_by=PARTITIONS
    )
    DeltaTable(location.table_url("candles")).create_checkpoint()
    return sizes


def _spans(table: pa.Table, partition: str) -> Iterator[tuple[str, int, int]]:
    """Give the partitions by time, each with its first row of a symbol and its end."""
    begins = values_of(table[BEGIN]).astype("datetime64[us]")
    if partition == "day":
        keys = begins.astype("datetime64[D]").astype(np.int64)
    else:
        keys = begins.astype("datetime64[M]").astype(np.int64)
        keys = (keys - keys[0]) // _MONTHS[partition]
    cuts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    for first, end in itertools.pairwise(cuts):
        # As a text it is no month for others than months; nobody asks for it by its name here.
        yield str(begins[first].astype("datetime64[D]")), first, end


def _queries(case: Case) -> list[_Query]:
    begin = datetime.fromtimestamp(START_MS / 1_000, UTC)
    end = begin + timedelta(days=case.days)
    half = begin + timedelta(days=case.days // 2)
    return [
        _Query(f"one series, {case.days} days", _SYMBOL, begin, end),
        _Query("all series, a day", None, half, half + timedelta(days=1)),
        _Query("one series, the last hour", _SYMBOL, end - timedelta(hours=1), end),
    ]


_Read = Callable[[str, _Query], int]


def _by_polars(url: str, query: _Query) -> int:
    begin = pl.col(BEGIN)
    found = pl.scan_delta(url).filter(begin >= query.since, begin < query.until)
    if query.symbol is not None:
        found = found.filter(pl.col("symbol") == query.symbol)
    return len(found.collect())


def _by_deltalake(url: str, query: _Query) -> int:
    """As DuckDB has them from deltalake's stream."""
    where = f"{BEGIN} >= {moment(query.since)} AND {BEGIN} < {moment(query.until)}"
    where += f" AND symbol = '{query.symbol}'" if query.symbol is not None else ""
    rows = QueryBuilder().register("candles", DeltaTable(url))
    found: Any = rows.execute(f"SELECT * FROM candles WHERE {where}")  # noqa: S608
    return int(pa.RecordBatchReader.from_stream(found).read_all().num_rows)


_READERS: dict[str, _Read] = {"Polars": _by_polars, "DuckDB": _by_deltalake}


def _cost(
    server: _Counting, place: Path, query: _Query, read: _Read, runs: int
) -> tuple[int, int, float, float, float]:
    wall = cpu = math.inf
    rows = 0
    for _ in range(runs):
        with spending() as spent:
            rows = read(str(place / "candles"), query)
        wall, cpu = min(wall, spent.wall_seconds), min(cpu, spent.cpu_seconds)
    server.memory.answered.clear()
    assert read(f"s3://{server.bucket}/{place.name}/candles", query) == rows
    answered = server.memory.answered
    size = sum(one.size for one in answered if one.method != "HEAD") / 1e6
    return rows, len(answered), size, wall * 1e3, cpu * 1e3
