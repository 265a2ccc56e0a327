"""A series read a stretch at a time is the series read at once; CSV loses no bit of it."""

import csv
import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import MAX_TIME_MS, Candle
from kline_trio.interval import Span
from kline_trio.storage import export
from kline_trio.storage.export import COLUMNS, csv_of, header, stored_series
from kline_trio.storage.table import candles_of, table_of
from tests.storage.support import (
    BTC,
    CHINESE,
    LAYOUTS,
    MONTHLY,
    START_MS,
    candles,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
    write_minutes,
)

ALL = Span(0, MAX_TIME_MS)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of 97 candles."""
    monkeypatch.setattr(export, "_STRETCH_ROWS", 97)


def read_in_stretches(path: Path, span: Span = ALL) -> list[Candle]:
    tables = list(stored_series(path)[BTC].tables(span))
    assert all(0 < table.num_rows <= export._STRETCH_ROWS for table in tables)
    return [one for table in tables for one in candles_of(table)]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_stretches_together_are_all_of_a_series(tmp_path: Path, layout: str) -> None:
    """The month and the day end within these candles."""
    store = write_minutes(tmp_path, 1_450, 30, layout)
    expected = candles_of(kline_trio.read(tmp_path, "spot", "BTCUSDT", "1m", result="arrow"))
    assert len(expected) == 1_480
    assert read_in_stretches(tmp_path) == expected
    store.close()
    part = Span(START_MS + 90_000, START_MS + 1_445 * 60_000)
    assert read_in_stretches(tmp_path, part) == expected[2:1_445]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_candles_that_a_merge_moves_meanwhile_are_not_lost(tmp_path: Path, layout: str) -> None:
    """Into a file that was not there at the first look, and into one that was."""
    store = write_minutes(tmp_path, 1_430, 40, layout)
    tables = stored_series(tmp_path)[BTC].tables(ALL)
    found = candles_of(next(tables))
    store.journal.accept(minutes(1_470, 1_480))
    merge_all(store)
    found += [one for table in tables for one in candles_of(table)]
    store.close()
    assert [one.open_time_ms for one in found] == [START_MS + n * 60_000 for n in range(1_470)]


@pytest.mark.usefixtures("short")
def test_an_empty_time_between_two_candles_is_passed_over(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 2), *minutes(500, 502)])
    merge_all(store)
    store.close()
    assert len(read_in_stretches(tmp_path)) == 4


def test_calendar_months_are_one_stretch(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    times = [nth_open_time_ms(MONTHLY, n) for n in range(30)]
    store.journal.accept(receive(MONTHLY, *map(make_candle, times)))
    merge_all(store)
    store.close()
    [table] = stored_series(tmp_path)[MONTHLY].tables(ALL)
    assert table.num_rows == 30


def test_only_series_and_paths_that_are_wanted_are_looked_at(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 3, 0)
    store.journal.accept(receive(CHINESE, make_candle(nth_open_time_ms(CHINESE, 0))))
    merge_all(store)
    store.close()
    assert list(stored_series(tmp_path)) == [BTC, CHINESE]
    assert list(stored_series(tmp_path, lambda one: one == CHINESE)) == [CHINESE]
    assert list(stored_series(tmp_path, parts=("BTCUSDT",))) == [BTC]
    (tmp_path / "spot_BTCUSDT_1m.pqt").unlink()
    assert list(stored_series(tmp_path)) == [CHINESE]


@given(st.lists(candles(BTC), min_size=1, unique_by=lambda one: one.open_time_ms))
def test_a_csv_gives_back_each_float_bit_for_bit(several: list[Candle]) -> None:
    table = table_of(BTC, sorted(several, key=lambda one: one.open_time_ms))
    text = (header() + csv_of(BTC, table)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    for name in table.column_names:
        ours = table[name].to_pylist()
        if pa.types.is_floating(table.schema.field(name).type):
            assert [float(row[name]) for row in rows] == ours
        elif pa.types.is_timestamp(table.schema.field(name).type):
            assert [pd.Timestamp(row[name]) for row in rows] == ours
        else:
            assert [int(row[name]) for row in rows] == ours


def test_the_columns_are_those_of_the_docs() -> None:
    assert COLUMNS == (
        "trade_type", "symbol", "time_interval", "candle_begin_time", "candle_end_time", "open",
        "high", "low", "close", "volume", "quote_volume", "trade_num",
        "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume",
    )  # fmt: skip
    table = table_of(CHINESE, [make_candle(nth_open_time_ms(CHINESE, 0), 1e-7)])
    line = csv_of(CHINESE, table).decode()
    begin_end = "2024-01-29T00:00:00Z,2024-02-05T00:00:00Z"
    assert line.startswith(f"usdt_futures,币安人生USDT,1w,{begin_end},1e-7,1e-7")
    assert line.endswith(",7,1e-7,1e-7\n")
