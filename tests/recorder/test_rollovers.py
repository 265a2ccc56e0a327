"""Connections that lag each other are rolled over, two hundred times, and nothing is missed."""

from pathlib import Path
from random import Random

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config, StoreConfig
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.storage.check import check
from tests.builders import truth
from tests.faulty_exchange import FaultyExchange, Lag
from tests.recorder.test_completing import ledger
from tests.recorder.test_supervisor import stored
from tests.virtual import Transport, joined

START_MS = 1_719_759_600_000  # 2024-06-30 15:00
MINUTE_MS = 60_000
SERIES = (
    Series("spot", "BTCUSDT", "1m"),
    Series("spot", "ETHUSDT", "1m"),
    Series("spot", "XMRBTC", "1m"),
)


@attrs.define
class Counted(Transport):
    """Counts what is asked for candles, but for the newest one, which tells the time."""

    klines: int = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.klines += request.url.path.endswith("/klines") and "startTime" in request.url.params
        return await super().handle_async_request(request)


@pytest.mark.parametrize("seed", [1])
async def test_a_hundred_roll_overs_across_minute_boundaries_lose_nothing_and_ask_rest_for_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, seed: int
) -> None:
    """Every connection's server lags by another 0 to 30 s, in real speed."""
    lag = Lag(trade_type="spot", from_ms=0, until_ms=START_MS * 2, most_ms=30_000)
    exchange = FaultyExchange(seed=seed, start_ms=START_MS, speed=1, faults=[lag])
    config = Config(
        streams=SERIES,
        store=StoreConfig(path=tmp_path / "data"),
        # Closes of this exchange come up to 30 s late, besides the lag.
        completeness=CompletenessConfig(grace_seconds=35),
    )
    chance = Random(seed)
    rolled = 100
    async with joined(exchange, seed=seed) as environment:
        transport = Counted(exchange)
        async with open_recorder(
            config, attrs.evolve(environment, http_transport=transport)
        ) as recorder:
            await trio.sleep_until(300)
            for number in range(rolled):
                # From 45 s before a minute's end to 45 s after it, in even steps.
                around = -45 + 90 * number / rolled + chance.random()
                await trio.sleep_until(480 + 180 * number + around)
                recorder.reconnect()
            await trio.sleep(240)
    end_ms = START_MS + (480 + 180 * (rolled - 1) + 60) * 1_000
    for series in SERIES:
        have = stored(tmp_path, series)
        want = truth(exchange, series, have[0].open_time_ms, end_ms)
        assert have[0].open_time_ms <= START_MS + MINUTE_MS
        assert have[: len(want)] == want
        assert ledger(tmp_path, series) == []
    assert transport.klines == 0
    assert not [fault for file in check(tmp_path / "data") for fault in file.faults]
