"""Which files of a lake are read, and in which parts."""

from pathlib import Path

import attrs
import pytest

from kline_trio.candle import Series
from kline_trio.lake.location import Location
from kline_trio.lake.scan import Filter, LakeFile, Part, files_of, parts_of
from kline_trio.lake.tables import open_table
from tests.lake.support import ETH, begin_and_publish, make_store
from tests.storage.support import BTC, MONTHLY


def file(month: str, rows: int, interval: str = "1m") -> LakeFile:
    return LakeFile("spot", interval, month, f"{interval}/{month}/{rows}.parquet", rows, rows * 30)


def test_months_are_read_together_up_to_so_many_rows() -> None:
    files = [file("2024-01", 4), file("2024-01", 3), file("2024-02", 3), file("2024-03", 1)]
    assert parts_of(files, 10) == [Part(tuple(files[:3])), Part(tuple(files[3:]))]
    assert parts_of(files, 2) == [Part(tuple(files[:2])), Part((files[2],)), Part((files[3],))]


def test_a_part_is_of_one_market_and_interval() -> None:
    other = attrs.evolve(file("2024-02", 1), trade_type="usdt_futures")
    files = [file("2024-01", 1, "1h"), file("2024-02", 1), other]
    assert parts_of(files, 10) == [Part((one,)) for one in files]


def test_a_part_knows_its_size_and_its_name() -> None:
    [part] = parts_of([file("2024-01", 4), file("2024-02", 3)], 10)
    assert (part.rows, part.size_bytes, str(part)) == (7, 210, "spot 1m 2024-02")


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (Filter(), {BTC, ETH, MONTHLY}),
        (Filter(intervals=frozenset({"1M"})), {MONTHLY}),
        (Filter(symbols=frozenset({"ETHUSDT"})), {ETH}),
        (Filter(markets=frozenset({"coin_futures"})), set()),
    ],
)
def test_a_filter_holds_series(wanted: Filter, holds: set[Series]) -> None:
    assert {one for one in (BTC, ETH, MONTHLY) if one in wanted} == holds


def test_files_without_wanted_candles_are_not_read(folder_lake: Location, tmp_path: Path) -> None:
    store = make_store(tmp_path / "data")
    begin_and_publish(store, folder_lake)
    store.close()
    table = open_table(folder_lake, "candles")
    assert table is not None
    every = files_of(table.delta, Filter())
    assert sum(one.rows for one in every) == 30
    assert [(one.trade_type, one.time_interval, one.month) for one in every] == sorted(
        (one.trade_type, one.time_interval, one.month) for one in every
    )
    later = files_of(table.delta, Filter(since_ms=1_706_745_600_000))
    assert {one.month for one in later} == {one.month for one in every} - {"2024-01"}
    coin = files_of(table.delta, Filter(markets=frozenset({"coin_futures"})))
    assert {one.trade_type for one in coin} == {"coin_futures"}
    assert files_of(table.delta, Filter(symbols=frozenset({"ZZZ"}))) == []
    eth = files_of(table.delta, Filter(symbols=frozenset({"ETHUSDT"})))
    assert 0 < len(eth) < len(every)
