"""A market that stays silent is reported again and again, with the duration."""

import logging
import math

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.recorder.outage_log import OutageLog, reports_due


@attrs.define
class FakeListener:
    heard_at: float = -math.inf
    lost: int = 0


async def reconnect_each_minute(listener: FakeListener) -> None:
    while True:
        await trio.sleep(60)
        listener.lost += 1


async def test_an_outage_is_reported_after_1_10_and_60_minutes_and_then_each_hour(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listener = FakeListener(heard_at=trio.current_time(), lost=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutageLog({"spot": listener}, lambda _: True).run)
        nursery.start_soon(reconnect_each_minute, listener)
        await trio.sleep(3 * 3_600 + 90)
        nursery.cancel_scope.cancel()
    assert caplog.messages == [
        "spot: no data for 60 s, 1 attempt",
        "spot: no data for 10 min, 10 attempts",
        "spot: no data for 60 min, 60 attempts",
        "spot: no data for 2 h, 120 attempts",
        "spot: no data for 3 h, 180 attempts",
    ]
    assert {one.levelno for one in caplog.records} == {logging.WARNING}


async def test_data_begin_the_count_anew(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listener = FakeListener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutageLog({"spot": listener}, lambda _: True).run)
        for _ in range(20):
            await trio.sleep(50)
            listener.heard_at = trio.current_time()
        assert not caplog.messages
        await trio.sleep(70)
        nursery.cancel_scope.cancel()
    assert caplog.messages == ["spot: no data for 60 s, 0 attempts"]


async def test_a_market_that_never_brought_anything_is_silent_since_the_start(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutageLog({"spot": FakeListener()}, lambda _: True).run)
        await trio.sleep(70)
        nursery.cancel_scope.cancel()
    assert caplog.messages == ["spot: no data for 60 s, 0 attempts"]


async def test_a_market_that_is_not_recorded_is_not_missed(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutageLog({"spot": FakeListener()}, lambda _: False).run)
        await trio.sleep(7_000)
        nursery.cancel_scope.cancel()
    assert not caplog.messages


@given(st.floats(0, 10_000_000))
def test_reports_never_become_fewer_and_come_hourly(seconds: float) -> None:
    due = reports_due(seconds)
    assert reports_due(seconds + 1) in (due, due + 1)
    if seconds >= 3_600:
        assert reports_due(seconds + 3_600) == due + 1
