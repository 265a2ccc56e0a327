"""Waiting until a running recorder has filled its gaps, and letting it fetch more of the past."""

import math
import re
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.errors import ConfigError
from kline_trio.recorder.backfill import Backfill, Filling
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.journal.ledger import Reason, State
from tests.builders import DAY_MS, HOUR_MS, SPOT, START_MS, minute
from tests.commands.test_backfill import Dead
from tests.faulty_exchange import FaultyExchange, OmitClose
from tests.recorder.test_completing import ALL, assert_complete, config_in, ledger
from tests.virtual import joined


async def done(backfill: Backfill) -> list[Filling]:
    """What was told until it was done."""
    told = [await backfill.look()]
    while not told[-1].is_done:
        told.append(await backfill.look())
    return told


async def test_the_past_is_fetched_from_a_moment_on_while_the_recorder_records(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    begin_ms = START_MS - 2 * DAY_MS
    async with (
        joined(exchange) as environment,
        open_recorder(config_in(tmp_path), environment) as (recorder),
    ):
        with trio.fail_after(600):
            told = await done(recorder.backfill(begin_ms))
            assert (await recorder.backfill(begin_ms).look()).filled == 0
            await done(recorder.backfill(begin_ms + HOUR_MS))
    *_, last = told
    assert (last.pending, last.filled) == (0, 2 * (2 * 1_440 + 480))
    assert told[0].pending is None
    assert "waiting for the exchange's time" in told[0].text
    for series in ALL:
        assert_complete(tmp_path, exchange, series, begin_ms, START_MS)
        first, *others = ledger(tmp_path, series)
        assert (first.span.from_ms, first.reason) == (begin_ms, Reason.NOT_CONFIGURED)
        assert {one.state for one in (first, *others)} == {State.FILLED}


async def test_what_was_asked_for_is_fetched_though_the_recorder_was_stopped(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    begin_ms = START_MS - 10 * DAY_MS
    config = config_in(tmp_path, SPOT)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        backfill = recorder.backfill(begin_ms)
        while not (await backfill.look()).pending:
            pass
    assert any(one.state is State.PENDING for one in ledger(tmp_path, SPOT))
    again = Exchange(start_ms=START_MS + HOUR_MS)
    async with joined(again) as environment, open_recorder(config, environment) as recorder:
        with trio.fail_after(3_600):
            await done(recorder.backfill())
    assert_complete(tmp_path, again, SPOT, begin_ms, START_MS + HOUR_MS)


async def test_a_beginning_that_has_not_come_yet_is_refused(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    config = config_in(tmp_path, SPOT)
    async with (
        joined(Exchange(start_ms=START_MS)) as environment,
        open_recorder(config, environment) as recorder,
    ):
        with pytest.raises(ConfigError, match=r"has not come yet on the exchange \(spot\)"):
            await done(recorder.backfill(START_MS + DAY_MS))
    assert ledger(tmp_path, SPOT) == []


async def test_candles_that_close_later_are_not_waited_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """A stream that brings nothing: there is a gap at every moment."""
    faults = [
        OmitClose(trade_type="spot", stream="btcusdt@kline_1m", open_ms=minute(number))
        for number in range(400)
    ]
    exchange = FaultyExchange(start_ms=START_MS, faults=faults)
    config = config_in(tmp_path, SPOT)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        await trio.sleep(60)
        with trio.fail_after(60):
            await done(recorder.backfill())


async def test_without_answers_it_tells_since_when(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT)
    dead = Dead(exchange, until=-math.inf)
    async with joined(exchange) as environment:
        environment = attrs.evolve(environment, http_transport=dead)
        async with open_recorder(config, environment) as recorder:
            await trio.sleep(30)
            dead.until = math.inf
            backfill = recorder.backfill(START_MS - DAY_MS)
            for _ in range(100):
                told = await backfill.look()
            assert not told.is_done
            assert 190 <= told.silent_seconds <= 400
            assert re.search(r"no answer for \d minutes: spot BTCUSDT-1m: ", told.text)
