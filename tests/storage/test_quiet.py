"""Runs without trades where trades are to be expected, and those that are harmless."""

import gzip
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kline_trio.candle import Candle, Series
from kline_trio.exchange.archive import unpacked
from kline_trio.interval import Span
from kline_trio.storage.archive_rows import read_csv
from kline_trio.storage.quiet import quiet_runs, sifted
from kline_trio.storage.table import open_times_ms, table_of

BTC = Series("spot", "BTCUSDT", "1m")
MINUTE_MS = 60_000
DATA = Path(__file__).resolve().parents[2] / "../shared/data/klines"


def runs(*pieces: tuple[int, int]) -> list[tuple[int, int]]:
    """The quiet runs among rows, given as pairs of count and number of trades of each row."""
    trade_nums = [trades for count, trades in pieces for _ in range(count)]
    return [(one.first, one.end) for one in quiet_runs(np.array(trade_nums, np.int64))]


def test_flat_minutes_among_busy_ones_are_suspicious() -> None:
    """The 13 and the 4 minutes of USD-M's files of 2025-01-29."""
    assert runs((300, 900), (13, 0), (80, 700), (4, 0), (500, 800)) == [(300, 313), (393, 397)]


def test_one_flat_row_is_enough_where_more_than_50_trades_are_expected() -> None:
    assert runs((100, 51), (1, 0), (100, 51)) == [(100, 101)]
    assert runs((100, 50), (1, 0), (100, 50)) == []


def test_the_quiet_of_an_illiquid_symbol_is_harmless() -> None:
    assert runs(*[(1, 1), (9, 0)] * 1_000) == []
    assert runs((600, 0), (1, 5), (600, 0)) == []


def test_the_rate_is_that_of_as_many_rows_on_each_side_as_the_run_has() -> None:
    """A symbol that is busy by day and sleeps by night."""
    assert runs((600, 10), (600, 0), (600, 0), (600, 10)) == [(600, 1_800)]
    assert runs((1_000, 100), (200, 0), (1, 1), (4, 0), (1, 1), (200, 0)) == [(1_000, 1_200)]


def test_a_run_at_either_end_is_judged_by_the_other_side() -> None:
    assert runs((5, 0), (100, 30), (5, 0)) == [(0, 5), (105, 110)]


def test_where_all_is_flat_nothing_speaks_for_it() -> None:
    assert runs((1_440, 0)) == [(0, 1_440)]
    assert runs((1, 0)) == [(0, 1)]
    assert runs() == []


def test_quiet_rows_are_left_out_and_their_spans_are_told() -> None:
    candles = [
        Candle(n * MINUTE_MS, 2, 2, 2, 2, 1, 1, 0 if 100 <= n < 110 else 90, 1, 1)
        for n in range(300)
        if n != 105
    ]
    sifting = sifted(table_of(BTC, candles), BTC)
    quiet = (Span(100 * MINUTE_MS, 105 * MINUTE_MS), Span(106 * MINUTE_MS, 110 * MINUTE_MS))
    assert tuple(span for span, _ in sifting.quiet) == quiet
    assert [expected for _, expected in sifting.quiet] == [810, 810]
    left = [ms // MINUTE_MS for ms in open_times_ms(sifting.believed)]
    assert left == [*range(100), *range(110, 300)]


def test_a_month_of_seconds_with_thousands_of_harmless_runs_costs_little() -> None:
    trade_nums = np.zeros(2_678_400, np.int64)
    trade_nums[::7] = 1
    began = time.process_time()
    assert quiet_runs(trade_nums) == []
    assert time.process_time() - began < 2


def real(name: str, series: Series, span: Span) -> pa.Table:
    file = DATA / series.trade_type / name
    if not file.exists():
        pytest.skip(f"REAL DATA ABSENT: {file.name}")
    content = file.read_bytes()
    text = gzip.decompress(content) if name.endswith(".gz") else unpacked(content)
    return read_csv(text, series, span).table


def test_the_halt_of_2023_03_24_is_looked_at_and_nothing_else_of_that_day() -> None:
    begin_ms = 1_679_616_000_000
    table = real("BTCUSDT-1m-2023-03-24.zip", BTC, Span(begin_ms, begin_ms + 86_400_000))
    [(span, _)] = sifted(table, BTC).quiet
    first_ms = begin_ms + (11 * 60 + 28) * MINUTE_MS
    assert span == Span(first_ms, first_ms + 72 * MINUTE_MS)


def test_the_19_flat_minutes_of_filusdt_are_looked_at_and_few_other_of_that_month() -> None:
    series = Series("usdt_futures", "FILUSDT", "1m")
    month = Span(1_693_526_400_000, 1_696_118_400_000)
    table = real("FILUSDT-1m-2023-09.csv.gz", series, month)
    sifting = sifted(table, series)
    first_ms = 1_694_476_800_000 + (8 * 60 + 34) * MINUTE_MS
    spans = [span for span, _ in sifting.quiet]
    assert Span(first_ms, first_ms + 19 * MINUTE_MS) in spans
    assert len(spans) < 20
