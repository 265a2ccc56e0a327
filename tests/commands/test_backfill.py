"""Backfills: when they end, what they log, how long they retry."""

import logging
import math
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.commands.backfill import Backfilled, fill
from kline_trio.config import CompletenessConfig, Config
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.interval import Span
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import Outage
from kline_trio.storage.journal.ledger import Reason, State
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    START_MS,
    minute,
    patterns,
    since,
)
from tests.commands.test_record import NoList
from tests.recorder.test_completing import ALL, assert_complete, config_in, ledger
from tests.recorder.test_refilling import GOOD, MANY, faulty, paused
from tests.virtual import Transport, joined


async def test_backfill_alone_ends_when_all_is_fetched(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    begin_ms = START_MS - 5 * DAY_MS
    config = since(config_in(tmp_path), begin_ms)
    async with joined(exchange) as environment:
        filled = (await fill(config, environment=environment)).filled
    for series in ALL:
        assert_complete(tmp_path, exchange, series, begin_ms, START_MS - 180_000)
    assert filled == 2 * 5 * 1_440 + 5 * 480
    async with joined(Exchange(start_ms=START_MS)) as environment:
        assert await fill(config, environment=environment) == Backfilled(0, 0)
    earlier = since(config, START_MS - 9 * DAY_MS)
    async with joined(Exchange(start_ms=START_MS)) as environment:
        done = await fill(earlier, START_MS - 7 * DAY_MS, environment)
        assert done.filled == (2 * 2 * 1_440 + 2 * 480)


async def test_years_of_an_unknown_symbol_are_a_few_questions(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What it refuses of one page it refuses of all."""
    unknown = Series("spot", "NOSUCHUSDX", "1m")
    exchange = Exchange(start_ms=START_MS)
    begin_ms = START_MS - 365 * DAY_MS
    config = since(config_in(tmp_path, unknown), begin_ms)
    async with faulty(exchange, lambda _: None) as (environment, wire):
        with trio.fail_after(300):
            assert await fill(config, environment=environment) == Backfilled(0, 0)
    assert len(wire.asked) < 4 * config.completeness.attempts
    [refused] = [one for one in ledger(tmp_path, unknown) if one.span.from_ms < START_MS]
    assert (refused.span, refused.state) == (Span(begin_ms, START_MS), State.CLOSED)
    assert (refused.reason, refused.asked) == (Reason.REFUSED, config.completeness.attempts)


@attrs.define
class Dead(Transport):
    """Answers nothing until a time."""

    until: float = math.inf

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if trio.current_time() < self.until:
            await trio.sleep(0.01)
            raise httpx2.ConnectError("no network")
        return await super().handle_async_request(request)


def since_days_ago(config: Config, days: float) -> Config:
    return since(config, START_MS - round(days * DAY_MS))


async def test_without_any_answer_it_says_so_at_once_and_gives_up_after_ten_minutes(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 1)
    async with joined(exchange) as environment:
        dead = attrs.evolve(environment, http_transport=Dead(exchange))
        began = trio.current_time()
        with pytest.raises(UnavailableError, match=r"nothing could be asked for 10 minutes"):
            await fill(config, environment=dead)
        assert trio.current_time() - began == pytest.approx(600, abs=10)
    said = [line for line in caplog.messages if "REST gives no answer" in line]
    assert len(said) == 1
    waiting = [line for line in caplog.messages if line.startswith("backfill: waiting for")]
    assert 8 <= len(waiting) <= 10


async def test_a_beginning_that_has_not_come_yet_is_refused(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), -3)
    async with joined(exchange) as environment:
        with pytest.raises(ConfigError, match="has not come yet on the exchange"):
            await fill(config, environment=environment)


async def test_with_patience_it_goes_on_when_the_network_is_back(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 0.5)
    async with joined(exchange) as environment:
        late = attrs.evolve(environment, http_transport=Dead(exchange, 3_600.0))
        done = await fill(config, environment=late, give_up_seconds=math.inf)
    assert done.absent == 0
    assert done.filled >= 720


async def test_stopped_early_it_knows_what_is_still_absent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = await paused(tmp_path)
    async with faulty(exchange, lambda _: (503, b"")) as (environment, _):

        async def after_two_minutes() -> None:
            await trio.sleep(125)

        done = await fill(config_in(tmp_path, *MANY), None, environment, after_two_minutes)
    assert done.filled == 0
    assert done.absent is not None
    assert done.absent >= 8 * 24
    [first, *_] = [line for line in caplog.messages if line.startswith("backfill: 0 candles")]
    assert f"{done.absent:,} still absent; no answer for 1 minute:" in first
    assert "HTTP 503" in first


async def test_stopped_before_the_exchange_has_told_the_time_it_knows_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)

    async def soon() -> None:
        await trio.sleep(5)

    async with joined(exchange) as environment:
        dead = attrs.evolve(environment, http_transport=Dead(exchange))
        done = await fill(config_in(tmp_path, GOOD[0]), None, dead, soon)
    assert done == Backfilled(0, None)


async def test_an_outage_of_long_ago_is_closed_after_two_answers_ten_seconds_apart(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Its patience is for what closed just now: once, it stood still for seven minutes."""
    from_ms = START_MS - 3 * DAY_MS
    outage = Outage(trade_type="spot", from_ms=from_ms, until_ms=from_ms + HOUR_MS)
    exchange = Exchange(start_ms=START_MS, speed=1, faults=[outage])
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 3.5)
    config = attrs.evolve(config, completeness=CompletenessConfig())
    async with joined(exchange) as environment:
        began = trio.current_time()
        done = await fill(config, environment=environment)
        assert trio.current_time() - began < 60
    assert done.absent == 0
    [none] = [one for one in ledger(tmp_path, GOOD[0]) if one.state is State.CLOSED]
    assert (none.reason, none.asked) == (Reason.EXCHANGE_HAD_NONE, 2)
    assert GOOD[0].interval.count(none.span) == 60


async def test_a_market_without_a_list_of_symbols_keeps_no_other_series_waiting(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 0.5)
    config = attrs.evolve(config, patterns=patterns('[streams.usdt_futures]\n1m = ["*"]\n'))
    async with joined(exchange) as environment:
        without = attrs.evolve(environment, http_transport=NoList(exchange))
        with pytest.raises(UnavailableError, match=r"usdt_futures: its list .* candles filled in"):
            await fill(config, environment=without)
        assert_complete(tmp_path, exchange, GOOD[0], minute(-720), START_MS - 60_000)
        alone = attrs.evolve(config, streams=())
        with pytest.raises(UnavailableError, match="usdt_futures: its list of symbols"):
            await fill(alone, environment=without)


EMPTY = b'{"symbols":[]}'
HALTED = b'{"symbols":[{"symbol":"BTCUSDT","status":"BREAK"}]}'


@attrs.define
class Doubtful(Transport):
    """Gives a list of spot in which nothing trades."""

    body: bytes
    times: int

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/v3/exchangeInfo" and self.times > 0:
            self.times -= 1
            return httpx2.Response(200, stream=httpx2.ByteStream(self.body))
        return await super().handle_async_request(request)


@pytest.mark.parametrize("body", [EMPTY, HALTED])
async def test_a_list_in_which_nothing_trades_is_asked_for_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, body: bytes
) -> None:
    """Once it said "done: 0 candles filled in", and had looked at nothing."""
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path), 0.1)
    every = patterns('[streams.spot]\n1m = ["ETHUSD?"]\n')
    alone = attrs.evolve(config, streams=(), patterns=every)
    async with joined(exchange) as environment:
        twice, once = (
            attrs.evolve(environment, http_transport=Doubtful(exchange, body, times))
            for times in (2, 1)
        )
        with pytest.raises(UnavailableError, match=r"spot: its list .* of its . symbols? trades"):
            await fill(alone, environment=twice)
        await fill(alone, environment=once)
    assert_complete(tmp_path, exchange, GOOD[0], minute(-144), START_MS - 60_000)
