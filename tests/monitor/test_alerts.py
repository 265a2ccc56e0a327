"""Alarms: the command that hears of changes, and the heartbeat."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import attrs
import httpx2
import psutil
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.exchange.http import http_transport
from kline_trio.monitor import alerts
from kline_trio.monitor.alerts import ChangeCommand, HeartbeatUrl, failure_url, run_command
from kline_trio.monitor.health import Thresholds, Verdict
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.statistics import Statistics
from tests.exchange.test_tls import AUTHORITY, serving
from tests.monitor.http import until
from tests.monitor.observations import connection, listener, market, process, statistics, store
from tests.proxies import listening

SECRET = "0123abcd-5678-secret"
URL = f"https://hc.test/ping/{SECRET}"
LIMITS = Thresholds(recover_seconds=5.0)
OK = statistics()
BAD = statistics(markets=(market(silent_seconds=50.0),))
DEGRADED = statistics(store=store(days_left=2.0))
STARTING = statistics(
    markets=(market(silent_seconds=3.0, listener=listener(connection(is_delivering=False))),),
    process=process(uptime_seconds=3.0),
)


@attrs.define
class Recorder:
    """What a watch looks at; `be` changes it."""

    found: Statistics = OK

    def statistics(self) -> Statistics:
        return self.found


@asynccontextmanager
async def watched(recorder: Recorder) -> AsyncIterator[Watch]:
    watch = Watch(recorder.statistics, LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        yield watch
        nursery.cancel_scope.cancel()


@attrs.define
class Runs:
    """A command that is only noted, and takes a time."""

    takes_seconds: float = 0.0
    problem: str | None = None
    at: list[float] = attrs.field(factory=list)
    told: list[tuple[str, str]] = attrs.field(factory=list)
    """From which verdict to which."""

    async def run(self, words: tuple[str, ...], body: bytes) -> str | None:
        self.at.append(trio.current_time())
        told = json.loads(body)
        self.told.append((told["was"], told["verdict"]))
        await trio.sleep(self.takes_seconds)
        return self.problem


@asynccontextmanager
async def commanded(recorder: Recorder, runs: Runs) -> AsyncIterator[ChangeCommand]:
    async with watched(recorder) as watch, trio.open_nursery() as nursery:
        command = ChangeCommand(("notify", SECRET), watch, run_one=runs.run)
        nursery.start_soon(command.run)
        yield command
        nursery.cancel_scope.cancel()


# The command


async def test_a_command_runs_at_each_change_with_what_was_and_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, runs = Recorder(), Runs()
    async with commanded(recorder, runs):
        await trio.sleep(300)
        assert runs.told == []
        for found in (BAD, DEGRADED, OK):
            recorder.found = found
            began = trio.current_time()
            await trio.sleep(100)
            # Health takes the quiet time to improve.
            assert runs.at[-1] - began <= 2 + LIMITS.recover_seconds
    assert runs.told == [("ok", "bad"), ("bad", "degraded"), ("degraded", "ok")]


async def test_a_start_is_no_change(autojump_clock: trio.testing.MockClock) -> None:
    recorder, runs = Recorder(STARTING), Runs()
    async with commanded(recorder, runs) as command:
        await trio.sleep(40)
        assert command.watch.latest.health.verdict is Verdict.DEGRADED
        recorder.found = OK
        await trio.sleep(40)
        assert runs.told == []
        recorder.found = BAD
        await trio.sleep(5)
    assert runs.told == [("ok", "bad")]


async def test_a_recorder_that_never_starts_is_a_change(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, runs = Recorder(STARTING), Runs()
    async with commanded(recorder, runs):
        await trio.sleep(40)
        recorder.found = BAD
        await trio.sleep(5)
    assert runs.told == [("ok", "bad")]


async def test_changes_in_quick_succession_run_it_each_half_minute_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, runs = Recorder(), Runs(takes_seconds=4.0)
    async with commanded(recorder, runs):
        for number in range(100):
            recorder.found = (OK, BAD)[number % 2]
            await trio.sleep(7)
    assert len(runs.at) > 5
    gaps = [later - earlier for earlier, later in pairwise(runs.at)]
    assert min(gaps) >= 30 + 4
    for (_, now), (was, _) in pairwise(runs.told):
        assert was == now


async def test_a_verdict_that_comes_and_goes_meanwhile_is_left_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, runs = Recorder(), Runs()
    async with commanded(recorder, runs):
        recorder.found = BAD
        await trio.sleep(3)
        recorder.found = OK
        await trio.sleep(10)
        recorder.found = BAD
        await trio.sleep(100)
    assert runs.told == [("ok", "bad")]


async def test_a_command_that_fails_is_a_log_line_without_its_arguments(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, runs = Recorder(), Runs(problem="status 7")
    async with commanded(recorder, runs) as command:
        recorder.found = BAD
        await trio.sleep(100)
        recorder.found = OK
        await trio.sleep(100)
        assert SECRET not in repr(command)
    assert len(runs.told) == 2, "a failure does not end the alarms"
    assert caplog.messages == ["on_change: notify: status 7"] * 2


# How a command is run, for real


def shell(text: str, *more: str) -> tuple[str, ...]:
    return ("sh", "-c", text, "sh", *more)


async def test_a_command_gets_bytes_on_its_standard_input_and_no_shell(tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    code = (
        f"import sys; words = sys.stdin.buffer.read() + sys.argv[1].encode()\n"
        f"open({str(copied)!r}, 'wb').write(words)"
    )
    words = (sys.executable, "-c", code, "$HOME; *")
    assert await run_command(words, b'{"verdict": "bad"}\n') is None
    assert copied.read_bytes() == b'{"verdict": "bad"}\n$HOME; *'


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("/no/such/command",), "it cannot be run: No such file or directory"),
        (("/",), "it cannot be run: Permission denied"),
        (("",), "it cannot be run: "),
        (("a\0b",), "it cannot be run: ValueError"),
        (("\ud800",), "it cannot be run: UnicodeEncodeError"),
        (shell("exit 3"), "status 3"),
        (shell("echo why >&2; exit 3"), "status 3: 'why'"),
        (shell("printf 'a\\nb\\033[2J\\377' >&2; exit 3"), "status 3: 'a\\nb\\x1b[2J\\ufffd'"),
        (shell("kill -9 $$"), "status -9"),
        (shell("echo noise; echo warning >&2"), None),
    ],
)
async def test_what_goes_wrong_is_said_in_a_line(
    words: tuple[str, ...], problem: str | None
) -> None:
    found = await run_command(words, b"{}")
    assert found == problem or (problem and found and found.startswith(problem))
    assert found is None or "\n" not in found


async def test_a_command_that_reads_nothing_is_no_failure() -> None:
    assert await run_command(("true",), bytes(10_000_000)) is None
    assert await run_command(shell("exec <&-; sleep 0.1"), bytes(10_000_000)) is None


async def test_arguments_that_its_output_repeats_are_not_shown() -> None:
    words = shell('echo "curl: cannot reach $1 with -u me:$2 (22)" >&2; exit 22', URL, SECRET)
    assert await run_command(words, b"") == (
        "status 22: 'curl: cannot reach ... with -u me:... (22)'"
    )
    found = await run_command(shell(f'curl "{URL}" && oops; echo {URL} >&2; exit 1'), b"")
    assert found is not None
    assert SECRET not in found


async def test_output_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_COMMAND_SECONDS", 1.0)
    found = await run_command(shell("yes >&2"), b"")
    assert found == "it did not end within 1 s, and was killed"
    words, pipe = shell("yes | head -c 1000000 >&2"), subprocess.PIPE
    process = await trio.lowlevel.open_process(words, stdin=pipe, stderr=pipe)
    assert len(await alerts._talk(process, b"")) <= 4 * 200
    found = await run_command(shell("yes | head -c 100000 >&2; echo the end >&2; exit 1"), b"")
    assert found is not None
    assert found.endswith("the end'")
    assert len(found) < 700


async def ended(pids: list[int]) -> None:
    await until(lambda: not any(map(is_alive, pids)))


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hanging(tmp_path: Path) -> tuple[tuple[str, ...], Callable[[], list[int]]]:
    """A command that ignores SIGTERM and has a child; and their process ids, once they run."""
    file = tmp_path / "pids"
    words = shell("trap '' TERM; sleep 1000 & echo $$ $! > $1.new; mv $1.new $1; wait", str(file))
    return words, lambda: [*map(int, file.read_text().split())] if file.exists() else []


async def test_a_command_that_hangs_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_COMMAND_SECONDS", 1.5)
    words, pids = hanging(tmp_path)
    began = trio.current_time()
    assert await run_command(words, b"") == "it did not end within 1.5 s, and was killed"
    # Not five seconds more, which Trio gives to a process after SIGTERM.
    assert trio.current_time() - began < 6
    assert len(pids()) == 2
    await ended(pids())


async def test_a_stop_kills_a_command_and_its_children_at_once(tmp_path: Path) -> None:
    words, pids = hanging(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_command, words, b"")
        await until(lambda: bool(pids()))
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 4.5
    await ended(pids())


async def test_what_an_ended_command_has_started_goes_on_and_is_not_waited_for(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pid"
    began = trio.current_time()
    # The child holds the command's standard error open.
    assert await run_command(shell("sleep 1000 & echo $! > $1", str(file)), b"") is None
    assert trio.current_time() - began < 10
    pid = int(file.read_text())
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_other_tasks_go_on_while_a_command_hangs() -> None:
    steps = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_command, ("sleep", "1000"), b"")
        for _ in range(20):
            await trio.sleep(0.01)
            steps += 1
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()
    assert steps == 20


# The heartbeat


@attrs.define
class Requests(httpx2.AsyncBaseTransport):
    """Notes the requests, and answers as a test wants."""

    answer: Callable[[], httpx2.Response] = lambda: httpx2.Response(200)
    seen: list[tuple[float, str]] = attrs.field(factory=list, repr=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.method == "GET"
        assert request.headers["host"] == "hc.test"
        self.seen.append((trio.current_time(), str(request.url)))
        await trio.lowlevel.checkpoint()
        return self.answer()

    @property
    def urls(self) -> list[str]:
        return [url for _, url in self.seen]


@asynccontextmanager
async def beating(
    recorder: Recorder, requests: Requests, url: str = URL
) -> AsyncIterator[HeartbeatUrl]:
    async with watched(recorder) as watch, trio.open_nursery() as nursery:
        heartbeat = HeartbeatUrl(url, requests, watch)
        nursery.start_soon(heartbeat.run)
        yield heartbeat
        nursery.cancel_scope.cancel()


async def test_it_is_requested_each_minute_while_health_is_not_bad(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, requests = Recorder(), Requests()
    async with beating(recorder, requests):
        await trio.sleep(300)
        recorder.found = DEGRADED
        await trio.sleep(290)
    assert requests.urls == [URL] * 10
    times = [moment for moment, _ in requests.seen]
    for earlier, later in pairwise(times):
        assert 60 <= later - earlier <= 61.5


async def test_fail_is_requested_once_when_health_turns_bad(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder, requests = Recorder(), Requests()
    async with beating(recorder, requests):
        await trio.sleep(10)
        recorder.found = BAD
        began = trio.current_time()
        await trio.sleep(600)
        assert requests.urls == [URL, f"{URL}/fail"]
        assert requests.seen[-1][0] - began <= 2
        recorder.found = OK
        await trio.sleep(50)
        assert requests.urls == [URL, f"{URL}/fail", URL]
        recorder.found = BAD
        await trio.sleep(50)
    assert requests.urls[3:] == [f"{URL}/fail"]


async def test_a_fail_that_was_not_answered_is_repeated_each_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What makes health bad may be the network itself."""
    recorder, requests = Recorder(BAD), Requests(lambda: httpx2.Response(502))
    async with beating(recorder, requests):
        await trio.sleep(150)
        assert requests.urls == [f"{URL}/fail"] * 3
        requests.answer = lambda: httpx2.Response(200)
        await trio.sleep(600)
    assert requests.urls == [f"{URL}/fail"] * 4


def fail_to_connect() -> httpx2.Response:
    raise httpx2.ConnectError(f"cannot reach {URL}")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda: httpx2.Response(404), "HTTP 404"),
        (lambda: httpx2.Response(301, headers={"location": URL}), "HTTP 301"),
        (fail_to_connect, "no answer (ConnectError)"),
    ],
)
async def test_a_failure_is_logged_once_until_it_succeeds_again(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    answer: Callable[[], httpx2.Response],
    problem: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    recorder, requests = Recorder(), Requests(answer)
    async with beating(recorder, requests) as heartbeat:
        await trio.sleep(300)
        assert caplog.messages == [f"heartbeat_url: {problem}"]
        requests.answer = lambda: httpx2.Response(200)
        await trio.sleep(120)
        requests.answer = answer
        await trio.sleep(120)
        assert SECRET not in repr(heartbeat)
    assert caplog.messages == [
        f"heartbeat_url: {problem}",
        "heartbeat_url: it answers again",
        f"heartbeat_url: {problem}",
    ]
    assert SECRET not in caplog.text


async def test_a_host_that_never_answers_is_given_up_after_ten_seconds(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Hanging(Requests):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await super().handle_async_request(request)
            return await trio.sleep_forever()

    requests = Hanging()
    async with beating(Recorder(), requests):
        await trio.sleep(130)
    assert len(requests.urls) == 3
    assert caplog.messages == ["heartbeat_url: no answer within 10 s"]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://hc.test/a", "https://hc.test/a/fail"),
        ("https://hc.test/a/", "https://hc.test/a/fail"),
        ("https://hc.test", "https://hc.test/fail"),
        ("https://hc.test/?k=v", "https://hc.test/fail?k=v"),
        ("https://hc.test/a?create=1&x=/y", "https://hc.test/a/fail?create=1&x=/y"),
        ("https://hc.test:8443/a?x#y", "https://hc.test:8443/a/fail?x#y"),
        ("https://[::1]/a%2Fb?x=%26", "https://[::1]/a%2Fb/fail?x=%26"),
    ],
)
def test_fail_belongs_to_the_path_and_not_behind_the_query(url: str, wanted: str) -> None:
    assert failure_url(url) == wanted


@given(st.text("abc/%2F", max_size=8), st.text("abc=&/?%", max_size=8))
def test_fail_leaves_host_and_query_as_they_are(path: str, query: str) -> None:
    found = httpx2.URL(failure_url(f"https://hc.test/{path}?{query}"))
    given = httpx2.URL(f"https://hc.test/{path}?{query}")
    assert found.host == "hc.test"
    assert found.query == given.query
    assert found.path.endswith("/fail")


async def test_the_url_is_in_no_log_line_of_any_library_at_any_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over a real socket and TLS, with each logger that there is at DEBUG."""
    asked: list[bytes] = []

    async def answer(transport: trio.SocketStream) -> None:
        server, head = serving(transport), b""
        while b"\r\n\r\n" not in head:
            head += await server.receive_some()
        asked.append(head.split(b"\r\n")[0])
        # More than a memory has; nobody reads it.
        await server.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
        while await server.receive_some():
            pass

    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    before = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    caplog.set_level(logging.DEBUG)
    try:
        async with listening(answer) as port:
            url = f"https://127.0.0.1:{port}/ping/{SECRET}?k={SECRET}"
            recorder = Recorder()
            async with http_transport(tmp_path / "ca.pem", "direct") as transport:
                for name in logging.root.manager.loggerDict:
                    logging.getLogger(name).setLevel(logging.DEBUG)
                watch = Watch(recorder.statistics, LIMITS)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(HeartbeatUrl(url, transport, watch).run)
                    await until(lambda: len(asked) == 1)
                    await trio.sleep(0.2)
                    recorder.found = BAD
                    watch.look()
                    await until(lambda: len(asked) == 2)
                    await trio.sleep(0.2)
                    nursery.cancel_scope.cancel()
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    target = f"/ping/{SECRET}"
    assert asked == [
        f"GET {target}?k={SECRET} HTTP/1.1".encode(),
        f"GET {target}/fail?k={SECRET} HTTP/1.1".encode(),
    ]
    assert len(caplog.records) > 5, "the libraries do log"
    assert SECRET not in caplog.text
    assert SECRET not in "".join(str(one.args) for one in caplog.records)
    assert "heartbeat_url" not in caplog.text
