"""Months that were pruned from a store are read from the lake that has them, or not at all."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import kline_trio
from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span
from kline_trio.lake.location import Location
from kline_trio.lake.tables import made_table, open_table
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.store import Store
from tests.lake.filling import lake_in, publish_candles, publish_store
from tests.lake.servers import Server, environment_of, location_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    MONTHLY,
    at,
    child_environment,
    make_candle,
    merge_all,
    minutes,
    month_of,
    nth_open_time_ms,
    open_store,
    prune,
    receive,
)

ETH = Series("spot", "ETHUSDT", "1m")
FIRST, NEXT, END = 1_430, 1_440, 1_460
NAMES = ("spot", "BTCUSDT")


def fill(store: Store) -> None:
    """BTC in two months without two minutes, ETH in the first one alone, and a monthly series."""
    came = [n for n in range(FIRST, END) if n not in {1_433, 1_445}]
    for n in came:
        store.journal.accept(minutes(n, n + 1, float(n)))
    store.journal.accept(receive(ETH, *(make_candle(at(n), 5.0) for n in range(FIRST, NEXT))))
    monthly = [make_candle(nth_open_time_ms(MONTHLY, n), 2.0) for n in range(2)]
    store.journal.accept(receive(MONTHLY, *monthly))
    merge_all(store)


def of_lake(location: Location, address: dict[str, Any], *months: Pruned) -> list[Pruned]:
    """Return months as the lake has them."""
    table = made_table(location, "candles")
    return [attrs.evolve(one, lake=table.id, version=table.delta.version()) for one in months]


def prune_published(store: Store, lake: Path, *months: Pruned) -> None:
    address = {"folder": str(lake)}
    there = of_lake(lake_in(lake), address, *months)
    prune(store, *there, address=json.dumps(address))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    """A store that is published, and the folder of the lake."""
    store = open_store(tmp_path / "data", LAYOUTS[1])
    fill(store)
    publish_store(store, lake_in(tmp_path / "lake"))
    yield store, tmp_path / "lake"
    store.close()


JANUARY = (month_of(rows=9), month_of(ETH, rows=10), month_of(MONTHLY, rows=1))
READS: list[dict[str, Any]] = [
    {},
    {"index": "begin"},
    {"result": "arrow"},
    {"result": "polars"},
    {"start": "2024-01-31 23:55", "end": "2024-02-01 00:06"},
    {"start": "2024-01-31 23:55:30", "end": "2024-01-31 23:58"},
    {"start": "2024-02-01"},
    {"start": "2024-02-01", "end": "2024-01-01"},
    {"missing": "null"},
    {"columns": ["close", "volume"]},
    {"symbols": ["ETHUSDT", "BTCUSDT"]},
    {"symbols": ["ETHUSDT"], "result": "arrow", "missing": "null"},
    {"symbols": ["ETHUSDT", "BTCUSDT"], "result": "polars", "columns": "close"},
    {"time_interval": "1mo"},
]


@pytest.mark.parametrize("options", READS, ids=str)
def test_a_read_with_the_lake_is_as_before_the_months_were_pruned(
    pair: tuple[Store, Path], options: dict[str, Any]
) -> None:
    store, lake = pair
    options = options if "symbols" in options else {**options, "symbol": "BTCUSDT"}
    before = kline_trio.read(store.path, "spot", **options)
    prune_published(store, lake, *JANUARY)
    found = kline_trio.read(store.path, "spot", lake=True, **options)
    if isinstance(before, pd.DataFrame):
        pd.testing.assert_frame_equal(found, before)
    else:
        assert type(found) in (pa.Table, pl.DataFrame)
        assert found.equals(before)
        assert found.schema == before.schema
    of_the_lake = kline_trio.read(lake, "spot", lake=True, **options)
    assert len(of_the_lake) == len(before)


def test_missing_candles_are_named_as_before(pair: tuple[Store, Path]) -> None:
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    with pytest.raises(KlineTrioError, match="2 candles of spot BTCUSDT-1m are missing"):
        kline_trio.read(store.path, *NAMES, missing="raise", lake=True)


def test_a_store_without_pruned_months_asks_no_lake(pair: tuple[Store, Path]) -> None:
    store, lake = pair
    prune_published(store, lake, JANUARY[1])
    lake.rename(lake.with_name("gone"))
    assert len(kline_trio.read(store.path, *NAMES, lake=True)) == 28
    late = kline_trio.read(store.path, *NAMES, start="2024-02", lake=True)
    assert len(late) == 19


def test_the_row_of_the_store_wins(pair: tuple[Store, Path]) -> None:
    """It came after the month was pruned, and is not published yet."""
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    store.journal.accept(minutes(FIRST, FIRST + 1, 77.0))
    found = kline_trio.read(store.path, *NAMES, lake=True)
    assert (len(found), found["close"].iloc[0]) == (28, 77.0)
    merge_all(store)
    assert kline_trio.read(store.path, *NAMES, lake=True).equals(found)


def test_months_between_pruned_ones_are_the_stores_own(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", LAYOUTS[1])
    months = [month_of(month=f"2024-{n:02}", rows=1) for n in (1, 2, 3, 4)]
    for n, one in enumerate(months):
        store.journal.accept(receive(BTC, make_candle(one.span.from_ms, float(n))))
    merge_all(store)
    publish_store(store, lake_in(tmp_path / "lake"))
    # The lake has a candle of the third month that the store lacks.
    extra = receive(BTC, make_candle(months[2].span.from_ms + 60_000, 9.0))
    publish_candles(tmp_path / "other", tmp_path / "lake", extra, "rec-b")
    prune_published(store, tmp_path / "lake", months[0], months[1], months[3])
    with pytest.raises(KlineTrioError, match="2024-01 to 2024-02, 2024-04: in the lake alone"):
        kline_trio.read(store.path, *NAMES)
    found = kline_trio.read(store.path, *NAMES, lake=True)
    assert list(found["close"]) == [0.0, 1.0, 2.0, 3.0]
    store.close()


def test_the_lake_may_have_more_candles(pair: tuple[Store, Path], tmp_path: Path) -> None:
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    publish_candles(tmp_path / "other", lake, minutes(1_433, 1_434, 9.0), "rec-b")
    assert len(kline_trio.read(store.path, *NAMES, lake=True)) == 29


@pytest.mark.parametrize("end", [None, "2024-01-31 23:51"])
def test_a_lake_with_fewer_candles_is_refused(pair: tuple[Store, Path], end: str | None) -> None:
    """Also if all that were asked for are there: the month is not what it was."""
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    DeltaTable(str(lake / "candles")).delete(
        "symbol = 'BTCUSDT' AND candle_begin_time = arrow_cast('2024-01-31T23:57:00', "
        "'Timestamp(Microsecond, Some(\"UTC\"))')"
    )
    problem = f"{lake}: has 8 of 9 candles of spot BTCUSDT-1m 2024-01, which was pruned here"
    with pytest.raises(KlineTrioError) as caught:
        kline_trio.read(store.path, *NAMES, end=end, lake=True)
    assert str(caught.value) == problem
    DeltaTable(str(lake / "candles")).delete("month = '2024-01'")
    with pytest.raises(KlineTrioError, match="has 0 of 9 candles"):
        kline_trio.read(store.path, *NAMES, end=end, lake=True)


def test_a_lake_that_is_gone_or_another_one_is_refused(
    pair: tuple[Store, Path], tmp_path: Path
) -> None:
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    lake.rename(tmp_path / "moved")
    with pytest.raises(KlineTrioError, match="lake/candles: is gone"):
        kline_trio.read(store.path, *NAMES, lake=True)
    publish_candles(tmp_path / "other", lake, minutes(0, 1))
    with pytest.raises(KlineTrioError, match="is another lake than the one"):
        kline_trio.read(store.path, *NAMES, lake=True)


def test_a_lake_that_was_set_back_is_refused(pair: tuple[Store, Path]) -> None:
    store, lake = pair
    months = [attrs.evolve(one, version=999) for one in JANUARY]
    table = open_table(lake_in(lake), "candles")
    assert table is not None
    address = json.dumps({"folder": str(lake)})
    prune(store, *(attrs.evolve(one, lake=table.id) for one in months), address=address)
    with pytest.raises(KlineTrioError, match="was at 999 when it was read"):
        kline_trio.read(store.path, *NAMES, lake=True)


def test_a_store_without_the_address_says_so(pair: tuple[Store, Path]) -> None:
    store, _ = pair
    store.journal.keep_pruned(JANUARY, {})
    with pytest.raises(KlineTrioError, match="its address is not known"):
        kline_trio.read(store.path, *NAMES, lake=True)


def test_without_the_extra_the_error_names_it(pair: tuple[Store, Path]) -> None:
    store, lake = pair
    prune_published(store, lake, *JANUARY)
    code = (
        "import sys\n"
        "sys.modules['deltalake'] = None\n"
        "import kline_trio\n"
        "kline_trio.read(sys.argv[1], 'spot', 'BTCUSDT', lake=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path)],
        env=child_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "pip install 'kline-trio[lake]'" in done.stderr.splitlines()[-1]


def test_months_are_read_from_an_object_store(
    memory: Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is the journal's; the credentials are the reader's."""
    store = open_store(tmp_path / "data", LAYOUTS[1])
    fill(store)
    location = location_of(memory, prefix)
    publish_store(store, location)
    before = kline_trio.read(store.path, *NAMES)
    table = open_table(location, "candles")
    assert table is not None
    address = json.dumps({"url": location.url, "endpoint": memory.endpoint})
    prune(store, *(attrs.evolve(one, lake=table.id, version=0) for one in JANUARY), address=address)
    with pytest.raises(KlineTrioError, match="no credentials"):
        kline_trio.read(store.path, *NAMES, lake=True)
    for name, value in environment_of(memory).items():
        if name != "AWS_ENDPOINT_URL":
            monkeypatch.setenv(name, value)
    pd.testing.assert_frame_equal(kline_trio.read(store.path, *NAMES, lake=True), before)
    store.close()


def test_weeks_are_read_by_the_month_in_which_they_open(tmp_path: Path) -> None:
    weekly = Series("spot", "BTCUSDT", "1w")
    store = open_store(tmp_path / "data", LAYOUTS[1])
    month = month_of(weekly, rows=5)
    begins = [*weekly.interval.open_times_ms(Span(month.span.from_ms, month.span.to_ms + 1))]
    store.journal.accept(receive(weekly, *(make_candle(ms) for ms in begins)))
    merge_all(store)
    publish_store(store, lake_in(tmp_path / "lake"))
    before = kline_trio.read(store.path, "spot", "BTCUSDT", "1w")
    prune_published(store, tmp_path / "lake", month)
    found = kline_trio.read(store.path, "spot", "BTCUSDT", "1w", lake=True)
    assert len(found) == 6
    pd.testing.assert_frame_equal(found, before)
    store.close()
