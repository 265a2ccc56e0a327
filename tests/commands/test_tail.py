"""What `tail` shows."""

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.tail import open_tail
from kline_trio.config import Config
from kline_trio.errors import UnavailableError
from kline_trio.simulator.exchange import Exchange
from tests.commands.test_backfill import NoList
from tests.recorder.test_supervisor import COIN, SPOT, START_MS, USDT, config_in, truth
from tests.virtual import joined


async def test_tail_shows_closed_candles_and_stores_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    shown = set()

    def show(received: ReceivedCandle) -> None:
        shown.add(received.series)

    async with joined(exchange) as seams, open_tail(config_in(tmp_path), show, seams):
        await trio.sleep(10)
    assert shown == {SPOT, USDT, COIN}
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a test may block


async def test_it_prints_a_line_for_each_candle_with_the_end_of_its_interval(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = Exchange(start_ms=START_MS)
    async with joined(exchange) as seams, open_tail(config_in(tmp_path, SPOT), seams=seams):
        await trio.sleep(10)
    first, *more = capsys.readouterr().out.splitlines()
    [candle] = truth(exchange, SPOT, START_MS, START_MS + 60_000)
    assert first == (
        f"2024-06-30 15:01:00+00:00 spot BTCUSDT-1m open {candle.open:g} high {candle.high:g}"
        f" low {candle.low:g} close {candle.close:g} volume {candle.volume:g}"
        f" trades {candle.trade_num}"
    )
    assert len(more) >= 7


async def test_a_market_without_a_list_of_symbols_keeps_no_other_series_from_being_shown(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(start_ms=START_MS)
    pattern = Config.from_text('[streams.usdt_futures]\n1m = ["*"]\n', name="", folder=tmp_path)
    config = attrs.evolve(config_in(tmp_path, SPOT), patterns=pattern.patterns)
    shown = set()

    def show(received: ReceivedCandle) -> None:
        shown.add(received.series)

    async with joined(exchange) as seams:
        seams = attrs.evolve(seams, http_transport=NoList(exchange))
        async with open_tail(config, show, seams):
            await trio.sleep(10)
        assert shown == {SPOT}
        assert "usdt_futures: no list of symbols" in caplog.text
        with pytest.raises(UnavailableError, match="usdt_futures: no list of symbols"):
            async with open_tail(attrs.evolve(config, streams=()), show, seams):
                pass
