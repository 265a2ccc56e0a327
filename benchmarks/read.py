"""Reading: by `kline_trio.read`, and by others from the bare Parquet files.

A year of one series, a day of all series, and the last hour of one, half of which is in the
journal, which only `kline_trio.read` sees. It also verifies the checksum of every page. The least
of several runs counts; CPU is that of all threads.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pandas as pd
import polars as pl

import kline_trio
from benchmarks.machine import conclude
from benchmarks.made_up import BTC, START_MS, made_table, minutes, received
from benchmarks.spent import spending
from kline_trio.candle import Series
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, schema

__all__ = ["main"]

_HOUR, _DAY = 60, 1_440
_YEAR = 365 * _DAY
_JOURNAL = 30
"""Minutes of the last hour that are not merged."""
_START = datetime.fromtimestamp(START_MS / 1_000, UTC)
_Reader = tuple[str, Callable[[], Any]]


@attrs.frozen
class Reading:
    """The least of several runs."""

    case: str
    reader: str
    rows: int
    wall_ms: float
    cpu_ms: float


def main(arguments: list[str]) -> int:
    """Print the table, of which nothing is judged: others do less."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks read", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 series; three runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    count, runs = (20, 3) if options.quick else (500, 9)
    table = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        store = _store(path, count)
        try:
            print(f"{'':<28} {'':<34} {'rows':>9} {'wall':>11} {'CPU':>11}")
            for case, readers in _cases(path, [one.symbol for one in _all(count)]):
                for reader, work in readers:
                    reading = _measured(case, reader, work, runs)
                    table.append(reading)
                    print(
                        f"{case:<28} {reader:<34} {reading.rows:>9,} {reading.wall_ms:>8.1f} ms"
                        f" {reading.cpu_ms:>8.1f} ms",
                        flush=True,
                    )
        finally:
            store.close()
    return conclude([attrs.asdict(reading) for reading in table], options.json, goals=[])


def _all(count: int) -> list[Series]:
    return [BTC, *(Series("spot", f"S{number:03}USDT", "1m") for number in range(count - 1))]


def _store(path: Path, count: int) -> Store:
    """A year of one series and three days of the others; the last minutes are in the journal."""
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    days = made_table(_YEAR - 3 * _DAY, 3 * _DAY - _JOURNAL)
    for one in _all(count):
        whole = made_table(0, _YEAR - _JOURNAL) if one == BTC else days
        store.fill_in(whole.cast(schema(one)), one)
        store.journal.accept(received(one, minutes(_YEAR - _JOURNAL, _JOURNAL)))
    return store


def _cases(path: Path, symbols: list[str]) -> Iterator[tuple[str, list[_Reader]]]:
    file, files = path / "spot_BTCUSDT_1m.pqt", str(path / "spot_*_1m.pqt")
    end = _START + timedelta(minutes=_YEAR)
    hour, day = end - timedelta(hours=1), (end - timedelta(days=2), end - timedelta(days=1))
    within = f"WHERE {BEGIN} >= '{day[0]}' AND {BEGIN} < '{day[1]}'"
    year = f"FROM read_parquet('{file}')"
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    yield (
        "a year of one series",
        [
            *_ours(path, symbol="BTCUSDT"),
            ("pandas, the file", lambda: pd.read_parquet(file)),
            ("Polars, the file", lambda: pl.read_parquet(file)),
            ("DuckDB, the file, to Polars", lambda: connection.sql(year).pl()),
            ("DuckDB, the file, to pandas", lambda: connection.sql(year).df()),
        ],
    )
    bounds = [(BEGIN, ">=", day[0]), (BEGIN, "<", day[1])]
    yield (
        f"a day of {len(symbols)} series",
        [
            *_ours(path, symbols=symbols, start=day[0], end=day[1]),
            (
                "pandas, the files",
                lambda: pd.concat(
                    pd.read_parquet(one, filters=bounds) for one in sorted(path.glob("spot_*.pqt"))
                ),
            ),
            (
                "Polars, the files",
                lambda: (
                    pl.scan_parquet(files, include_file_paths="file")
                    .filter(pl.col(BEGIN) >= day[0], pl.col(BEGIN) < day[1])
                    .collect()
                ),
            ),
            (
                "DuckDB, the files, to Polars",
                lambda: connection.sql(
                    f"FROM read_parquet('{files}', filename=true) {within}"
                ).pl(),
            ),
        ],
    )
    yield (
        "the last hour of one",
        [
            *_ours(path, symbol="BTCUSDT", start=hour),
            (
                "pandas, without the journal",
                lambda: pd.read_parquet(file, filters=[(BEGIN, ">=", hour)]),
            ),
            (
                "Polars, without the journal",
                lambda: pl.scan_parquet(file).filter(pl.col(BEGIN) >= hour).collect(),
            ),
            (
                "DuckDB, without the journal",
                lambda: connection.sql(f"{year} WHERE {BEGIN} >= '{hour}'").pl(),
            ),
        ],
    )


def _ours(path: Path, **wanted: Any) -> list[_Reader]:  # noqa: ANN401 - arguments of `read`
    def reader(result: Any) -> Callable[[], Any]:  # noqa: ANN401
        return lambda: kline_trio.read(path, "spot", result=result, **wanted)

    return [(f"kline_trio.read, {kind}", reader(kind)) for kind in ("pandas", "polars", "arrow")]


def _measured(case: str, reader: str, work: Callable[[], Any], runs: int) -> Reading:
    wall = cpu = math.inf
    rows = 0
    for _ in range(runs):
        with spending() as spent:
            rows = len(work())
        wall, cpu = min(wall, spent.wall_seconds), min(cpu, spent.cpu_seconds)
    return Reading(case, reader, rows, wall * 1e3, cpu * 1e3)
