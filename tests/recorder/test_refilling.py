"""What one series' fault, or a short one of the whole market, costs the others' refilling."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.journal.ledger import Reason, State
from kline_trio.storage.journal.reader import journal_view
from tests.builders import START_MS
from tests.recorder.test_completing import config_in, ledger, record_for
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
        # Without a begin only the newest candle is asked for, which tells the time.
        if request.url.path.endswith("/klines") and "startTime" in request.url.params:
            symbol = request.url.params["symbol"]
            self.asked.append((trio.current_time(), symbol))
            told = self.instead(symbol)
            if told is not None:
                await trio.sleep(0.01)
                return httpx2.Response(told[0], stream=httpx2.ByteStream(told[1]))
        return await super().handle_async_request(request)


@asynccontextmanager
async def faulty(exchange: Exchange, instead: Answers) -> AsyncIterator[tuple[Environment, Faulty]]:
    async with joined(exchange) as environment:
        transport = Faulty(exchange, instead)
        yield attrs.evolve(environment, http_transport=transport), transport


def pending(folder: Path, series: Series) -> bool:
    """Whether candles of the recorder's pause are still asked for."""
    with journal_view(folder / "data") as journal:
        return any(
            one.state is State.PENDING and one.span.from_ms < START_MS + 1_800_000
            for one in journal.gaps()
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
    async with faulty(exchange, lambda one: (500, b"") if one in bad else None) as (
        environment,
        wire,
    ):
        async with open_recorder(config_in(tmp_path, *MANY), environment):
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

    async with faulty(exchange, hiccup) as (environment, _):
        async with open_recorder(config_in(tmp_path, *MANY), environment):
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

    async with faulty(exchange, unknown) as (environment, wire):
        async with open_recorder(config_in(tmp_path, *MANY), environment):
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
        refusals = [text for text in caplog.messages if ": the exchange refuses" in text]
        named = [text for text in refusals if str(series) in text]
        assert len(named) == 1
