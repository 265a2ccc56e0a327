"""Rows in any order come out by symbol and time, each key once, in bounded memory."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.lake.schema import rank
from kline_trio.lake.sorted_files import COLUMNS
from kline_trio.lake.sorting import SortedRows, cut, single_rows
from kline_trio.storage.table import BEGIN
from tests.lake.rows import START, minutes, row, table_of


def sorted_by_hand(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    best: dict[tuple[object, object], dict[str, object]] = {}
    for one in rows:
        key = (one["symbol"], one[BEGIN])
        if key not in best or rank(one) > rank(best[key]):
            best[key] = one
    return [best[key] for key in sorted(best)]


def pieces_of(table: pa.Table, size: int) -> "Pieces":
    return Pieces(table, size)


class Pieces:
    """The rows of a table in pieces, which notes how often it was read."""

    def __init__(self, table: pa.Table, size: int) -> None:
        self.table, self.size = table, size
        self.read: list[Sequence[str] | None] = []

    def __call__(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        self.read.append(columns)
        names = COLUMNS.names if columns is None else list(columns)
        for start in range(0, self.table.num_rows, self.size):
            yield self.table.slice(start, self.size).select(names)


keys = st.tuples(st.sampled_from(["A", "B", "BTC", "Ü", "币安"]), st.integers(0, 30))


@settings(deadline=None)
@given(
    st.lists(st.tuples(keys, st.integers(0, 2), st.sampled_from(["stream", "rest", "repair"]))),
    st.integers(1, 40),
    st.integers(1, 7),
)
def test_all_rows_come_out_in_order_and_each_key_once(
    drawn: list[tuple[tuple[str, int], int, str]], most_rows: int, size: int
) -> None:
    rows = [
        row(symbol, START + timedelta(minutes=n), revision=revision, source=source)
        for (symbol, n), revision, source in drawn
    ]
    pieces = pieces_of(table_of(rows), size)
    with tempfile.TemporaryDirectory() as folder:
        found = SortedRows(pieces, len(rows), Path(folder), most_rows)
        out = [one for piece in found for one in piece.to_pylist()]
        assert list(Path(folder).iterdir()) == []
    wanted = [{name: one[name] for name in COLUMNS.names} for one in sorted_by_hand(rows)]
    assert out == wanted
    assert found.read == len(rows)
    assert found.doubled == len(rows) - len(out)


def test_rows_that_do_not_fit_are_read_once_and_given_in_small_pieces(tmp_path: Path) -> None:
    table = minutes([f"S{n:02}" for n in range(20)], START, 50)
    order = list(range(table.num_rows))
    random.Random(1).shuffle(order)
    pieces = pieces_of(table.take(order), 64)
    given_ = list(SortedRows(pieces, 1_000, tmp_path, 120))
    assert pieces.read == [["symbol", BEGIN], None]
    assert max(one.num_rows for one in given_) <= 120
    assert pa.concat_tables(given_).equals(table.select(COLUMNS.names))


def test_a_symbol_that_is_too_large_alone_is_cut_by_time(tmp_path: Path) -> None:
    table = minutes(["A", "B", "C"], START, 1_000)
    pieces = pieces_of(table.take(list(reversed(range(3_000)))), 100)
    given_ = list(SortedRows(pieces, 3_000, tmp_path, 300))
    assert max(one.num_rows for one in given_) <= 300
    assert pa.concat_tables(given_).equals(table.select(COLUMNS.names))


def test_rows_that_fit_are_read_once_and_leave_nothing_on_the_disk(tmp_path: Path) -> None:
    pieces = pieces_of(minutes(["A"], START, 10), 3)
    for _ in SortedRows(pieces, 10, tmp_path, 10):
        assert list(tmp_path.iterdir()) == []
    assert pieces.read == [None]


@given(
    st.dictionaries(st.text("ABC", min_size=1, max_size=3), st.integers(1, 500), min_size=1),
    st.integers(1, 300),
)
def test_buckets_hold_whole_symbols_and_are_not_too_large(
    counted: dict[str, int], most_rows: int
) -> None:
    buckets = cut(counted, 0, 1_000_000, most_rows)
    assert buckets == sorted(buckets, key=lambda one: (one.symbol, one.begin_us))
    assert len(set(buckets)) == len(buckets)
    firsts = [one.symbol for one in buckets]
    for symbol in counted:
        assert max(1, firsts.count(symbol)) == max(1, -(-counted[symbol] // most_rows)) or (
            symbol not in firsts and counted[symbol] <= most_rows
        )
    assert firsts[0] == min(counted)


def test_of_three_rows_of_a_key_the_highest_rank_stays() -> None:
    rows = [
        row("A", START),
        row("B", START, source="rest", close=1),
        row("B", START, source="repair", close=2),
        row("B", START, source="stream", close=3),
        row("B", START + timedelta(minutes=1)),
        row("C", START, revision=1, close=4),
        row("C", START, revision=0, close=5),
    ]
    kept = single_rows(table_of(rows).select(COLUMNS.names))
    assert kept["close"].to_pylist() == [1.0, 2.0, 1.0, 4.0]
