"""One budget of weight for each pool, and one gate for all who draw on it."""

import pytest
import trio

from kline_trio.exchange.rate_limiter import RateLimiter


async def test_what_fits_into_the_share_goes_at_once(autojump_clock: object) -> None:
    pool = RateLimiter(100, 0.5)
    before = trio.current_time()
    for _ in range(5):
        await pool.acquire(10, 0.0)
    assert trio.current_time() == before


async def test_more_waits_for_the_next_minute(autojump_clock: object) -> None:
    pool = RateLimiter(100, 0.5)
    before = trio.current_time()
    for _ in range(6):
        await pool.acquire(10, 0.0)
    assert trio.current_time() - before == pytest.approx(60)


async def test_no_minute_ever_sees_more_than_the_share(autojump_clock: object) -> None:
    pool = RateLimiter(100, 0.5)
    spent: list[float] = []

    async def acquire() -> None:
        for _ in range(20):
            await pool.acquire(7, 1.0)
            spent.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(acquire)
    minutes = [int((moment - spent[0]) // 60) for moment in spent]
    assert max(minutes.count(minute) for minute in set(minutes)) * 7 <= 50


async def test_the_most_urgent_goes_first(autojump_clock: object) -> None:
    pool = RateLimiter(100, 0.5)
    await pool.acquire(50, 0.0)
    order: list[float] = []

    async def acquire(urgency: float) -> None:
        await pool.acquire(50, urgency)
        order.append(urgency)

    async with trio.open_nursery() as nursery:
        for urgency in (3.0, 1.0, 2.0):
            nursery.start_soon(acquire, urgency)
    assert order == [1.0, 2.0, 3.0]


async def test_who_gives_up_holds_nobody_up(autojump_clock: object) -> None:
    pool = RateLimiter(100, 0.5)
    await pool.acquire(50, 0.0)
    with trio.move_on_after(1):
        await pool.acquire(50, 0.0)
    before = trio.current_time()
    await pool.acquire(50, 5.0)
    assert trio.current_time() - before == pytest.approx(59)


async def test_a_request_that_is_heavier_than_the_share_goes_alone(
    autojump_clock: object,
) -> None:
    pool = RateLimiter(10, 0.5)
    await pool.acquire(20, 0.0)
    with trio.move_on_after(59) as patience:
        await pool.acquire(1, 0.0)
    assert patience.cancelled_caught


async def test_a_block_holds_everybody(autojump_clock: object) -> None:
    pool = RateLimiter(1_000, 1.0)
    pool.block(300)
    pool.block(5)
    before = trio.current_time()
    await pool.acquire(1, 0.0)
    assert trio.current_time() - before == pytest.approx(300)


async def test_what_an_answer_says_is_used_only_adds_to_our_own_count(
    autojump_clock: object,
) -> None:
    """An answer may be older than what was asked since."""
    pool = RateLimiter(100, 0.5)
    await pool.acquire(50, 0.0)
    pool.learn_used(10)
    before = trio.current_time()
    await pool.acquire(1, 0.0)
    assert trio.current_time() - before == pytest.approx(60)
    pool.learn_used(50)
    await pool.acquire(1, 0.0)
    assert trio.current_time() - before == pytest.approx(120)
