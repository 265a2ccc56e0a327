"""The share of one recorder among several: which symbols it records, and which budgets it has."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.recorder.connection_pool import Dials
from kline_trio.recorder.sharing import Budgets, Share, expected_sharers
from kline_trio.sharding import Shard
from kline_trio.storage.journal.ledger import SeriesAccount

SERIES = [Series("spot", f"S{number}USDT", "1m") for number in range(40)]
shards = st.integers(1, 8).flatmap(
    lambda count: st.integers(1, count).map(lambda number: Shard(number, count))
)


def test_without_a_shard_everything_is_recorded() -> None:
    assert all(map(Share(None).holds, SERIES))


@settings(deadline=None)
@given(st.integers(1, 8))
def test_each_symbol_is_recorded_by_one_shard(count: int) -> None:
    shares = [Share(Shard(number, count)) for number in range(1, count + 1)]
    for series in SERIES:
        assert sum(share.holds(series) for share in shares) == 1


@settings(deadline=None)
@given(shards, st.sets(st.sampled_from(SERIES)))
def test_what_was_recorded_before_is_recorded_until_it_is_handed_over(
    shard: Shard, before: set[Series]
) -> None:
    share = Share(shard)
    own = {one for one in SERIES if share.holds(one)}
    share.resume({one: SeriesAccount(0, 60_000) for one in before})
    assert {one for one in SERIES if share.holds(one)} == own | before
    moved = share.hand_over({"spot": [one.symbol for one in SERIES]})
    assert set(moved) == before - own
    assert {one for one in SERIES if share.holds(one)} == own


def test_what_was_retired_before_is_not_recorded_again() -> None:
    share = Share(Shard(1, 2))
    [other] = [one for one in SERIES if not share.holds(one)][:1]
    share.resume({other: SeriesAccount(0, 60_000, retired_ms=60_000)})
    assert not share.holds(other)


def test_a_symbol_of_another_market_is_not_handed_over() -> None:
    share = Share(Shard(1, 2))
    [other] = [one for one in SERIES if not share.holds(one)][:1]
    share.resume({other: SeriesAccount(0, 60_000)})
    assert share.hand_over({"usdt_futures": [other.symbol]}) == ()
    assert share.holds(other)


@pytest.mark.parametrize(
    ("lake", "sharers"),
    [
        (LakeConfig(shard=Shard(2, 4), copies=2), 1),
        (LakeConfig(shard=Shard(2, 4), copies=2, address_group="office"), 8),
        (LakeConfig(copies=2, address_group="office"), 2),
    ],
)
def test_until_the_lake_tells_all_of_a_group_are_expected(lake: LakeConfig, sharers: int) -> None:
    assert expected_sharers(lake) == sharers


async def test_budgets_are_divided(autojump_clock: object) -> None:
    limiter, dials = RateLimiter(1_000, 0.5), Dials()
    budgets = Budgets([limiter], dials, 0.5)
    budgets.divide(4)
    assert limiter.usage().weight_allowed == 125
    for _ in range(37):
        assert dials.next_at() <= trio.current_time()
        dials.add(trio.current_time())
    assert dials.next_at() == trio.current_time() + 300
    budgets.divide(1)
    assert limiter.usage().weight_allowed == 500
    assert dials.next_at() <= trio.current_time()


async def test_a_larger_share_lets_waiting_requests_pass_at_once(autojump_clock: object) -> None:
    limiter = RateLimiter(100, 0.1)
    await limiter.acquire(10, 0.0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire, 10, 0.0)
        await trio.sleep(1)
        limiter.set_share(0.5)
    assert trio.current_time() == began + 1
