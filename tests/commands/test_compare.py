"""What is stored against what the exchange says now."""

from pathlib import Path

import attrs
import numpy as np
import pytest
import trio.testing

import kline_trio
from kline_trio.candle import Series
from kline_trio.commands.compare import Verified, repair, verify
from kline_trio.config import Config, StoreConfig
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import RestFault
from kline_trio.storage.comparison import summed_mismatches
from kline_trio.storage.stored import stored_table
from tests.recorder.test_supervisor import START_MS, truth
from tests.storage.support import merge_all, open_store, receive
from tests.virtual import joined

MINUTE_MS = 60_000
DAY_MS = 86_400_000
BEGIN_MS = START_MS - START_MS % DAY_MS - 5 * DAY_MS
SPOT = Series("spot", "BTCUSDT", "1m")
COIN = Series("coin_futures", "BTCUSD_PERP", "3m")


def recorded(folder: Path, exchange: Exchange, *series: Series) -> Config:
    """A store of two days, 2,880 minutes, just as the exchange knows them."""
    store = open_store(folder / "data")
    for one in series:
        candles = truth(exchange, one, BEGIN_MS, BEGIN_MS + 2 * DAY_MS)
        store.accept(receive(one, *candles))
    merge_all(store)
    store.close()
    return Config(streams=series, store=StoreConfig(path=folder / "data"))


def damaged(config: Config, series: Series) -> None:
    """One candle with another close, and one that the exchange does not have."""
    store = open_store(config.store.path)
    [first, *_] = truth(Exchange(start_ms=START_MS), series, BEGIN_MS, BEGIN_MS + 180_000)
    wrong = attrs.evolve(first, close=first.high, trade_num=first.trade_num + 1)
    store.accept(receive(series, wrong))
    merge_all(store)
    store.close()


async def found(
    exchange: Exchange, config: Config, against: str, sample: int | None = None
) -> list[Verified]:
    async with joined(exchange) as seams:
        return await verify(config, against=against, sample=sample, seams=seams)


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_what_was_recorded_well_is_equal_row_for_row(
    against: str, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    all_of_it = await found(exchange, config, against)
    for series, count in ((SPOT, 2_880), (COIN, 960)):
        mine = [one.comparison for one in all_of_it if one.series == series]
        assert sum(one.compared for one in mine) == sum(one.equal for one in mine) == count
        assert not any(one.absent_here or one.absent_there for one in mine)


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_each_difference_is_found_and_can_be_repaired(
    against: str, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT)
    damaged(config, SPOT)
    several = await found(exchange, config, against)
    [(ours, theirs)] = [pair for one in several for pair in one.comparison.differing]
    [right] = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + MINUTE_MS)
    assert theirs == right
    assert ours.trade_num == right.trade_num + 1
    async with joined(exchange) as seams:
        assert await repair(config, several, seams) == 1
    again = await found(exchange, config, against)
    assert not any(one.comparison.differing for one in again)
    store = open_store(tmp_path / "data")
    merge_all(store)
    store.close()
    told = kline_trio.revisions(tmp_path / "data")
    last = told[(told["column"] == "trade_num") & (told["origin"] == "repair")]
    assert list(last["kept"]) == ["newer"]
    assert list(last["newer"]) == [right.trade_num]


async def test_what_is_absent_on_one_side_is_named(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    candles = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + 100 * MINUTE_MS)
    store = open_store(tmp_path / "data")
    store.accept(receive(SPOT, *candles[:40], *candles[45:]))
    store.close()
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data"))
    [one] = await found(exchange, config, "rest")
    assert list(one.comparison.absent_here) == candles[40:45]
    assert one.comparison.absent_there == ()
    async with joined(exchange) as seams:
        assert await repair(config, [one], seams) == 5
    [one] = await found(exchange, config, "rest")
    assert one.comparison.equal == 100


async def test_a_sample_is_a_part(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT)
    several = await found(exchange, config, "rest", sample=100)
    assert len(several) == 1


async def test_rest_that_stumbles_is_asked_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fault = RestFault(
        trade_type="spot", from_ms=START_MS + 1_000, until_ms=START_MS + 120_000, status=500
    )
    exchange = Exchange(start_ms=START_MS, faults=[fault])
    config = recorded(tmp_path, exchange, SPOT)
    several = await found(exchange, config, "rest")
    assert sum(one.comparison.equal for one in several) == 2_880


@pytest.mark.parametrize("name", ["5m", "1h", "1d"])
def test_minutes_make_up_the_longer_candles(name: str, tmp_path: Path) -> None:
    exchange = Exchange(start_ms=START_MS)
    longer = Series("spot", "BTCUSDT", name)
    recorded(tmp_path, exchange, SPOT, longer)
    tables = [stored_table(tmp_path / "data", one) for one in (SPOT, longer)]
    short, long = tables
    assert short is not None
    assert long is not None
    assert list(summed_mismatches(short, SPOT.interval, long, longer)) == []
    changed = short.set_column(
        short.schema.get_field_index("volume"),
        "volume",
        [short["volume"].to_numpy() + (np.arange(short.num_rows) == 700)],
    )
    [mismatch] = summed_mismatches(changed, SPOT.interval, long, longer)
    assert mismatch.column == "volume"
    assert mismatch.summed == pytest.approx(mismatch.stored + 1)
    # A candle of which a minute is absent is not judged.
    assert list(summed_mismatches(changed.slice(701), SPOT.interval, long, longer)) == []
