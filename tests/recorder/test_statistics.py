"""One snapshot of a running recorder: what it counts, and that it agrees with what is stored."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.config import Config, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.statistics import LAG_BOUNDS_SECONDS, Lags, Traffic, lag_bucket
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.simulator.exchange import Exchange
from tests.builders import COIN, MINUTE_MS, SPOT, START_MS, USDT
from tests.faulty_exchange import Drop, FaultyExchange, OmitClose, RestFault, Stall
from tests.virtual import joined


@asynccontextmanager
async def joined_recorder(
    exchange: Exchange, folder: Path, *streams: Series
) -> AsyncIterator[Recorder]:
    config = Config(streams=streams or (SPOT, USDT, COIN), store=StoreConfig(path=folder / "data"))
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        yield recorder


async def test_a_snapshot_agrees_with_what_the_exchange_sent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS, speed=60)
    async with joined_recorder(exchange, tmp_path, SPOT, USDT, COIN) as recorder:
        at_first = recorder.statistics()
        await trio.sleep(18.5)
        found = recorder.statistics(series=True)
    assert at_first.process.began_at == found.process.began_at
    assert [one.trade_type for one in found.markets] == ["spot", "usdt_futures", "coin_futures"]
    spot, _, coin = found.markets
    assert (spot.received, coin.received) == (18, 6)
    assert spot.exchange_ms is not None
    assert abs(spot.exchange_ms - START_MS - 18 * MINUTE_MS) < MINUTE_MS
    [connection] = spot.listener.connections
    assert connection.is_delivering
    assert connection.streams == 1
    assert connection.reconnects == 0
    assert connection.silent_seconds is not None
    assert connection.silent_seconds < 2
    assert spot.listener.traffic == connection.traffic
    assert connection.traffic.closed_taken == 18
    assert connection.traffic.frames > 18
    assert connection.traffic.received_bytes > 300 * connection.traffic.frames / 2
    assert spot.lags["1m"].count == 18
    assert spot.last_close_ms == START_MS + 18 * MINUTE_MS
    assert spot.last_lag_seconds is not None
    assert spot.last_lag_seconds <= spot.lags["1m"].max_seconds
    steps = [step for step, _ in spot.recent_lags]
    assert steps == [steps[0], steps[0] + 1]
    assert sum(lags.count for _, lags in spot.recent_lags) == 18
    by_series = {one.series: one for one in found.series}
    assert by_series[SPOT].received == 18
    assert by_series[SPOT].last_open_ms == START_MS + 17 * MINUTE_MS
    assert by_series[SPOT].last_hour.count == 18
    assert by_series[SPOT].state == "live"
    assert not found.late
    assert found.store.commits > 0
    assert found.store.files == 3
    assert found.store.counted_seconds is not None
    assert found.store.counted_seconds < 11
    assert found.process.tasks > 10
    assert found.rest[0].usage.weight_allowed == 3_000
    assert found.rest[0].usage.weight_used < 100


async def test_what_the_stream_did_not_bring_is_counted_as_refilled(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fault = OmitClose(trade_type="spot", stream=stream_name(SPOT), open_ms=START_MS + 8 * MINUTE_MS)
    exchange = FaultyExchange(start_ms=START_MS, speed=6, faults=[fault])
    async with joined_recorder(exchange, tmp_path, SPOT) as recorder:
        await trio.sleep(200)
        spot, *_ = recorder.statistics().markets
    assert spot.refilled == {"rest": 1}
    assert spot.received == 19
    assert not spot.pending


async def test_lost_connections_are_counted_with_their_reason_and_what_they_brought(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = FaultyExchange(
        start_ms=START_MS, speed=1, faults=[Drop(trade_type="spot", at_ms=START_MS + MINUTE_MS)]
    )
    async with joined_recorder(exchange, tmp_path, SPOT) as recorder:
        await trio.sleep(55)
        before, *_ = recorder.statistics().markets
        await trio.sleep(30)
        after, *_ = recorder.statistics().markets
    assert (before.listener.reconnects, after.listener.reconnects) == (0, 1)
    [connection] = after.listener.connections
    assert connection.reconnects == 1
    assert connection.last_end is not None
    assert "broke" in connection.last_end
    assert connection.traffic.frames < after.listener.traffic.frames
    assert before.listener.traffic.frames < after.listener.traffic.frames


async def test_a_candle_that_rest_does_not_have_either_makes_its_series_late(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    missed_ms = START_MS + 8 * MINUTE_MS
    exchange = FaultyExchange(
        start_ms=START_MS,
        speed=6,
        faults=[
            OmitClose(trade_type="spot", stream=stream_name(SPOT), open_ms=missed_ms),
            RestFault(trade_type="spot", from_ms=missed_ms, until_ms=START_MS + 2_000 * MINUTE_MS),
        ],
    )
    async with joined_recorder(exchange, tmp_path, SPOT) as recorder:
        await trio.sleep(85)
        before = recorder.statistics()
        await trio.sleep(100)
        after = recorder.statistics()
    assert not before.late
    [late] = after.late
    assert (late.series, late.pending) == (SPOT, 1)
    assert 75 < late.pending_seconds < 100
    spot = after.markets[0]
    assert spot.rest_problem is not None
    assert "500" in spot.rest_problem
    assert 80 < spot.rest_silent_seconds < 110


async def test_the_begin_of_a_run_is_kept_after_the_clock_has_forgotten_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After four days no time of a frame is near enough, and the clock begins with now."""
    async with joined_recorder(Exchange(start_ms=START_MS, speed=60), tmp_path, SPOT) as recorder:
        await trio.sleep(5)
        before = recorder.statistics().markets[0]
        monkeypatch.setattr("kline_trio.exchange.clock._LONGEST_BAN_MS", 0)
        await trio.sleep(5)
        after = recorder.statistics().markets[0]
    assert before.began_ms is not None
    assert abs(before.began_ms - START_MS) < 2 * MINUTE_MS
    assert after.began_ms == before.began_ms


async def test_where_nothing_comes_the_silence_is_measured(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    until_ms = START_MS + 2_000 * MINUTE_MS
    exchange = FaultyExchange(
        start_ms=START_MS,
        speed=1,
        faults=[
            Stall(
                trade_type="spot",
                from_ms=START_MS + MINUTE_MS,
                until_ms=until_ms,
                new_connections_too=True,
            )
        ],
    )
    async with joined_recorder(exchange, tmp_path, SPOT, USDT) as recorder:
        await trio.sleep(160)
        spot, usdt = recorder.statistics().markets
    assert 95 < spot.silent_seconds < 105
    assert usdt.silent_seconds < 5
    assert not spot.is_refused


async def test_a_series_that_leaves_takes_its_counts_along_and_the_market_keeps_them(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with joined_recorder(Exchange(start_ms=START_MS, speed=60), tmp_path, SPOT) as recorder:
        await trio.sleep(10.5)
        recorder.add_symbols("spot", "1m", "ETHUSDT")
        recorder.remove_symbols("spot", "1m", "BTCUSDT")
        await trio.sleep(10.5)
        found = recorder.statistics(series=True)
        await trio.sleep(10)
        assert SPOT not in recorder._observer.tally._series
    names = [one.series.symbol for one in found.series if one.series.trade_type == "spot"]
    assert names == ["ETHUSDT"]
    assert found.markets[0].received >= 19
    assert found.markets[0].series == 1


LAGS = st.floats(0, 10_000, allow_nan=False)


@given(st.lists(LAGS, min_size=1))
def test_a_quantile_of_lags_is_never_below_the_true_one(lags: list[float]) -> None:
    counts = [0] * (len(LAG_BOUNDS_SECONDS) + 1)
    for lag in lags:
        counts[lag_bucket(lag)] += 1
    found = Lags(tuple(counts), sum(lags), max(lags))
    in_order = sorted(lags)
    for share in (0.5, 0.99, 1.0):
        true = in_order[max(0, -int(-share * len(lags) // 1) - 1)]
        quantile = found.quantile(share)
        assert quantile is not None
        assert true <= quantile <= max(lags)


def test_there_is_no_quantile_without_lags() -> None:
    assert Lags((0,) * (len(LAG_BOUNDS_SECONDS) + 1), 0.0, 0.0).quantile(0.5) is None


def test_traffic_adds_up() -> None:
    assert Traffic(1, 2, 3, 4) + Traffic(10, 20, 30, 40) == Traffic(11, 22, 33, 44)
