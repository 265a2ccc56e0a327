"""What a recorder learns from the presences in a lake."""

from collections.abc import Mapping, Sequence

import pytest

from kline_trio.lake.neighbours import neighbours_of
from kline_trio.lake.presence import Held, Presence, Seen
from kline_trio.sharding import Neighbours, Shard, owner

NOW = 1_790_000_000.0
LIMIT, HANDOVER = 10_000.0, 7_200.0
SYMBOLS = [f"S{number}USDT" for number in range(40)]
MOVED = [one for one in SYMBOLS if owner("spot", one, 2) == 2]


def recorder(
    name: str, shard: str | None = "1/2", group: str | None = None, held: Held | None = None
) -> Presence:
    return Presence(
        recorder=name,
        host="host",
        version="0.2.0",
        shard=None if shard is None else Shard.from_text(shard),
        copies=2,
        address_group=group,
        held=held or {},
    )


def seen(mine: Presence, others: Sequence[Presence], age: float = 60.0) -> Neighbours:
    every = [Seen(mine, NOW), *(Seen(one, NOW - age) for one in others)]
    return neighbours_of(mine, every, NOW, LIMIT, HANDOVER)


def held(symbols: Sequence[str], hours: float) -> Mapping[str, Mapping[str, float]]:
    return {"spot": dict.fromkeys(symbols, NOW - hours * 3_600)}


def test_copies_are_the_living_recorders_of_the_same_shard() -> None:
    others = [recorder("b"), recorder("c", "2/2"), recorder("d", None)]
    assert seen(recorder("a"), others).copies == 2
    assert seen(recorder("a"), others, age=LIMIT + 1).copies == 1


def test_sharers_are_the_living_recorders_of_the_same_address_group() -> None:
    others = [recorder("b", "2/2", "office"), recorder("c", group="home"), recorder("d")]
    assert seen(recorder("a", group="office"), others).sharers == 2
    assert seen(recorder("a", group="office"), others, age=LIMIT + 1).sharers == 1
    assert seen(recorder("a"), others).sharers == 1


def test_a_symbol_is_handed_over_when_its_owner_has_held_it_long_enough() -> None:
    mine = recorder("a", held=held(SYMBOLS, 100))
    assert seen(mine, [recorder("b", "2/2", held=held(SYMBOLS, 2.1))]).handed_over == {
        "spot": MOVED
    }


@pytest.mark.parametrize(
    "other",
    [
        recorder("b", "2/2", held=held(SYMBOLS, 1.9)),
        recorder("b", "2/2", held=held([], 5)),
        recorder("b", "2/3", held=held(SYMBOLS, 5)),
        recorder("b", "1/2", held=held(SYMBOLS, 5)),
        recorder("b", None, held=held(SYMBOLS, 5)),
    ],
    ids=["not long", "not held", "of another count", "a copy of mine", "without a shard"],
)
def test_a_symbol_is_kept_otherwise(other: Presence) -> None:
    assert seen(recorder("a", held=held(SYMBOLS, 100)), [other]).handed_over == {}


def test_an_owner_that_is_gone_gets_nothing() -> None:
    owner_of_them = recorder("b", "2/2", held=held(SYMBOLS, 50))
    found = seen(recorder("a", held=held(SYMBOLS, 100)), [owner_of_them], age=LIMIT + 1)
    assert found.handed_over == {}


def test_a_recorder_without_a_shard_hands_nothing_over() -> None:
    mine = recorder("a", None, held=held(SYMBOLS, 100))
    assert seen(mine, [recorder("b", "2/2", held=held(SYMBOLS, 50))]).handed_over == {}
