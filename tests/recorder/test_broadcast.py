"""Programs that listen along get copies, lose only their own, and can hold nobody up."""

import gc
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.config import Config, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.interval import Span
from kline_trio.recorder.broadcast import Broadcast, Candles, Filled, Fills
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import OmitClose
from tests.virtual import joined

BTC = Series("spot", "BTCUSDT", "1m")
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
START_MS = 1_719_759_600_000  # 2024-06-30 15:00
MINUTE_MS = 60_000


def received(first: int, end: int, source: Source = Source.STREAM) -> list[ReceivedCandle]:
    return [
        ReceivedCandle(BTC, Candle(n * MINUTE_MS, 1, 1, 1, 1, 1, 1, 1, 1, 1), MOMENT, source)
        for n in range(first, end)
    ]


def filled(nth: int) -> Filled:
    return Filled(BTC, Span(nth * MINUTE_MS, (nth + 1) * MINUTE_MS), Source.ARCHIVE)


async def all_that_wait(candles: Candles) -> list[ReceivedCandle]:
    """What the reader gets without waiting."""
    got = []
    with trio.move_on_after(0.001):
        async for one in candles:
            got.append(one)  # noqa: PERF401 - it is cancelled in between
    return got


async def test_each_reader_gets_every_copy_and_ends_with_the_recorder() -> None:
    broadcast = Broadcast()
    one, two = broadcast.subscribe(10), broadcast.subscribe(10)
    broadcast.publish(received(0, 3))
    broadcast.close()
    assert [item async for item in one] == received(0, 3)
    assert [item async for item in two] == received(0, 3)
    assert (one.lost, two.lost) == (0, 0)
    with pytest.raises(StopAsyncIteration):
        await anext(one)


async def test_a_slow_reader_loses_its_own_oldest_copies_and_knows_how_many() -> None:
    broadcast = Broadcast()
    slow, quick = broadcast.subscribe(2), broadcast.subscribe(10)
    broadcast.publish(received(0, 1))
    broadcast.publish(received(1, 5))
    broadcast.close()
    assert [item async for item in slow] == received(3, 5)
    assert (slow.lost, slow.lost_refills) == (3, 0)
    assert len([item async for item in quick]) == 5
    assert quick.lost == 0


async def test_refills_never_displace_live_candles_and_come_after_them() -> None:
    broadcast = Broadcast()
    candles = broadcast.subscribe(3)
    broadcast.publish([*received(0, 50, Source.REST), *received(50, 53)])
    broadcast.publish(received(53, 80, Source.REST))
    broadcast.close()
    got = [item async for item in candles]
    assert got == [*received(50, 53), *received(77, 80, Source.REST)]
    assert (candles.lost, candles.lost_refills) == (74, 74)


async def test_live_candles_never_displace_refills() -> None:
    broadcast = Broadcast()
    candles = broadcast.subscribe(2)
    broadcast.publish(received(0, 2, Source.REST))
    broadcast.publish(received(2, 9))
    broadcast.close()
    got = [item async for item in candles]
    assert got == [*received(7, 9), *received(0, 2, Source.REST)]
    assert (candles.lost, candles.lost_refills) == (5, 0)


async def test_fills_are_announced_and_the_oldest_are_lost() -> None:
    broadcast = Broadcast()
    fills, candles = broadcast.subscribe_fills(2), broadcast.subscribe(2)
    for nth in range(5):
        broadcast.publish_fill(filled(nth))
    broadcast.close()
    assert [one async for one in fills] == [filled(3), filled(4)]
    assert fills.lost == 3
    assert [one async for one in candles] == []
    assert candles.lost == 0


@pytest.mark.parametrize("waiting", [0, -1])
def test_a_queue_without_room_is_refused(waiting: int) -> None:
    broadcast = Broadcast()
    with pytest.raises(ValueError, match=f"waiting is at least 1, not {waiting}"):
        broadcast.subscribe(waiting)
    with pytest.raises(ValueError, match=f"waiting is at least 1, not {waiting}"):
        broadcast.subscribe_fills(waiting)
    broadcast.publish(received(0, 1))


async def test_who_subscribes_after_the_end_ends_at_once() -> None:
    broadcast = Broadcast()
    broadcast.publish(received(0, 1))
    broadcast.close()
    with trio.fail_after(1):
        assert [one async for one in broadcast.subscribe(1)] == []
        assert [one async for one in broadcast.subscribe_fills(1)] == []


async def test_a_reader_that_was_dropped_is_forgotten() -> None:
    broadcast = Broadcast()
    kept = broadcast.subscribe(1)
    for _ in range(100):
        broadcast.subscribe(1)
        broadcast.subscribe_fills(1)
    gc.collect()
    assert (list(broadcast._candles), list(broadcast._fills)) == ([kept], [])


async def test_readers_wait_without_polling_and_wake_by_candle_fill_and_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    broadcast = Broadcast()
    candles, fills = broadcast.subscribe(5), broadcast.subscribe_fills(5)
    woke: list[tuple[str, float]] = []

    async def read(name: str, copies: Candles | Fills) -> None:
        with suppress(StopAsyncIteration):
            while await anext(copies):
                woke.append((name, trio.current_time() - begun))
        woke.append((f"{name} end", trio.current_time() - begun))

    begun = trio.current_time()
    steps = trio.lowlevel.current_statistics
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "candles", candles)
        nursery.start_soon(read, "fills", fills)
        await trio.testing.wait_all_tasks_blocked()
        assert steps().tasks_runnable == 0
        await trio.sleep(10)
        broadcast.publish(received(0, 1, Source.REST))
        await trio.sleep(10)
        broadcast.publish_fill(filled(1))
        await trio.sleep(10)
        broadcast.close()
    assert woke[:2] == [("candles", 10), ("fills", 20)]
    assert sorted(woke[2:]) == [("candles end", 30), ("fills end", 30)]


async def test_reading_lets_others_run_though_copies_wait() -> None:
    broadcast = Broadcast()
    candles = broadcast.subscribe(100)
    broadcast.publish(received(0, 100))
    steps = 0

    async def other() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(100):
            await anext(candles)
        nursery.cancel_scope.cancel()
    assert steps >= 90


async def test_two_tasks_share_a_reader_and_each_copy_goes_to_one_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    broadcast = Broadcast()
    candles = broadcast.subscribe(10)
    got: list[ReceivedCandle] = []

    async def read() -> None:
        async for one in candles:
            got.append(one)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        for n in range(20):
            broadcast.publish(received(n, n + 1))
            await trio.sleep(0.05)
        broadcast.close()
    assert sorted(got, key=lambda one: one.candle.open_time_ms) == received(0, 20)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), waiting=st.integers(1, 5))
def test_whatever_is_cancelled_each_copy_is_read_or_counted_as_lost(
    seed: int, waiting: int
) -> None:
    random = Random(seed)
    got: list[ReceivedCandle] = []

    async def read(candles: Candles) -> None:
        while True:
            with trio.move_on_after(random.random() * 3):
                async for one in candles:
                    got.append(one)
                    if random.random() < 0.3:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(random.random() * 3)
                return

    async def main() -> Candles:
        broadcast = Broadcast()
        candles = broadcast.subscribe(waiting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, candles)
            for n in range(60):
                broadcast.publish(received(n, n + 1, random.choice([Source.STREAM, Source.REST])))
                await trio.sleep(random.choice([0, 0, 1, 2]))
            broadcast.close()
        return candles

    candles = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    times = [one.candle.open_time_ms for one in got]
    assert len(set(times)) == len(times) == 60 - candles.lost
    for source in (Source.STREAM, Source.REST):
        mine = [one.candle.open_time_ms for one in got if one.source is source]
        assert mine == sorted(mine)


_deeds = st.lists(
    st.one_of(
        st.lists(st.sampled_from([*Source]), max_size=8),
        st.sampled_from(["take", "cancel", "close"]),
    ),
    max_size=30,
)
"""Batches by the sources of their candles, and what else happens."""


@settings(max_examples=100, deadline=None)
@given(waiting=st.integers(1, 4), deeds=_deeds)
def test_a_reader_is_two_lists_of_which_the_ends_are_kept(
    waiting: int, deeds: list[list[Source] | str]
) -> None:
    async def main() -> None:
        broadcast = Broadcast()
        candles = broadcast.subscribe(waiting)
        live: list[ReceivedCandle] = []
        refills: list[ReceivedCandle] = []
        lost, lost_refills, is_closed, nth = 0, 0, False, 0
        for deed in deeds:
            if isinstance(deed, list):
                batch = []
                for source in deed:
                    batch += received(nth, nth + 1, source)
                    nth += 1
                broadcast.publish(batch)
                live += [one for one in batch if one.source is Source.STREAM]
                refills += [one for one in batch if one.source is not Source.STREAM]
                lost += max(0, len(live) - waiting)
                lost_refills += max(0, len(refills) - waiting)
                live, refills = live[-waiting:], refills[-waiting:]
            elif deed == "close":
                broadcast.close()
                is_closed = True
            elif deed == "cancel":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await anext(candles)
                assert scope.cancelled_caught
            elif live or refills:
                assert await anext(candles) == (live or refills).pop(0)
            elif is_closed:
                with pytest.raises(StopAsyncIteration):
                    await anext(candles)
            else:
                with trio.move_on_after(1) as scope:
                    await anext(candles)
                assert scope.cancelled_caught
            assert (candles.lost, candles.lost_refills) == (lost + lost_refills, lost_refills)
        assert await all_that_wait(candles) == [*live, *refills]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_program_gets_every_candle_though_the_stream_omits_many(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Those that REST brings come too, and say so."""
    config = Config(streams=(BTC,), store=StoreConfig(path=tmp_path / "data"))
    omitted = {START_MS + n * MINUTE_MS for n in range(5, 45, 3)}
    exchange = Exchange(
        start_ms=START_MS,
        speed=60,
        faults=[
            OmitClose(trade_type="spot", stream=stream_name(BTC), open_ms=open_ms)
            for open_ms in sorted(omitted)
        ],
    )
    got: dict[int, list[Source]] = {}
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        candles = recorder.candles()
        async with trio.open_nursery() as reading:

            async def read() -> None:
                async for one in candles:
                    got.setdefault(one.candle.open_time_ms, []).append(one.source)

            reading.start_soon(read)
            await trio.sleep(120)
            reading.cancel_scope.cancel()
    first_ms, last_ms = min(got), max(got)
    assert sorted(got) == [*range(first_ms, last_ms + MINUTE_MS, MINUTE_MS)]
    assert {ms for ms in got if got[ms] == [Source.REST]} >= omitted
    assert candles.lost == 0


async def test_a_reader_outside_of_the_recorder_ends_though_the_recorder_fails(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    config = Config(streams=(BTC,), store=StoreConfig(path=tmp_path / "data"))
    got: list[Candles] = []

    async def fail() -> None:
        async with open_recorder(config, environment) as recorder:
            got.append(recorder.candles())
            await trio.sleep(5)
            raise ZeroDivisionError

    async with joined(Exchange(start_ms=START_MS, speed=60)) as environment:
        with pytest.raises(ZeroDivisionError):
            await fail()
    with trio.fail_after(1):
        assert len([one async for one in got[0]]) >= 4
