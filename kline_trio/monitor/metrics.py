"""Statistics and verdict in Prometheus' format. docs/metrics.md lists all metrics.

The names follow Prometheus' rules, with one exception that is meant: Prometheus prefers the time at
which something happened to the seconds since then. Here it is seconds, by the monotonic clock: a
wrong local clock must not raise an alarm.

A count is given as 0, rather than left out, for each label that is known beforehand, so that
Prometheus sees it grow. What is not known yet is left out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kline_trio.candle import Source
from kline_trio.monitor.health import Code
from kline_trio.monitor.watch import Observation
from kline_trio.recorder.statistics import (
    LAG_BOUNDS_SECONDS,
    Lags,
    LakeStatistics,
    MarketStatistics,
    SeriesStatistics,
    Statistics,
    StoreStatistics,
)
from kline_trio.storage.journal.ledger import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MARKET = ("market",)
_SERIES = ("market", "symbol", "interval")

_CODES_OF_MARKETS = (
    Code.STARTING,
    Code.NO_DATA,
    Code.MAINTENANCE,
    Code.HALTED,
    Code.ABSENT,
    Code.CLOCK_LOST,
    Code.CONNECTION_DOWN,
    Code.REST_DOWN,
)
_CODES_OF_POOLS = (Code.REST_BLOCKED,)
_CODES_OF_STORE = (Code.DISK_FULL, Code.DISK_SPACE, Code.STUCK)
_CODES_OF_LAKE = (Code.PRUNED, Code.LAKE, Code.COPIES)
_CODES_OF_PROCESS = (Code.SLOW, Code.UNOBSERVED)
_SOURCES = (Source.REST, Source.ARCHIVE)


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
        yield from _markets(found)
        yield from _lags(found.markets)
        yield from _rest(found)
        yield from _store(found)
        if found.lake is not None:
            yield from _lake(found.lake)
        yield from _process(found)
        yield from _series(found.series)

    def _health(self) -> Iterator[Metric]:
        health = self.observation.health
        build = GaugeMetricFamily(
            "kline_trio_build_info",
            "Always 1. The labels tell the version, and whether the exchange is simulated.",
            labels=["version", "simulated"],
        )
        simulated = str(self.observation.is_simulated).lower()
        build.add_metric([self.observation.statistics.version, simulated], 1)
        yield build
        yield _gauge(
            "verdict", "Verdict on health: 0 ok, 1 degraded, 2 bad.", float(health.verdict)
        )
        counts = dict.fromkeys(_known_reasons(self.observation.statistics), 0)
        for one in health.reasons:
            # Subjects are such as `spot`, `spot/b`, `spot BTCUSDT-1m`; their first word is bounded.
            key = (str(one.code), re.split("[ /]", one.subject)[0])
            counts[key] = counts.get(key, 0) + 1
        family = GaugeMetricFamily(
            "kline_trio_reasons",
            "Reasons that make the verdict worse than ok now.",
            labels=["code", "part"],
        )
        for (code, part), count in counts.items():
            family.add_metric([code, part], count)
        yield family


def _known_reasons(found: Statistics) -> Iterator[tuple[str, str]]:
    for codes, parts in (
        (_CODES_OF_MARKETS, [one.trade_type for one in found.markets]),
        (_CODES_OF_POOLS, [one.pool for one in found.rest]),
        (_CODES_OF_STORE, ["store"]),
        (_CODES_OF_LAKE, ["lake"] if found.lake is not None else []),
        (_CODES_OF_PROCESS, ["process"]),
    ):
        yield from ((str(code), part) for code in codes for part in parts)


def _gauge(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(f"kline_trio_{name}", text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(f"kline_trio_{name}", text)
    family.add_metric([], value)
    return family


_Family = type[GaugeMetricFamily] | type[CounterMetricFamily]
_MarketMetric = tuple[_Family, str, str, Callable[[MarketStatistics], float | None]]

_OF_A_MARKET: tuple[_MarketMetric, ...] = (
    (GaugeMetricFamily, "series", "Series that are recorded now.", lambda one: one.series),
    (
        GaugeMetricFamily,
        "silent_seconds",
        "Seconds since the last candle arrived, closed or forming.",
        lambda one: one.silent_seconds,
    ),
    (
        GaugeMetricFamily,
        "exchange_time_seconds",
        "Exchange time in seconds since 1970, as far as two witnesses confirm it.",
        lambda one: None if one.exchange_ms is None else one.exchange_ms / 1_000,
    ),
    (
        GaugeMetricFamily,
        "exchange_time_age_seconds",
        "Seconds since exchange time last moved forward.",
        lambda one: one.clock_stands_seconds,
    ),
    (
        GaugeMetricFamily,
        "rest_silent_seconds",
        "Seconds for which REST requests have failed; 0 if the last one was answered.",
        lambda one: one.rest_silent_seconds,
    ),
    (
        GaugeMetricFamily,
        "connections",
        "WebSocket connections that are open or being opened.",
        lambda one: len(one.listener.connections),
    ),
    (
        GaugeMetricFamily,
        "connections_delivering",
        "WebSocket connections that have delivered a candle.",
        lambda one: sum(each.is_delivering for each in one.listener.connections),
    ),
    (
        CounterMetricFamily,
        "candles_recorded",
        "Closed candles of the streams that were committed.",
        lambda one: one.received,
    ),
    (
        CounterMetricFamily,
        "frames",
        "WebSocket data frames that were received.",
        lambda one: one.listener.traffic.frames,
    ),
    (
        CounterMetricFamily,
        "forming_frames_dropped",
        "Frames of forming candles that the sieve dropped.",
        lambda one: one.listener.traffic.forming_dropped,
    ),
    (
        CounterMetricFamily,
        "bad_frames",
        "Frames that were skipped: they could not be decoded or cannot be true.",
        lambda one: one.listener.bad_frames,
    ),
    (
        CounterMetricFamily,
        "received_bytes",
        "WebSocket bytes that were received, after decryption.",
        lambda one: one.listener.traffic.received_bytes,
    ),
    (
        CounterMetricFamily,
        "reconnects",
        "WebSocket connections that were lost or could not be opened.",
        lambda one: one.listener.reconnects,
    ),
)
"""Type, name, meaning and value of each metric with the label `market` alone."""


def _markets(found: Statistics) -> Iterator[Metric]:
    for kind, name, text, read in _OF_A_MARKET:
        family = kind(f"kline_trio_{name}", text, labels=_MARKET)
        for market in found.markets:
            if (value := read(market)) is not None:
                family.add_metric([market.trade_type], value)
        yield family
    refilled = CounterMetricFamily(
        "kline_trio_candles_refilled",
        "Candles that filled gaps, by source.",
        labels=["market", "source"],
    )
    for market in found.markets:
        for source, count in _with_zeros(market.refilled, _SOURCES):
            refilled.add_metric([market.trade_type, source], count)
    yield refilled
    yield from _absences(found)


def _absences(found: Statistics) -> Iterator[Metric]:
    """Give what the census has counted; nothing before the first."""
    pending = GaugeMetricFamily(
        "kline_trio_candles_pending", "Absent candles that are still requested.", labels=_MARKET
    )
    absent = GaugeMetricFamily(
        "kline_trio_candles_absent",
        "Absent candles of the recorded series that are not requested any more, by reason.",
        labels=["market", "reason"],
    )
    for market in found.markets if found.store.counted_seconds is not None else ():
        pending.add_metric([market.trade_type], market.pending)
        for reason, count in _with_zeros(market.absent, Reason):
            absent.add_metric([market.trade_type, reason], count)
    yield pending
    yield absent


def _with_zeros(counts: Mapping[str, int], names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted({**dict.fromkeys(map(str, names), 0), **counts}.items())


def _lags(markets: tuple[MarketStatistics, ...]) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "kline_trio_candle_lag_seconds",
        "Seconds from a candle's end until its commit, in exchange time.",
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
        ("rest_weight_used", "Request weight used in the present minute.", "weight_used"),
        ("rest_weight_allowed", "Request weight that may be used in a minute.", "weight_allowed"),
        ("rest_requests_waiting", "Requests that wait for request weight.", "waiting"),
        (
            "rest_blocked_seconds",
            "Seconds until requests may be sent again; 0 if they may now.",
            "blocked_seconds",
        ),
    ):
        family = GaugeMetricFamily(f"kline_trio_{name}", text, labels=["pool"])
        for one in found.rest:
            family.add_metric([one.pool], getattr(one.usage, value))
        yield family


def _store(found: Statistics) -> Iterator[Metric]:
    store = found.store
    yield from _counted(store, len(found.late))
    left_seconds = None if store.days_left is None else store.days_left * 86_400
    yield _gauge("free_space_seconds", "Seconds for which the free space lasts.", left_seconds)
    text = "Seconds for which the disk has been full; 0 if it has room."
    yield _gauge("disk_full_seconds", text, store.full_seconds)
    text = "Received candles that are not committed yet."
    yield _gauge("candles_in_memory", text, store.candles_in_memory)
    text = "Received candles that were dropped while the disk was full."
    yield _counter("candles_dropped", text, store.dropped)
    yield _counter("commits", "Transactions that committed candles.", store.commits)
    text = "Duration of the last commit of candles."
    yield _gauge("last_commit_seconds", text, store.commit_seconds)
    text = "Duration so far of the transaction that runs now; 0 if none runs."
    yield _gauge("running_commit_seconds", text, store.committing_seconds)
    yield _counter("merges", "Merges into Parquet files.", store.merges)
    yield _gauge("last_merge_seconds", "Duration of the last merge.", store.merge_seconds)
    text = "Duration so far of the merge that runs now; 0 if none runs."
    yield _gauge("running_merge_seconds", text, store.merging_seconds)


def _counted(store: StoreStatistics, late: int) -> Iterator[Metric]:
    text = "Seconds since gaps, journal, files and free space were last counted."
    yield _gauge("count_age_seconds", text, store.counted_seconds)
    for name, text, count in (
        ("series_late", "Series with a pending candle of this run.", late),
        (
            "journal_candles",
            "Candles in the journal, not merged yet.",
            store.journal_rows,
        ),
        ("files", "Parquet files of the store.", store.files),
        ("file_bytes", "Size of the Parquet files.", store.file_bytes),
        ("free_bytes", "Free space on the disk of the store.", store.free_bytes),
    ):
        yield _gauge(name, text, count if store.counted_seconds is not None else None)


def _lake(lake: LakeStatistics) -> Iterator[Metric]:
    text = "Publications that have brought everything to the lake."
    yield _counter("lake_publications", text, lake.publications)
    text = "Seconds since the last of these began, or since the start."
    yield _gauge("lake_behind_seconds", text, lake.behind_seconds)
    text = "Duration of the last of these."
    yield _gauge("lake_last_publication_seconds", text, lake.took_seconds)
    yield _counter("lake_candles", "Candles that were sent to the lake.", lake.rows)
    text = "Candles that were sent and that the lake did not have."
    yield _counter("lake_candles_inserted", text, lake.inserted)
    text = "Candles that were sent and that replaced a row of the lake."
    yield _counter("lake_candles_updated", text, lake.updated)
    text = "Recorders of this shard that were there lately, this one included."
    yield _gauge("lake_copies", text, lake.copies)
    text = "1 if the last publication failed, else 0."
    yield _gauge("lake_failing", text, float(lake.problem is not None))
    text = "1 if the lake could not be looked after the last time, else 0."
    yield _gauge("lake_upkeep_failing", text, float(lake.upkeep_problem is not None))
    text = "Candles that were removed from the store, since the lake has them."
    yield _counter("lake_candles_pruned", text, lake.pruned)


def _process(found: Statistics) -> Iterator[Metric]:
    process = found.process
    started = GaugeMetricFamily(
        "process_start_time_seconds", "Start of the recorder, in seconds since 1970."
    )
    started.add_metric([], process.began_at)
    memory = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.")
    memory.add_metric([], process.memory_bytes)
    yield started
    yield memory
    yield _gauge("tasks", "Trio tasks that are running now.", process.tasks)
    text = "Longest delay of the event loop in the last minute."
    yield _gauge("event_loop_lag_seconds", text, process.loop_lag_seconds)


def _series(series: tuple[SeriesStatistics, ...]) -> Iterator[Metric]:
    if not series:
        return
    newest = GaugeMetricFamily(
        "kline_trio_series_last_open_time_seconds",
        "Open time of the newest committed candle, in seconds since 1970.",
        labels=_SERIES,
    )
    pending = GaugeMetricFamily(
        "kline_trio_series_candles_pending",
        "Absent candles of the series that are still requested.",
        labels=_SERIES,
    )
    lag = GaugeMetricFamily(
        "kline_trio_series_lag_seconds",
        "Lag within which nine of ten candles of the last hour were committed.",
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
