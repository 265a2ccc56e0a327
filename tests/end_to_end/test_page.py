"""The page's interface of a recorder that runs as a whole program, and of what it leaves behind."""

import http.client
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

import kline_trio
from tests.end_to_end.expected import SPOT
from tests.end_to_end.harness import Program, Recorder, Simulated, wait_until
from tests.end_to_end.test_monitor import port_of

SPEED = 60
KEY = "spot/BTCUSDT/1m"


class Page:
    """A program that asks the interface."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, name: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{name}", headers=headers)
            response = connection.getresponse()
            names = {key.lower(): value for key, value in response.getheaders()}
            return response.status, names, response.read()
        finally:
            connection.close()

    def get(self, name: str) -> Any:  # noqa: ANN401 - JSON
        status, _, body = self.ask(name)
        assert status == 200, body
        return json.loads(body)

    @contextmanager
    def stream(self, query: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """The events of a stream: their names and data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/stream?{query}")
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("content-type") == "text/event-stream"
            yield _events(response)
        finally:
            connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    while line := response.readline().decode():
        word, _, value = line.rstrip("\n").partition(": ")
        if word == "event":
            name = value
        elif word == "data":
            yield name, json.loads(value)


def test_an_outage_is_seen_and_heals_and_each_endpoint_answers(
    simulated: Callable[..., Simulated], recorder: Callable[..., Recorder]
) -> None:
    ours = recorder(simulated("--speed", str(SPEED), "--seed", "3"), SPOT)
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=3)
        assert program.end(signal.SIGTERM) == 0
    # Minutes of the exchange, in which no recorder runs.
    time.sleep(150 / SPEED)
    with ours.running("--monitor", "127.0.0.1:0") as program:
        page = Page(port_of(program))
        follow_the_stream(page)
        healed = see_it_heal(page)
        ask_for_everything(page, program)
        check_against_the_store(page, ours, healed)
        assert program.count("ERROR") == 0
        assert program.end(signal.SIGTERM) == 0
    serve_what_is_left(ours)


def follow_the_stream(page: Page) -> None:
    """Overviews come by themselves, and the candles of the series, in their order."""
    with page.stream(f"series={KEY}") as events:
        name, overview = next(events)
        assert name == "overview"
        assert overview["is_live"] is True
        candles: list[dict[str, Any]] = []
        samples = 0
        for name, data in events:
            if name == "candle" and data["source"] == "stream":
                candles.append(data)
            samples += name == "sample"
            if len(candles) >= 3 and samples:
                break
    times = [one["open_time_ms"] for one in candles]
    assert {later - one for one, later in itertools.pairwise(times)} == {60_000}
    assert {one["series"] for one in candles} == {KEY}


def see_it_heal(page: Page) -> dict[str, Any]:
    """Return the overview that says that all is complete again."""
    found: dict[str, Any] = {}

    def is_whole() -> bool:
        found.update(page.get("overview"))
        totals = found["totals"]
        return bool(totals and totals["refilled"] and " complete. Last close " in found["sentence"])

    wait_until(is_whole, "the outage should be filled, and the page say so", 60)
    assert found["verdict"] == "ok"
    assert found["sentence"].startswith("The one series is complete. Last close ")
    assert found["totals"]["percent"] == 100.0
    assert found["totals"]["due"] == found["totals"]["stored"] > found["totals"]["refilled"] > 0
    events = page.get("events")["events"]
    [filled] = [one for one in events if one["kind"] == "gap_filled"]
    assert filled["series"] == KEY
    assert "filled by rest; reason: recorder was down" in filled["text"]
    assert "started" in [one["kind"] for one in events]
    return found


def ask_for_everything(page: Page, program: Program) -> None:
    calendar = page.get("calendar?zoom=hour")
    market, series = calendar["rows"]
    assert (market["key"], series["key"]) == ("spot", KEY)
    states = {run[0] for run in series["runs"]}
    assert 2 in states, "some hour has candles that were refilled"
    assert not states & {3, 4, 5}
    # The first step of the history may be short.
    wait_until(lambda: sum(page.get("history")["candles"]) > 0, "candles should be counted", 30)
    history = page.get("history")
    assert len(history["time_ms"]) == len(history["lag_max"]) > 0
    overview = page.get("overview")
    assert overview["process"]["pid"] == program.process.pid
    [connection] = overview["connections"]
    assert connection["is_delivering"] is True
    assert overview["markets"][0]["received"] > 0
    assert page.get("series?q=btc")["total"] == 1
    summary = page.get(f"series/summary?series={KEY}")
    assert (summary["state"], summary["previous"], summary["next"]) == ("refilled", None, None)
    [gap] = page.get(f"gaps?series={KEY}")["gaps"]
    assert (gap["state"], gap["reason"], gap["filled_by"]) == (
        "filled", "recorder was down", "rest",
    )  # fmt: skip
    assert page.get(f"revisions?series={KEY}") == {"revisions": [], "truncated": False}
    assert page.get(f"files?series={KEY}")["files"][0]["path"] == "spot_BTCUSDT_1m.pqt"
    status, headers, body = page.ask("calendar?zoom=hour&limit=2")
    tag = headers["etag"]
    again, _, empty = page.ask("calendar?zoom=hour&limit=2", **{"If-None-Match": tag})
    # A new look at the store may lie between the two.
    assert again in (200, 304)
    assert again == 200 or not empty
    assert (status, body[:11]) == (200, b'{"version":')
    assert page.ask("gaps?limit=x")[0] == 400
    assert page.ask("series/summary?series=spot/NONEUSDT/1m")[0] == 404


def check_against_the_store(page: Page, ours: Recorder, healed: dict[str, Any]) -> None:
    """The chart has what `kline_trio.read` has, and the page counts as many candles."""
    found = page.get(f"candles?series={KEY}&points=5000")
    assert found["is_coarse"] is False
    frame = kline_trio.read(ours.store, "spot", "BTCUSDT", "1m")
    begins = pd.to_datetime(found["open_time_ms"], unit="ms", utc=True)
    ends = set(begins + pd.Timedelta(minutes=1))
    assert ends <= set(frame.index)
    closes = dict(zip(begins + pd.Timedelta(minutes=1), found["close"], strict=True))
    assert all(frame.loc[end, "close"] == close for end, close in closes.items())
    assert healed["totals"]["stored"] <= len(ends)
    coarse = page.get(f"candles?series={KEY}&points=3")
    assert len(coarse["open_time_ms"]) == 3
    status, headers, body = page.ask(f"candles?series={KEY}&points=2&format=csv")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert body.decode().splitlines()[0].startswith("open_time_ms,open,high,low,close,volume")


def serve_what_is_left(ours: Recorder) -> None:
    arguments = ["-m", "kline_trio", "serve", "data", "--address", "127.0.0.1:0"]
    program = Program(arguments, ours.folder, measured=True)
    try:
        line = program.wait_for("Ctrl-C ends it")
        page = Page(int(line.split("/")[2].rpartition(":")[2]))
        found: dict[str, Any] = {}

        def is_counted() -> bool:
            found.update(page.get("overview"))
            return found["totals"] is not None

        wait_until(is_counted, "the store should be read")
        assert found["sentence"].startswith("No recorder runs. The last one was heard ")
        assert "The one series is complete up to " in found["sentence"]
        assert (found["verdict"], found["is_live"], found["process"]) == ("stopped", False, None)
        assert page.get("calendar")["total_rows"] == 2
        assert page.get(f"candles?series={KEY}&points=5")["open_time_ms"]
        assert "gap_filled" in [one["kind"] for one in page.get("events")["events"]]
        with page.stream("") as events:
            assert next(events)[0] == "overview"
        assert program.end(signal.SIGTERM) == 0
    finally:
        program.close()
