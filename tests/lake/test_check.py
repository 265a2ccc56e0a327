"""What a check of a lake finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.lake.check import check
from kline_trio.lake.query import between, equal
from kline_trio.lake.schema import CANDLES
from kline_trio.storage.check import CheckedFile
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.store import Store
from tests.lake.filling import lake_in, publish_candles
from tests.storage.support import (
    BTC,
    COIN,
    MONTHLY,
    absent,
    at,
    make_candle,
    minutes,
    nth_open_time_ms,
    receive,
)

ETH = Series("spot", "ETHUSDT", "1m")


def accounted(*gaps: tuple[int, int]) -> Callable[[Store], None]:
    """BTC is accounted for up to minute 10, with these gaps."""

    def settle(store: Store) -> None:
        store.journal.settle([], {BTC: SeriesAccount(at(0), at(10))})
        store.journal.settle([absent(*gap, reason=Reason.RECORDER_DOWN) for gap in gaps], {})

    return settle


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Ten minutes of BTC, of which 4 and 5 are a gap; and a minute of ETH."""
    candles = [*minutes(0, 4), *minutes(6, 10), *receive(ETH, make_candle(at(3)))]
    publish_candles(tmp_path / "data", tmp_path / "lake", candles, settle=accounted((4, 6)))
    return tmp_path / "lake"


def found(lake: Path) -> list[str]:
    """The faults, as `series or last part of the path: what`."""
    return [
        f"{file.series or file.path.suffix}: {fault.what}"
        for file in check(lake_in(lake))
        for fault in file.faults
    ]


def append(lake: Path, **changes: Any) -> None:  # noqa: ANN401 - of any column
    """One more file, with BTC's first row and other values in some columns."""
    table = DeltaTable(str(lake / "candles"))
    row = next(
        one
        for one in table.to_pyarrow_table().sort_by("candle_begin_time").to_pylist()
        if one["symbol"] == "BTCUSDT"
    )
    rows = pa.Table.from_pylist([{**row, **changes}], schema=CANDLES)
    write_deltalake(table, rows, mode="append")


def minute(count: int) -> dict[str, Any]:
    """The times of BTC's n-th minute."""
    times = pa.array([at(count) * 1_000, at(count + 1) * 1_000], pa.timestamp("us", "UTC"))
    begin, end = times.to_pylist()
    return {"candle_begin_time": begin, "candle_end_time": end}


def test_a_good_lake_has_no_faults_and_all_is_counted(lake: Path) -> None:
    files = list(check(lake_in(lake)))
    assert not [fault for file in files for fault in file.faults]
    assert sum(file.rows for file in files) == 9
    stored = {path.stat().st_size for path in (lake / "candles").rglob("*.parquet")}
    assert {file.size_bytes for file in files} == stored


def test_months_weeks_and_a_change_of_month_are_good(tmp_path: Path) -> None:
    weekly = Series("usdt_futures", "币安人生USDT", "1w")
    candles = [
        one
        for series, count in ((COIN, 700), (MONTHLY, 5), (weekly, 20), (ETH, 3_000))
        for one in receive(
            series, *(make_candle(nth_open_time_ms(series, n)) for n in range(count))
        )
    ]
    publish_candles(tmp_path / "data", tmp_path / "lake", candles)
    files = list(check(lake_in(tmp_path / "lake")))
    assert not [fault for file in files for fault in file.faults]
    assert sum(file.rows for file in files) == 3_725


WRONG = [
    ({}, "BTCUSDT is there twice"),
    ({"symbol": "BTC-USDT"}, "BTC-USDT is no symbol"),
    ({"close": float("nan")}, "BTCUSDT has a number that is not finite"),
    ({"volume": -1.0}, "BTCUSDT has a negative number"),
    ({"low": 2.0}, "BTCUSDT has a low above the open or the close"),
    ({"month": "2024-02"}, "BTCUSDT is of another month than 2024-02"),
    ({"month": "2024-1"}, "month=2024-1: there is no such month"),
    ({"trade_type": "futures"}, "trade_type=futures: there is no such market"),
    ({"time_interval": "2m"}, "time_interval=2m: there is no such interval"),
    ({"time_interval": "1h"}, "BTCUSDT does not end 1h after its begin"),
    ({"candle_end_time": minute(1)["candle_end_time"]}, "BTCUSDT does not end 1m after its begin"),
    ({"source": "rumour"}, "BTCUSDT has another source than ours"),
    ({"revision": -1}, "BTCUSDT has a negative revision"),
    ({"close": None}, "BTCUSDT has no close"),
    ({"symbol": None}, "None has no symbol"),
]


@pytest.mark.parametrize(("changes", "what"), WRONG, ids=lambda one: str(one))
def test_a_row_that_cannot_be_is_named(lake: Path, changes: dict[str, Any], what: str) -> None:
    append(lake, **changes)
    assert f".parquet: {what}" in found(lake)


def test_a_time_off_the_grid_is_named(lake: Path) -> None:
    times = {name: time.replace(second=30) for name, time in minute(4).items()}
    append(lake, **times)
    assert found(lake) == [".parquet: BTCUSDT does not begin on the grid of 1m"]
    append(lake, **{name: time.replace(microsecond=1) for name, time in times.items()})
    assert ".parquet: BTCUSDT is of a time that cannot be" in found(lake)


def test_the_row_and_the_time_of_a_fault_are_named(lake: Path) -> None:
    append(lake, **minute(4), close=-1.0)
    [fault] = [
        fault
        for file in check(lake_in(lake))
        for fault in file.faults
        if fault.what == "BTCUSDT has a negative number"
    ]
    assert (fault.row, fault.begin_time_ms) == (0, at(4))


def test_many_rows_with_the_same_fault_are_counted(lake: Path) -> None:
    table = DeltaTable(str(lake / "candles"))
    write_deltalake(table, table.to_pyarrow_table(), mode="append")
    faults = found(lake)
    assert sum("is there twice" in one for one in faults) == 6
    assert ".parquet: is there twice: 4 rows more" in faults


def test_a_file_that_is_gone_or_damaged_is_a_fault_and_others_are_checked(lake: Path) -> None:
    append(lake, symbol="ABCUSDT")
    append(lake, symbol="XYZUSDT", close=-1.0)
    gone, damaged, _ = sorted((lake / "candles").rglob("*.parquet"), key=_age)
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9])
    texts = found(lake)
    assert sum("it cannot be read" in text for text in texts) == 2
    assert ".parquet: XYZUSDT has a negative number" in texts


def _age(path: Path) -> float:
    return path.stat().st_mtime


def test_a_candle_that_was_removed_is_a_hole(lake: Path) -> None:
    gone = [*between("candle_begin_time", at(2), at(7)), *equal({"symbol": "BTCUSDT"})]
    DeltaTable(str(lake / "candles")).delete(" AND ".join(gone))
    several = [file for file in check(lake_in(lake)) if file.series]
    [file] = several
    assert file.series == BTC
    lost = "neither in the lake nor in the coverage of rec-a"
    assert [fault.what for fault in file.faults] == [
        f"2024-01-31 00:02:00+00:00 to 2024-01-31 00:04:00+00:00: 2 candles are {lost}",
        f"2024-01-31 00:06:00+00:00 to 2024-01-31 00:07:00+00:00: 1 candle is {lost}",
    ]


def test_what_one_recorder_lacks_another_may_have_brought(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    mine, others = [*minutes(0, 4), *minutes(6, 10)], minutes(2, 10)
    publish_candles(tmp_path / "a", lake, mine, "rec-a", accounted((4, 6)))
    publish_candles(tmp_path / "b", lake, others, "rec-b", accounted((0, 2)))
    assert found(lake) == []


def test_bounds_in_the_log_that_hide_rows_are_found(lake: Path) -> None:
    """Readers would not look into the file for what it holds."""
    [log] = [
        path
        for path in (lake / "candles" / "_delta_log").glob("*.json")
        if "ETHUSDT" in path.read_text(encoding="utf-8")
    ]
    text = log.read_text(encoding="utf-8")
    log.write_text(text.replace("ETHUSDT", "CTHUSDT"), encoding="utf-8")
    assert found(lake) == [".parquet: ETHUSDT is outside of the bounds in the table's log"]


def test_a_lake_without_candles_is_good(tmp_path: Path) -> None:
    publish_candles(tmp_path / "data", tmp_path / "lake", [])
    assert list(check(lake_in(tmp_path / "lake"))) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 70)), max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_each_key_counts_once_in_any_files_and_the_rest_are_twice(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, int]]]
) -> None:
    lake = tmp_path_factory.mktemp("lake")
    publish_candles(lake / "data", lake, minutes(0, 1))
    [row] = DeltaTable(str(lake / "candles")).to_pyarrow_table().to_pylist()
    keys = [key for file in files for key in file]
    for file in files:
        if file:
            rows = [{**row, "symbol": name, **minute(count)} for name, count in file]
            table = pa.Table.from_pylist(rows, schema=CANDLES)
            write_deltalake(str(lake / "candles"), table, mode="append")
    checked = list(check(lake_in(lake)))
    assert sum(map(_twice, checked)) == len(keys) - len(set(keys))


def _twice(file: CheckedFile) -> int:
    more = [one.what for one in file.faults if one.what.startswith("is there twice: ")]
    named = sum(one.what.endswith(" is there twice") for one in file.faults)
    return named + sum(int(text.split()[3]) for text in more)
