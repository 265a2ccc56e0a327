"""What readers get, and how seldom it is made."""

import json
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kline_trio.monitor.access import Access
from kline_trio.monitor.endpoints import Endpoints
from kline_trio.monitor.health import Thresholds
from kline_trio.monitor.http_message import Request, Response
from kline_trio.monitor.metrics import metrics
from kline_trio.monitor.watch import Observation, Watch
from kline_trio.recorder.statistics import Statistics
from tests.builders import SPOT
from tests.monitor.observations import LOST, connection, late, listener, market, statistics, store

LOCAL = Access.to("127.0.0.1:8787", (), None)
SILENT = statistics(markets=(market(silent_seconds=50.0, listener=listener(last_end=LOST)),))
STUCK = statistics(store=store(committing_seconds=70.0))
STARTING = statistics(
    markets=(market(silent_seconds=600.0, listener=listener(connection(is_delivering=False))),)
)


@attrs.define
class Source:
    """A recorder's statistics, as a test wants them."""

    found: Statistics = attrs.field(factory=statistics)
    series_gathered: int = 0

    def statistics(self) -> Statistics:
        return self.found

    def all_series(self) -> Statistics:
        self.series_gathered += 1
        return attrs.evolve(self.found, series=(late(SPOT, pending=self.series_gathered),))


@attrs.frozen
class OnePage:
    """The page's files, of which there is one."""

    async def get(self, path: str) -> Response | None:
        await trio.lowlevel.checkpoint()
        return Response(body=b"the page") if path == "/" else None


def watch_of(source: Source) -> Watch:
    return Watch(source.statistics, Thresholds())


def endpoints_of(source: Source, **more: object) -> Endpoints:
    given: dict[str, Any] = {"watch": watch_of(source), "assets": OnePage(), **more}
    return Endpoints(access=LOCAL, **given)


def asked(target: str, method: str = "GET", host: str = "localhost") -> Request:
    return Request(method=method, target=target, headers={"host": host})


async def get(endpoints: Endpoints, target: str) -> Response:
    return await endpoints.handle(asked(target))


@pytest.mark.parametrize(
    ("found", "healthz", "readyz", "verdict", "codes"),
    [
        (statistics(), 200, 200, "ok", []),
        (SILENT, 200, 503, "bad", ["no_data"]),
        (STUCK, 503, 503, "bad", ["stuck"]),
        (statistics(store=store(days_left=2.0)), 200, 200, "degraded", ["disk_space"]),
    ],
)
async def test_healthz_is_about_the_process_and_readyz_about_data(
    found: Statistics, healthz: int, readyz: int, verdict: str, codes: list[str]
) -> None:
    ours = endpoints_of(Source(found))
    for path, status in (("/healthz", healthz), ("/readyz", readyz)):
        response = await get(ours, path)
        assert response.status == status
        assert response.content_type == "application/json"
        told = json.loads(response.body)
        assert told["verdict"] == verdict
        assert [one["code"] for one in told["reasons"]] == codes
        assert told["ready"] is (readyz == 200)
        assert told["simulated"] is False
        assert told["since_seconds"] >= 0
        assert set(told) == {"verdict", "ready", "simulated", "since_seconds", "reasons"}
        for one in told["reasons"]:
            assert set(one) == {"code", "verdict", "subject", "text"}
            assert one["text"].startswith(one["subject"])


async def test_a_recorder_that_starts_is_alive_and_not_ready() -> None:
    ours = endpoints_of(Source(attrs.evolve(STARTING, process=attrs.evolve(
        STARTING.process, uptime_seconds=3.0
    ), markets=(attrs.evolve(STARTING.markets[0], silent_seconds=3.0),))))  # fmt: skip
    assert (await get(ours, "/healthz")).status == 200
    assert (await get(ours, "/readyz")).status == 503


async def test_a_path_that_is_no_utf_8_does_not_break_the_json() -> None:
    found = statistics(store=store(full_why="/\udcff/\u5e01: No space left", full_seconds=3.0))
    response = await get(endpoints_of(Source(found)), "/readyz")
    [reason] = json.loads(response.body)["reasons"]
    assert "/\udcff/\u5e01: No space left" in reason["text"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 200), ("/metrics", 200), ("/metrics?x=1", 200), ("/healthz", 200), ("/readyz", 200),
        ("/metrics/", 404), ("/Metrics", 404), ("//metrics", 404), ("/../metrics", 404),
        ("/metrics%2f", 404), ("http://localhost/metrics", 404), ("*", 404), ("/etc/passwd", 404),
    ],
)  # fmt: skip
async def test_unknown_paths_name_the_known_ones(target: str, status: int) -> None:
    response = await get(endpoints_of(Source()), target)
    assert response.status == status
    if status == 404:
        assert b"/metrics" in response.body
    if target == "/":
        assert response.body == b"the page"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
async def test_under_a_root_path_all_is_found_with_and_without_it(path: str) -> None:
    """Some proxies take the prefix away, and some do not."""
    ours = endpoints_of(Source(), root_path="/recorder")
    assert (await get(ours, f"/recorder{path}")).status == 200
    assert (await get(ours, path)).status == 200
    assert (await get(ours, f"/recorderx{path}")).status == 404
    assert (await get(ours, f"/recorder/recorder{path}")).status == 404


async def test_the_root_path_itself_leads_to_the_page() -> None:
    """The page's URLs are relative, so that they need the slash."""
    ours = endpoints_of(Source(), root_path="/recorder")
    response = await get(ours, "/recorder?series=spot%2FBTCUSDT%2F1m")
    assert response.status == 308
    assert dict(response.headers)["location"] == "/recorder/?series=spot%2FBTCUSDT%2F1m"


async def test_the_api_is_asked_without_the_root_path() -> None:
    asked_for = []

    async def api(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        asked_for.append((request.path, request.query))
        return Response(body=b"{}")

    ours = endpoints_of(Source(), root_path="/recorder", api=api)
    for prefix in ("", "/recorder"):
        assert (await get(ours, f"{prefix}/api/v1/gaps?limit=2")).body == b"{}"
    assert (await get(ours, "/apix")).status == 404
    assert asked_for == [("/api/v1/gaps", {"limit": ["2"]})] * 2


async def test_without_a_recorder_there_are_no_metrics() -> None:
    ours = endpoints_of(Source(), watch=None)
    for path in ("/metrics", "/healthz", "/readyz"):
        assert (await get(ours, path)).status == 404
    assert (await get(ours, "/")).status == 200


async def test_nothing_is_answered_to_whom_access_refuses() -> None:
    ours = endpoints_of(Source())
    for target in ("/", "/metrics", "/healthz", "/readyz", "/unknown"):
        assert (await ours.handle(asked(target, host="evil.test"))).status == 421
        assert (await ours.handle(asked(target, method="POST"))).status == 405


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """The observations that were rendered."""
    found: list[Observation] = []

    def counted(observation: Observation) -> bytes:
        found.append(observation)
        return metrics(observation)

    monkeypatch.setattr("kline_trio.monitor.endpoints.metrics", counted)
    return found


async def test_many_readers_share_one_rendering(rendered: list[Observation]) -> None:
    source = Source()
    watch = watch_of(source)
    ours = endpoints_of(source, watch=watch)
    bodies = []

    async def read() -> None:
        bodies.append((await get(ours, "/metrics")).body)

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(read)
    assert len(rendered) == 1
    assert len(set(bodies)) == 1
    assert b"kline_trio_verdict 0.0" in bodies[0]
    source.found = SILENT
    watch.look()
    assert b"kline_trio_verdict 2.0" in (await get(ours, "/metrics")).body
    assert len(rendered) == 2


async def test_a_reader_that_leaves_does_not_cost_the_others_their_metrics(
    rendered: list[Observation],
) -> None:
    ours = endpoints_of(Source())
    async with trio.open_nursery() as leaving:
        leaving.start_soon(get, ours, "/metrics")
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
    with trio.fail_after(10):
        assert (await get(ours, "/metrics")).status == 200


async def test_series_are_gathered_only_if_asked_for_and_each_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = trio.current_time()
    monkeypatch.setattr(trio, "current_time", lambda: now)
    source = Source()
    without = endpoints_of(source)
    assert b"symbol=" not in (await get(without, "/metrics")).body
    watch = watch_of(source)
    ours = endpoints_of(source, watch=watch, all_series=source.all_series)
    for second in range(12):
        watch.look()
        body = (await get(ours, "/metrics")).body
        wanted = f'symbol="BTCUSDT"}} {second // 5 + 1}.0'.encode()
        assert wanted in body, second
        now += 1
    assert source.series_gathered == 3


async def test_a_bug_in_the_metrics_leaves_health_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Observation) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("kline_trio.monitor.endpoints.metrics", fail)
    ours = endpoints_of(Source())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await get(ours, "/metrics")
    assert (await get(ours, "/readyz")).status == 200
