"""The exchange's time, by its own words alone."""

from kline_trio.exchange.clock import ExchangeClock

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def confirmed() -> ExchangeClock:
    clock = ExchangeClock()
    assert not clock.confirm(NOW_MS)
    assert clock.confirm(NOW_MS)
    return clock


def test_it_knows_nothing_before_the_endpoint_has_answered() -> None:
    clock = ExchangeClock()
    clock.hear(NOW_MS)
    assert clock.now_ms is None
    assert clock.is_doubted


def test_the_first_answer_counts_when_another_or_a_frame_agrees() -> None:
    """One wrong answer at the start would make hours due that are still to come."""
    clock = ExchangeClock()
    for wrong_ms in (NOW_MS + 10 * HOUR_MS, NOW_MS - 10 * HOUR_MS, NOW_MS):
        assert not clock.confirm(wrong_ms)
        assert clock.now_ms is None
    assert clock.confirm(NOW_MS + 20)
    assert clock.now_ms == NOW_MS + 20
    clock = ExchangeClock()
    clock.hear(NOW_MS + 5)
    assert not clock.confirm(NOW_MS + 10 * HOUR_MS)
    assert clock.confirm(NOW_MS)
    assert clock.now_ms == NOW_MS


def test_a_leap_of_the_endpoint_takes_two_answers_as_well() -> None:
    clock = confirmed()
    assert not clock.confirm(NOW_MS + 10 * HOUR_MS)
    assert clock.confirm(NOW_MS + 5)
    assert clock.now_ms == NOW_MS + 5
    assert not clock.confirm(NOW_MS + 10 * HOUR_MS)
    assert clock.confirm(NOW_MS + 10 * HOUR_MS + 5), "we were asleep, or the exchange was"
    assert clock.now_ms == NOW_MS + 10 * HOUR_MS + 5


def test_frames_move_it_on_and_never_back() -> None:
    clock = confirmed()
    told = []
    for step in (5, 3, 9, -HOUR_MS):
        clock.hear(NOW_MS + step)
        told.append(clock.now_ms)
    assert told == [NOW_MS + 5, NOW_MS + 5, NOW_MS + 9, NOW_MS + 9]
    assert not clock.is_doubted


def test_a_leap_of_more_than_an_hour_must_be_confirmed() -> None:
    clock = confirmed()
    clock.hear(NOW_MS + HOUR_MS + 1)
    assert (clock.now_ms, clock.is_doubted) == (NOW_MS, True)
    clock.confirm(NOW_MS + HOUR_MS)
    assert (clock.now_ms, clock.is_doubted) == (NOW_MS + HOUR_MS, False)
    clock.hear(NOW_MS + HOUR_MS + 1)
    assert clock.now_ms == NOW_MS + HOUR_MS + 1


def test_the_endpoint_cannot_turn_it_back_either() -> None:
    clock = confirmed()
    clock.confirm(NOW_MS - 5)
    assert clock.now_ms == NOW_MS


def test_it_remembers_what_it_heard_first() -> None:
    clock = ExchangeClock()
    for step in (7, 3):
        clock.hear(NOW_MS + step)
    clock.confirm(NOW_MS + 100)
    assert (clock.first_heard_ms, clock.now_ms) == (NOW_MS + 7, NOW_MS + 100)
