"""Counts what a lake costs: bytes of rows and files, and requests of each kind of work.

A recorder's publisher runs its child process as it always does, onto a server of S3 in this
process, which notes each request. Bytes of rows are those of files that compaction's own writer
makes, and for the local store those of its files.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import trio

from benchmarks.lake_rows import MINUTES, Month, lake_table, stored_table, symbol_name
from benchmarks.lake_years import Facts, Requests
from benchmarks.made_up import START_MS
from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.interval import Span
from kline_trio.lake.compaction_plan import TARGET_BYTES
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.plan import MOST_ROWS
from kline_trio.lake.proof import require_conditions
from kline_trio.lake.sorted_files import COLUMNS, write_sorted
from kline_trio.lake.upkeep import compact
from kline_trio.lake.vacuum import vacuum
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.publisher import Publisher
from kline_trio.storage.changes import Changes
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import rewrite_file
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, values_of
from tests.lake.memory_s3 import Answered, MemoryS3
from tests.lake.servers import Server, environment_of, location_of

__all__ = ["Sizes", "counted_facts", "environment", "requests_of"]

_CYCLE = 20
"""Publications between two checkpoints of the log: the mean of a cycle counts."""
_HOURLY = ("1m", "3m", "5m", "15m", "30m", "1h")
"""Intervals that close each hour."""
_HOUR_MS = 3_600_000
_LATER_SECONDS = 40 * 86_400
_MOST_STORE_ROWS = 40_000
_TEN_YEARS_MINUTES = 3_652 * 1_440


@attrs.frozen
class Sizes:
    """How much is measured."""

    rows: int
    """Of an interval, for bytes of a row."""
    most_symbols: int
    commits: int
    """Full ones."""
    cycle: int = _CYCLE


def requests_of(answered: Sequence[Answered]) -> Requests:
    """Count requests by the classes of price lists."""
    deletes = sum(one.method == "DELETE" or one.is_delete for one in answered)
    reads = sum(one.method in ("GET", "HEAD") and not one.is_list for one in answered)
    return Requests(len(answered) - deletes - reads, reads, deletes)


def counted_facts(some: Sequence[Month], sizes: Sizes) -> Facts:
    """Measure and count everything; it takes minutes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        row_bytes = {name: _row_bytes(some, name, sizes, path) for name in MINUTES}
        store_bytes = {name: _store_row_bytes(some, name, path) for name in MINUTES}
        # No archive is at hand of 1s.
        row_bytes["1s"], store_bytes["1s"] = row_bytes["1m"], store_bytes["1m"]
        counts = trio.run(_counts, path, some, sizes)
    return Facts(row_bytes=row_bytes, store_row_bytes=store_bytes, **counts)


def _row_bytes(some: Sequence[Month], name: str, sizes: Sizes, folder: Path) -> float:
    symbols = min(sizes.most_symbols, max(len(some), sizes.rows * MINUTES[name] // 43_200))
    rows = size = 0
    pieces = (one.select(COLUMNS.names) for one in lake_table(some, symbols, name))
    for file in write_sorted(pieces, folder):
        rows, size = rows + file.rows, size + file.path.stat().st_size
        file.path.unlink()
    return size / rows


def _store_row_bytes(some: Sequence[Month], name: str, folder: Path) -> float:
    """Return the bytes of a row of files with ten years of a series, as far as it is measured."""
    wanted = min(_MOST_STORE_ROWS, _TEN_YEARS_MINUTES // MINUTES[name])
    have = 43_200 // MINUTES[name]
    rows = size = 0
    for number in range(len(some)):
        # Other symbols with the same digits, in the place of further months.
        pieces = [
            stored_table(some, number + nth * len(some), name, nth * have, have)
            for nth in range(-(-wanted // have))
        ]
        table = pa.concat_tables(pieces).slice(0, wanted)
        news = Changes(Series("spot", symbol_name(number), name), table, table.slice(0, 0))
        file = PurePosixPath(f"{name}-{number}.pqt")
        rows, size = rows + wanted, size + rewrite_file(news, file, folder, folder).size_bytes
    return size / rows


@attrs.define(eq=False)
class _Bench:
    """A store, its publisher, and the server that counts."""

    memory: MemoryS3
    location: Location
    store: Store
    publisher: Publisher
    some: Sequence[Month]

    async def published(self) -> list[Answered]:
        """Publish, and return the requests."""
        self.memory.answered.clear()
        await self.publisher.publish()
        return list(self.memory.answered)

    def done(self, work: Callable[[], object]) -> list[Answered]:
        """Work, and return the requests."""
        self.memory.answered.clear()
        work()
        return list(self.memory.answered)

    def add(self, series: Series, number: int, first: int, count: int) -> None:
        """Write candles of a symbol into a file as an archive's; all of them are unpublished."""
        table = stored_table(self.some, number, series.time_interval, first, count)
        store = self.store
        merged = store.fill_in(table, series, store.journal.files([series]))
        begins, ends = (values_of(table[name]) for name in (BEGIN, END))
        store.journal.keep_filled(series, merged, [Span(int(begins[0]), int(ends[-1]))], ())

    def data_files(self) -> dict[str, int]:
        """Return the size of each file of the table of candles."""
        return {
            name: len(one.content)
            for name, one in self.memory.objects.items()
            if "/candles/" in name and name.endswith(".parquet") and "_delta_log" not in name
        }

    def log(self, end: str) -> list[bytes]:
        """Return the files of the log of candles with this end, by name."""
        return [
            one.content
            for name, one in sorted(self.memory.objects.items())
            if "/candles/_delta_log/" in name and name.endswith(end)
        ]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the body; other programs inherit them."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _bench(folder: Path, some: Sequence[Month]) -> Iterator[_Bench]:
    memory = MemoryS3()
    with memory.running() as endpoint:
        server = Server(endpoint)
        store = Store.open(folder, Layout(DEFAULT_LAYOUT))
        try:
            commits, merges = (SerialExecutor(trio.to_thread.run_sync) for _ in range(2))
            lake = LakeConfig(url=f"s3://{server.bucket}/klines", endpoint=endpoint)
            publisher = Publisher(Storage(store, commits, merges), lake)
            with environment(environment_of(server)):
                yield _Bench(memory, location_of(server, "klines"), store, publisher, some)
        finally:
            store.close()


async def _counts(folder: Path, some: Sequence[Month], sizes: Sizes) -> dict[str, Any]:
    with _bench(folder / "one", some) as bench:
        single = await _hours(bench, ["1m"], sizes.cycle)
        small = bench.data_files()
        # Once in the life of a process; so each compaction by a timer needs it.
        proof = requests_of(bench.done(lambda: require_conditions(bench.location)))
        # The files of the cycle are joined; then nothing is left to do.
        joined = bench.done(lambda: _compact(bench.location))
        read = sum("/part-" in one.target for one in joined)
        nothing = requests_of(bench.done(lambda: _compact(bench.location)))
        vacuumed = bench.done(lambda: vacuum(bench.location))
        commits = bench.log(".json")
    with _bench(folder / "some", some) as bench:
        several = await _hours(bench, _HOURLY, sizes.cycle)
        checkpoint = bench.log(".checkpoint.parquet")
    more = several.plus(single, -1)
    job = requests_of(joined).plus(nothing, -1).plus(Requests(reads=read), -1)
    large = await _large(folder / "large", some, sizes, single)
    files = _files_in(checkpoint[-1]) if checkpoint else 1
    return {
        "publication": single,
        "more_file": Requests().plus(more, 1 / (len(_HOURLY) - 1)),
        "more_commit": large.commit,
        "compaction": nothing.plus(proof),
        "job": job,
        "upload": large.upload,
        "large_read": large.read,
        "vacuum": requests_of(vacuumed).plus(proof),
        "vacuum_lists": sum(
            one.is_list and "candles%2F&" in f"{one.target}&" for one in vacuumed
        ),
        "new_row_bytes": large.row_bytes,
        "new_file_bytes": max(0.0, np.mean(list(small.values())) - 3 * 60 * large.row_bytes),
        "log_commit_bytes": float(np.mean([len(one) for one in commits[1:]])) / 2,
        "checkpoint_file_bytes": (len(checkpoint[-1]) / files) if checkpoint else 0.0,
    }  # fmt: skip


async def _hours(bench: _Bench, names: Sequence[str], cycle: int) -> Requests:
    """Publish hours of three symbols; return the mean of a publication, after a first cycle."""
    series = {Series("spot", symbol_name(n), name): n for name in names for n in range(3)}
    total = Requests()
    await bench.publisher.publish()
    for hour in range(2 * cycle):
        _add_hour(bench, series, hour)
        found = requests_of(await bench.published())
        if hour >= cycle:
            total = total.plus(found, 1 / cycle)
    return total


def _add_hour(bench: _Bench, series: Mapping[Series, int], hour: int) -> None:
    accounts = {}
    for one, number in series.items():
        count = 60 // MINUTES[one.time_interval]
        bench.add(one, number, hour * count, count)
        accounts[one] = SeriesAccount(START_MS, START_MS + (hour + 1) * _HOUR_MS)
    bench.store.journal.settle([], accounts)


def _compact(location: Location) -> None:
    compact(location, "benchmark", lambda _: None, now=START_MS / 1_000 + _LATER_SECONDS)


@attrs.frozen
class _Large:
    commit: Requests
    row_bytes: float
    upload: Requests
    read: Requests
    """Of each MiB."""


async def _large(folder: Path, some: Sequence[Month], sizes: Sizes, single: Requests) -> _Large:
    """Publish full commits, and let large compacted files be read and written again."""
    symbols = 500
    rows = sizes.commits * MOST_ROWS // symbols
    with _bench(folder, some) as bench:
        await bench.publisher.publish()
        for number in range(symbols):
            bench.add(Series("spot", symbol_name(number), "1m"), number, 0, rows)
        published = requests_of(await bench.published())
        files = bench.data_files()
        _compact(bench.location)
        big = max(set(bench.data_files().items()) - set(files.items()), key=lambda one: one[1])
        reads = _reads(bench, big[0])
        upload = _upload(bench, folder)
    commit = Requests().plus(published.plus(single, -1), 1 / (sizes.commits - 1))
    return _Large(
        commit, sum(files.values()) / (rows * symbols), upload,
        Requests(reads=len(reads) / (big[1] / (1 << 20))),
    )  # fmt: skip


def _reads(bench: _Bench, name: str) -> list[Answered]:
    """Read a compacted file as a compaction does that needs it twice; return the requests."""
    path = name.split("/klines/", 1)[1]
    objects = Objects.of(bench.location)

    def read() -> None:
        for columns in (["symbol", BEGIN], COLUMNS.names):
            with pq.ParquetFile(objects.open(path, whole=False)) as parquet:
                for _ in parquet.iter_batches(65_536, columns=columns):
                    pass

    return bench.done(read)


def _upload(bench: _Bench, folder: Path) -> Requests:
    file = folder / "object"
    with file.open("wb") as made:
        made.truncate(TARGET_BYTES)
    objects = Objects.of(bench.location)
    return requests_of(bench.done(lambda: objects.upload("object", file)))


def _files_in(checkpoint: bytes) -> int:
    table = pq.read_table(pa.BufferReader(checkpoint))
    return max(1, table.num_rows - table["add"].null_count)
