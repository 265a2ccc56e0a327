"""The verdict on a recorder: what makes it worse, in which words, and how it recovers."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.monitor.health import (
    Code,
    Health,
    Reason,
    Thresholds,
    Verdict,
    reasons,
)
from kline_trio.recorder.statistics import RestStatistics, Statistics
from tests.builders import SPOT
from tests.monitor.observations import (
    LOST,
    REFUSED,
    connection,
    lake,
    late,
    listener,
    market,
    process,
    statistics,
    store,
    usage,
)

LIMITS = Thresholds()


def only_reason(found: Statistics) -> Reason:
    [reason] = reasons(found, LIMITS)
    return reason


def of_market(**changes: Any) -> Statistics:  # noqa: ANN401
    return statistics(markets=(market(**changes),))


def test_a_lake_that_gets_candles_is_no_reason() -> None:
    recent = lake(behind_seconds=10_799.0, problem="HTTP 503")
    assert not list(reasons(statistics(lake=recent), LIMITS))


def test_nothing_is_wrong_with_a_recorder_that_records() -> None:
    assert not list(reasons(statistics(), LIMITS))
    assert Health().after(statistics(), LIMITS, 5.0).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("found", "code", "verdict", "text"),
    [
        (
            statistics(lake=lake(copies=1, copies_expected=2)),
            Code.COPIES,
            Verdict.DEGRADED,
            "lake: 1 of 2 copies of this shard were there lately",
        ),
        (
            statistics(lake=lake(lacking=("spot BTCUSDT of 2026-05: gone", "another"))),
            Code.PRUNED,
            Verdict.BAD,
            "lake: spot BTCUSDT of 2026-05: gone, and 1 more",
        ),
        (
            statistics(lake=lake(upkeep_fails_seconds=10_800.0, upkeep_problem="HTTP 403")),
            Code.LAKE,
            Verdict.DEGRADED,
            "lake: not looked after for 3 h: HTTP 403",
        ),
        (
            statistics(lake=lake(behind_seconds=10_800.0, problem="HTTP 503")),
            Code.LAKE,
            Verdict.DEGRADED,
            "lake: not published for 3 h: HTTP 503",
        ),
        (
            of_market(silent_seconds=45.0),
            Code.NO_DATA,
            Verdict.BAD,
            "spot: no data for 45 s",
        ),
        (
            of_market(silent_seconds=7_800.0, listener=listener(last_end=LOST, reconnects=14)),
            Code.NO_DATA,
            Verdict.BAD,
            "spot: no data for 2 h 10 min (lost: the connection broke; 14 connections lost)",
        ),
        (
            of_market(
                silent_seconds=90.0,
                is_refused=True,
                rest_problem="HTTP 503",
                listener=listener(last_end=REFUSED, reconnects=3),
            ),
            Code.MAINTENANCE,
            Verdict.BAD,
            "spot: the exchange refuses streams and REST alike for 90 s; it may be a maintenance",
        ),
        (
            of_market(silent_seconds=90.0, is_halted=True),
            Code.HALTED,
            Verdict.DEGRADED,
            "spot: nothing is traded, by the exchange's list",
        ),
        (
            statistics(late=(late(),)),
            Code.ABSENT,
            Verdict.BAD,
            "spot BTCUSDT-1m: 3 candles absent for 6 min",
        ),
        (
            statistics(late=(late(pending=1, seconds=20),)),
            Code.ABSENT,
            Verdict.BAD,
            "spot BTCUSDT-1m: 1 candle absent for 20 s",
        ),
        (
            of_market(clock_stands_seconds=50.0),
            Code.CLOCK_LOST,
            Verdict.BAD,
            "spot: the exchange's time does not go on for 50 s",
        ),
        (
            of_market(clock_stands_seconds=50.0, exchange_ms=None),
            Code.CLOCK_LOST,
            Verdict.BAD,
            "spot: the exchange's time is not known for 50 s",
        ),
        (
            of_market(rest_silent_seconds=130.0, rest_problem="HTTP 500"),
            Code.REST_DOWN,
            Verdict.DEGRADED,
            "spot: REST gives no answer for 2 min: HTTP 500",
        ),
        (
            statistics(
                rest=(
                    RestStatistics(
                        pool="spot", usage=usage(blocked_seconds=59.0, blocked_why="HTTP 429")
                    ),
                )
            ),
            Code.REST_BLOCKED,
            Verdict.DEGRADED,
            "spot: REST is blocked for 59 s more: HTTP 429",
        ),
        (
            of_market(
                listener=listener(
                    connection(name="spot/1"),
                    connection(name="spot/2", is_delivering=False, last_end="stalled: no data"),
                )
            ),
            Code.CONNECTION_DOWN,
            Verdict.DEGRADED,
            "spot/2: no connection delivers its 2 streams: stalled: no data",
        ),
        (
            statistics(store=store(full_seconds=3.0, full_why="disk full", candles_in_memory=120)),
            Code.DISK_FULL,
            Verdict.BAD,
            "store: nothing can be written for 3 s: disk full; 120 candles wait, 0 were dropped",
        ),
        (
            statistics(store=store(days_left=3.25, free_bytes=1_500_000_000)),
            Code.DISK_SPACE,
            Verdict.DEGRADED,
            "store: 1.5 GB free, for 3.2 days",
        ),
        (
            statistics(store=store(committing_seconds=61.0)),
            Code.STUCK,
            Verdict.BAD,
            "store: a transaction takes 61 s already",
        ),
        (
            statistics(store=store(merging_seconds=601.0)),
            Code.STUCK,
            Verdict.BAD,
            "store: a merge takes 10 min already",
        ),
        (
            statistics(process=process(loop_lag_seconds=1.5)),
            Code.SLOW,
            Verdict.DEGRADED,
            "process: the event loop was held up for 1.5 s in the last minute",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Code) else "",
)
def test_each_fault_has_a_code_a_verdict_and_words(
    found: Statistics, code: Code, verdict: Verdict, text: str
) -> None:
    reason = only_reason(found)
    assert (reason.code, reason.verdict, reason.text) == (code, verdict, text)
    assert text.startswith(reason.subject)


def test_before_the_first_data_it_is_starting_and_not_ready() -> None:
    silent = listener(connection(is_delivering=False))
    young = statistics(
        markets=(market(silent_seconds=4.0, listener=silent),), process=process(uptime_seconds=4.0)
    )
    health = Health().after(young, LIMITS, 4.0)
    assert [one.code for one in health.reasons] == [Code.STARTING]
    assert health.verdict is Verdict.DEGRADED
    assert not health.is_ready
    assert not health.is_stuck


def test_a_missing_candle_that_rest_refills_at_once_is_no_fault() -> None:
    assert not list(reasons(statistics(late=(late(seconds=2.0),)), LIMITS))


def test_a_connection_that_is_replaced_while_another_delivers_is_no_fault() -> None:
    places = listener(connection(), connection(is_delivering=False))
    assert not list(reasons(of_market(listener=places), LIMITS))


def test_a_cut_of_thousands_of_series_is_one_reason_for_each_market() -> None:
    many = tuple(late(Series("spot", f"A{number}USDT", "1m")) for number in range(2_500))
    reason = only_reason(statistics(late=many))
    assert reason.text == "spot: 7,500 candles of 2,500 series absent for up to 6 min"


def test_it_worsens_at_once_and_improves_after_a_quiet_time() -> None:
    bad, good = of_market(silent_seconds=50.0), statistics()
    health = Health().after(good, LIMITS, 10.0).after(bad, LIMITS, 11.0)
    assert (health.verdict, health.since) == (Verdict.BAD, 11.0)
    for now in (12.0, 25.9):
        health = health.after(good, LIMITS, now)
        assert (health.verdict, health.since) == (Verdict.BAD, 11.0)
    health = health.after(good, LIMITS, 26.0)
    assert (health.verdict, health.since) == (Verdict.OK, 26.0)
    assert not health.reasons


def test_a_fault_that_comes_and_goes_is_one_fault() -> None:
    bad, good = of_market(silent_seconds=50.0), statistics()
    health = Health()
    for now in range(100):
        health = health.after(bad if now % 10 == 0 else good, LIMITS, float(now))
        assert health.verdict is Verdict.BAD
        assert health.since == 0.0


def test_the_worst_reason_comes_first_and_gives_the_verdict() -> None:
    found = attrs.evolve(
        of_market(silent_seconds=50.0), store=store(days_left=1.0), late=(late(SPOT),)
    )
    health = Health().after(found, LIMITS, 1.0)
    assert [one.verdict for one in health.reasons] == [2, 2, 1]
    assert health.verdict is Verdict.BAD
    assert not health.is_ready


def test_only_a_stuck_disk_is_beyond_its_own_help() -> None:
    full = Health().after(
        statistics(store=store(full_seconds=900.0, full_why="disk full")), LIMITS, 1.0
    )
    stuck = Health().after(statistics(store=store(committing_seconds=900.0)), LIMITS, 1.0)
    assert not full.is_stuck
    assert stuck.is_stuck


FAULTS = [
    statistics(),
    of_market(silent_seconds=50.0),
    statistics(store=store(days_left=1.0)),
    statistics(late=(late(),)),
]


@given(st.lists(st.tuples(st.sampled_from(FAULTS), st.floats(0.1, 40.0)), min_size=1))
def test_a_verdict_is_the_worst_of_the_quiet_time(
    course: list[tuple[Statistics, float]],
) -> None:
    health, now = Health(), 0.0
    history: list[tuple[float, int]] = []
    for found, pause in course:
        now += pause
        health = health.after(found, LIMITS, now)
        worst = max((one.verdict for one in reasons(found, LIMITS)), default=Verdict.OK)
        history.append((now, worst))
        recent = [verdict for at, verdict in history if now < at + LIMITS.recover_seconds]
        assert health.verdict == max(recent)
        assert health.since is not None
        assert health.since <= now
