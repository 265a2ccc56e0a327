"""Each recorder says in the lake who it is, and what it holds since when."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.lake.errors import ForeignLakeError
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.presence import (
    Presence,
    Seen,
    held_since,
    present_copies,
    read_presence,
    read_presences,
    write_presence,
)
from kline_trio.sharding import Shard

FULL = Presence(
    recorder="rec-a",
    host="tokyo-1",
    version="1.2.3",
    shard=Shard(2, 4),
    copies=2,
    address_group="office",
    published=1_790_000_000.0,
    unpublished=120,
    series=500,
    held={"spot": {"BTCUSDT": 1_780_000_000.0}},
    clock_error_seconds=-0.5,
)


def test_a_presence_is_read_as_it_was_written(lake: Location) -> None:
    objects = Objects.of(lake)
    assert read_presence(objects, "rec-a") is None
    write_presence(objects, FULL)
    seen = read_presence(objects, "rec-a")
    assert seen is not None
    assert seen.presence == FULL
    assert seen.age_seconds(objects.now()) < 60


def test_all_recorders_are_found_by_name(lake: Location) -> None:
    objects = Objects.of(lake)
    assert read_presences(objects) == ()
    names = ["b", "a", "rack 7/left", "50%=x", "ü"]
    for name in names:
        write_presence(objects, Presence(recorder=name, host="h", version="1"))
    objects.put("_kline_trio/presence/readme.txt", b"not ours")
    assert [one.presence.recorder for one in read_presences(objects)] == sorted(names)
    assert read_presence(objects, "rack 7/left") is not None


def test_keys_of_a_newer_version_are_left_out() -> None:
    values = json.loads(FULL.content())
    values["format"], values["color"] = 2, "red"
    assert Presence.from_content(json.dumps(values).encode()) == FULL


WRONG = [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "recorder": "a"}', b"\xff"]
WRONG += [FULL.content().replace(b'"tokyo-1"', b"3"), FULL.content().replace(b"120", b'"many"')]


@pytest.mark.parametrize("content", WRONG)
def test_what_is_no_presence_is_named_by_its_object(memory_lake: Location, content: bytes) -> None:
    objects = Objects.of(memory_lake)
    objects.put("_kline_trio/presence/a.json", content)
    with pytest.raises(ForeignLakeError, match=r"presence/a\.json: .*delete this object"):
        read_presences(objects)


def test_a_symbol_keeps_its_time_as_long_as_it_is_held() -> None:
    first = held_since({"spot": ["ETHUSDT", "BTCUSDT"]}, {}, 100.0)
    assert first == {"spot": {"BTCUSDT": 100.0, "ETHUSDT": 100.0}}
    second = held_since({"spot": ["BTCUSDT"], "usdt_futures": ["BTCUSDT"]}, first, 200.0)
    assert second == {"spot": {"BTCUSDT": 100.0}, "usdt_futures": {"BTCUSDT": 200.0}}
    third = held_since({"spot": ["BTCUSDT", "ETHUSDT"]}, second, 300.0)
    assert third == {"spot": {"BTCUSDT": 100.0, "ETHUSDT": 300.0}}
    one = Presence(recorder="a", host="h", version="1", held=third)
    assert one.since("spot", "ETHUSDT") == 300.0
    assert one.since("spot", "XRPUSDT") is None
    assert one.since("coin_futures", "ETHUSDT") is None


def test_only_recent_copies_of_the_same_shard_count() -> None:
    def seen(name: str, shard: Shard | None, modified: float) -> Seen:
        return Seen(Presence(recorder=name, host="h", version="1", shard=shard), modified)

    every = [
        seen("a", Shard(1, 2), 990.0),
        seen("b", Shard(1, 2), 800.0),
        seen("c", Shard(2, 2), 990.0),
        seen("d", None, 990.0),
        seen("e", Shard(1, 4), 990.0),
    ]
    assert present_copies(every, Shard(1, 2), 1_000.0, limit=100.0) == 1
    assert present_copies(every, Shard(1, 2), 1_000.0, limit=200.0) == 2
    assert present_copies(every, None, 1_000.0, limit=100.0) == 1
    assert present_copies(every, Shard(3, 4), 1_000.0, limit=100.0) == 0


@given(st.binary())
def test_any_content_is_a_presence_or_a_value_error(content: bytes) -> None:
    try:
        Presence.from_content(content)
    except ValueError:
        pass
    else:
        raise AssertionError("no bytes by chance are a presence")
