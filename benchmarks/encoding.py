"""How to encode a series' Parquet file: bytes a row, and CPU to write and to read it back.

Every candidate must give the same frame, to the bit, from `pd.read_parquet(path)` alone.
"""

import argparse
import functools
import io
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.archives import DATA, archive_candles
from benchmarks.machine import conclude
from kline_trio.candle import Candle, Series
from kline_trio.storage.table import BEGIN, END, table_of

__all__ = ["main"]

_ROWS_PER_GROUP = 32_768
_DAY_ROWS = 1_440
_DAY_MS = 86_400_000
_LEAST_RUN_SECONDS = 0.005
"""Small files are written in microseconds; so many of them are timed together."""

_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "taker_buy_base_asset_volume")
_QUOTE_VOLUMES = ("quote_volume", "taker_buy_quote_asset_volume")
_DELTA = dict.fromkeys((BEGIN, END, "trade_num"), "DELTA_BINARY_PACKED")

_SPOT = Series("spot", "BTCUSDT", "1m")
_MONTHS = {
    "BTC": (_SPOT, "BTCUSDT-1m-2023-03-*.zip"),
    "AVAX futures": (Series("usdt_futures", "AVAXUSDT", "1m"), "AVAXUSDT-1m-*.csv.gz"),
    "FIL futures": (Series("usdt_futures", "FILUSDT", "1m"), "FILUSDT-1m-*.csv.gz"),
}
_SHORTER = {
    "ETH 10 days": (Series("spot", "ETHUSDT", "1m"), "ETHUSDT-1m-*.zip"),
    "SOL 4 days": (Series("spot", "SOLUSDT", "1m"), "SOLUSDT-1m-*.zip"),
    "ADAEUR day": (Series("spot", "ADAEUR", "1m"), "rest-ADAEUR-*.json"),
    "COIN-M day": (Series("coin_futures", "BTCUSD_PERP", "1m"), "BTCUSD_PERP-1m-*.zip"),
    "BTC 15m": (Series("spot", "BTCUSDT", "15m"), "BTCUSDT-15m-*.zip"),
    "BTC 1h": (Series("spot", "BTCUSDT", "1h"), "BTCUSDT-1h-*.zip"),
}


@attrs.frozen
class Candidate:
    """One way to write a file."""

    name: str
    arguments: Mapping[str, Any]
    """Of `pq.ParquetWriter`."""
    nullable: bool = True
    """Whether the schema lets a value be absent."""


@attrs.frozen
class Measured:
    """A file of one case, written in one way."""

    case: str
    candidate: str
    rows: int
    size_bytes: int
    write_cpu_seconds: float
    read_cpu_seconds: float
    """All columns; page checksums verified where the file has them."""


_FIRST: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "column_encoding": _DELTA,
    "write_page_checksum": True,
}
_OURS: dict[str, Any] = {
    **_FIRST,
    "compression_level": 2,
    "data_page_size": 122_880,
    "write_statistics": [BEGIN, END],
}


def _split(*names: str) -> dict[str, Any]:
    return {**_OURS, "column_encoding": {**_DELTA, **dict.fromkeys(names, "BYTE_STREAM_SPLIT")}}


CANDIDATES = (
    Candidate("kline_trio 0.1", _FIRST),
    Candidate("this store", _OURS),
    Candidate("... not nullable", _OURS, nullable=False),
    Candidate("... no ARROW:schema", {**_OURS, "store_schema": False}),
    Candidate("... all statistics", {**_OURS, "write_statistics": True}),
    Candidate("... data pages 2.0", {**_OURS, "data_page_version": "2.0"}),
    Candidate("... pages of 1 MiB", {**_OURS, "data_page_size": 2**20}),
    Candidate("... pages of 32 KiB", {**_OURS, "data_page_size": 2**15}),
    *(Candidate(f"... zstd {n}", {**_OURS, "compression_level": n}) for n in (1, 3, 4, 6, 9, 12)),
    Candidate("... trade_num split", _split("trade_num")),
    Candidate("... quote volumes split", _split(*_QUOTE_VOLUMES)),
    Candidate("... all volumes split", _split(*_VOLUMES, *_QUOTE_VOLUMES)),
    Candidate("... prices split", _split(*_PRICES)),
    Candidate("... price dictionaries", {**_OURS, "use_dictionary": list(_PRICES)}),
)
"""What begins with dots is "this store" but for that; "split" is BYTE_STREAM_SPLIT."""


def main(arguments: list[str]) -> int:
    """Measures, prints Markdown tables, and gives back an exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encoding", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with klines/ in it")
    parser.add_argument("--quick", action="store_true", help="three cases, three runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    if not (options.data / "klines").is_dir():
        print(f"no archives: there is no folder {options.data / 'klines'}", file=sys.stderr)
        return 1
    measured: list[Measured] = []
    for case, table in _cases(options.data / "klines", quick=options.quick):
        print(f"measuring {case}, {table.num_rows} rows", file=sys.stderr)
        measured += _measure(case, table, runs=3 if options.quick else 9)
    for title, figure in _FIGURES.items():
        print(_markdown(title, measured, figure))
    return conclude([attrs.asdict(item) for item in measured], options.json, goals=[])


def _measure(case: str, table: pa.Table, runs: int) -> Iterator[Measured]:
    original = table.to_pandas()
    writes: dict[str, Callable[[], bytes]] = {"original": lambda: _write_frame(original)}
    for candidate in CANDIDATES:
        writes[candidate.name] = _writer_of(table, candidate)
    contents = {name: write() for name, write in writes.items()}
    for content in contents.values():
        frame = pd.read_parquet(io.BytesIO(content))
        pd.testing.assert_frame_equal(frame, original, check_exact=True, check_freq=True)
    write_seconds = _least_cpu_seconds(writes, runs)
    read_seconds = _least_cpu_seconds(
        {name: functools.partial(_read, content) for name, content in contents.items()}, runs
    )
    for name, content in contents.items():
        yield Measured(
            case, name, table.num_rows, len(content), write_seconds[name], read_seconds[name]
        )


def _write_frame(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, compression="zstd")
    return file.getvalue()


def _writer_of(table: pa.Table, candidate: Candidate) -> Callable[[], bytes]:
    columns = pa.schema(
        [field.with_nullable(candidate.nullable) for field in table.schema],
        metadata=dict(table.schema.metadata.items()),
    )
    rows = table.cast(columns)
    notes = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}

    def write() -> bytes:
        file = io.BytesIO()
        with pq.ParquetWriter(file, columns, **candidate.arguments) as writer:
            writer.write_table(rows, row_group_size=_ROWS_PER_GROUP)
            if not candidate.arguments.get("store_schema", True):
                # Without ARROW:schema the schema's own metadata is left out, too.
                writer.add_key_value_metadata(notes)
        return file.getvalue()

    return write


def _read(content: bytes) -> pa.Table:
    with pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True) as file:
        return file.read(use_threads=False)


def _least_cpu_seconds(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The least CPU that each took in any run, since all that disturbs a run adds to it.

    A run goes through all of them, so that a disturbance of a second cannot spoil every run of one.
    """
    found = dict.fromkeys(works, math.inf)
    for _ in range(runs):
        for name, work in works.items():
            times = 0
            begin = now = time.process_time()
            while now - begin < _LEAST_RUN_SECONDS:
                work()
                times += 1
                now = time.process_time()
            found[name] = min(found[name], (now - begin) / times)
    return found


def _cases(klines: Path, *, quick: bool) -> Iterator[tuple[str, pa.Table]]:
    """What is written: a name and its rows."""
    months = {
        name: (series, archive_candles(klines, series, pattern))
        for name, (series, pattern) in _MONTHS.items()
    }
    for name, (series, candles) in months.items():
        yield f"{name} month", table_of(series, candles)
    if quick:
        return
    yield "three months", _in_a_row(itertools.chain(*(candles for _, candles in months.values())))
    bitcoin = months["BTC"][1]
    yield "BTC day", table_of(_SPOT, bitcoin[:_DAY_ROWS])
    for name, (series, pattern) in _SHORTER.items():
        yield name, table_of(series, archive_candles(klines, series, pattern))
    daily = [_sum(day) for day in _days(bitcoin)]
    yield "BTC 1d month", table_of(Series("spot", "BTCUSDT", "1d"), daily)
    yield "one row", table_of(Series("spot", "BTCUSDT", "1d"), daily[:1])


def _in_a_row(candles: Iterator[Candle]) -> pa.Table:
    """Longer than a row group: no symbol's archives go so far, and repeats would flatter."""
    minutes = itertools.count(0, 60_000)
    return table_of(
        _SPOT,
        [
            attrs.evolve(candle, open_time_ms=minute)
            for minute, candle in zip(minutes, candles, strict=False)
        ],
    )


def _days(candles: list[Candle]) -> Iterator[list[Candle]]:
    for _, day in itertools.groupby(candles, key=lambda candle: candle.open_time_ms // _DAY_MS):
        yield list(day)


def _sum(candles: list[Candle]) -> Candle:
    def total(name: str) -> float:
        # The exchange's digits; a sum of floats has noise behind them.
        return round(math.fsum(getattr(candle, name) for candle in candles), 8)

    return Candle(
        open_time_ms=candles[0].open_time_ms,
        open=candles[0].open,
        high=max(candle.high for candle in candles),
        low=min(candle.low for candle in candles),
        close=candles[-1].close,
        trade_num=sum(candle.trade_num for candle in candles),
        **{name: total(name) for name in (*_VOLUMES, *_QUOTE_VOLUMES)},
    )


_FIGURES: dict[str, Callable[[Measured], float]] = {
    "bytes a row": lambda item: item.size_bytes / item.rows,
    "write, CPU s per million rows": lambda item: item.write_cpu_seconds / item.rows * 1e6,
    "read, CPU s per million rows": lambda item: item.read_cpu_seconds / item.rows * 1e6,
}


def _markdown(title: str, measured: list[Measured], figure: Callable[[Measured], float]) -> str:
    rows = {item.case: item.rows for item in measured}
    cells = {(item.candidate, item.case): figure(item) for item in measured}
    names = dict.fromkeys(item.candidate for item in measured)
    lines = [[title, *rows], ["rows", *(f"{count:,}" for count in rows.values())]]
    lines += [[name, *(_rounded(cells[name, case]) for case in rows)] for name in names]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    texts.insert(1, f"|---|{'---:|' * len(rows)}")
    return "\n".join(texts) + "\n"


def _rounded(figure: float) -> str:
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 3}f}"
