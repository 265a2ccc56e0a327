"""Symbols are dealt out evenly, and few change hands when a shard is added."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.sharding import MOST_SHARDS, Shard, owner

SYMBOLS = [f"{base}{quote}" for base in range(1_000) for quote in ("USDT", "BTC", "USDC")]


@pytest.mark.parametrize("count", [2, 3, 4, 7, 16])
def test_each_shard_has_about_as_many_symbols(count: int) -> None:
    shares = Counter(owner("spot", symbol, count) for symbol in SYMBOLS)
    fair = len(SYMBOLS) / count
    assert set(shares) == set(range(1, count + 1))
    # Five standard deviations of chance.
    spread = 5 * (fair * (1 - 1 / count)) ** 0.5
    assert all(abs(share - fair) < spread for share in shares.values()), shares


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_a_shard_that_is_added_takes_symbols_and_no_other_symbol_moves(count: int) -> None:
    before = {symbol: owner("spot", symbol, count) for symbol in SYMBOLS}
    after = {symbol: owner("spot", symbol, count + 1) for symbol in SYMBOLS}
    moved = {symbol for symbol in SYMBOLS if before[symbol] != after[symbol]}
    assert {after[symbol] for symbol in moved} == {count + 1}
    fair = len(SYMBOLS) / (count + 1)
    assert abs(len(moved) - fair) < 5 * fair**0.5


@given(st.sampled_from(SYMBOLS), st.integers(1, 60))
def test_a_symbol_has_one_owner(symbol: str, count: int) -> None:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    assert [one.number for one in shards if one.owns("spot", symbol)] == [
        owner("spot", symbol, count)
    ]


def test_the_owners_are_the_same_in_each_version() -> None:
    """Recorders of two versions must never both drop a symbol."""
    found = [owner(*names, 4) for names in (("spot", "BTCUSDT"), ("spot", "ETHUSDT"))]
    found += [owner("usdt_futures", "BTCUSDT", 4), owner("coin_futures", "BTCUSD_PERP", 4)]
    found += [owner("spot", "币安人生USDT", 4)]
    assert found == [3, 2, 2, 1, 2]


@pytest.mark.parametrize("text", ["1/1", "2/4", "1000/1000"])
def test_a_shard_is_a_number_of_a_count(text: str) -> None:
    assert str(Shard.from_text(text)) == text


@pytest.mark.parametrize(
    "text", ["", "0/4", "5/4", "4", "2/0", "-1/4", "2/4/8", " 2/4", "2/4 ", "a/b", "٢/4", "1/1001"]
)
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=f"2/4|{MOST_SHARDS}"):
        Shard.from_text(text)
