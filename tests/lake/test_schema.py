"""Of two rows for one candle, Python and SQL let the same one win, whatever the order."""

from datetime import UTC, datetime
from typing import Any

import attrs
import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, Source
from kline_trio.lake.schema import CANDLES, TABLES, VALUES, rank, wins
from kline_trio.storage.table import BEGIN, END

Row = dict[str, Any]
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)

# Few values, so that many pairs differ in one column only.
_numbers = st.sampled_from([0.0, 1.0, 1.5, 1e-12]) | st.floats(0, 1e12, allow_subnormal=False)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Any row of one candle."""
    return {
        "trade_type": "spot",
        "symbol": "BTCUSDT",
        "time_interval": "1m",
        "month": "2026-11",
        BEGIN: MOMENT,
        **{name: abs(draw(_numbers)) for name in VALUES if name != "trade_num"},
        "trade_num": draw(st.integers(0, 3) | st.integers(0, 2**63 - 1)),
        END: MOMENT,
        "source": str(draw(st.sampled_from(Source))),
        "revision": draw(st.integers(0, 2)),
    }


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Row, Row]:
    """Two rows of one candle, which often differ in a single column."""
    one = draw(rows())
    changed = draw(st.lists(st.sampled_from([*VALUES, "source", "revision"]), max_size=2))
    other = draw(rows())
    return one, {**one, **{name: other[name] for name in changed}} if changed else other


def won(found: list[tuple[Row, Row]]) -> list[bool]:
    """Return for each pair whether SQL lets the first row win.

    DataFusion's queries, but not its MERGE, refuse a condition so deep; `test_merge.py` uses that.
    """
    with duckdb.connect() as connection:
        for name, at in (("new", 0), ("old", 1)):
            table = pa.Table.from_pylist([pair[at] for pair in found], schema=CANDLES)
            numbers = pa.array(range(len(found)), pa.int64())
            connection.register(name, table.append_column("n", numbers))
        query = f"SELECT {wins('new', 'old')} FROM new JOIN old ON new.n = old.n ORDER BY new.n"
        return [value for (value,) in connection.execute(query).fetchall()]


@settings(max_examples=30, deadline=None)
@given(found=st.lists(pairs(), min_size=1, max_size=200))
def test_sql_and_python_rank_alike(found: list[tuple[Row, Row]]) -> None:
    assert won(found) == [rank(new) > rank(old) for new, old in found]


@given(pairs())
def test_of_two_rows_that_differ_just_one_wins(pair: tuple[Row, Row]) -> None:
    one, other = pair
    assert [rank(one) > rank(other), rank(other) > rank(one)].count(True) == (one != other)


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        ({"source": "stream", "revision": 2}, {"source": "repair", "revision": 1}),
        ({"source": "repair"}, {"source": "stream", "trade_num": 99}),
        ({"source": "archive", "revision": 1}, {"source": "stream", "revision": 0}),
        ({"source": "stream"}, {"source": "rest"}),
        ({"source": "rest"}, {"source": "archive"}),
        ({"trade_num": 8}, {"trade_num": 7, "volume": 99.0}),
        ({"volume": 2.0}, {"volume": 1.0, "close": 99.0}),
    ],
    ids=str,
)
def test_the_rule_is_the_documented_one(winner: Row, loser: Row) -> None:
    base: Row = {"source": "stream", "revision": 0, **dict.fromkeys(VALUES, 1.0), "trade_num": 7}
    assert rank({**base, **winner}) > rank({**base, **loser})


def test_each_value_of_a_candle_is_a_column_and_can_decide() -> None:
    fields = {field.name for field in attrs.fields(Candle)} - {"open_time_ms"}
    assert set(VALUES) == fields
    base: Row = {"source": "stream", "revision": 0, **dict.fromkeys(VALUES, 1.0)}
    for name in VALUES:
        assert rank({**base, name: 2.0}) > rank(base), name


def test_all_times_are_those_that_delta_has() -> None:
    for name, (columns, partitions) in TABLES.items():
        assert set(partitions) <= set(columns.names), name
        for field in columns:
            if pa.types.is_timestamp(field.type):
                assert field.type == pa.timestamp("us", "UTC"), (name, field)
