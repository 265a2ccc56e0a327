"""Compacted files: cut at symbols, with row groups of whole symbols and true statistics."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.lake import sorted_files
from kline_trio.lake.sorted_files import COLUMNS, row_groups, write_sorted
from kline_trio.storage.table import BEGIN, END
from tests.lake.rows import START, minutes, row, table_of

SYMBOLS = [f"S{n:02}" for n in range(12)]


def pieces(table: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, size):
        yield table.slice(start, size).select(COLUMNS.names)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_files, "LEAST_GROUP_ROWS", 100)
    monkeypatch.setattr(sorted_files, "MOST_GROUP_ROWS", 250)


@pytest.mark.usefixtures("small_groups")
@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(1, 900))
def test_row_groups_hold_whole_symbols_unless_one_is_too_large(
    counts: list[int], size: int
) -> None:
    table = pa.concat_tables(
        minutes([f"S{n}"], START, count) for n, count in enumerate(counts)
    ).select(COLUMNS.names)
    found = list(row_groups(table.slice(at, size) for at in range(0, table.num_rows, size)))
    assert pa.concat_tables(found).equals(table)
    assert max(one.num_rows for one in found) <= 250
    for one in found[:-1]:
        # Small groups are only those before a symbol that would not have fitted.
        assert one.num_rows >= 100 or size < 250 or max(counts) > 150


@pytest.mark.usefixtures("small_groups")
def test_a_file_ends_at_the_first_symbol_after_its_size(tmp_path: Path) -> None:
    table = minutes(SYMBOLS, START, 300)
    seen: list[pa.Table] = []
    for one in write_sorted(pieces(table, 77), tmp_path, target_bytes=4_000):
        assert list(tmp_path.iterdir()) == [one.path]  # one file is on the disk at once
        assert one.path.name.startswith("sorted-")
        seen.append(pq.read_table(one.path, partitioning=None))
        assert one.rows == seen[-1].num_rows
        one.path.unlink()
    assert len(seen) > 2
    ends = [(one["symbol"][0].as_py(), one["symbol"][-1].as_py()) for one in seen]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))
    assert (
        pa.concat_tables(seen)
        .select(COLUMNS.names)
        .cast(COLUMNS)
        .equals(table.select(COLUMNS.names))
    )


def test_a_file_says_its_least_and_greatest_values_and_its_nulls(tmp_path: Path) -> None:
    table = minutes(["A", "B"], START, 3).select(COLUMNS.names)
    at = table.schema.get_field_index("open")
    table = table.set_column(at, "open", pa.array([None, 2.0, 0.5, float("nan"), 1.0, 1.0]))
    [one] = write_sorted([table], tmp_path)
    stats = json.loads(one.stats)
    assert stats["numRecords"] == 6
    assert (stats["minValues"]["symbol"], stats["maxValues"]["symbol"]) == ("A", "B")
    assert stats["minValues"][BEGIN] == "2026-10-01T00:00:00.000000Z"
    assert stats["maxValues"][END] == "2026-10-01T00:03:00.000000Z"
    assert (stats["minValues"]["open"], stats["maxValues"]["open"]) == (0.5, 2.0)
    assert stats["nullCount"]["open"] == 1
    assert stats["nullCount"]["close"] == 0
    assert set(stats["nullCount"]) == set(COLUMNS.names)


def test_values_that_are_all_null_or_infinite_have_no_least_one(tmp_path: Path) -> None:
    table = table_of([row("A", START, close=float("inf"))]).select(COLUMNS.names)
    at = table.schema.get_field_index("open")
    table = table.set_column(at, "open", pa.nulls(1, pa.float64()))
    [one] = write_sorted([table], tmp_path)
    stats = json.loads(one.stats, parse_constant=pytest.fail)
    assert "open" not in stats["minValues"]
    assert "close" not in stats["maxValues"]
    assert stats["nullCount"]["open"] == 1


@pytest.mark.usefixtures("small_groups")
def test_the_row_groups_of_a_symbol_are_found_by_statistics_and_pages(tmp_path: Path) -> None:
    [one] = write_sorted(pieces(minutes(SYMBOLS, START, 120), 1_000), tmp_path)
    with pq.ParquetFile(one.path) as parquet:
        symbol = parquet.schema_arrow.get_field_index("symbol")
        assert parquet.num_row_groups == len(SYMBOLS)
        for n, name in enumerate(SYMBOLS):
            column = parquet.metadata.row_group(n).column(symbol)
            assert column.statistics is not None
            assert (column.statistics.min, column.statistics.max) == (name, name)
            assert column.has_offset_index
            assert column.compression == "ZSTD"
        found = pq.read_table(one.path, filters=[("symbol", "=", "S05")], partitioning=None)
    assert found.num_rows == 120
    assert pc.unique(found["symbol"]).to_pylist() == ["S05"]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert list(write_sorted([], tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
