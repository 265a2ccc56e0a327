"""Rows go into the spool by month, and come out by series."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kline_trio.candle import Series
from kline_trio.lake import spool
from kline_trio.lake.spool import COLUMNS, Spool


def rows(
    symbols: Sequence[str], times: Sequence[int]
) -> tuple["pa.DictionaryArray[Any, Any]", pa.Table]:
    values = {name: [float(time) for time in times] for name in COLUMNS.names[1:-2]}
    columns: dict[str, Any] = {COLUMNS.names[0]: times, **values, "source": [0] * len(times)}
    columns["trade_num"] = list(times)
    columns["revision"] = [1] * len(times)
    table = pa.table({name: columns[name] for name in COLUMNS.names}, schema=COLUMNS)
    return pa.array(symbols, pa.string()).dictionary_encode(), table


def times_of(table: pa.Table) -> list[Any]:
    return table["trade_num"].to_pylist()


@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_each_series_comes_out_whole_and_part_by_part(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROWS_AT_ONCE", at_once)
    drawn, one = random.Random(1), Spool(tmp_path)
    wanted: dict[Series, list[list[int]]] = {}
    for part in range(3):
        one.begin_part("spot", "1m")
        for batch in range(4):
            times = [part * 1_000 + batch * 100 + n for n in range(drawn.randint(0, 20))]
            symbols = [drawn.choice(["B", "A", "币"]) for _ in times]
            one.add(*rows(symbols, times))
            for symbol, time in zip(symbols, times, strict=True):
                parts = wanted.setdefault(Series("spot", symbol, "1m"), [[], [], []])
                parts[part].append(time)
    one.flush()
    assert one.rows == {series: sum(map(len, parts)) for series, parts in wanted.items()}
    for series, parts in wanted.items():
        found = list(one.take(series))
        assert [times_of(table) for table in found] == [part for part in parts if part]
        assert all(table.schema == COLUMNS for table in found)
    assert list(tmp_path.iterdir()) == []


def test_markets_and_intervals_do_not_mix(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    kinds = [("spot", "1m"), ("spot", "1M"), ("usdt_futures", "1m")]
    for n, (trade_type, interval) in enumerate(kinds):
        one.begin_part(trade_type, interval)
        one.add(*rows(["A"], [n]))
    one.flush()
    for n, (trade_type, interval) in enumerate(kinds):
        [table] = one.take(Series(trade_type, "A", interval))
        assert times_of(table) == [n]


def test_a_series_without_rows_has_no_tables(tmp_path: Path) -> None:
    assert list(Spool(tmp_path).take(Series("spot", "A", "1m"))) == []
