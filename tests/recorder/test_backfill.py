"""What one series' fault, or a short one of the whole market, costs the others' refilling."""

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config, HistoryConfig
from kline_trio.errors import UnavailableError
from kline_trio.interval import Span
from kline_trio.recorder.progress import Backfilled
from kline_trio.recorder.seams import Seams
from kline_trio.recorder.supervisor import fill, open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import Outage
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.ledger import Reason, State
from tests.recorder.test_completing import START_MS, config_in, ledger, record_for
from tests.virtual import Transport, joined

SYMBOLS = ("ADAUSDT", "BNBUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "LTCUSDT", "SOLUSDT", "XRPUSDT")
MANY = tuple(Series("spot", symbol, "1m") for symbol in SYMBOLS)
BAD, GOOD = MANY[:4], MANY[4:]

Answers = Callable[[str], tuple[int, bytes] | None]
"""The status and the body for a symbol's klines; None: the exchange's own."""


@attrs.define
class Faulty(Transport):
    """Answers the klines of some symbols otherwise, and keeps what was asked, and when."""

    instead: Answers
    asked: list[tuple[float, str]] = attrs.field(factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/klines"):
            symbol = request.url.params["symbol"]
            self.asked.append((trio.current_time(), symbol))
            told = self.instead(symbol)
            if told is not None:
                await trio.sleep(0.01)
                return httpx2.Response(told[0], stream=httpx2.ByteStream(told[1]))
        return await super().handle_async_request(request)


@asynccontextmanager
async def faulty(exchange: Exchange, instead: Answers) -> AsyncIterator[tuple[Seams, Faulty]]:
    async with joined(exchange) as seams:
        transport = Faulty(exchange, instead)
        yield attrs.evolve(seams, http_transport=transport), transport


def pending(folder: Path, series: Series) -> bool:
    """Whether candles of the recorder's pause are still asked for."""
    with journal_view(folder / "data") as journal:
        return any(
            one.state is State.PENDING and one.span.from_ms < START_MS + 1_800_000
            for one in journal.absences()
            if one.series == series
        )


async def paused(folder: Path) -> Exchange:
    """A recorder ran, and stopped half an hour before this exchange's time."""
    await record_for(Exchange(start_ms=START_MS), config_in(folder, *MANY), 5.5)
    return Exchange(start_ms=START_MS + 1_800_000)


async def test_series_that_answer_500_do_not_keep_the_others_waiting(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """An independent tester's: the four workers asked for the four bad ones, and nothing else."""
    exchange = await paused(tmp_path)
    bad = {series.symbol for series in BAD}
    async with faulty(exchange, lambda one: (500, b"") if one in bad else None) as (seams, wire):
        async with open_recorder(config_in(tmp_path, *MANY), seams):
            await trio.sleep(6)
            assert not [series for series in GOOD if pending(tmp_path, series)]
            assert all(pending(tmp_path, series) for series in BAD)
            await trio.sleep(240)
            asked = [symbol for _, symbol in wire.asked if symbol in bad]
            assert 4 * 5 < len(asked) < 4 * 5 * 14
            bad.clear()
            await trio.sleep(62)
            assert not [series for series in MANY if pending(tmp_path, series)]


async def test_four_workers_that_fail_at_once_are_one_failure(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = await paused(tmp_path)
    until = trio.current_time() + 2.5

    def hiccup(_: str) -> tuple[int, bytes] | None:
        return (503, b"") if trio.current_time() < until else None

    async with faulty(exchange, hiccup) as (seams, _):
        async with open_recorder(config_in(tmp_path, *MANY), seams):
            await trio.sleep(9)
            assert not [series for series in MANY if pending(tmp_path, series)]


async def test_a_symbol_that_is_unknown_for_a_moment_is_asked_for_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that lags behind the list of symbols says so of what is new, or of anything."""
    exchange = await paused(tmp_path)
    known = {series.symbol for series in GOOD}

    def unknown(symbol: str) -> tuple[int, bytes] | None:
        return None if symbol in known else (400, b'{"code":-1121,"msg":"Invalid symbol."}')

    async with faulty(exchange, unknown) as (seams, wire):
        async with open_recorder(config_in(tmp_path, *MANY), seams):
            await trio.sleep(6)
            assert all(pending(tmp_path, series) for series in BAD)
            known.update(series.symbol for series in BAD[1:])
            await trio.sleep(60)
    assert not [series for series in MANY if pending(tmp_path, series)]
    ends = {series: {(one.state, one.reason) for one in ledger(tmp_path, series)} for series in BAD}
    assert (State.CLOSED, Reason.REFUSED) in ends[BAD[0]]
    assert all({state for state, _ in ends[series]} == {State.FILLED} for series in BAD[1:])
    assert len([symbol for _, symbol in wire.asked if symbol == BAD[0].symbol]) < 10
    for series in BAD:
        named = [text for text in caplog.messages if f"{series}: the exchange refuses" in text]
        assert len(named) == 1


async def test_years_of_an_unknown_symbol_are_a_few_questions(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What it refuses of one page it refuses of all."""
    unknown = Series("spot", "NOSUCHUSDX", "1m")
    exchange = Exchange(start_ms=START_MS)
    since = START_MS - 365 * 86_400_000
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, unknown), history=history)
    async with faulty(exchange, lambda _: None) as (seams, wire):
        with trio.fail_after(300):
            assert await fill(config, seams=seams) == Backfilled(0, 0)
    assert len(wire.asked) < 4 * config.completeness.attempts
    [refused] = [one for one in ledger(tmp_path, unknown) if one.span.from_ms < START_MS]
    assert (refused.span, refused.state) == (Span(since, START_MS), State.CLOSED)
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
    since = datetime.fromtimestamp((START_MS - days * 86_400_000) / 1_000, UTC)
    return attrs.evolve(config, history=HistoryConfig(since=since))


async def test_without_any_answer_it_says_so_at_once_and_gives_up_after_ten_minutes(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 1)
    async with joined(exchange) as seams:
        dead = attrs.evolve(seams, http_transport=Dead(exchange))
        began = trio.current_time()
        with pytest.raises(UnavailableError, match=r"nothing could be asked for 10 minutes"):
            await fill(config, seams=dead)
        assert trio.current_time() - began == pytest.approx(600, abs=10)
    said = [line for line in caplog.messages if "REST gives no answer" in line]
    assert len(said) == 1
    waiting = [line for line in caplog.messages if line.startswith("backfill: waiting for")]
    assert 8 <= len(waiting) <= 10


async def test_with_patience_it_goes_on_when_the_network_is_back(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 0.5)
    async with joined(exchange) as seams:
        late = attrs.evolve(seams, http_transport=Dead(exchange, 3_600.0))
        done = await fill(config, seams=late, give_up_seconds=math.inf)
    assert done.absent == 0
    assert done.filled >= 720


async def test_stopped_early_it_knows_what_is_still_absent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = await paused(tmp_path)
    async with faulty(exchange, lambda _: (503, b"")) as (seams, _):

        async def after_two_minutes() -> None:
            await trio.sleep(125)

        done = await fill(config_in(tmp_path, *MANY), None, seams, after_two_minutes)
    assert done.filled == 0
    assert done.absent is not None
    assert done.absent >= 8 * 24
    [first, *_] = [line for line in caplog.messages if line.startswith("backfill: 0 candles")]
    assert f"{done.absent:,} still absent; no answer for 1 minutes" in first
    assert "HTTP 503" in first


async def test_stopped_before_the_exchange_has_told_the_time_it_knows_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)

    async def soon() -> None:
        await trio.sleep(5)

    async with joined(exchange) as seams:
        dead = attrs.evolve(seams, http_transport=Dead(exchange))
        done = await fill(config_in(tmp_path, GOOD[0]), None, dead, soon)
    assert done == Backfilled(0, None)


async def test_an_outage_of_long_ago_is_closed_after_two_answers_ten_seconds_apart(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Its patience is for what closed just now: once, it stood still for seven minutes."""
    day_ms = 86_400_000
    outage = Outage(
        trade_type="spot", from_ms=START_MS - 3 * day_ms, until_ms=START_MS - 3 * day_ms + 3_600_000
    )
    exchange = Exchange(start_ms=START_MS, speed=1, faults=[outage])
    config = since_days_ago(config_in(tmp_path, GOOD[0]), 3.5)
    config = attrs.evolve(config, completeness=CompletenessConfig())
    async with joined(exchange) as seams:
        began = trio.current_time()
        done = await fill(config, seams=seams)
        assert trio.current_time() - began < 60
    assert done.absent == 0
    [none] = [one for one in ledger(tmp_path, GOOD[0]) if one.state is State.CLOSED]
    assert (none.reason, none.asked) == (Reason.EXCHANGE_HAD_NONE, 2)
    assert GOOD[0].interval.count(none.span) == 60
