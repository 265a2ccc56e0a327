"""The control socket's server: what it answers, to whom, and what it bears."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.errors import ConfigError, DiskError
from kline_trio.monitor.as_json import as_values
from kline_trio.monitor.control import ControlServer
from kline_trio.monitor.control_socket import line_of
from kline_trio.recorder.backfill import Filling
from kline_trio.recorder.statistics import LAG_BOUNDS_SECONDS, Lags, Statistics
from tests.monitor.observations import late, observation, statistics

ME = os.geteuid()


@attrs.define
class Filler:
    """Has so many candles to fetch, one at each look, one look a second."""

    left: int = 0
    since_ms: int | None = None

    async def look(self) -> Filling:
        await trio.sleep(1)
        self.left = max(0, self.left - 1)
        is_done = not self.left
        return Filling(
            filled=7, pending=self.left, silent_seconds=0.0, text="words", is_done=is_done
        )


@attrs.define
class Recorder:
    """What the server sees of one."""

    filler: Filler = attrs.field(factory=Filler)
    gathered: int = 0
    reloads: list[bool] = attrs.field(factory=list)
    fault: Exception | None = None

    def all_series(self) -> Statistics:
        self.gathered += 1
        return statistics(series=(late(),))

    def backfill(self, since_ms: int | None) -> Any:  # noqa: ANN401 - a fake
        self.filler.since_ms = since_ms
        return self.filler

    async def reload(self, is_dry_run: bool) -> dict[str, object]:
        if self.fault is not None:
            raise self.fault
        self.reloads.append(is_dry_run)
        return {"applied": not is_dry_run}

    def server(self, **changes: Any) -> ControlServer:  # noqa: ANN401
        found = observation(late=(late(),))
        whole = ControlServer(
            Path("data"), lambda: found, self.all_series, self.backfill, self.reload
        )
        return attrs.evolve(whole, **changes)


@asynccontextmanager
async def connected(
    server: ControlServer, uid: int | None = ME, *, has_buffers: bool = True
) -> AsyncIterator[trio.abc.Stream]:
    """A client at the other end of a connection, which keeps what is sent, or nothing."""
    make = trio.testing.memory_stream_pair if has_buffers else trio.testing.lockstep_stream_pair
    ours, theirs = make()
    async with trio.open_nursery() as serving:
        serving.start_soon(server.serve_user, theirs, uid)
        yield ours
        await ours.aclose()


async def lines(client: trio.abc.Stream) -> list[dict[str, Any]]:
    received = b"".join([chunk async for chunk in client])
    return [json.loads(line) for line in received.splitlines()]


async def asked(server: ControlServer, uid: int | None = ME, **request: object) -> Any:  # noqa: ANN401
    async with connected(server, uid) as client:
        await client.send_all(line_of(request))
        return await lines(client)


async def test_statistics_come_with_their_verdict() -> None:
    [told] = await asked(Recorder().server(), request="statistics")
    answer = told["answer"]
    assert answer["verdict"] == "bad"
    assert [one["text"] for one in answer["reasons"]] == [
        "spot BTCUSDT-1m: 3 candles absent for 6 min"
    ]
    assert not answer["simulated"]
    assert answer["pid"] == 7
    found = answer["statistics"]
    assert "series" not in found
    assert found["markets"][0]["lags"]["1m"]["p99_seconds"] is None
    assert found["late"][0]["series"] == {
        "trade_type": "spot",
        "symbol": "BTCUSDT",
        "time_interval": "1m",
    }


async def test_all_series_are_gathered_if_they_are_wanted_and_each_five_seconds_at_most() -> None:
    recorder = Recorder()
    server = recorder.server()
    await asked(server, request="statistics")
    assert recorder.gathered == 0
    for _ in range(3):
        [told] = await asked(server, request="statistics", series=True)
        assert len(told["answer"]["statistics"]["series"]) == 1
    assert recorder.gathered == 1


async def test_before_the_first_snapshot_it_says_so() -> None:
    [told] = await asked(Recorder().server(observation=lambda: None), request="statistics")
    assert "ask again in a second" in told["error"]


@pytest.mark.parametrize(
    ("request_line", "words"),
    [
        (b"\n", "a line of JSON"),
        (b"hello\n", "a line of JSON"),
        (b"\xff\xfe\n", "a line of JSON"),
        (b"[" * 4_000 + b"\n", "a line of JSON"),
        (b"[1]\n", "an object of JSON"),
        (b"{}\n", "there is no request None"),
        (b'{"request": "stop"}\n', "there is no request 'stop'"),
        (b'{"request": ["statistics"]}\n', "there is no request"),
        (b'{"request": "statistics", "series": 1}\n', "series: true or false is wanted"),
        (b'{"request": "reload", "dry_run": "no"}\n', "dry_run: true or false is wanted"),
        (b'{"request": "fetch", "since_ms": true}\n', "since_ms: a time in ms"),
        (b'{"request": "fetch", "since_ms": -1}\n', "since_ms: a time in ms"),
        (b'{"request": "fetch", "since_ms": 1e99}\n', "since_ms: a time in ms"),
        (b'{"request": "fetch", "since_ms": 999999999999999999}\n', "since_ms: a time in ms"),
        (b" " * 5_000 + b"{}\n", "4,096 bytes at most"),
    ],
)
async def test_a_wrong_request_gets_its_reason(request_line: bytes, words: str) -> None:
    recorder = Recorder()
    async with connected(recorder.server()) as client:
        await client.send_all(request_line)
        [told] = await lines(client)
    assert words in told["error"]
    assert recorder.reloads == []


async def test_a_request_of_a_megabyte_is_not_read_to_its_end() -> None:
    server = Recorder().server()
    async with connected(server, has_buffers=False) as client, trio.open_nursery() as sending:

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await client.send_all(b"x" * 1_000_000)

        sending.start_soon(send)
        [told] = await lines(client)
    assert "4,096 bytes at most" in told["error"]


@pytest.mark.parametrize(("uid", "is_answered"), [(ME, True), (0, True), (None, True), (12, False)])
async def test_only_its_own_user_and_root_are_answered(uid: int | None, is_answered: bool) -> None:
    recorder = Recorder()
    [told] = await asked(recorder.server(), uid, request="reload")
    assert ("answer" in told) is is_answered
    assert len(recorder.reloads) == is_answered
    if not is_answered:
        assert told["error"] == "the recorder runs for another user, not for uid 12"


async def test_who_asks_nothing_is_left_after_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for begun in (b"", b'{"request"'):
        began = trio.current_time()
        async with connected(Recorder().server()) as client:
            if begun:
                await client.send_all(begun)
            assert await lines(client) == []
        assert trio.current_time() - began == pytest.approx(5)


async def test_who_never_reads_is_left_after_ten_seconds_and_others_are_answered_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Recorder().server()
    async with connected(server, has_buffers=False) as client:
        await client.send_all(line_of({"request": "statistics"}))
        await trio.sleep(1)
        assert await asked(server, request="reload") == [{"answer": {"applied": True}}]
        await trio.sleep(10)
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"more")


async def test_the_seventeenth_connection_is_closed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Recorder().server()
    async with trio.open_nursery() as idle:

        async def hold() -> None:
            async with connected(server) as client:
                await lines(client)

        for _ in range(16):
            idle.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        async with connected(server) as client:
            began = trio.current_time()
            assert await lines(client) == []
            assert trio.current_time() == began
    assert await asked(server, request="reload") == [{"answer": {"applied": True}}]


async def test_a_backfill_tells_how_far_it_is_until_it_is_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder = Recorder(Filler(left=3))
    *progress, done = await asked(recorder.server(), request="fetch", since_ms=5)
    assert recorder.filler.since_ms == 5
    assert [one["progress"]["pending"] for one in progress] == [2, 1]
    assert progress[0]["progress"]["text"] == "words"
    assert (done["answer"]["filled"], done["answer"]["pending"]) == (7, 0)


async def test_four_programs_at_most_wait_for_a_backfill_and_a_lost_one_makes_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder = Recorder(Filler(left=1_000_000))
    server = recorder.server()
    async with trio.open_nursery() as waiting:
        for _ in range(4):
            waiting.start_soon(lambda: asked(server, request="fetch"))
        await trio.sleep(2)
        [told] = await asked(server, request="fetch")
        assert told["error"] == "4 programs wait for a backfill already"
        waiting.cancel_scope.cancel()
    recorder.filler.left = 0
    [told] = await asked(server, request="fetch")
    assert "answer" in told


async def test_a_program_without_a_file_has_nothing_to_reload() -> None:
    [told] = await asked(Recorder().server(reload=None), request="reload")
    assert told["error"] == "this recorder has no recorder.toml to read again"


async def test_a_dry_run_is_passed_on() -> None:
    recorder = Recorder()
    assert await asked(recorder.server(), request="reload", dry_run=True) == [
        {"answer": {"applied": False}}
    ]
    assert recorder.reloads == [True]


@pytest.mark.parametrize(
    ("fault", "error", "problems"),
    [
        (ConfigError(["one", "two"]), "the configuration stays as it was", ["one", "two"]),
        (DiskError("broken"), "broken", []),
        (ZeroDivisionError("oh"), "a bug of the recorder; its log has more", []),
    ],
)
async def test_what_goes_wrong_is_told_and_ends_one_connection_only(
    fault: Exception, error: str, problems: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(fault=fault)
    server = recorder.server()
    [told] = await asked(server, request="reload")
    assert told["error"].startswith(error)
    assert told["problems"] == problems
    logged = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert len(logged) == isinstance(fault, ZeroDivisionError)
    recorder.fault = None
    assert await asked(server, request="reload") == [{"answer": {"applied": True}}]


@given(st.binary(max_size=300))
def test_no_bytes_end_the_server(request_line: bytes) -> None:
    async def send() -> None:
        async with connected(Recorder().server()) as client:
            await client.send_all(request_line + b"\n")
            for told in await lines(client):
                assert "error" in told

    trio.run(send, clock=trio.testing.MockClock(autojump_threshold=0))


@given(st.floats())
def test_every_number_of_statistics_is_json(number: float) -> None:
    lags = Lags((1,) * (len(LAG_BOUNDS_SECONDS) + 1), 1.0, 5_000.0)
    found = statistics(series=(attrs.evolve(late(), last_hour=lags, pending_seconds=number),))
    [told] = json.loads(line_of({"found": as_values(found)}))["found"]["series"]
    assert told["last_hour"] == {
        "count": 14,
        "sum_seconds": 1.0,
        "max_seconds": 5_000.0,
        "p50_seconds": 5,
        "p99_seconds": 5_000.0,
    }


def test_a_path_that_is_no_text_is_json_too() -> None:
    assert json.loads(line_of({"path": "/\udcff"})) == {"path": "/\udcff"}
