"""Metrics: text that Prometheus reads back, with bounded labels, as docs/metrics.md lists them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kline_trio.candle import Series
from kline_trio.exchange.rate_limiter import RateLimiterUsage
from kline_trio.monitor.health import Code, Health, Reason, Verdict
from kline_trio.monitor.metrics import metrics
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
from kline_trio.storage.journal import ledger

ROOT = Path(__file__).parents[2]
PROMTOOL = shutil.which("promtool")

MARKETS = ("spot", "usdt_futures", "coin_futures")
INTERVALS = ("1s", "1m", "1h", "1M")
POOLS = ("spot", "futures")

counts = st.integers(0, 10**15)
seconds = st.floats(0, 1e9)
shares = st.floats(0, 1e6)
texts = st.text(max_size=20)
symbols = st.text(st.sampled_from("ABC1_币安人生"), min_size=1, max_size=8)


def series_of(trade_type: str) -> st.SearchStrategy[Series]:
    return st.builds(Series, st.just(trade_type), symbols, st.sampled_from(INTERVALS))


lags = st.builds(
    Lags,
    st.tuples(*[st.integers(0, 10**9)] * (len(LAG_BOUNDS_SECONDS) + 1)),
    seconds,
    seconds,
)
traffic = st.builds(Traffic, counts, counts, counts, counts)
connections = st.builds(
    ConnectionStatistics,
    name=texts,
    url=texts,
    address=st.none() | texts,
    age_seconds=seconds,
    is_delivering=st.booleans(),
    streams=counts,
    traffic=traffic,
    silent_seconds=st.none() | seconds,
    reconnects=counts,
    last_end=st.none() | texts,
)
listeners = st.builds(
    ListenerStatistics,
    connections=st.lists(connections, max_size=3).map(tuple),
    traffic=traffic,
    reconnects=counts,
    last_end=st.none(),
    bad_frames=counts,
)
refilled = st.dictionaries(st.sampled_from(["rest", "archive"]), counts)
absent = st.dictionaries(st.sampled_from([str(one) for one in ledger.Reason]), counts)


def market_of(trade_type: str) -> st.SearchStrategy[MarketStatistics]:
    return st.builds(
        MarketStatistics,
        trade_type=st.just(trade_type),
        series=counts,
        exchange_ms=st.none() | counts,
        clock_stands_seconds=seconds,
        silent_seconds=seconds,
        listener=listeners,
        is_refused=st.booleans(),
        rest_silent_seconds=seconds,
        rest_problem=st.none() | texts,
        is_halted=st.booleans(),
        received=counts,
        refilled=refilled,
        absent=absent,
        pending=counts,
        lags=st.dictionaries(st.sampled_from(INTERVALS), lags),
    )


stores = st.builds(
    StoreStatistics,
    path=texts,
    counted_seconds=st.none() | seconds,
    journal_rows=counts,
    candles_in_memory=counts,
    commits=counts,
    commit_seconds=seconds,
    committing_seconds=seconds,
    merges=counts,
    merge_seconds=seconds,
    merging_seconds=seconds,
    files=counts,
    file_bytes=counts,
    free_bytes=counts,
    days_left=st.none() | shares,
    full_seconds=seconds,
    dropped=counts,
)
processes = st.builds(
    ProcessStatistics,
    pid=counts,
    began_at=seconds,
    uptime_seconds=seconds,
    memory_bytes=counts,
    tasks=counts,
    loop_lag_seconds=seconds,
)


lakes = st.builds(
    LakeStatistics,
    url=texts,
    publications=counts,
    behind_seconds=seconds,
    late_seconds=seconds,
    took_seconds=seconds,
    is_publishing=st.booleans(),
    left=st.none() | counts,
    rows=counts,
    inserted=counts,
    updated=counts,
    copies=st.none() | counts,
    copies_expected=counts,
    problem=st.none() | texts,
    upkeep_problem=st.none() | texts,
    upkeep_fails_seconds=seconds,
    pruned=counts,
    lacking=st.tuples() | st.tuples(texts),
)


def series_statistics(trade_type: str) -> st.SearchStrategy[SeriesStatistics]:
    return st.builds(
        SeriesStatistics,
        series=series_of(trade_type),
        state=texts,
        last_open_ms=st.none() | counts,
        received=counts,
        refilled=refilled,
        absent=absent,
        pending=counts,
        pending_seconds=seconds,
        last_hour=lags,
    )


usages = st.builds(RateLimiterUsage, counts, counts, counts, seconds, st.none() | texts)
all_series = st.lists(
    st.sampled_from(MARKETS).flatmap(series_statistics),
    max_size=8,
    unique_by=lambda one: one.series,
).map(tuple)
subjects = st.sampled_from(MARKETS).flatmap(
    lambda name: st.sampled_from([name, f"{name}/a", f"{name}/12b"]) | series_of(name).map(str)
) | st.sampled_from(["futures", "store", "process", "lake"])
healths = st.builds(
    Health,
    verdict=st.sampled_from(Verdict),
    reasons=st.lists(
        st.builds(
            Reason,
            code=st.sampled_from(Code),
            verdict=st.sampled_from(Verdict),
            subject=subjects,
            text=texts,
        ),
        max_size=12,
    ).map(tuple),
)


@st.composite
def observations(
    draw: st.DrawFn, series: st.SearchStrategy[tuple[SeriesStatistics, ...]] = all_series
) -> Observation:
    names = draw(st.lists(st.sampled_from(MARKETS), unique=True))
    pools = draw(st.lists(st.sampled_from(POOLS), unique=True))
    found = Statistics(
        version=draw(texts),
        wall_time=draw(seconds),
        markets=tuple(draw(market_of(name)) for name in names),
        rest=tuple(RestStatistics(pool=pool, usage=draw(usages)) for pool in pools),
        store=draw(stores),
        process=draw(processes),
        lake=draw(st.none() | lakes),
        late=draw(series),
        series=draw(series),
    )
    return Observation(statistics=found, health=draw(healths), is_simulated=draw(st.booleans()))


def samples(found: Observation) -> list[Sample]:
    text = metrics(found).decode()
    return [one for family in text_string_to_metric_families(text) for one in family.samples]


def value(found: Observation, metric: str, **labels: str) -> float | None:
    values = [one.value for one in samples(found) if (one.name, one.labels) == (metric, labels)]
    assert len(values) < 2, f"{metric}{labels} stands there twice"
    return values[0] if values else None


def small(*, series: int = 0, late: int = 0) -> Observation:
    """An observation of three markets, that has a value for each metric."""
    lag = Lags((1,) * (len(LAG_BOUNDS_SECONDS) + 1), 60.0, 4_000.0)
    of_series = [
        SeriesStatistics(
            series=Series("spot", f"S{number}USDT", "1m"),
            state="live",
            last_open_ms=60_000 * number,
            received=1,
            refilled={"rest": 1},
            absent={"delisted": 1},
            pending=number,
            pending_seconds=30.0,
            last_hour=lag,
        )
        for number in range(max(series, late))
    ]
    listener = ListenerStatistics(
        connections=(), traffic=Traffic(4, 3, 2, 1), reconnects=5, last_end=None, bad_frames=6
    )
    markets = tuple(
        MarketStatistics(
            trade_type=name,
            series=7,
            exchange_ms=1_790_000_000_123,
            clock_stands_seconds=0.5,
            silent_seconds=0.25,
            listener=listener,
            is_refused=False,
            rest_silent_seconds=0.0,
            rest_problem=None,
            is_halted=False,
            received=8,
            refilled={"rest": 9},
            absent={"the exchange had none": 10},
            pending=11,
            lags={"1m": lag, "1h": lag},
            recent_lags=((7, lag),),
            began_ms=1_790_000_000_000,
            last_close_ms=1_790_000_000_000,
            last_lag_seconds=0.5,
        )
        for name in MARKETS
    )
    usage = RateLimiterUsage(12, 3_000, 13, 14.0, "418")
    store = StoreStatistics(
        path="data",
        full_why=None,
        counted_seconds=1.5,
        journal_rows=15,
        candles_in_memory=16,
        commits=17,
        commit_seconds=0.18,
        committing_seconds=0.0,
        merges=19,
        merge_seconds=0.2,
        merging_seconds=0.0,
        files=21,
        file_bytes=22,
        free_bytes=23,
        days_left=2.0,
        full_seconds=0.0,
        dropped=24,
    )
    process = ProcessStatistics(
        pid=25,
        began_at=1_700_000_000.5,
        uptime_seconds=26.0,
        memory_bytes=27,
        tasks=28,
        loop_lag_seconds=0.29,
    )
    found = Statistics(
        version="1.2.3",
        wall_time=1_700_000_030.0,
        markets=markets,
        rest=tuple(RestStatistics(pool=pool, usage=usage) for pool in POOLS),
        store=store,
        process=process,
        lake=LakeStatistics(
            url="s3://bucket/klines",
            publications=30,
            behind_seconds=31.0,
            late_seconds=32.0,
            took_seconds=33.0,
            is_publishing=False,
            left=None,
            rows=34,
            inserted=35,
            updated=36,
            copies=1,
            copies_expected=2,
            problem="the object store gives no answer",
            upkeep_problem="no answer",
            upkeep_fails_seconds=38.0,
            pruned=37,
            lacking=(),
        ),
        late=tuple(of_series[:late]),
        series=tuple(of_series[:series]),
    )
    return Observation(statistics=found, health=Health(), is_simulated=False)


def with_reasons(found: Observation, *reasons: tuple[Code, str]) -> Observation:
    health = Health(
        verdict=Verdict.BAD,
        reasons=tuple(
            Reason(code=code, verdict=Verdict.BAD, subject=subject, text=f"{subject}: ...")
            for code, subject in reasons
        ),
    )
    return attrs.evolve(found, health=health)


def not_counted(found: Observation) -> Observation:
    store = attrs.evolve(found.statistics.store, counted_seconds=None, days_left=None)
    return attrs.evolve(found, statistics=attrs.evolve(found.statistics, store=store))


@given(observations())
@settings(deadline=None, max_examples=25)
def test_every_observation_is_read_back_with_its_values(found: Observation) -> None:
    everything = samples(found)
    keys = [(one.name, frozenset(one.labels.items())) for one in everything]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, (one.value for one in everything), strict=True))

    def read(metric: str, **labels: str) -> float | None:
        return by_key.get((f"kline_trio_{metric}", frozenset(labels.items())))

    statistics = found.statistics
    assert read("verdict") == found.health.verdict
    version = {"version": statistics.version, "simulated": str(found.is_simulated).lower()}
    assert read("build_info", **version) == 1
    reasons = sum(one.value for one in everything if one.name == "kline_trio_reasons")
    assert reasons == len(found.health.reasons)
    for market in statistics.markets:
        name = market.trade_type
        assert read("candles_recorded_total", market=name) == market.received
        assert read("frames_total", market=name) == market.listener.traffic.frames
        for interval, lag in market.lags.items():
            labels = {"market": name, "interval": interval}
            assert read("candle_lag_seconds_count", **labels) == lag.count
            assert read("candle_lag_seconds_sum", **labels) == lag.sum_seconds
            assert read("candle_lag_seconds_bucket", le="+Inf", **labels) == lag.count
    for one in statistics.series:
        series = one.series
        labels = {
            "market": series.trade_type,
            "symbol": series.symbol,
            "interval": series.time_interval,
        }
        assert read("series_candles_pending", **labels) == one.pending


@given(observations())
@settings(deadline=None, max_examples=25)
def test_names_follow_the_rules(found: Observation) -> None:
    for family in text_string_to_metric_families(metrics(found).decode()):
        assert re.fullmatch(r"(kline_trio|process)_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        for one in family.samples:
            assert one.name.endswith("_total") == (family.type == "counter")
            assert one.value >= 0


@given(observations(st.just(())), all_series)
@settings(deadline=None, max_examples=25)
def test_labels_are_bounded_unless_series_are_asked_for(
    found: Observation, late: tuple[SeriesStatistics, ...]
) -> None:
    labels: dict[str, set[str]] = {}
    late_too = attrs.evolve(found, statistics=attrs.evolve(found.statistics, late=late))
    for one in samples(late_too):
        for name, text in one.labels.items():
            labels.setdefault(name, set()).add(text)
    labels.pop("le", None)
    labels.pop("version")
    allowed = {
        "simulated": {"true", "false"},
        "code": {str(one) for one in Code},
        "part": {*MARKETS, *POOLS, "store", "process", "lake"},
        "market": {*MARKETS},
        "interval": {*INTERVALS},
        "pool": {*POOLS},
        "source": {"rest", "archive"},
        "reason": {str(one) for one in ledger.Reason},
    }
    for name, values in labels.items():
        assert values <= allowed[name], name
    assert len(samples(late_too)) == len(samples(found))


def test_a_thousand_series_are_three_thousand_samples_and_270_kilobytes() -> None:
    without, with_series = small(), small(series=1_000)
    assert len(samples(with_series)) - len(samples(without)) == 3_000
    assert 240_000 < len(metrics(with_series)) - len(metrics(without)) < 300_000


def test_every_reason_is_there_from_the_start_as_zero() -> None:
    found = [one for one in samples(small()) if one.name == "kline_trio_reasons"]
    assert {one.labels["code"] for one in found} == {str(one) for one in Code}
    assert {one.value for one in found} == {0}
    assert value(small(), "kline_trio_reasons", code="no_data", part="spot") == 0


def test_a_reason_counts_for_the_market_of_its_subject() -> None:
    found = with_reasons(
        small(),
        (Code.ABSENT, "spot BTCUSDT-1m"),
        (Code.ABSENT, "spot ETHUSDT-1m"),
        (Code.CONNECTION_DOWN, "usdt_futures/b"),
        (Code.REST_BLOCKED, "futures"),
        (Code.DISK_FULL, "store"),
    )
    of = "kline_trio_reasons"
    assert value(found, of, code="absent", part="spot") == 2
    assert value(found, of, code="absent", part="usdt_futures") == 0
    assert value(found, of, code="connection_down", part="usdt_futures") == 1
    assert value(found, of, code="rest_blocked", part="futures") == 1
    assert value(found, of, code="disk_full", part="store") == 1
    assert value(found, "kline_trio_verdict") == 2


def test_every_reason_of_absence_is_there_from_the_start_as_zero() -> None:
    found = [one for one in samples(small()) if one.name == "kline_trio_candles_absent"]
    by_reason = {one.labels["reason"]: one.value for one in found if one.labels["market"] == "spot"}
    assert by_reason.pop("the exchange had none") == 10
    assert set(by_reason) == {str(one) for one in ledger.Reason} - {"the exchange had none"}
    assert set(by_reason.values()) == {0}


def test_before_the_first_count_no_zero_is_given_for_what_was_not_counted() -> None:
    # A zero would be a step up to the true number, which an alert takes for growth.
    counted, uncounted = (
        {one.name for one in samples(found)} for found in (small(), not_counted(small()))
    )
    assert counted - uncounted == {
        "kline_trio_candles_absent",
        "kline_trio_candles_pending",
        "kline_trio_count_age_seconds",
        "kline_trio_file_bytes",
        "kline_trio_files",
        "kline_trio_free_bytes",
        "kline_trio_free_space_seconds",
        "kline_trio_journal_candles",
        "kline_trio_series_late",
    }


def test_the_buckets_of_a_histogram_add_up() -> None:
    found = {
        one.labels["le"]: one.value
        for one in samples(small())
        if one.name == "kline_trio_candle_lag_seconds_bucket"
        and (one.labels["market"], one.labels["interval"]) == ("spot", "1m")
    }
    assert list(found.values()) == list(range(1, len(LAG_BOUNDS_SECONDS) + 2))
    assert [float(bound) for bound in found] == [*LAG_BOUNDS_SECONDS, float("inf")]


def test_the_start_time_does_not_waver() -> None:
    # Prometheus counts restarts by its changes; `wall_time - uptime_seconds` differs each time.
    later = small()
    process = attrs.evolve(later.statistics.process, uptime_seconds=27.000001)
    later = attrs.evolve(later, statistics=attrs.evolve(later.statistics, process=process))
    times = [value(one, "process_start_time_seconds") for one in (small(), later)]
    assert times == [1_700_000_000.5] * 2


def documented() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """The rows of the tables of docs/metrics.md: name, type, labels, meaning."""
    for line in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            names = tuple(re.findall(r"`(\w+)`", cells[2]))
            yield cells[0].strip("`"), cells[1], names, cells[3]


def test_the_documented_metrics_are_those_that_are_given() -> None:
    given_now = set()
    for family in text_string_to_metric_families(metrics(small(series=1)).decode()):
        labels = {tuple(name for name in one.labels if name != "le") for one in family.samples}
        names = {tuple(sorted(one)) for one in labels}
        assert len(names) == 1, family.name
        name = family.name + ("_total" if family.type == "counter" else "")
        given_now.add((name, family.type, *names, family.documentation))
    rows = [
        (name, kind, tuple(sorted(labels)), meaning) for name, kind, labels, meaning in documented()
    ]
    assert sorted(rows) == sorted(given_now)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("series", [0, 3])
def test_promtool_finds_nothing_to_improve(series: int) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=metrics(small(series=series)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
