"""Statistics and verdict in Prometheus' format. The names follow Prometheus' rules."""

from collections.abc import Iterator

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kline_trio.monitor.watch import Observation
from kline_trio.recorder.statistics import (
    LAG_BOUNDS_SECONDS,
    Lags,
    MarketStatistics,
    SeriesStatistics,
    Statistics,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MARKET = ("market",)
_SERIES = ("market", "symbol", "interval")


def metrics(found: Observation) -> bytes:
    """Return all metrics of an observation.

    Without series in its statistics, the number of lines does not depend on the number of series.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(found))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _Families(Collector):
    """The metrics of one observation."""

    observation: Observation

    def collect(self) -> Iterator[Metric]:
        found = self.observation.statistics
        yield from self._health()
        yield from _markets(found.markets)
        yield from _lags(found.markets)
        yield from _rest(found)
        yield from _store(found)
        yield from _process(found)
        yield from _series(found.series)

    def _health(self) -> Iterator[Metric]:
        health = self.observation.health
        build = GaugeMetricFamily(
            "kline_trio_build_info", "1, with the version.", labels=["version", "simulated"]
        )
        simulated = str(self.observation.is_simulated).lower()
        build.add_metric([self.observation.statistics.version, simulated], 1)
        yield build
        yield _gauge("verdict", "0 ok, 1 degraded, 2 bad.", float(health.verdict))
        counts: dict[tuple[str, str], int] = {}
        for one in health.reasons:
            key = (one.code, one.verdict.name.lower())
            counts[key] = counts.get(key, 0) + 1
        family = GaugeMetricFamily(
            "kline_trio_reasons", "What is wrong now, by reason.", labels=["code", "verdict"]
        )
        for (code, verdict), count in sorted(counts.items()):
            family.add_metric([code, verdict], count)
        yield family


def _gauge(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(f"kline_trio_{name}", text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(f"kline_trio_{name}", text)
    family.add_metric([], value)
    return family


def _markets(markets: tuple[MarketStatistics, ...]) -> Iterator[Metric]:
    gauges: dict[str, tuple[str, list[float | None]]] = {
        "series": ("Series that are recorded now.", [one.series for one in markets]),
        "candles_pending": (
            "Absent candles that are still asked for.",
            [one.pending for one in markets],
        ),
        "silent_seconds": (
            "Since the last candle, closed or forming.",
            [one.silent_seconds for one in markets],
        ),
        "exchange_time_seconds": (
            "The exchange's time, since 1970.",
            [None if one.exchange_ms is None else one.exchange_ms / 1_000 for one in markets],
        ),
        "exchange_time_stands_seconds": (
            "Since the exchange's time last moved.",
            [one.clock_stands_seconds for one in markets],
        ),
        "rest_silent_seconds": (
            "Since when REST does not answer; 0 if it does.",
            [one.rest_silent_seconds for one in markets],
        ),
        "connections": (
            "Connections that live or are being made.",
            [len(one.listener.connections) for one in markets],
        ),
        "connections_delivering": (
            "Connections that deliver.",
            [sum(each.is_delivering for each in one.listener.connections) for one in markets],
        ),
    }
    counters: dict[str, tuple[str, list[float]]] = {
        "candles_recorded": (
            "Closed candles of the streams that are durable.",
            [one.received for one in markets],
        ),
        "frames": ("WebSocket data frames.", [one.listener.traffic.frames for one in markets]),
        "forming_frames_dropped": (
            "Frames of forming candles that were left out.",
            [one.listener.traffic.forming_dropped for one in markets],
        ),
        "bad_frames": (
            "Frames that could not be taken.",
            [one.listener.bad_frames for one in markets],
        ),
        "received_bytes": (
            "WebSocket bytes, decrypted.",
            [one.listener.traffic.received_bytes for one in markets],
        ),
        "reconnects": (
            "Connections that ended by themselves.",
            [one.listener.reconnects for one in markets],
        ),
    }
    for name, (text, values) in gauges.items():
        gauge = GaugeMetricFamily(f"kline_trio_{name}", text, labels=_MARKET)
        for market, value in zip(markets, values, strict=True):
            if value is not None:
                gauge.add_metric([market.trade_type], value)
        yield gauge
    for name, (text, totals) in counters.items():
        counter = CounterMetricFamily(f"kline_trio_{name}", text, labels=_MARKET)
        for market, value in zip(markets, totals, strict=True):
            counter.add_metric([market.trade_type], value)
        yield counter
    refilled = CounterMetricFamily(
        "kline_trio_candles_refilled",
        "Candles that were absent and came later.",
        labels=["market", "source"],
    )
    absent = GaugeMetricFamily(
        "kline_trio_candles_absent",
        "Candles of the recorded series that nothing asks for any more.",
        labels=["market", "reason"],
    )
    for market in markets:
        for source, count in sorted(market.refilled.items()):
            refilled.add_metric([market.trade_type, source], count)
        for reason, count in sorted(market.absent.items()):
            absent.add_metric([market.trade_type, reason], count)
    yield refilled
    yield absent


def _lags(markets: tuple[MarketStatistics, ...]) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "kline_trio_candle_lag_seconds",
        "From a candle's close until it is durable, by the exchange's time.",
        labels=["market", "interval"],
    )
    for market in markets:
        for interval, lags in market.lags.items():
            family.add_metric(
                [market.trade_type, interval], _buckets(lags), sum_value=lags.sum_seconds
            )
    yield family


def _buckets(lags: Lags) -> list[tuple[str, float]]:
    bounds, total = [*map(repr, map(float, LAG_BOUNDS_SECONDS)), "+Inf"], 0
    found = []
    for bound, count in zip(bounds, lags.counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found


def _rest(found: Statistics) -> Iterator[Metric]:
    for name, text, value in (
        ("rest_weight_used", "Request weight of the present minute.", "weight_used"),
        ("rest_weight_allowed", "Request weight that a minute may use.", "weight_allowed"),
        ("rest_requests_waiting", "Requests that wait for their weight.", "waiting"),
        ("rest_blocked_seconds", "Until requests go on; 0 if they may.", "blocked_seconds"),
    ):
        family = GaugeMetricFamily(f"kline_trio_{name}", text, labels=["pool"])
        for one in found.rest:
            family.add_metric([one.pool], getattr(one.usage, value))
        yield family


def _store(found: Statistics) -> Iterator[Metric]:
    store = found.store
    yield _gauge("series_late", "Series that miss a candle of this run.", len(found.late))
    yield _gauge("journal_candles", "Candles that wait for their merge.", store.journal_rows)
    yield _gauge("candles_in_memory", "Received, not durable yet.", store.candles_in_memory)
    yield _counter("candles_dropped", "Not kept while the disk was full.", store.dropped)
    yield _counter("commits", "Transactions of candles.", store.commits)
    yield _gauge("commit_seconds", "How long the last commit took.", store.commit_seconds)
    yield _gauge("committing_seconds", "How long one takes already.", store.committing_seconds)
    yield _counter("merges", "Merges into files.", store.merges)
    yield _gauge("merge_seconds", "How long the last merge took.", store.merge_seconds)
    yield _gauge("merging_seconds", "How long one takes already.", store.merging_seconds)
    yield _gauge("files", "Parquet files.", store.files)
    yield _gauge("file_bytes", "Their size.", store.file_bytes)
    yield _gauge("free_bytes", "Free space on the store's disk.", store.free_bytes)
    left_seconds = None if store.days_left is None else store.days_left * 86_400
    yield _gauge("free_space_seconds", "How long the free space lasts.", left_seconds)
    yield _gauge("disk_full_seconds", "Since when the disk is full; 0 if not.", store.full_seconds)


def _process(found: Statistics) -> Iterator[Metric]:
    process = found.process
    started = GaugeMetricFamily("process_start_time_seconds", "When it began, since 1970.")
    started.add_metric([], found.wall_time - process.uptime_seconds)
    memory = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.")
    memory.add_metric([], process.memory_bytes)
    yield started
    yield memory
    yield _gauge("tasks", "Living Trio tasks.", process.tasks)
    text = "How late the event loop woke a task at most, in the last minute."
    yield _gauge("event_loop_lag_seconds", text, process.loop_lag_seconds)


def _series(series: tuple[SeriesStatistics, ...]) -> Iterator[Metric]:
    if not series:
        return
    newest = GaugeMetricFamily(
        "kline_trio_series_last_open_time_seconds",
        "Open time of the newest durable candle, since 1970.",
        labels=_SERIES,
    )
    pending = GaugeMetricFamily(
        "kline_trio_series_candles_pending",
        "Absent candles that are still asked for.",
        labels=_SERIES,
    )
    lag = GaugeMetricFamily(
        "kline_trio_series_lag_seconds",
        "Lag of the last hour: nine of ten candles were durable sooner.",
        labels=_SERIES,
    )
    for one in series:
        labels = [one.series.trade_type, one.series.symbol, one.series.time_interval]
        if one.last_open_ms is not None:
            newest.add_metric(labels, one.last_open_ms / 1_000)
        pending.add_metric(labels, one.pending)
        quantile = one.last_hour.quantile(0.9)
        if quantile is not None:
            lag.add_metric(labels, quantile)
    yield newest
    yield pending
    yield lag
