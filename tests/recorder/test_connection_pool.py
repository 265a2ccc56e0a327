"""Which connections there should be, and when one takes another's place; no clock, no network."""

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kline_trio.candle import Series
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.connection_pool import ConnectionHandle, ConnectionPool, Dials, Plan

HOUR = 3_600.0
SECOND_MS = 1_000


def streams(*numbers: int) -> dict[str, Series]:
    every = [Series("spot", f"A{number}USDT", "1m") for number in numbers]
    return {stream_name(one): one for one in every}


def no_jitter() -> Iterator[float]:
    return itertools.repeat(0.0)


def pool_of(
    *numbers: int,
    capacity: int = 1024,
    redundancy: int = 1,
    age_hours: float = 23,
    dials: Dials | None = None,
) -> ConnectionPool:
    made = ConnectionPool(capacity, redundancy, age_hours * HOUR, dials or Dials())
    made.set_streams(streams(*numbers))
    return made


def begun(made: ConnectionPool, now: float) -> list[ConnectionHandle]:
    """All that is begun from now on until nothing more is."""
    found: list[ConnectionHandle] = []
    end = now + 10
    while now < end:
        plan = made.plan(now, no_jitter())
        found += plan.begin
        now += 0.5
    return found


def deliver(life: ConnectionHandle, now: float, *, from_ms: int, to_ms: int) -> None:
    """It is heard, and ready from the one event time on, and has told the other."""
    life.is_heard = True
    if life.ready_ms is None:
        life.ready_ms, life.ready_at = from_ms, now
    life.newest_ms = to_ms


def test_streams_that_fit_are_on_one_connection() -> None:
    [life] = begun(pool_of(*range(1024)), 0)
    assert len(life.slot.shard.streams) == 1024


@given(count=st.integers(1, 400), capacity=st.integers(1, 100))
def test_streams_are_dealt_out_evenly_to_as_few_connections_as_they_fit_on(
    count: int, capacity: int
) -> None:
    shards = pool_of(*range(count), capacity=capacity).shards
    sizes = [len(shard.streams) for shard in shards]
    assert sum(sizes) == count
    assert len(sizes) == math.ceil(count / capacity)
    assert max(sizes) - min(sizes) <= 1


def test_redundancy_is_so_many_seats_for_each_shard() -> None:
    lives = begun(pool_of(1, 2, 3, capacity=2, redundancy=2), 0)
    slots = [(life.slot.shard.number, life.slot.copy) for life in lives]
    assert sorted(slots) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_an_old_life_is_replaced_only_when_both_have_delivered_the_same_stretch_of_time() -> None:
    made = pool_of(1)
    [old] = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=10 * SECOND_MS)
    assert made.plan(23 * HOUR - 1, no_jitter()) == Plan((), (), 23 * HOUR)
    plan = made.plan(23 * HOUR, no_jitter())
    [new] = plan.begin
    assert not plan.retire

    now = 23 * HOUR + 1
    deliver(old, now, from_ms=0, to_ms=100 * SECOND_MS)
    deliver(new, now, from_ms=90 * SECOND_MS, to_ms=200 * SECOND_MS)
    assert not made.plan(now, no_jitter()).retire, "the old one lags, and has not told as much"
    old.newest_ms = 130 * SECOND_MS
    assert made.plan(now, no_jitter()).retire == (old,)
    made.end(old, stalled=False)
    assert made.plan(now, no_jitter()) == Plan((), (), new.ends_at)


def test_a_new_life_that_lags_is_waited_for_too() -> None:
    made = pool_of(1)
    [old] = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=0)
    [new] = made.plan(24 * HOUR, no_jitter()).begin
    deliver(old, 24 * HOUR, from_ms=0, to_ms=200 * SECOND_MS)
    deliver(new, 24 * HOUR, from_ms=90 * SECOND_MS, to_ms=91 * SECOND_MS)
    assert not made.plan(24 * HOUR + 1, no_jitter()).retire
    new.newest_ms = 125 * SECOND_MS
    assert made.plan(24 * HOUR + 2, no_jitter()).retire == (old,)


def test_an_old_life_whose_time_stands_still_is_not_waited_for_for_ever() -> None:
    made = pool_of(1)
    [old] = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=1)
    [new] = made.plan(23 * HOUR, no_jitter()).begin
    deliver(new, 23 * HOUR, from_ms=90 * SECOND_MS, to_ms=900 * SECOND_MS)
    plan = made.plan(23 * HOUR + 1, no_jitter())
    assert plan.again_at == 23 * HOUR + 120
    assert made.plan(plan.again_at, no_jitter()).retire == (old,)


def test_a_successor_that_fails_leaves_the_old_life_where_it_is() -> None:
    made = pool_of(1)
    [old] = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=1)
    [new] = made.plan(23 * HOUR, no_jitter()).begin
    made.end(new, stalled=True)
    assert old.slot.failures == old.slot.stalls == 1
    plan = made.plan(23 * HOUR + 3, no_jitter())
    assert len(plan.begin) == 1
    assert not plan.retire


def test_lives_that_began_together_do_not_end_together() -> None:
    made = pool_of(1, 2, 3, 4, capacity=1)
    chances = iter([0.0, 0.25, 0.5, 1.0])
    ages = [
        life.ends_at - life.began_at
        for now in (0.0, 0.5, 1.0, 1.5)
        for life in made.plan(now, chances).begin
    ]
    assert ages == pytest.approx([23 * HOUR, 22.425 * HOUR, 21.85 * HOUR, 20.7 * HOUR])


def test_what_has_no_connection_is_dialled_before_what_is_merely_old() -> None:
    made = pool_of(1, 2, capacity=1)
    old, lost = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=1)
    made.renew()
    made.end(lost, stalled=False)
    [first] = made.plan(60, no_jitter()).begin
    assert first.slot is lost.slot


@pytest.mark.parametrize("markets", [1, 3])
def test_no_more_is_dialled_in_five_minutes_than_half_of_what_is_allowed(markets: int) -> None:
    """Not by all markets together, for the exchange may count them together."""
    shared = Dials()
    pools = [pool_of(*range(40), capacity=1, redundancy=4, dials=shared) for _ in range(markets)]
    now, dials = 0.0, []
    while now < 1_000:
        plans = [made.plan(now, no_jitter()) for made in pools]
        for made, plan in zip(pools, plans, strict=True):
            for life in plan.begin:
                dials.append(now)
                made.end(life, stalled=False)  # an exchange that hangs up at once
        now = max(min(plan.again_at for plan in plans), now + 0.1)
    for at in dials:
        assert sum(at <= other < at + 300 for other in dials) <= 150
    assert len(dials) > 400


def test_a_market_that_another_has_left_no_dial_asks_again_when_there_is_one() -> None:
    shared = Dials()
    for moment in range(150):
        shared.add(moment)
    made = pool_of(1, dials=shared)
    plan = made.plan(200, no_jitter())
    assert plan == Plan((), (), 300)
    shared.add(300)  # the other was faster
    plan = made.plan(plan.again_at, no_jitter())
    assert plan == Plan((), (), 301)
    assert len(made.plan(plan.again_at, no_jitter()).begin) == 1


def test_a_stream_more_goes_where_there_is_room_and_the_others_stay() -> None:
    made = pool_of(1, 2, 3, capacity=2)
    before = {name: made.shard_of(name) for name in streams(1, 2, 3)}
    added, taken = made.set_streams(streams(1, 2, 3, 4, 5))
    assert not taken
    assert set(added) == set(streams(4, 5))
    assert {name: made.shard_of(name) for name in before} == before
    assert sorted(len(shard.streams) for shard in made.shards) == [1, 2, 2]


def test_a_shard_without_streams_lets_its_connections_go() -> None:
    made = pool_of(1, 2, capacity=1)
    first, second = begun(made, 0)
    made.set_streams(streams(2))
    plan = made.plan(10, no_jitter())
    assert plan.retire == (first,)
    assert not plan.begin
    assert list(made.handles()) == [second]


def test_a_dead_stream_moves_to_another_connection_a_new_one_if_there_is_none() -> None:
    made = pool_of(1, 2)
    begun(made, 0)
    [name, _] = streams(1, 2)
    old, new = made.move(name)
    assert name not in old.streams
    assert made.shard_of(name) is new is not old
    [life] = begun(made, 10)
    assert life.slot.shard is new
    assert made.move(name) == (new, old), "and back, where it is dead there too"


def test_fewer_copies_let_the_last_ones_go() -> None:
    made = pool_of(1, redundancy=3)
    lives = begun(made, 0)
    made.resize(1)
    assert set(made.plan(10, no_jitter()).retire) == set(lives[1:])
    made.resize(2)
    [again] = begun(made, 20)
    assert again.slot.copy == 1


def test_of_fewer_copies_those_stay_that_deliver() -> None:
    made = pool_of(1, redundancy=2)
    down, up = begun(made, 0)
    deliver(up, 0, from_ms=0, to_ms=1)
    made.end(down, stalled=False)
    made.resize(1)
    plan = made.plan(10, no_jitter())
    assert plan == Plan((), (), up.ends_at)
    assert up.slot.copy == 0


def test_a_copy_goes_on_from_address_to_address_past_those_that_the_others_are_on() -> None:
    made = pool_of(1, redundancy=3)
    failing, *others = begun(made, 0)
    tried = []
    for minute in range(1, 5):
        made.end(failing, stalled=False)
        [failing] = made.plan(60 * minute, no_jitter()).begin
        tried.append(failing.nth_address)
    assert [life.nth_address for life in others] == [1, 2]
    assert tried == [3, 3, 3, 4]


def test_the_address_of_a_connection_that_is_replaced_is_its_successor_s_too() -> None:
    made = pool_of(1, redundancy=2)
    lives = begun(made, 0)
    made.renew()
    assert (
        [life.nth_address for life in begun(made, 60)]
        == [life.nth_address for life in lives]
        == [0, 1]
    )


def test_a_copy_more_keeps_away_from_the_address_of_one_that_was_kept() -> None:
    made = pool_of(1, redundancy=2)
    down, up = begun(made, 0)
    deliver(up, 0, from_ms=0, to_ms=1)
    made.end(down, stalled=False)
    made.resize(1)
    made.resize(2)
    [more] = begun(made, 60)
    assert (up.nth_address, more.nth_address) == (1, 2)


def test_of_fewer_copies_one_that_has_all_streams_stays_before_one_that_has_just_come_back() -> (
    None
):
    made = pool_of(1, 2, redundancy=3)
    back, later, ready = begun(made, 0)
    back.is_heard = True
    deliver(later, 0, from_ms=2, to_ms=3)
    deliver(ready, 0, from_ms=1, to_ms=3)
    made.resize(1)
    assert set(made.plan(10, no_jitter()).retire) == {back, later}
    assert list(made.handles()) == [ready]


def test_copies_that_all_stay_keep_their_places() -> None:
    made = pool_of(1, redundancy=2)
    first, second = begun(made, 0)
    deliver(second, 0, from_ms=0, to_ms=1)
    made.resize(2)
    assert [first.slot.copy, second.slot.copy] == [0, 1]


def test_a_retired_life_that_still_delivers_is_not_asked_about_again_and_again() -> None:
    made = pool_of(1)
    [old] = begun(made, 0)
    deliver(old, 0, from_ms=0, to_ms=1)
    [new] = made.plan(23 * HOUR, no_jitter()).begin
    deliver(new, 23 * HOUR, from_ms=0, to_ms=900 * SECOND_MS)
    assert made.plan(23 * HOUR + 200, no_jitter()).retire == (old,)
    assert made.plan(23 * HOUR + 201, no_jitter()).again_at > 23 * HOUR + 201


def test_what_all_have_told_is_the_least_of_the_shards_and_the_most_of_the_copies() -> None:
    made = pool_of(1, 2, capacity=1, redundancy=2)
    lives = begun(made, 0)
    assert made.delivered_ms() is None
    for life, told_ms in zip(sorted(lives, key=lambda one: (one.slot.shard.number, one.slot.copy)),
                             (10, 20, 30, 40), strict=True):  # fmt: skip
        deliver(life, 0, from_ms=0, to_ms=told_ms)
    assert made.delivered_ms() == 20
    for life in list(made.shards[0].slots[0].handles) + list(made.shards[0].slots[1].handles):
        made.end(life, stalled=False)
    assert made.delivered_ms() == 40, "what has no connection is not waited for"


class AnyHistory(RuleBasedStateMachine):
    """Each wanted stream has its slots, and nobody leaves before his successor is there."""

    def __init__(self) -> None:
        super().__init__()
        self.made = ConnectionPool(4, 2, 23 * HOUR, Dials())
        self.now = 0.0
        self.clock_ms = 0
        self.living: set[ConnectionHandle] = set()
        self.wanted: set[int] = set()
        self.dials: list[float] = []

    @rule(numbers=st.sets(st.integers(0, 15)))
    def want(self, numbers: set[int]) -> None:
        self.made.set_streams(streams(*sorted(numbers)))
        self.wanted = numbers

    @rule(redundancy=st.integers(1, 3))
    def resize(self, redundancy: int) -> None:
        self.made.resize(redundancy)

    @rule()
    def renew(self) -> None:
        self.made.renew()

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        if self.wanted:
            number = data.draw(st.sampled_from(sorted(self.wanted)))
            self.made.move(next(iter(streams(number))))

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 500.0, 80_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.clock_ms += round(seconds * 1_000)

    @rule(lag_ms=st.integers(0, 40_000), data=st.data())
    def hear(self, lag_ms: int, data: st.DataObject) -> None:
        if self.living:
            life = data.draw(st.sampled_from(sorted(self.living, key=lambda one: one.began_at)))
            told_ms = max(0, self.clock_ms - lag_ms)
            deliver(life, self.now, from_ms=told_ms, to_ms=max(life.newest_ms, told_ms))

    @rule(stalled=st.booleans(), data=st.data())
    def lose(self, stalled: bool, data: st.DataObject) -> None:
        if self.living:
            life = data.draw(st.sampled_from(sorted(self.living, key=lambda one: one.began_at)))
            self.living.discard(life)
            self.made.end(life, stalled=stalled)

    @rule()
    def plan(self) -> None:
        slots_before = {life: life.slot for life in self.made.handles()}
        plan = self.made.plan(self.now, no_jitter())
        for life in plan.retire:
            if life in slots_before:
                newest = slots_before[life].handles[-1]
                assert newest is not life
                assert newest.ready_ms is not None
                covered = min(life.newest_ms, newest.newest_ms) >= newest.ready_ms
                assert covered or self.now >= newest.ready_at + 120
            self.living.discard(life)
            self.made.end(life, stalled=False)
        self.living.update(plan.begin)
        self.dials += [self.now] * len(plan.begin)
        assert plan.begin or plan.again_at > self.now or not self.wanted

    @invariant()
    def each_stream_is_on_one_shard_with_all_its_slots(self) -> None:
        assert {
            name: one for shard in self.made.shards for name, one in shard.streams.items()
        } == streams(*self.wanted)
        assert sum(len(shard.streams) for shard in self.made.shards) == len(self.wanted)
        for shard in self.made.shards:
            assert 0 < len(shard.streams) <= 4
            assert [slot.copy for slot in shard.slots] == list(range(self.made.redundancy))
            for slot in shard.slots:
                assert len(slot.handles) <= 2
        assert len({shard.number for shard in self.made.shards}) == len(self.made.shards)

    @invariant()
    def dials_are_spaced(self) -> None:
        assert all(after - before >= 0.5 for before, after in itertools.pairwise(self.dials))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
