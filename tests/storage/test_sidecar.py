"""Small tables beside the candles."""

import pyarrow as pa
import pytest

from kline_trio.storage import sidecar
from kline_trio.storage.sidecar import TIME, as_table, as_tables

_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("text", pa.string()),
    ("number", pa.int64()),
    ("price", pa.float64()),
]
_WANTED = pa.schema(_COLUMNS)
_ROWS = [("a", 1, 0.5), (None, -(2**62), None), ("币安人生", None, 1e300), ("", 0, -2.0)] * 3


@pytest.mark.parametrize("count", range(len(_ROWS) + 1))
def test_a_table_has_the_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of any length, numbers, and None in every column."""
    monkeypatch.setattr(sidecar, "_ROWS", 5)
    rows = [dict(zip(_WANTED.names, row, strict=True)) for row in _ROWS[:count]]
    table = as_table(_ROWS[:count], _WANTED)
    table.validate(full=True)
    assert table.equals(pa.Table.from_pylist(rows, schema=_WANTED))
    assert [one.num_rows for one in as_tables(_ROWS[:count], _WANTED)] == [
        min(5, count - begin) for begin in range(0, count, 5)
    ]


def test_times_are_milliseconds() -> None:
    wanted = pa.schema([("time", TIME)])
    table = as_table([(5,), (None,)], wanted)
    assert table.equals(pa.Table.from_pylist([{"time": 5}, {"time": None}], schema=wanted))
