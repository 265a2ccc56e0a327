"""A rest that several connections take together ends for each when it should."""

import math
import random

import pytest
import trio
import trio.testing

from kline_trio.exchange.sieved_stream import SharedTimer


async def test_all_that_wait_for_a_moment_go_on_in_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared_timer, woken = SharedTimer(), []

    async def wait(moment: float) -> None:
        await shared_timer.until(moment)
        woken.append((moment, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for moment in (1.0, 1.0, 2.0, 0.5, 1.0):
            nursery.start_soon(wait, moment)
    assert sorted(woken) == [(0.5, 0.5), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]


async def test_each_moment_has_one_timer(autojump_clock: trio.testing.MockClock) -> None:
    """Who waits for a later one is not woken by an earlier."""
    shared_timer, steps = SharedTimer(), 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, _task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(shared_timer.until, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(Steps())
        for moment in range(1, 10):
            await shared_timer.until(moment)
        assert steps < 50


async def test_a_moment_that_is_past_is_not_waited_for() -> None:
    with trio.fail_after(1):
        await SharedTimer().until(trio.current_time())
        await SharedTimer().until(-math.inf)


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_wakes_early_or_late_whoever_is_cancelled(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    shared_timer, chance, late = SharedTimer(), random.Random(seed), []

    async def wait(begin: float, moment: float, given_up: float) -> None:
        await trio.sleep_until(begin)
        with trio.move_on_at(given_up) as scope:
            await shared_timer.until(moment)
        expected = given_up if scope.cancelled_caught else max(begin, moment)
        if trio.current_time() != expected or scope.cancelled_caught != (
            max(begin, given_up) <= moment and begin < moment and given_up < moment
        ):
            late.append((begin, moment, given_up, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            begin, moment = chance.randrange(20), chance.randrange(20) + 0.5
            given_up = begin + chance.choice([0.25, 3.25, math.inf])
            nursery.start_soon(wait, begin, moment, given_up)
    assert late == []
