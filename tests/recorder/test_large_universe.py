"""Thousands of streams at once, against the built-in exchange in virtual time at real speed."""

from pathlib import Path

import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config, ConnectionConfig, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.storage.journal.reader import journal_view
from tests.faulty_exchange import Drop, FaultyExchange, plausible_symbols
from tests.virtual import joined

START_MS = 1_719_759_600_000  # 2024-06-30 15:00
MINUTE_MS = 60_000
STREAMS = 2_500
CUT_SECONDS = 100


@pytest.mark.parametrize("redundancy", [1, 2])
async def test_all_streams_are_back_within_15_seconds_of_a_cut_without_breaking_the_rate_rule(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, redundancy: int
) -> None:
    symbols = plausible_symbols("spot", STREAMS)
    series = tuple(Series("spot", symbol, "1m") for symbol in symbols)
    cut = Drop(trade_type="spot", at_ms=START_MS + CUT_SECONDS * 1_000)
    exchange = FaultyExchange(
        start_ms=START_MS, speed=1, listed={"spot": symbols}, faults=[cut], forming=False,
        gather_s=0.05,
    )  # fmt: skip
    config = Config(
        streams=series,
        store=StoreConfig(path=tmp_path / "data", merge_seconds=3_600),
        connection=ConnectionConfig(redundancy=redundancy, stall_seconds=90),
        completeness=CompletenessConfig(grace_seconds=35),
    )
    async with joined(exchange) as environment, open_recorder(config, environment):
        await trio.sleep(CUT_SECONDS - 1)
        names = {stream_name(one) for one in series}
        assert exchange.statistics["spot"].subscriptions == dict.fromkeys(names, redundancy)
        await trio.sleep(1.1)
        assert not exchange.statistics["spot"].subscriptions
        await trio.sleep(14.9)
        assert exchange.statistics["spot"].subscriptions == dict.fromkeys(names, redundancy)
        await trio.sleep(130)
        statistics = exchange.statistics["spot"]
    assert statistics.too_many_requests == 0
    assert statistics.most_messages_per_s <= 5
    assert statistics.opened == statistics.peak_open * 2 == 2 * 3 * redundancy
    # The clock, the list and the first message each ask for the time at once, at the start.
    assert statistics.klines_answered <= 3, "the newest candle, which tells the time"
    table = kline_trio.read(tmp_path / "data", "spot", symbols=list(symbols), time_interval="1m")
    by_symbol = table.groupby("symbol", observed=True).size()
    assert len(by_symbol) == STREAMS
    # At 15:04:07 closes of up to 30 s ago may still be to come.
    assert set(by_symbol) <= {3, 4, 5}
    with journal_view(tmp_path / "data") as journal:
        assert list(journal.gaps()) == []
