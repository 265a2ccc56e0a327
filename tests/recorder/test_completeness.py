"""What is due and has not come."""

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import INTERVALS, Span
from kline_trio.recorder.completeness import Completeness

SPOT = Series("spot", "BTCUSDT", "1m")
MONTHS = Series("coin_futures", "BTCUSD_PERP", "1M")
START_MS = 1_706_659_200_000
MINUTE_MS = 60_000
GRACE_MS = 5_000


def at(minute: float) -> int:
    return START_MS + round(minute * MINUTE_MS)


def watching(*stored: int) -> Completeness:
    completeness = Completeness(GRACE_MS)
    completeness.watch(SPOT, START_MS, SPOT.interval.runs(at(minute) for minute in stored))
    return completeness


def absent(completeness: Completeness, now_ms: int) -> list[tuple[float, float]]:
    found = completeness.absent({"spot": now_ms}).get(SPOT, ())
    return [((s.from_ms - START_MS) / MINUTE_MS, (s.to_ms - START_MS) / MINUTE_MS) for s in found]


def test_nothing_is_absent_before_its_grace_is_over() -> None:
    completeness = watching()
    assert absent(completeness, at(1) + GRACE_MS - 1) == []
    assert absent(completeness, at(1) + GRACE_MS) == [(0, 1)]


def test_what_is_absent_is_named_once_and_as_few_spans() -> None:
    completeness = watching(2, 3)
    completeness.receive(SPOT, at(6))
    assert absent(completeness, at(9)) == [(0, 2), (4, 6), (7, 8)]
    assert absent(completeness, at(9)) == []


def test_a_market_whose_time_is_not_known_is_not_judged() -> None:
    completeness = watching()
    assert completeness.absent({"coin_futures": at(100)}) == {}


def test_the_watermark_waits_for_what_is_not_durable() -> None:
    completeness = watching()
    for minute in range(4):
        completeness.receive(SPOT, at(minute))
    assert absent(completeness, at(5)) == []
    assert completeness.watermarks_ms()[SPOT] == at(0)
    for minute in (0, 2, 3):
        completeness.accept(SPOT, at(minute))
    assert completeness.watermarks_ms()[SPOT] == at(1)
    completeness.accept(SPOT, at(1))
    assert completeness.watermarks_ms()[SPOT] == at(4)


def test_what_was_dropped_is_absent_after_all() -> None:
    completeness = watching()
    for minute in range(3):
        completeness.receive(SPOT, at(minute))
    completeness.drop(SPOT, at(2))
    assert absent(completeness, at(3) + GRACE_MS) == [(2, 3)]
    completeness.drop(SPOT, at(1))
    assert completeness.watermarks_ms()[SPOT] == at(0)
    completeness.accept(SPOT, at(0))
    assert completeness.watermarks_ms()[SPOT] == at(1)
    assert absent(completeness, at(3) + GRACE_MS) == [(1, 2)]
    assert completeness.watermarks_ms()[SPOT] == at(3)


def test_what_comes_before_it_is_known_what_is_due_counts() -> None:
    """Recording starts at once; what the store holds is looked up beside it."""
    completeness = Completeness(GRACE_MS)
    completeness.receive(SPOT, at(2))
    completeness.accept(SPOT, at(2))
    completeness.receive(SPOT, at(3))
    assert absent(completeness, at(9)) == []
    assert completeness.watermarks_ms() == {}
    completeness.watch(SPOT, at(0), [Span(at(0), at(1))])
    assert absent(completeness, at(5)) == [(1, 2)]
    assert completeness.watermarks_ms() == {SPOT: at(3)}


def test_months_follow_the_calendar() -> None:
    completeness = Completeness(GRACE_MS)
    completeness.watch(MONTHS, 1_704_067_200_000)  # 2024-01-01
    [span] = completeness.absent({"coin_futures": 1_710_000_000_000})[MONTHS]
    assert span == Span(1_704_067_200_000, 1_709_251_200_000)
    assert MONTHS.interval.count(span) == 2


@given(
    name=st.sampled_from(sorted(INTERVALS)),
    present=st.sets(st.integers(0, 60)),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
def test_absent_and_received_are_all_that_is_due(
    name: str, present: set[int], steps: list[int]
) -> None:
    """Whenever it is asked, each due candle is either received or named, and none is both."""
    series = Series("spot", "BTCUSDT", name)
    interval = series.interval
    times = [interval.open_time_ms(START_MS)]
    for _ in range(61):
        times.append(interval.end_time_ms(times[-1]))
    completeness = Completeness(0)
    completeness.watch(series, times[0])
    received = {times[n] for n in present}
    for moment in sorted(received):
        completeness.receive(series, moment)
    named: list[int] = []
    for step in sorted(steps):
        for span in completeness.absent({"spot": times[step]}).get(series, ()):
            named += interval.open_times_ms(span)
    due = set(times[: max(steps)])
    assert len(named) == len(set(named))
    assert set(named) == due - received
