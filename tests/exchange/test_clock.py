"""The exchange's time: what two independent witnesses have told."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span

MINUTE_MS, HOUR_MS, YEAR_MS = 60_000, 3_600_000, 31_536_000_000
NOW_MS = 1_700_000_040_000
BTC, ETH, LTC = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH", "LTC"))
SECONDS = Series("spot", "BTCUSDT", "1s")


def confirmed() -> ExchangeClock:
    clock = ExchangeClock()
    clock.add_frame(NOW_MS, BTC)
    assert clock.confirm(NOW_MS)
    assert clock.now_ms == NOW_MS
    return clock


def test_one_witness_is_none() -> None:
    clock = ExchangeClock()
    clock.add_frame(NOW_MS, BTC)
    assert clock.now_ms is None
    assert clock.doubt.is_set(), "so that the endpoint is asked"
    clock = ExchangeClock()
    for wrong_ms in (NOW_MS + 10 * YEAR_MS,) * 3:
        assert not clock.confirm(wrong_ms)
        assert clock.now_ms is None


def test_the_time_is_what_both_have_told() -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + 5, BTC)
    assert clock.confirm(NOW_MS + 3)
    assert clock.now_ms == NOW_MS + 3
    clock.add_frame(NOW_MS + 10, BTC)
    assert clock.confirm(NOW_MS + 20)
    assert clock.now_ms == NOW_MS + 10


Tell = Callable[[ExchangeClock, int], object]
FRAME: Tell = lambda clock, time_ms: clock.add_frame(time_ms, BTC)  # noqa: E731 - as the next two
ENDPOINT: Tell = ExchangeClock.confirm
CANDLE: Tell = lambda clock, time_ms: clock.confirm_by_candle(  # noqa: E731
    time_ms // MINUTE_MS * MINUTE_MS
)


@pytest.mark.parametrize("speed", [1, 60, 600, 10**7])
@pytest.mark.parametrize("others", [FRAME, CANDLE])
async def test_the_first_time_takes_two_witnesses_by_turns_however_fast_it_runs(
    speed: int, others: Tell
) -> None:
    clock = ExchangeClock()
    told_ms = [NOW_MS + turn * 50 * speed for turn in range(4)]
    for told, (tell, time_ms) in enumerate(zip((ENDPOINT, others) * 2, told_ms, strict=True)):
        assert told < 2 or speed > 600 or clock.now_ms is not None
        assert told > 1 or clock.now_ms is None
        tell(clock, time_ms)
    assert clock.now_ms is not None
    assert told_ms[0] - MINUTE_MS < clock.now_ms <= told_ms[3]


@pytest.mark.parametrize("speed", [1, 60, 600, 10**7])
@pytest.mark.parametrize("nth_frame", [0, 1, 2])
@pytest.mark.parametrize(
    ("endpoint_ms", "frame_ms", "candle_ms"),
    [
        (-10 * YEAR_MS, 0, 0),
        (10 * YEAR_MS, 0, 0),
        (3 * HOUR_MS, 0, 0),
        (0, -50 * YEAR_MS, 0),
        (0, 24 * HOUR_MS, 0),
        (10 * YEAR_MS, 24 * HOUR_MS, 0),
        (24 * HOUR_MS, 10 * YEAR_MS, 0),
        (24 * HOUR_MS, 0, YEAR_MS),
        (0, 24 * HOUR_MS, YEAR_MS),
        (0, 0, -YEAR_MS),
    ],
)
async def test_lies_of_different_times_do_not_bear_each_other_out(
    speed: int, nth_frame: int, endpoint_ms: int, frame_ms: int, candle_ms: int
) -> None:
    """One frame, and for some seconds the endpoint and the candles, at the start."""
    clock = ExchangeClock()
    now_ms = NOW_MS
    for turn in range(40):
        now_ms += 100 * speed
        is_lying = turn < 12
        if turn % 2 == 0:
            clock.add_frame(now_ms + frame_ms * (turn == 2 * nth_frame), (BTC, ETH)[turn // 2 % 2])
        elif turn % 4 == 1:
            clock.confirm(now_ms + endpoint_ms * is_lying)
        else:
            CANDLE(clock, now_ms + candle_ms * is_lying)
        assert clock.now_ms is None or NOW_MS - MINUTE_MS <= clock.now_ms <= now_ms
    assert clock.now_ms is not None, "what is true comes to be believed"
    assert clock.now_ms > now_ms - max(MINUTE_MS, 10 * 100 * speed)


@pytest.mark.parametrize("off_ms", [3 * HOUR_MS, -3 * HOUR_MS, 10 * YEAR_MS, -10 * YEAR_MS])
async def test_an_endpoint_that_is_wrong_for_good_is_outvoted(off_ms: int) -> None:
    clock = ExchangeClock()
    for second in range(10):
        now_ms = NOW_MS + 1_000 * second
        clock.add_frame(now_ms, BTC)
        clock.confirm(now_ms + off_ms)
        CANDLE(clock, now_ms)
    assert clock.now_ms is not None
    assert NOW_MS <= clock.now_ms <= now_ms


def test_lies_of_a_year_do_not_add_up() -> None:
    """Each is later than the one before it, and of another witness."""
    clock = confirmed()
    for hours in range(1, 200):
        true_ms = (clock.now_ms or 0) + 1_000
        tell = (FRAME, ENDPOINT)[hours % 2]
        tell(clock, NOW_MS + hours * HOUR_MS)
        clock.add_frame(true_ms, ETH)
        clock.confirm(true_ms)
        assert clock.now_ms == true_ms


def test_an_endpoint_that_is_years_ahead_moves_nothing_however_often_it_says_so() -> None:
    clock = confirmed()
    for _ in range(3):
        assert not clock.confirm(NOW_MS + 10 * YEAR_MS)
    assert clock.now_ms == NOW_MS
    clock.add_frame(NOW_MS + 100, ETH)
    assert not clock.confirm(NOW_MS + 10 * YEAR_MS)
    assert clock.now_ms == NOW_MS + 100


def test_two_different_frames_come_as_far_as_the_next_candle() -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + 2_000, BTC)
    assert clock.now_ms == NOW_MS
    clock.add_frame(NOW_MS + 1_000, ETH)
    assert clock.now_ms == NOW_MS + 1_000
    clock.add_frame(NOW_MS + 3_000, BTC)
    assert clock.now_ms == NOW_MS + 2_000
    assert not clock.doubt.is_set()


def test_the_same_frame_over_two_connections_is_one_witness() -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + 2_000, BTC)
    clock.add_frame(NOW_MS + 2_000, BTC)
    assert clock.now_ms == NOW_MS
    clock.add_frame(NOW_MS + 2_000, ETH)
    assert clock.now_ms == NOW_MS + 2_000


@pytest.mark.parametrize("ahead_ms", [7 * MINUTE_MS, 50 * MINUTE_MS, 3 * HOUR_MS, 10 * YEAR_MS])
def test_a_frame_that_is_ahead_is_doubted_and_refuted_by_the_endpoint(ahead_ms: int) -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + ahead_ms, BTC)
    clock.add_frame(NOW_MS + ahead_ms, ETH)
    assert clock.now_ms == NOW_MS
    assert clock.doubt.is_set()
    clock.confirm(NOW_MS + 50)
    assert not clock.doubt.is_set()
    # It is no witness any more: neither one other frame moves the time on, nor the endpoint.
    clock.add_frame(NOW_MS + 55, BTC)
    assert clock.now_ms == NOW_MS
    clock.add_frame(NOW_MS + 60, BTC)
    clock.confirm(NOW_MS + ahead_ms)
    assert clock.now_ms is not None
    assert clock.now_ms <= NOW_MS + 2 * MINUTE_MS


def test_a_long_way_on_takes_a_frame_and_the_endpoint() -> None:
    """We were asleep, or the exchange was."""
    clock = confirmed()
    later_ms = NOW_MS + 5 * HOUR_MS
    clock.add_frame(later_ms, BTC)
    assert clock.confirm(later_ms + 100)
    assert clock.now_ms == later_ms


def test_on_a_fast_exchange_a_frame_that_was_under_way_for_longer_does_no_harm() -> None:
    clock = confirmed()
    for step in range(1, 5):
        later_ms = NOW_MS + step * HOUR_MS
        clock.add_frame(later_ms, BTC)
        clock.confirm(later_ms + 10 * MINUTE_MS)
        clock.add_frame(later_ms + 9 * MINUTE_MS, BTC)
    assert clock.now_ms is not None
    assert clock.now_ms >= NOW_MS + 3 * HOUR_MS


def test_two_lies_of_different_times_bear_each_other_out_no_more_than_one() -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + YEAR_MS, BTC)
    clock.confirm(NOW_MS + 24 * HOUR_MS)
    assert clock.now_ms == NOW_MS


async def test_without_frames_the_endpoint_is_believed_as_far_as_there_are_candles() -> None:
    clock = ExchangeClock()
    assert not clock.confirm(NOW_MS + 41_000)
    assert clock.confirm_by_candle(NOW_MS)
    assert clock.now_ms == NOW_MS
    for _ in range(3):
        assert not clock.confirm(NOW_MS + 10 * YEAR_MS)
        assert not clock.confirm_by_candle(NOW_MS + MINUTE_MS)
    assert clock.now_ms == NOW_MS + MINUTE_MS


async def test_a_frame_that_was_held_meanwhile_is_borne_out_by_both_others() -> None:
    """As on an exchange that runs fast, while no other frame is read."""
    clock = confirmed()
    clock.add_frame(NOW_MS + HOUR_MS, ETH)
    clock.confirm(NOW_MS + 200 * HOUR_MS)
    clock.confirm_by_candle(NOW_MS + 100 * HOUR_MS)
    assert clock.now_ms == NOW_MS + HOUR_MS


async def test_a_busy_symbol_that_is_halted_does_not_stop_the_time() -> None:
    clock = confirmed()
    for hours in range(1, 5):
        clock.add_frame(NOW_MS + hours * HOUR_MS, ETH)
        clock.confirm(NOW_MS + hours * HOUR_MS + 10 * MINUTE_MS)
        clock.confirm_by_candle(NOW_MS)
    assert clock.now_ms is not None
    assert clock.now_ms >= NOW_MS + 2 * HOUR_MS


async def test_where_nothing_is_traded_the_newest_candle_is_believed_when_it_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A market may be halted for hours, and its archives may be asked for meanwhile."""
    clock = ExchangeClock()
    for candle_ms in (NOW_MS - YEAR_MS, NOW_MS, NOW_MS, NOW_MS):
        assert clock.now_ms is None
        clock.confirm(NOW_MS + 3 * HOUR_MS)
        assert not clock.confirm_by_candle(candle_ms)
        await trio.sleep(5)
    assert clock.now_ms == NOW_MS


async def test_frames_that_are_read_far_behind_the_answers_start_it_though_they_move_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As at the start of a fast replay on a busy machine: a day has passed, and the next begins."""
    clock = ExchangeClock()
    for seconds in (0, 4, 8, 12):
        assert clock.now_ms is None
        clock.add_frame(NOW_MS + seconds * HOUR_MS, BTC)
        assert not clock.confirm(NOW_MS + YEAR_MS + seconds * 24 * HOUR_MS)
        assert not clock.confirm_by_candle(NOW_MS + 24 * HOUR_MS)
        await trio.sleep(4)
    assert clock.now_ms == NOW_MS + 12 * HOUR_MS


async def test_a_time_that_another_than_frames_moves_on_has_not_stayed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = ExchangeClock()
    clock.add_frame(NOW_MS, BTC)
    for years_ago in (9, 6, 4, 2):
        clock.confirm(NOW_MS + YEAR_MS)
        assert not clock.confirm_by_candle(NOW_MS - years_ago * YEAR_MS)
        await trio.sleep(4)
        assert clock.now_ms is None


def test_frames_of_seconds_take_it_no_further_than_a_candle_of_theirs() -> None:
    clock = confirmed()
    clock.add_frame(NOW_MS + 100, SECONDS)
    clock.add_frame(NOW_MS + 30_000, SECONDS)
    clock.add_frame(NOW_MS + 30_001, SECONDS)
    assert clock.now_ms == NOW_MS + 100
    assert clock.doubt.is_set()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**7)), max_size=30))
def test_it_never_goes_back_and_never_past_what_two_have_told(
    words: list[tuple[bool, int]],
) -> None:
    clock = ExchangeClock()
    told: list[int] = []
    before_ms = 0
    for number, (is_frame, step) in enumerate(words):
        time_ms = NOW_MS + step
        if is_frame:
            # All are different frames.
            clock.add_frame(time_ms, Series("spot", f"COIN{number}", "1m"))
        else:
            clock.confirm(time_ms)
        told.append(time_ms)
        now_ms = clock.now_ms or 0
        assert now_ms >= before_ms
        assert sum(one >= now_ms for one in told) >= min(2, len(told))
        before_ms = now_ms


def test_it_remembers_what_it_heard_first_through_a_ban_of_three_days() -> None:
    clock = ExchangeClock()
    clock.add_frame(NOW_MS, BTC)
    later_ms = NOW_MS + 73 * HOUR_MS
    for _ in range(2):
        clock.confirm(later_ms)
        clock.add_frame(later_ms, BTC)
    assert clock.now_ms == later_ms
    assert clock.began_ms == NOW_MS


def test_it_remembers_what_it_heard_first() -> None:
    clock = ExchangeClock()
    for step in (7, 3):
        clock.add_frame(NOW_MS + step, BTC)
    clock.confirm(NOW_MS + 100)
    clock.add_frame(NOW_MS + 100, BTC)
    clock.confirm(NOW_MS + 100)
    assert clock.now_ms == NOW_MS + 100
    assert clock.began_ms == NOW_MS + 7


@pytest.mark.parametrize("lie_ms", [-YEAR_MS, YEAR_MS])
def test_a_lie_that_it_heard_first_is_not_when_it_began(lie_ms: int) -> None:
    clock = ExchangeClock()
    clock.add_frame(NOW_MS + lie_ms, BTC)
    clock.add_frame(NOW_MS, ETH)
    for _ in range(3):
        clock.confirm(NOW_MS + HOUR_MS)
        clock.add_frame(NOW_MS + HOUR_MS, BTC)
    assert clock.now_ms == NOW_MS + HOUR_MS
    assert clock.began_ms == NOW_MS


async def answer_later(clock: ExchangeClock, seconds: float, *times_ms: int) -> None:
    """Give these answers of the time endpoint, so far apart."""
    for time_ms in times_ms:
        await trio.sleep(seconds)
        clock.confirm(time_ms)


async def asked(clock: ExchangeClock, frame_ms: int, *answers_ms: int) -> tuple[Span, float]:
    """Return what is believed after a frame told a time, and after how many seconds."""
    clock.add_frame(frame_ms, ETH)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_later, clock, 0.5, *answers_ms)
        span = await clock.accepted_span(frame_ms)
        nursery.cancel_scope.cancel()
    return span, trio.current_time() - began


def holds(span: Span, time_ms: int) -> bool:
    return span.from_ms <= time_ms < span.to_ms


async def test_what_is_near_enough_is_believed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    span, seconds = await asked(confirmed(), NOW_MS + 70_000)
    assert holds(span, NOW_MS + 70_000)
    assert seconds == 0


async def test_what_is_far_ahead_is_held_until_the_endpoint_says_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = confirmed()
    later_ms = NOW_MS + HOUR_MS
    span, seconds = await asked(clock, later_ms, later_ms + 100)
    assert holds(span, later_ms)
    assert seconds == 0.5


@pytest.mark.parametrize("ahead_ms", [3 * MINUTE_MS, 46 * MINUTE_MS, 7 * YEAR_MS])
async def test_what_two_answers_do_not_reach_is_refuted(
    autojump_clock: trio.testing.MockClock, ahead_ms: int
) -> None:
    span, seconds = await asked(confirmed(), NOW_MS + ahead_ms, NOW_MS + 500, NOW_MS + 1_000)
    assert not holds(span, NOW_MS + ahead_ms)
    assert holds(span, NOW_MS + 1_000)
    assert seconds == 1, "the first may be the answer to a question from before the frame"


async def test_an_answer_from_before_a_frame_does_not_outweigh_the_one_after_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of series of 1s an answer that was under way is two candles behind at once."""
    clock = confirmed()
    clock.add_frame(NOW_MS, SECONDS)
    told_ms = NOW_MS + 6_000
    answers = (NOW_MS + 2_000, NOW_MS + 7_000, NOW_MS + 8_000)
    span, _ = await asked(clock, told_ms, *answers)
    assert holds(span, told_ms)


@pytest.mark.parametrize("told", [24 * HOUR_MS, 10 * YEAR_MS])
async def test_a_lie_of_the_endpoint_bears_out_no_frame_that_lies_otherwise_or_later(
    autojump_clock: trio.testing.MockClock, told: int
) -> None:
    """Neither one that came while the frame was held, nor one from before it."""
    clock = confirmed()
    clock.confirm(NOW_MS + told)
    lie_ms = NOW_MS + YEAR_MS
    answers = (NOW_MS + told, NOW_MS) if told < YEAR_MS else (NOW_MS, NOW_MS)
    span, _ = await asked(clock, lie_ms, *answers)
    assert not holds(span, lie_ms)
    assert clock.now_ms == NOW_MS


async def test_a_first_frame_that_lies_is_refuted_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    span, _ = await asked(ExchangeClock(), NOW_MS + 7 * YEAR_MS, NOW_MS, NOW_MS + 500)
    assert not holds(span, NOW_MS + 7 * YEAR_MS)
    assert holds(span, NOW_MS)


@pytest.mark.parametrize("off_ms", [-YEAR_MS, 3 * HOUR_MS, 24 * HOUR_MS, YEAR_MS])
async def test_where_nobody_answers_a_frame_is_refused_that_is_far_from_the_last_ones(
    autojump_clock: trio.testing.MockClock, off_ms: int
) -> None:
    """Two of the last five may lie, as where a host lies on each of two connections."""
    clock = ExchangeClock()
    for step, series in enumerate((BTC, ETH, LTC)):
        clock.add_frame(NOW_MS + step, series)
    clock.add_frame(NOW_MS + off_ms, BTC)
    span, _ = await asked(clock, NOW_MS + off_ms)
    assert not holds(span, NOW_MS + off_ms)
    assert holds(span, NOW_MS)
    assert holds(span, NOW_MS + MINUTE_MS)


@pytest.mark.parametrize("off_ms", [-50 * YEAR_MS, 3 * HOUR_MS, 10 * YEAR_MS])
async def test_where_nobody_answers_a_lie_over_each_of_three_connections_is_one(
    autojump_clock: trio.testing.MockClock, off_ms: int
) -> None:
    clock = confirmed()
    for minute in range(30, 60, 5):
        clock.add_frame(NOW_MS + minute * MINUTE_MS, BTC)
    true_ms = NOW_MS + HOUR_MS
    for step, series in enumerate((BTC, ETH, LTC)):
        clock.add_frame(true_ms + off_ms + step, series)
    span, _ = await asked(clock, max(true_ms, true_ms + off_ms))
    assert not holds(span, true_ms + off_ms)
    assert holds(span, true_ms)
    # A second one, of another time, while the endpoint is still silent.
    clock.add_frame(true_ms, BTC)
    second_ms = true_ms + 2 * off_ms + 5 * MINUTE_MS
    clock.add_frame(second_ms, ETH)
    span, _ = await asked(clock, max(true_ms, second_ms))
    assert not holds(span, second_ms)
    assert holds(span, true_ms)


async def test_where_nobody_answers_a_close_is_believed_that_follows_many_of_an_hour(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = confirmed()
    for minute in range(30, 60, 5):
        clock.add_frame(NOW_MS + minute * MINUTE_MS, BTC)
    for step in range(20):
        clock.add_frame(NOW_MS + HOUR_MS + step, Series("spot", f"COIN{step}USDT", "1h"))
    told_ms = NOW_MS + HOUR_MS + 5 * MINUTE_MS + 700
    for later_ms in (0, 1_000):  # the candle is revised
        span, _ = await asked(clock, told_ms + later_ms)
        assert holds(span, told_ms + later_ms)


async def test_where_nobody_answers_what_was_known_still_holds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A frame of fifty years ago may come beside one of the next hour, and waits with it."""
    span, seconds = await asked(confirmed(), NOW_MS + HOUR_MS)
    assert seconds == 10
    assert not holds(span, NOW_MS - 50 * YEAR_MS)
    assert holds(span, NOW_MS - 23 * HOUR_MS)


async def test_where_nobody_answers_a_quiet_series_is_believed_once_a_month(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = ExchangeClock()
    for month in range(12):
        told_ms = NOW_MS + month * 31 * 24 * HOUR_MS
        span, _ = await asked(clock, told_ms)
        assert holds(span, told_ms)


async def test_where_nobody_answers_everything_is_believed_and_nobody_waits_twice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = confirmed()
    waits = []
    for hours in (1, 2, 3):
        span, seconds = await asked(clock, NOW_MS + hours * HOUR_MS)
        assert holds(span, NOW_MS + hours * HOUR_MS)
        waits.append(seconds)
    assert waits == [10, 0, 0]
    clock.confirm(NOW_MS + 3 * HOUR_MS)
    _, seconds = await asked(clock, NOW_MS + 9 * HOUR_MS)
    assert seconds == 10, "it had answered since"


async def test_another_frame_ends_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    clock = confirmed()
    late_ms = NOW_MS + 3 * MINUTE_MS

    async def other_frames() -> None:
        for minutes in (1, 2):
            await trio.sleep(1)
            for one in (BTC, LTC):
                clock.add_frame(NOW_MS + minutes * MINUTE_MS, one)

    async with trio.open_nursery() as nursery:
        clock.add_frame(late_ms, ETH)
        nursery.start_soon(other_frames)
        assert holds(await clock.accepted_span(late_ms), late_ms)
        assert trio.current_time() < 10


@pytest.mark.parametrize("days", [2, 365, 365 * 54])
async def test_what_is_more_than_a_day_old_is_not_believed(days: int) -> None:
    span = await confirmed().accepted_span(NOW_MS)
    assert not holds(span, NOW_MS - days * 86_400_000)
    assert holds(span, NOW_MS - 23 * HOUR_MS)
