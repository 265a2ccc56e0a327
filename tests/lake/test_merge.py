"""MERGE is a join: rows of any recorders, in any order and repeated, leave the greatest per key."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Source
from kline_trio.lake.errors import ConflictError
from kline_trio.lake.location import Location
from kline_trio.lake.merge import _merged, literal, match, merge_rows, moment
from kline_trio.lake.schema import CANDLES, KEY, VALUES, rank
from kline_trio.lake.tables import MOST_TRIES
from kline_trio.storage.table import BEGIN, END
from tests.lake.servers import Fault, LossyProxy, Request, Server, location_of
from tests.lake.support import Row, by_key, lake_candles, no_pause

SYMBOLS = ("AUSDT", "BUSDT", "币安人生USDT")
MONTH_END = datetime(2026, 11, 1, tzinfo=UTC)


def row(minute: int, symbol: str = "AUSDT", market: str = "spot", **changes: Any) -> Row:  # noqa: ANN401
    """The candle of a minute before or after a month's end, with other values in some columns."""
    begin = MONTH_END + timedelta(minutes=minute)
    return {
        "trade_type": market,
        "symbol": symbol,
        "time_interval": "1m",
        "month": f"{begin:%Y-%m}",
        BEGIN: begin,
        **dict.fromkeys(VALUES, 1.0),
        "trade_num": 7,
        END: begin + timedelta(minutes=1),
        "source": "stream",
        "revision": 0,
        **changes,
    }


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=CANDLES)


def greatest(batches: list[list[Row]]) -> list[Row]:
    """Return what the lake has to hold after these batches."""
    found: dict[tuple[object, ...], Row] = {}
    for batch in batches:
        for one in batch:
            key = tuple(one[name] for name in KEY)
            if key not in found or rank(one) > rank(found[key]):
                found[key] = one
    return by_key(table(list(found.values())))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Row]]:
    """What recorders that disagree publish: each key once in a batch."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        keys = draw(
            st.sets(
                st.tuples(
                    st.integers(-3, 3),
                    st.sampled_from(SYMBOLS),
                    st.sampled_from(["spot", "usdt_futures"]),
                ),
                min_size=1,
                max_size=8,
            )
        )
        found.append(
            [
                row(
                    *key,
                    source=str(draw(st.sampled_from(Source))),
                    revision=draw(st.integers(0, 2)),
                    trade_num=draw(st.integers(6, 8)),
                    close=draw(st.sampled_from([1.0, 1.5])),
                )
                for key in sorted(keys)
            ]
        )
    return found


@settings(max_examples=15, deadline=None)
@given(found=batches(), seed=st.integers(0, 2**32))
def test_any_order_and_repetition_leaves_the_greatest_row_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, found: list[list[Row]], seed: int
) -> None:
    location = Location(str(tmp_path_factory.mktemp("lake")))
    order = random.Random(seed).sample(found * 2, 2 * len(found))
    for batch in order:
        merge_rows(location, table(batch), no_pause)
    assert lake_candles(location) == greatest(found)


def test_the_counts_are_those_of_the_rows_that_changed(lake: Location) -> None:
    assert merge_rows(lake, table([row(0), row(1)]), no_pause) == (2, 0)
    better = row(1, trade_num=8)
    assert merge_rows(lake, table([row(0), better, row(2)]), no_pause) == (1, 1)
    assert lake_candles(lake) == by_key(table([row(0), better, row(2)]))


def test_rows_that_change_nothing_make_no_commit(lake: Location) -> None:
    rows = table([row(minute) for minute in range(-2, 2)])
    merge_rows(lake, rows, no_pause)
    delta = DeltaTable(lake.table_url("candles"), storage_options=lake.table_options())
    before = delta.version()
    assert merge_rows(lake, rows, no_pause) == (0, 0)
    assert merge_rows(lake, table([row(0, trade_num=6)]), no_pause) == (0, 0)
    delta.update_incremental()
    assert delta.version() == before


def test_no_rows_ask_nothing_of_the_lake(folder_lake: Location) -> None:
    assert merge_rows(folder_lake, CANDLES.empty_table(), no_pause) == (0, 0)
    assert not DeltaTable.is_deltatable(folder_lake.table_url("candles"))


def test_a_row_whose_symbol_has_a_quotation_mark_stays_a_literal() -> None:
    """No symbol of the exchange has one; a lake of somebody else's could."""
    assert literal("a'b") == "'a''b'"
    assert "old.symbol >= 'a''b'" in match(table([row(0, "a'b")]))


def test_the_condition_names_times_and_symbols_of_each_partition() -> None:
    condition = match(table([row(-1), row(2, "BUSDT"), row(1)]))
    assert condition.count("old.month = '2026-10'") == 1
    assert condition.count("old.month = '2026-11'") == 1
    assert moment(MONTH_END + timedelta(minutes=1)) in condition
    assert moment(MONTH_END + timedelta(minutes=2)) in condition


@pytest.mark.parametrize(
    ("other", "is_refused"),
    [
        (row(1, trade_num=8), True),
        # Between the two, so that the first one's bounds hold it.
        (row(2), True),
        (row(9), False),
        (row(1, "BUSDT"), False),
        (row(-1), False),
        (row(1, market="usdt_futures"), False),
    ],
)
def test_of_two_merges_from_one_version_the_second_is_refused_if_it_may_have_the_same_keys(
    folder_lake: Location, other: Row, *, is_refused: bool
) -> None:
    merge_rows(folder_lake, table([row(5)]), no_pause)
    first, second = (DeltaTable(folder_lake.table_url("candles")) for _ in range(2))
    rows, others = table([row(1), row(3)]), table([other])
    _merged(first, rows, match(rows))
    if is_refused:
        with pytest.raises(CommitFailedError):
            _merged(second, others, match(others))
    else:
        _merged(second, others, match(others))
    merge_rows(folder_lake, others, no_pause)
    assert lake_candles(folder_lake) == greatest([[row(5), row(1), row(3)], [other]])


@pytest.mark.parametrize("kind", ["folder_lake", "seaweed_lake"])
def test_four_recorders_at_once_leave_each_key_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    location = request.getfixturevalue(kind)
    found = [
        [
            [row(minute, trade_num=7 + (minute + recorder) % 3) for minute in range(n, n + 6)]
            for n in (-4, 0, 3)
        ]
        for recorder in range(4)
    ]

    def publish(batches: list[list[Row]]) -> None:
        for batch in batches:
            merge_rows(location, table(batch), no_pause)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, found))
    assert lake_candles(location) == greatest([batch for one in found for batch in one])


def test_a_lost_answer_of_the_commit_is_retried_and_the_rows_are_there_once(
    lossy: tuple[LossyProxy, Server], prefix: str
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    merge_rows(location, table([row(0)]), no_pause)

    def lose_commits(request: Request) -> Fault | None:
        is_commit = request.method == "PUT" and request.path.endswith("00002.json")
        return Fault.LOST_REPLY if is_commit and not proxy.faults else None

    proxy.start_anew(lose_commits)
    pauses: list[int] = []
    merge_rows(location, table([row(0), row(1)]), pauses.append)
    assert proxy.faults == 1
    assert lake_candles(location) == by_key(table([row(0), row(1)]))


def test_a_commit_that_always_conflicts_is_given_up_with_a_conflict(
    lossy: tuple[LossyProxy, Server], prefix: str
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    merge_rows(location, table([row(0)]), no_pause)
    proxy.start_anew(
        lambda request: (
            Fault.ANSWER_412 if request.method == "PUT" and "_log" in request.path else None
        )
    )
    pauses: list[int] = []
    with pytest.raises(ConflictError):
        merge_rows(location, table([row(1)]), pauses.append)
    assert pauses == list(range(1, MOST_TRIES))
    proxy.start_anew()
    assert lake_candles(location) == by_key(table([row(0)]))
