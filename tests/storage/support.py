"""Candles, series and stores for the storage tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any

import attrs
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.interval import Span
from kline_trio.storage.check import CheckedFile, check
from kline_trio.storage.disk import sync_file
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import FileMerge, plan_merges, rewrite_file
from kline_trio.storage.store import Store

BTC = Series("spot", "BTCUSDT", "1m")
MONTHLY = Series("spot", "BTCUSDT", "1M")
COIN = Series("coin_futures", "BTCUSD_PERP", "3m")
CHINESE = Series("usdt_futures", "币安人生USDT", "1w")
SERIES = (BTC, MONTHLY, COIN, CHINESE)

START_MS = 1_706_659_200_000
"""2024-01-31 00:00 UTC: the month ends within the first day of candles."""
MINUTE_MS = 60_000
NAME = "spot_BTCUSDT_1m.pqt"
"""BTC's file in the default layout."""

LAYOUTS = (
    DEFAULT_LAYOUT,
    "{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet",
    "klines/trade_type={trade_type}/time_interval={time_interval}/symbol={symbol}/{date}.parquet",
)

Rows = dict[int, Candle]
"""A model of what is stored of a series, by open time."""


def nth_open_time_ms(series: Series, count: int) -> int:
    """The open time of the n-th candle of the series after the tests' time begins."""
    moment_ms = series.interval.open_time_ms(START_MS)
    for _ in range(count):
        moment_ms = series.interval.end_time_ms(moment_ms)
    return moment_ms


def at(n: float, series: Series = BTC) -> int:
    """The open time of the series' n-th candle; a fraction is one of a minute."""
    return nth_open_time_ms(series, int(n)) + round(n % 1 * MINUTE_MS)


def span(first: int, end: int, series: Series = BTC) -> Span:
    """The series' candles from the n-th to another, exclusive."""
    return Span(at(first, series), at(end, series))


def absent(
    first: int,
    end: int,
    state: State = State.PENDING,
    series: Series = BTC,
    reason: Reason = Reason.NOT_RECEIVED,
) -> Gap:
    """A gap of the series' candles from the n-th to another, exclusive."""
    return Gap(series, span(first, end, series), at(end, series), reason, state)


GAP_STATES = [one for one in State if one is not State.IN_LAKE]
"""Those of a row of the ledger."""
ADDRESS = json.dumps({"url": "s3://bucket/klines", "endpoint": None})
"""Of the lake `lake-1`."""


def month_of(series: Series = BTC, month: str = "2024-01", rows: int = 5) -> Pruned:
    """A month of the series that the lake `lake-1` alone has."""
    begin = datetime.strptime(f"{month} +0000", "%Y-%m %z")
    end = (begin + timedelta(days=31)).replace(day=1)
    ends = (series.interval.next_open_time_ms(int(one.timestamp() * 1_000)) for one in (begin, end))
    return Pruned(series, Span(*ends), "lake-1", 7, rows, "c0ffee", START_MS + 90 * 86_400_000)


def prune(store: Store, *months: Pruned, address: str = ADDRESS) -> None:
    """Let a lake alone have months. Files that hold nothing else are removed, and unlisted."""
    store.journal.keep_pruned(months, {one.lake: address for one in months})
    for entry in store.journal.files():
        place = store.layout.place(entry.series, entry.path)
        spans = [one.span for one in months if one.series == entry.series]
        if place is not None and not list(place.without(spans)):
            (store.path / entry.path).unlink()
    assert store.journal.adopt(store.changed_files(store.journal.files())) == 0


def make_candle(open_time_ms: int, value: float = 1.0, trade_num: int = 7) -> Candle:
    """A flat candle."""
    return Candle(open_time_ms, value, value, value, value, value, value, trade_num, value, value)


def receive(series: Series, *candles: Candle) -> list[ReceivedCandle]:
    """The candles as they come out of the channel."""
    return [ReceivedCandle(series, candle, datetime(2024, 2, 1, tzinfo=UTC)) for candle in candles]


def minutes(first: int, end: int, value: float = 1.0) -> list[ReceivedCandle]:
    """BTC's candles from the n-th minute to another, exclusive."""
    return receive(BTC, *(make_candle(START_MS + n * 60_000, value) for n in range(first, end)))


def row(minute: int, **changes: Any) -> Candle:  # noqa: ANN401 - of Candle
    """BTC's candle of the n-th minute, with other values in some fields."""
    return attrs.evolve(make_candle(at(minute), 5.0), **changes)


def merged_file(series: Series, rows: int = 1, path: str = "some.pqt") -> FileEntry:
    """A file as a merge could have left it."""
    return FileEntry(PurePosixPath(path), series, rows, 9_000, 0xC0FFEE)


def open_store(path: Path, layout: str = DEFAULT_LAYOUT) -> Store:
    """The store there."""
    return Store.open(path, Layout(layout))


def open_accounted(path: Path, watermark: int, layout: str = DEFAULT_LAYOUT) -> Store:
    """The store there, in which BTC is accounted for up to the n-th minute."""
    store = open_store(path, layout)
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(watermark))})
    return store


def faults(path: Path) -> list[CheckedFile]:
    """What a check finds fault with."""
    return [file for file in check(path) if file.faults]


def torn(at: int) -> Callable[[IO[bytes]], None]:
    """In the place of `sync_file`: the disk keeps another bit there than was written."""

    def sync(file: IO[bytes]) -> None:
        sync_file(file)
        content = bytearray(Path(file.name).read_bytes())
        content[at] ^= 4
        Path(file.name).write_bytes(content)

    return sync


def perform(
    merge: FileMerge, folder: Path, scratch: Path, known: FileEntry | None = None
) -> FileEntry:
    """The file with the merge's candles."""
    return rewrite_file(merge.changes(), merge.path, folder, scratch, known)


def merge_all(store: Store) -> None:
    """Brings all that waits into files."""
    for series in store.journal.pending():
        for merge in plan_merges(store.layout, series, store.journal.take(series)):
            known = store.journal.listed([merge.path]).get(merge.path)
            store.journal.forget(store.write(merge, known), merge.pending)


def write_minutes(path: Path, merged: int, waiting: int, layout: str = DEFAULT_LAYOUT) -> Store:
    """An open store with that many minutes of BTC in files, and then in the journal."""
    store = open_store(path, layout)
    store.journal.accept(minutes(0, merged))
    merge_all(store)
    store.journal.accept(minutes(merged, merged + waiting))
    return store


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the code in a fresh interpreter that finds kline_trio, and this module."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def child_environment() -> dict[str, str]:
    """The environment in which a child finds kline_trio, and this module."""
    paths = [Path(kline_trio.__file__).parents[1], Path(__file__).parents[2]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def everything_under(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """All names in the folder, with what a change to them would change."""
    stats = {path: path.stat() for path in folder.rglob("*")}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


_FLOATS = tuple(
    field.name for field in attrs.fields(Candle) if field.name not in ("open_time_ms", "trade_num")
)
_not_negative = st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(abs)


@st.composite
def candles(draw: st.DrawFn, series: Series, most: int = 12) -> Candle:
    """Any candle whose numbers are what the exchange could send, near the tests' time."""
    open_time_ms = nth_open_time_ms(series, draw(st.integers(0, most)))
    numbers = {name: draw(_not_negative) for name in _FLOATS}
    # Mostly few trades, so that two values of one candle have as many now and then.
    trade_num = draw(st.integers(0, 1) | st.integers(0, 2**63 - 1))
    return Candle(open_time_ms, trade_num=trade_num, **numbers)


@st.composite
def batches(draw: st.DrawFn) -> list[ReceivedCandle]:
    """What one commit could bring: several series, duplicates, revisions, any order."""
    chosen = draw(st.lists(st.sampled_from(SERIES), max_size=6))
    return [item for series in chosen for item in receive(series, draw(candles(series)))]


def apply(model: dict[Series, Rows], batch: list[ReceivedCandle]) -> None:
    """What a store must hold after it accepted the batch."""
    for item in batch:
        model.setdefault(item.series, {})[item.candle.open_time_ms] = item.candle


def ordered(rows: Rows) -> list[Candle]:
    """The model's candles of a series by open time."""
    return [rows[open_time_ms] for open_time_ms in sorted(rows)]


CANDLE_FIELDS = tuple(field.name for field in attrs.fields(Candle))
