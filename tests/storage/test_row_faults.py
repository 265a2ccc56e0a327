"""The rules of a candle are the same for one candle and for whole columns."""

import math

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import NUMBERS, Candle
from kline_trio.interval import INTERVALS
from kline_trio.storage.row_faults import broken_rules, end_times_ms, is_on_grid
from kline_trio.storage.table import table_of, values_of
from tests.storage.support import BTC, START_MS, make_candle

numbers = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, math.inf, -math.inf, math.nan])
candles = st.builds(
    lambda values, trade_num: attrs.evolve(
        make_candle(START_MS), **dict(zip(NUMBERS, values, strict=True)), trade_num=trade_num
    ),
    st.tuples(*[numbers] * len(NUMBERS)),
    st.sampled_from([-1, 0, 7]),
)


@settings(deadline=None)
@given(st.lists(candles, min_size=1, max_size=20))
def test_a_candle_is_possible_if_its_row_breaks_no_rule(rows: list[Candle]) -> None:
    table = table_of(BTC, rows)
    columns = {name: values_of(table[name]) for name in table.column_names}
    masks = [broken for _, broken in broken_rules(columns)]
    is_broken = np.logical_or.reduce(masks).tolist()
    assert is_broken == [not candle.is_possible(BTC.interval) for candle in rows]


@pytest.mark.parametrize("name", INTERVALS)
def test_the_grid_of_columns_is_the_calendar_s(name: str) -> None:
    interval = INTERVALS[name]
    open_ms = interval.open_time_ms(START_MS)
    moments = np.array([open_ms, open_ms + 1, interval.end_time_ms(open_ms), -1, 2**62], np.int64)
    assert is_on_grid(moments, interval).tolist() == [True, False, True, False, False]
    ends = [interval.end_time_ms(int(ms)) for ms in moments[:3]]
    assert end_times_ms(moments[:3], interval).tolist() == ends
