"""Snapshots made by hand, for tests of what reads them."""

from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.exchange.connection_events import CloseReason, Disconnected
from kline_trio.exchange.rate_limiter import RateLimiterUsage
from kline_trio.monitor.health import Health, Thresholds
from kline_trio.monitor.watch import Observation
from kline_trio.recorder.statistics import (
    LAG_BOUNDS_SECONDS,
    ConnectionStatistics,
    Lags,
    LakeStatistics,
    ListenerStatistics,
    MarketStatistics,
    ProcessStatistics,
    RestStatistics,
    SeriesStatistics,
    Statistics,
    StoreStatistics,
    Traffic,
)
from tests.builders import SPOT, START_MS

LOST = Disconnected(CloseReason.LOST, "the connection broke")
REFUSED = Disconnected(CloseReason.REFUSED, "HTTP 503", 503)
NO_LAGS = Lags((0,) * (len(LAG_BOUNDS_SECONDS) + 1), 0.0, 0.0)


def connection(**changes: Any) -> ConnectionStatistics:  # noqa: ANN401
    whole = ConnectionStatistics(
        name="spot",
        url="wss://stream.binance.com:9443/stream",
        address="192.0.2.7",
        age_seconds=500.0,
        is_delivering=True,
        streams=2,
        traffic=Traffic(1_000, 400_000, 980, 20),
        silent_seconds=0.1,
        reconnects=0,
        last_end=None,
    )
    return attrs.evolve(whole, **changes)


def listener(*connections: ConnectionStatistics, **changes: Any) -> ListenerStatistics:  # noqa: ANN401
    whole = ListenerStatistics(
        connections=connections or (connection(),),
        traffic=Traffic(1_000, 400_000, 980, 20),
        reconnects=0,
        last_end=None,
        bad_frames=0,
    )
    return attrs.evolve(whole, **changes)


def market(**changes: Any) -> MarketStatistics:  # noqa: ANN401
    whole = MarketStatistics(
        trade_type="spot",
        series=2,
        exchange_ms=START_MS,
        clock_stands_seconds=0.2,
        silent_seconds=0.2,
        listener=listener(),
        is_refused=False,
        rest_silent_seconds=0.0,
        rest_problem=None,
        is_halted=False,
        received=20,
        refilled={},
        absent={},
        pending=0,
        lags={"1m": NO_LAGS},
        recent_lags=(),
        began_ms=START_MS - 500_000,
        last_close_ms=START_MS,
        last_lag_seconds=0.4,
    )
    return attrs.evolve(whole, **changes)


def late(series: Series = SPOT, seconds: float = 360.0, pending: int = 3) -> SeriesStatistics:
    return SeriesStatistics(
        series=series,
        state="live",
        last_open_ms=START_MS,
        received=20,
        refilled={},
        absent={},
        pending=pending,
        pending_seconds=seconds,
        last_hour=NO_LAGS,
    )


def usage(**changes: Any) -> RateLimiterUsage:  # noqa: ANN401
    return attrs.evolve(RateLimiterUsage(20, 3_000, 0, 0.0, None), **changes)


def store(**changes: Any) -> StoreStatistics:  # noqa: ANN401
    whole = StoreStatistics(
        path="data",
        journal_rows=4,
        candles_in_memory=0,
        commits=20,
        commit_seconds=0.004,
        committing_seconds=0.0,
        merges=3,
        merge_seconds=0.01,
        merging_seconds=0.0,
        files=2,
        file_bytes=9_000,
        free_bytes=84_000_000_000,
        days_left=20_000.0,
        full_seconds=0.0,
        full_why=None,
        counted_seconds=3.0,
        dropped=0,
    )
    return attrs.evolve(whole, **changes)


def lake(**changes: Any) -> LakeStatistics:  # noqa: ANN401
    whole = LakeStatistics(
        url="s3://bucket/klines",
        publications=3,
        behind_seconds=1_800.0,
        late_seconds=10_800.0,
        took_seconds=4.0,
        is_publishing=False,
        left=None,
        rows=3_000,
        inserted=3_000,
        updated=0,
        copies=1,
        copies_expected=1,
        problem=None,
        upkeep_problem=None,
        upkeep_fails_seconds=0.0,
        pruned=0,
        lacking=(),
    )
    return attrs.evolve(whole, **changes)


def process(**changes: Any) -> ProcessStatistics:  # noqa: ANN401
    whole = ProcessStatistics(
        pid=7,
        began_at=1_789_999_500.0,
        uptime_seconds=500.0,
        memory_bytes=90_000_000,
        tasks=40,
        loop_lag_seconds=0.002,
    )
    return attrs.evolve(whole, **changes)


def statistics(**changes: Any) -> Statistics:  # noqa: ANN401
    whole = Statistics(
        version="0.1.0",
        wall_time=1_790_000_000.0,
        markets=(market(),),
        rest=(RestStatistics(pool="spot", usage=usage()),),
        store=store(),
        process=process(),
        lake=None,
        late=(),
        series=(),
    )
    return attrs.evolve(whole, **changes)


def observation(now: float = 1_000.0, **changes: Any) -> Observation:  # noqa: ANN401
    found = statistics(**changes)
    health = Health().after(found, Thresholds(), now)
    return Observation(statistics=found, health=health, is_simulated=False)
