"""Queries of a lake, by `kline_trio.read` and by engines, beside the local files.

One series for all days, all series for a day, and the last hour of one, each before and after a
compaction. The lake has a file for each hour, as a recorder publishes them. With `--s3` it is on
SeaweedFS on this machine, else in a folder. The least of several runs counts; CPU is that of all
threads. Each run opens the table anew. Daft excludes the project's PyArrow, so that it runs in the
interpreter that is named. Its table is made of texts that it can read, which a recorder's own files
have after a compaction alone.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import dask_deltatable
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

import kline_trio
from benchmarks.machine import conclude
from benchmarks.made_up import START_MS, made_table
from benchmarks.spent import spending
from kline_trio.candle import Series
from kline_trio.lake.location import Location
from kline_trio.lake.merge import moment
from kline_trio.lake.schema import CANDLES, TIME, VALUES
from kline_trio.lake.tables import made_table as made_lake_table
from kline_trio.lake.upkeep import compact
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, schema
from tests.lake.servers import environment_of, location_of, seaweed_server

__all__ = ["main"]

_DAY = 1_440
_SYMBOL = "S0007USDT"
_OF_SYMBOL = {"trade_type": "spot", "time_interval": "1m", "symbol": _SYMBOL}
_OF_ALL = {"trade_type": "spot", "time_interval": "1m"}


@attrs.frozen
class Reading:
    """The least of several runs."""

    state: str
    case: str
    reader: str
    rows: int
    wall_ms: float
    cpu_ms: float


@attrs.frozen
class Query:
    """Rows of one symbol or of all, in a time."""

    case: str
    names: Mapping[str, str]
    since: datetime
    until: datetime

    @property
    def condition(self) -> str:
        """The query in the SQL of DataFusion."""
        parts = [f"{name} = '{text}'" for name, text in self.names.items()]
        parts += [f"month >= '{self.since:%Y-%m}'"]
        parts += [f"{BEGIN} >= {moment(self.since)}", f"{BEGIN} < {moment(self.until)}"]
        return " AND ".join(parts)


def main(arguments: list[str]) -> int:
    """Print the table, of which nothing is judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lake_query", description=__doc__)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--days", type=int, default=29)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--daft-python", type=Path, metavar="PATH", help="with Daft and deltalake")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        location = Location(str(folder / "lake"))
        if options.s3:
            server = stack.enter_context(seaweed_server(folder / "servers"))
            os.environ.update(environment_of(server))
            location = location_of(server, "klines")
        series = [Series("spot", f"S{number:04}USDT", "1m") for number in range(options.series)]
        _fill_store(folder / "data", series, options.days)
        _fill_lake(location, series, options.days)
        readings = list(_states(location, folder / "data", options))
    return conclude([attrs.asdict(one) for one in readings], options.json, goals=[])


def _states(location: Location, store: Path, options: argparse.Namespace) -> Iterator[Reading]:
    queries = _queries(options.days)
    yield from _measured("local files", queries, _of_store(store, options.series), options.runs)
    yield from _measured("hourly files", queries, _of_lake(location, options), options.runs)
    yield from _by_daft("hourly files", queries, location, options)
    with spending() as spent:
        done = compact(location, "benchmark", lambda _: None)
    files = f"{done.files_before:,} files"
    print(f"compacted {files}: {spent.cpu_seconds:.1f} s of CPU, {spent.wall_seconds:.1f} s")
    yield from _measured("compacted", queries, _of_lake(location, options), options.runs)
    yield from _by_daft("compacted", queries, location, options)


def _queries(days: int) -> list[Query]:
    begin = datetime.fromtimestamp(START_MS / 1_000, UTC)
    end = begin + timedelta(days=days)
    half = begin + timedelta(days=days // 2)
    return [
        Query(f"one series, {days} days", _OF_SYMBOL, begin, end),
        Query("all series, a day", _OF_ALL, half, half + timedelta(days=1)),
        Query("one series, the last hour", _OF_SYMBOL, end - timedelta(hours=1), end),
    ]


def _fill_store(path: Path, series: list[Series], days: int) -> None:
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    rows = made_table(0, days * _DAY)
    for one in series:
        store.fill_in(rows.cast(schema(one)), one)
    store.close()


def _fill_lake(location: Location, series: list[Series], days: int) -> None:
    """Commit each hour as one file, sorted by symbol and time."""
    values = made_table(0, days * _DAY)
    made_lake_table(location, "candles")
    url, options = location.table_url("candles"), location.table_options()
    for hour in range(days * 24):
        one = values.slice(hour * 60, 60)
        rows = _repeated(one, [name.symbol for name in series])
        write_deltalake(url, rows, mode="append", storage_options=options)


def _repeated(hour: pa.Table, symbols: list[str]) -> pa.Table:
    count = hour.num_rows * len(symbols)
    times = {name: hour[name].cast(TIME) for name in (BEGIN, END)}
    month = f"{datetime.fromtimestamp(hour[BEGIN][0].value / 1_000, UTC):%Y-%m}"
    texts = {**_OF_ALL, "month": month, "source": "stream"}
    whole = {name: [text] * count for name, text in texts.items()}
    columns: dict[str, Any] = {
        **whole,
        "symbol": np.repeat(symbols, hour.num_rows),
        "revision": np.zeros(count, np.int32),
    }
    for name in (BEGIN, END, *VALUES):
        if name in times or name == "trade_num":
            column = times.get(name, hour[name])
            columns[name] = pa.chunked_array(column.chunks * len(symbols))
        else:
            # No two symbols have the same values, which would compress to nothing.
            factors = np.repeat(1 + np.arange(len(symbols)) / 1_000, hour.num_rows)
            columns[name] = np.round(np.tile(hour[name].to_numpy(), len(symbols)) * factors, 5)
    return pa.table([columns[name] for name in CANDLES.names], schema=CANDLES)


_Readers = dict[str, Callable[[Query], Any]]


def _of_store(path: Path, count: int) -> _Readers:
    files = str(path / "spot_*_1m.pqt")

    def by_duckdb(query: Query) -> Any:  # noqa: ANN401
        wanted = str(path / f"spot_{_SYMBOL}_1m.pqt") if "symbol" in query.names else files
        times = f"{BEGIN} >= '{query.since}' AND {BEGIN} < '{query.until}'"
        with duckdb.connect() as connection:
            return connection.read_parquet(wanted, filename=True).filter(times).pl()

    return {"kline_trio.read": _reader(str(path), count), "DuckDB": by_duckdb}


def _reader(place: str, count: int) -> Callable[[Query], Any]:
    every = [f"S{number:04}USDT" for number in range(count)]

    def read(query: Query) -> Any:  # noqa: ANN401
        symbols = [_SYMBOL] if "symbol" in query.names else every
        return kline_trio.read(
            place, "spot", symbols=symbols, start=query.since, end=query.until, result="polars"
        )

    return read


def _of_lake(location: Location, options: argparse.Namespace) -> _Readers:
    url = location.table_url("candles")

    def by_duckdb(query: Query) -> Any:  # noqa: ANN401
        rows = QueryBuilder().register("candles", DeltaTable(url))
        found = rows.execute(f"SELECT * FROM candles WHERE {query.condition}")  # noqa: S608
        stream = pa.RecordBatchReader.from_stream(found)
        with duckdb.connect() as connection:
            return connection.from_arrow(stream).pl()

    def by_duckdb_alone(query: Query) -> Any:  # noqa: ANN401
        files = DeltaTable(url).file_uris(file_pruning_predicate=_filter(query))
        with duckdb.connect() as connection:
            found = connection.read_parquet(files, hive_partitioning=True)
            names = " AND ".join(f"{name} = '{text}'" for name, text in query.names.items())
            times = f"{BEGIN} >= '{query.since}' AND {BEGIN} < '{query.until}'"
            return found.filter(f"{names} AND {times}").pl()

    def by_polars(query: Query) -> Any:  # noqa: ANN401
        begin = pl.col(BEGIN)
        found = pl.scan_delta(url).filter(begin >= query.since, begin < query.until, **query.names)
        return found.collect()

    def by_dask(query: Query) -> Any:  # noqa: ANN401
        parts = [(name, "==", text) for name, text in query.names.items() if name != "symbol"]
        found = dask_deltatable.read_deltalake(url, filter=parts)
        is_wanted = (found[BEGIN] >= pd.Timestamp(query.since)) & (
            found[BEGIN] < pd.Timestamp(query.until)
        )
        if "symbol" in query.names:
            is_wanted &= found["symbol"] == _SYMBOL
        return found[is_wanted].compute()

    readers: _Readers = {
        "kline_trio.read": _reader(location.url, options.series),
        "DuckDB, deltalake's stream": by_duckdb,
        "Polars": by_polars,
    }
    if not options.s3:
        readers |= {"DuckDB, the files": by_duckdb_alone, "Dask": by_dask}
    return readers


def _filter(query: Query) -> list[tuple[str, str, Any]]:
    names = [(name, "=", text) for name, text in query.names.items()]
    return [*names, (BEGIN, ">=", query.since), (BEGIN, "<", query.until)]


@attrs.frozen
class _Daft:
    """Daft in its own interpreter."""

    process: subprocess.Popen[str]
    url: str

    def cost(self, query: Query, runs: int) -> tuple[int, float, float]:
        """Return rows, seconds on the wall and of CPU."""
        times = {"since": query.since.isoformat(), "until": query.until.isoformat()}
        asked = {"url": self.url, "names": dict(query.names), "runs": runs, **times}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        rows, wall, cpu = json.loads(self.process.stdout.readline())
        return rows, wall, cpu


@contextmanager
def _daft(python: Path, url: str) -> Iterator[_Daft]:
    with subprocess.Popen(  # noqa: S603 - the interpreter that the user named
        [python, "-m", "benchmarks.peers.daft_queries"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1], env={**os.environ, "DAFT_PROGRESS_BAR": "0"},
    ) as process:  # fmt: skip
        yield _Daft(process, url)
        assert process.stdin is not None
        process.stdin.close()


def _measured(state: str, queries: list[Query], readers: _Readers, runs: int) -> Iterator[Reading]:
    for query in queries:
        for name, read in readers.items():
            wall = cpu = math.inf
            rows = 0
            for _ in range(runs):
                with spending() as spent:
                    rows = len(read(query))
                wall, cpu = min(wall, spent.wall_seconds), min(cpu, spent.cpu_seconds)
            yield _told(Reading(state, query.case, name, rows, wall * 1e3, cpu * 1e3))


def _by_daft(
    state: str, queries: list[Query], location: Location, options: argparse.Namespace
) -> Iterator[Reading]:
    if options.daft_python is None or options.s3:
        return
    with _daft(options.daft_python, location.table_url("candles")) as daft:
        for query in queries:
            rows, wall, cpu = daft.cost(query, options.runs)
            yield _told(Reading(state, query.case, "Daft", rows, wall * 1e3, cpu * 1e3))


def _told(one: Reading) -> Reading:
    print(
        f"{one.state:<13} {one.case:<26} {one.reader:<27} {one.rows:>10,} rows"
        f" {one.wall_ms:>9.1f} ms {one.cpu_ms:>9.1f} ms of CPU",
        flush=True,
    )
    return one
