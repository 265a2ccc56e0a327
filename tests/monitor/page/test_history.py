"""The last hour in steps of ten seconds."""

import attrs
import pytest

from kline_trio.monitor.page.history import STEPS, History, Sample, median, together
from kline_trio.recorder.statistics import LAG_BOUNDS_SECONDS, Lags, Statistics, Traffic, lag_bucket
from tests.monitor.observations import NO_LAGS, listener, market, statistics

WALL = 1_790_000_000.0


def lags_of(*seconds: float) -> Lags:
    counts = [0] * (len(LAG_BOUNDS_SECONDS) + 1)
    for one in seconds:
        counts[lag_bucket(one)] += 1
    return Lags(tuple(counts), sum(seconds), max(seconds, default=0.0))


def snapshot(now: float, frames: int = 0, candles: int = 0, *steps: tuple[int, Lags]) -> Statistics:
    traffic = Traffic(frames, 0, 0, 0)
    one = market(listener=listener(traffic=traffic), received=candles, recent_lags=steps)
    return statistics(markets=(one,), wall_time=WALL + now)


def test_a_step_has_what_was_counted_in_it() -> None:
    history = History()
    for seconds in range(31):
        history.look(snapshot(seconds, 100 * seconds, seconds // 5), float(seconds))
    first, second, third = history.samples()
    assert first == Sample(round(WALL * 1_000), 100.0, 1, None, None)
    assert second == Sample(round((WALL + 10) * 1_000), 100.0, 2, None, None)
    assert history.newest == third


def test_the_lags_of_a_step_are_those_of_its_commits() -> None:
    history = History()
    history.look(snapshot(1.0), 1.0)
    history.look(snapshot(9.5, 0, 2, (0, lags_of(0.2, 0.4))), 9.5)
    # A commit in the last half second of the first step, and one of the second.
    both = ((0, lags_of(0.2, 0.4, 3.0)), (1, lags_of(0.06)))
    history.look(snapshot(10.5, 0, 4, *both), 10.5)
    history.look(snapshot(20.5, 0, 4, *both), 20.5)
    first, second = history.samples()
    assert first.lag_max == 3.0
    assert first.lag_p50 == pytest.approx(0.375)
    assert second.lag_max == 0.06
    assert second.candles == 2


def test_steps_in_which_nobody_looked_have_no_sample() -> None:
    history = History()
    for now in (5.0, 15.0, 105.0, 115.0):
        history.look(snapshot(now, round(now)), now)
    begins = [round((WALL + second) * 1_000) for second in (0, 10, 100)]
    assert [one.time_ms for one in history.samples()] == begins
    assert [one.frames for one in history.samples()] == [None, 1.0, 1.0]


def test_only_an_hour_is_kept() -> None:
    history = History()
    for step in range(STEPS + 50):
        history.look(snapshot(10.0 * step), 10.0 * step)
    columns = history.columns()
    times = columns["time_ms"]
    assert len(times) == STEPS
    assert times[-1] == round((WALL + 10 * (STEPS + 48)) * 1_000)
    assert set(columns) == set(attrs.fields_dict(Sample))


def test_a_market_that_is_recorded_again_counts_from_anew() -> None:
    history = History()
    history.look(snapshot(0.0, 500, 50), 0.0)
    history.look(statistics(markets=(), wall_time=WALL), 2.0)
    history.look(snapshot(4.0, 20, 2), 4.0)
    history.look(snapshot(6.0, 30, 3), 6.0)
    history.look(snapshot(10.0, 30, 3), 10.0)
    assert history.samples()[0].candles == 1
    assert history.samples()[0].frames == pytest.approx(10 / 6, abs=0.1)


def test_a_history_without_snapshots_is_empty() -> None:
    assert History().newest is None
    assert History().columns()["time_ms"] == []


def test_the_median_lies_in_its_bucket() -> None:
    assert median(NO_LAGS) is None
    assert median(together([])) is None
    assert median(lags_of(0.3)) == pytest.approx(0.275, abs=0.03)
    assert median(together([lags_of(0.01, 0.01), lags_of(40.0)])) == pytest.approx(0.0375)
    assert median(lags_of(5_000.0, 5_000.0)) == pytest.approx(4_300.0)
