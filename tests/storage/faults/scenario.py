"""What the store does while it is killed or its calls fail, and what it must hold afterwards."""

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.storage import parquet
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.layout import DEFAULT_LAYOUT
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    CHINESE,
    COIN,
    LAYOUTS,
    Rows,
    apply,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    ordered,
    receive,
    write_minutes,
)

__all__ = ["SCENARIOS", "Scenario", "wrong_with"]

_Arguments = ParamSpec("_Arguments")

Batch = list[ReceivedCandle]
Accept = Callable[[Store, Batch], None]
"""Accepts a batch, and says so to whoever survives."""


@attrs.frozen
class Scenario:
    """Some work on a store."""

    name: str
    prepare: Callable[[Path], None]
    """Makes the store that it begins with; nothing goes wrong meanwhile."""
    batches: Sequence[Batch]
    """The first so many are in that store already; `work` accepts the others in order."""
    prepared: int
    work: Callable[[Path, Accept], None]
    layout: str = DEFAULT_LAYOUT
    damaged: bytes | None = None
    """Found nowhere else in the store: what it begins with and cannot read, and must keep."""

    def expected(self, batches: int, later: Sequence[ReceivedCandle] = ()) -> dict[Series, Rows]:
        """What the store holds after so many batches, and what came later."""
        model: dict[Series, Rows] = {}
        for batch in (*self.batches[:batches], list(later)):
            apply(model, batch)
        return model


def wrong_with(scenario: Scenario, path: Path, acknowledged: int, under_way: int = 1) -> str | None:
    """Why what is left of the store breaks the promise; None if it keeps it.

    First as a reader finds it, then after the next start has gone on with it.
    """
    before: list[int] | None = None
    if scenario.damaged is None:
        broken = _broken_file(path)
        if broken:
            return broken
        before = _batches_held(scenario, path, acknowledged, under_way)
        if not before:
            return f"not what it was after {acknowledged}, or up to {under_way} more, batches"
    elif not _is_kept(scenario.damaged, path):
        return "what could not be read is gone"
    store = open_store(path, scenario.layout)
    try:
        if scenario.damaged is not None:
            # What waits replaces a damaged file; where nothing waits, nobody has met it yet.
            store.journal.accept(minutes(_LATER, _LATER + 1))
        merge_all(store)
        if store.journal.rows():
            return "rows wait after all was merged"
    finally:
        store.close()
    if any((path / ".kline_trio" / "tmp").iterdir()):
        return "temporary files are left"
    if scenario.damaged is not None:
        if not _is_kept(scenario.damaged, path):
            return "the next start did away with what it could not read"
        later = minutes(_LATER, _LATER + 1)
        if not _batches_held(scenario, path, acknowledged, under_way, later):
            return f"not what it was after {acknowledged}, or up to {under_way} more, batches"
    elif before != _batches_held(scenario, path, acknowledged, under_way):
        return "the next start changed what it holds"
    return _broken_file(path)


def _is_kept(content: bytes, path: Path) -> bool:
    house = path / ".kline_trio"
    places = [*path.glob("*.pqt"), *house.glob("journal.sqlite"), *house.glob("quarantine/**/*")]
    return any(content in place.read_bytes() for place in places if place.is_file())


def _broken_file(path: Path) -> str | None:
    for file in [*path.rglob("*.pqt"), *path.rglob("*.parquet")]:
        if file.is_file() and "quarantine" not in file.parts:
            try:
                pq.ParquetFile(file, page_checksum_verification=True).read()
            except Exception as error:  # noqa: BLE001 - whatever a reader would meet
                return f"{file.name} is broken: {error}"
    return None


def _batches_held(
    scenario: Scenario,
    path: Path,
    acknowledged: int,
    under_way: int,
    later: Sequence[ReceivedCandle] = (),
) -> list[int]:
    """After which batches this is the store: the last acknowledged, or one of those under way."""
    held = {
        series: stored_table(path, series) if path.is_dir() else None
        for series in (BTC, CHINESE, COIN)
    }
    return [
        batches
        for batches in range(acknowledged, acknowledged + under_way + 1)
        if batches <= len(scenario.batches) and _is(held, scenario.expected(batches, later))
    ]


def _is(held: Mapping[Series, pa.Table | None], model: dict[Series, Rows]) -> bool:
    for series, table in held.items():
        rows = ordered(model.get(series, {}))
        if (table is None or not table.num_rows) != (not rows):
            return False
        if table is not None and rows and not table.equals(table_of(series, rows)):
            return False
    return True


def _of(series: Series, first: int, end: int, value: float) -> list[Candle]:
    return [make_candle(nth_open_time_ms(series, n), value) for n in range(first, end)]


def _nothing(path: Path) -> None:
    path.mkdir(parents=True)


def _filled(batches: Sequence[Batch], layout: str, *, merge: bool) -> Callable[[Path], None]:
    def prepare(path: Path) -> None:
        store = open_store(path, layout)
        for batch in batches:
            store.journal.accept(batch)
        if merge:
            merge_all(store)
        store.close()

    return prepare


def _crashed(batches: Sequence[Batch]) -> Callable[[Path], None]:
    """A store as kill -9 leaves it: a WAL, a file not yet forgotten, a temporary half written."""

    def prepare(path: Path) -> None:
        live = path.with_name(f"{path.name}-live")
        store = open_store(live)
        for batch in batches:
            store.journal.accept(batch)
        for merge in plan_merges(store.layout, BTC, store.journal.take(BTC)):
            store.write(merge)
        (live / ".kline_trio" / "tmp" / "half.tmp").write_bytes(b"PAR1 half of it")
        shutil.copytree(live, path)
        store.close()
        shutil.rmtree(live)

    return prepare


def _accept_and_merge(batches: Sequence[Batch], layout: str) -> Callable[[Path, Accept], None]:
    def work(path: Path, accept: Accept) -> None:
        store = open_store(path, layout)
        for batch in batches:
            accept(store, batch)
            merge_all(store)
        store.close()

    return work


def _plain(
    name: str, before: Sequence[Batch], after: Sequence[Batch], layout: str = DEFAULT_LAYOUT
) -> Scenario:
    return Scenario(
        name,
        _filled(before, layout, merge=True) if before else _nothing,
        [*before, *after],
        len(before),
        _accept_and_merge(after, layout),
        layout,
    )


def _revise_amid_a_merge(path: Path, accept: Accept) -> None:
    store = open_store(path)
    accept(store, _REVISED[0])
    [merge] = plan_merges(store.layout, BTC, store.journal.take(BTC))
    merged = store.write(merge)
    accept(store, _REVISED[1])
    store.journal.forget(merged, merge.pending)
    accept(store, _REVISED[2])
    merge_all(store)
    store.close()


def _in_small_groups(job: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Files of a few rows have row groups that later merges copy."""

    @functools.wraps(job)
    def smaller(*arguments: _Arguments.args, **more: _Arguments.kwargs) -> None:
        usual, parquet._ROWS_PER_GROUP = parquet._ROWS_PER_GROUP, 4
        try:
            job(*arguments, **more)
        finally:
            parquet._ROWS_PER_GROUP = usual

    return smaller


def _many_commits(path: Path, accept: Accept) -> None:
    store = open_store(path)
    for batch in _SMALL:
        accept(store, batch)
    merge_all(store)
    store.close()


_REVISED = [minutes(0, 4, 1.0), minutes(2, 3, 2.0), minutes(3, 6, 3.0)]
_SMALL = [minutes(n, n + 2, float(n + 1)) for n in range(12)]
_TWO_SERIES = [
    [*receive(BTC, *_of(BTC, n, n + 2, 1.0 + n)), *receive(CHINESE, *_of(CHINESE, n, n + 1, 2.0))]
    for n in range(3)
]
_OVER_A_MONTH = [minutes(1_438, 1_440, 1.0), minutes(1_439, 1_443, 2.0), minutes(1_437, 1_438, 3.0)]

_LATER = 30
_DAMAGE = b"what no reader of ours can make sense of "


def _with_a_damaged_file(path: Path) -> None:
    write_minutes(path, 50, 0).close()
    file = path / "spot_BTCUSDT_1m.pqt"
    content = file.read_bytes()
    file.write_bytes(content[:500] + _DAMAGE + content[500 + len(_DAMAGE) :])


def _with_a_damaged_journal(path: Path) -> None:
    """The page of the table of files, so that every candle can still be read."""
    write_minutes(path, 0, 6).close()
    journal = path / ".kline_trio" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        [[page]] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file'")
        [[size]] = connection.execute("PRAGMA page_size")
    content = bytearray(journal.read_bytes())
    content[(page - 1) * size : page * size] = _DAMAGE.ljust(size, b"Z")
    journal.write_bytes(content)


SCENARIOS = (
    _plain("a first start", [], _TWO_SERIES[:2]),
    _plain("append", [minutes(0, 5)], [minutes(5, 8), minutes(8, 9)]),
    _plain("overlap", [minutes(3, 8)], [minutes(0, 5, 2.0), minutes(7, 9, 3.0)]),
    _plain("two months", _OVER_A_MONTH[:1], _OVER_A_MONTH[1:], LAYOUTS[1]),
    _plain("hive", _TWO_SERIES[:1], _TWO_SERIES[1:], LAYOUTS[2]),
    Scenario("a revision amid a merge", _nothing, _REVISED, 0, _revise_amid_a_merge),
    Scenario(
        "row groups that are kept",
        _in_small_groups(_filled([minutes(0, 10)], DEFAULT_LAYOUT, merge=True)),
        [minutes(0, 10), minutes(9, 13, 2.0), minutes(13, 15)],
        1,
        _in_small_groups(_accept_and_merge([minutes(9, 13, 2.0), minutes(13, 15)], DEFAULT_LAYOUT)),
    ),
    Scenario("many commits", _nothing, _SMALL, 0, _many_commits),
    Scenario(
        "recovery",
        _crashed([minutes(0, 4), minutes(2, 6, 2.0)]),
        [minutes(0, 4), minutes(2, 6, 2.0), minutes(6, 8)],
        2,
        _accept_and_merge([minutes(6, 8)], DEFAULT_LAYOUT),
    ),
    Scenario(
        "a damaged file",
        _with_a_damaged_file,
        [minutes(3, 6, 2.0)],
        0,
        _accept_and_merge([minutes(3, 6, 2.0)], DEFAULT_LAYOUT),
        damaged=_DAMAGE,
    ),
    Scenario(
        "a damaged journal",
        _with_a_damaged_journal,
        [minutes(0, 6), minutes(4, 8, 2.0)],
        1,
        _accept_and_merge([minutes(4, 8, 2.0)], DEFAULT_LAYOUT),
        damaged=_DAMAGE,
    ),
)
