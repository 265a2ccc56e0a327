"""What systemd is told: when a recorder is ready, alive, reloading, stuck and stopping."""

import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio
import trio.testing

from kline_trio.monitor.health import Thresholds
from kline_trio.monitor.systemd import Notifier, NotifySocket, status_line
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.statistics import Statistics
from kline_trio.simulator.exchange import Exchange
from tests.builders import START_MS
from tests.end_to_end.harness import Program, wait_until
from tests.recorder.test_statistics import joined_recorder

_PID = 4_711


@attrs.define(eq=False)
class Manager:
    """A service manager: the socket that it reads, and what came."""

    name: str
    """As in NOTIFY_SOCKET."""
    lines: list[str] = attrs.field(init=False, factory=list)
    _socket: socket.socket = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.listen()

    def listen(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self._address)

    @property
    def _address(self) -> str:
        return self.name.replace("@", "\0", 1)

    def close(self) -> None:
        self._socket.close()
        if not self.name.startswith("@"):
            Path(self.name).unlink()

    def read(self) -> list[str]:
        """Return the lines that came since the last read."""
        new: list[str] = []
        while True:
            try:
                new += self._socket.recv(4_096).decode().split("\n")
            except BlockingIOError:
                break
        self.lines += new
        return new

    def fill(self) -> None:
        """Send datagrams until the socket takes no more, of any sender."""
        sent = 1
        while sent:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A sender has a limit of its own.
                sent = 0
                with suppress(BlockingIOError):
                    while True:
                        sender.sendto(b"noise", socket.MSG_DONTWAIT, self._address)
                        sent += 1

    def has(self, *beginnings: str) -> bool:
        """Return whether such lines came, in this order, perhaps with others between."""
        self.read()
        came = iter(self.lines)
        return all(any(line.startswith(one) for line in came) for one in beginnings)

    def notifier(
        self, watchdog_seconds: float | None = None, is_stop_asked: Callable[[], bool] = bool
    ) -> Notifier:
        environment = {"NOTIFY_SOCKET": self.name}
        if watchdog_seconds is not None:
            environment["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))
        return Notifier(NotifySocket.from_environment(environment, _PID), is_stop_asked)


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not in tmp_path: a socket's path has at most 108 bytes.
    with TemporaryDirectory() as folder:
        manager = Manager(f"{folder}/notify")
        yield manager
        manager.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """Statistics of a recorder that has recorded a while."""

    async def recorded() -> Statistics:
        exchange = Exchange(start_ms=START_MS, speed=60)
        async with joined_recorder(exchange, tmp_path_factory.mktemp("good")) as recorder:
            await trio.sleep(20)
            return recorder.statistics()

    return trio.run(recorded, clock=trio.testing.MockClock(autojump_threshold=0))


def without_candles(found: Statistics) -> Statistics:
    spot, *others = found.markets
    return attrs.evolve(found, markets=(attrs.evolve(spot, silent_seconds=7_800.0), *others))


def on_a_full_disk(found: Statistics) -> Statistics:
    return attrs.evolve(
        found, store=attrs.evolve(found.store, full_seconds=600.0, full_why="disk full")
    )


def without_network(found: Statistics) -> Statistics:
    lost = [
        attrs.evolve(
            one,
            silent_seconds=7_800.0,
            clock_stands_seconds=7_800.0,
            rest_silent_seconds=7_800.0,
            rest_problem="no network",
            listener=attrs.evolve(one.listener, connections=()),
        )
        for one in found.markets
    ]
    return attrs.evolve(found, markets=tuple(lost))


def in_a_commit(found: Statistics) -> Statistics:
    return attrs.evolve(found, store=attrs.evolve(found.store, committing_seconds=90.0))


def in_a_merge(found: Statistics) -> Statistics:
    return attrs.evolve(found, store=attrs.evolve(found.store, merging_seconds=900.0))


@attrs.define(eq=False)
class Shown:
    """A watch that sees these statistics."""

    found: Statistics
    watch: Watch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = Watch(lambda: self.found, Thresholds())

    def start(self, nursery: trio.Nursery, notifier: Notifier) -> None:
        for job in (self.watch.run, notifier.run):
            nursery.start_soon(job)
        nursery.start_soon(notifier.follow, self.watch)


@pytest.mark.parametrize(
    ("environment", "path", "watchdog_seconds"),
    [
        ({"NOTIFY_SOCKET": "/run/notify"}, b"/run/notify", None),
        ({"NOTIFY_SOCKET": "@abstract"}, b"\0abstract", None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000"}, b"/n", 30.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "4711"}, b"/n", 5e-6),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, b"/n", None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, b"/n", None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, b"/n", None),
    ],
)
def test_the_environment_names_socket_and_watchdog(
    environment: dict[str, str], path: bytes, watchdog_seconds: float | None
) -> None:
    expected = NotifySocket(path, watchdog_seconds)
    assert NotifySocket.from_environment(environment, _PID) == expected


@pytest.mark.parametrize("name", ["", "vsock:2:9999", "run/notify"])
def test_without_a_usable_socket_nobody_is_notified(name: str) -> None:
    assert NotifySocket.from_environment({"NOTIFY_SOCKET": name}, _PID) is None
    assert NotifySocket.from_environment({}, _PID) is None


async def test_without_a_service_manager_all_calls_do_nothing(
    autojump_clock: trio.testing.MockClock, good: Statistics
) -> None:
    notifier = Notifier(None)
    assert not notifier.is_wanted
    async with trio.open_nursery() as nursery:
        Shown(good).start(nursery, notifier)
        notifier.ready()
        with notifier.reloading():
            await trio.sleep(10)
        notifier.stopping()
        nursery.cancel_scope.cancel()


async def test_an_abstract_socket_is_notified(autojump_clock: trio.testing.MockClock) -> None:
    manager = Manager(f"@kline_trio-test-{os.getpid()}")
    manager.notifier().ready()
    assert manager.read() == ["READY=1", "STATUS=recording"]
    manager.close()


async def test_a_long_start_takes_more_time_and_says_what_it_does(
    autojump_clock: trio.testing.MockClock, manager: Manager
) -> None:
    notifier = manager.notifier(60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.run)
        await trio.sleep(4.5)
        assert "STATUS=opening the store for 4 s" in manager.read()
        assert not manager.has("EXTEND_TIMEOUT_USEC")
        for _ in range(20):
            await trio.sleep(6)
            assert "EXTEND_TIMEOUT_USEC=60000000" in manager.read()
        assert not manager.has("WATCHDOG=1")
        notifier.ready()
        assert manager.read() == ["READY=1", "STATUS=recording"]
        await trio.sleep(60)
        assert not any(line.startswith("EXTEND") for line in manager.read())
        nursery.cancel_scope.cancel()


async def test_a_start_that_is_to_be_stopped_takes_no_more_time(
    autojump_clock: trio.testing.MockClock, manager: Manager
) -> None:
    notifier = manager.notifier(is_stop_asked=lambda: True)
    with trio.move_on_after(30):
        await notifier.run()
    assert not manager.has("EXTEND_TIMEOUT_USEC")


@pytest.mark.parametrize("watchdog_seconds", [0.5, 2, 3, 7.7, 30, 120])
async def test_the_watchdog_is_fed_within_half_of_its_time(
    autojump_clock: trio.testing.MockClock,
    manager: Manager,
    good: Statistics,
    watchdog_seconds: float,
) -> None:
    notifier = manager.notifier(watchdog_seconds)
    fed, step = [trio.current_time()], watchdog_seconds / 100
    async with trio.open_nursery() as nursery:
        Shown(good).start(nursery, notifier)
        notifier.ready()
        end = trio.current_time() + 5 * watchdog_seconds
        while trio.current_time() < end:
            await trio.sleep(step)
            if "WATCHDOG=1" in manager.read():
                fed.append(trio.current_time())
        nursery.cancel_scope.cancel()
    waits = [after - before for before, after in pairwise(fed)]
    assert max(waits) <= watchdog_seconds / 2 + 2 * step
    assert min(waits[1:]) > watchdog_seconds / 2 - 1 - 2 * step


@pytest.mark.parametrize("fault", [without_candles, without_network, on_a_full_disk])
async def test_what_a_restart_cannot_mend_never_starves_the_watchdog(
    autojump_clock: trio.testing.MockClock,
    manager: Manager,
    good: Statistics,
    fault: Callable[[Statistics], Statistics],
) -> None:
    notifier = manager.notifier(10)
    async with trio.open_nursery() as nursery:
        Shown(fault(good)).start(nursery, notifier)
        notifier.ready()
        for _ in range(100):
            await trio.sleep(6)
            assert "WATCHDOG=1" in manager.read()
        nursery.cancel_scope.cancel()
    assert manager.has("STATUS=bad: ")


@pytest.mark.parametrize("job", [in_a_commit, in_a_merge])
async def test_a_stuck_job_of_the_disk_starves_the_watchdog_until_it_ends(
    autojump_clock: trio.testing.MockClock,
    manager: Manager,
    good: Statistics,
    job: Callable[[Statistics], Statistics],
) -> None:
    notifier, shown = manager.notifier(10), Shown(good)
    async with trio.open_nursery() as nursery:
        shown.start(nursery, notifier)
        notifier.ready()
        await trio.sleep(5.5)
        assert "WATCHDOG=1" in manager.read()
        shown.found = job(good)
        await trio.sleep(2)
        assert any(line.startswith("STATUS=bad: store: a ") for line in manager.read())
        await trio.sleep(60)
        assert "WATCHDOG=1" not in manager.read()
        shown.found = good
        # At once, though health improves only after a quiet time.
        await trio.sleep(2.5)
        assert "WATCHDOG=1" in manager.read()
        assert shown.watch.latest.health.is_stuck
        nursery.cancel_scope.cancel()


async def test_the_status_is_sent_when_it_changes_and_once_a_second_at_most(
    autojump_clock: trio.testing.MockClock, manager: Manager, good: Statistics
) -> None:
    notifier, shown = manager.notifier(), Shown(good)
    async with trio.open_nursery() as nursery:
        shown.start(nursery, notifier)
        notifier.ready()
        await trio.sleep(1.5)
        assert manager.has("STATUS=ok: 3 series, 3 connections")
        await trio.sleep(60)
        assert manager.read() == []
        statuses = []
        for second in range(50, 80):
            spot, *others = good.markets
            silent = attrs.evolve(spot, silent_seconds=float(second))
            shown.found = attrs.evolve(good, markets=(silent, *others))
            await trio.sleep(1)
            new = manager.read()
            assert len(new) <= 1
            statuses += new
        # The watch and the notifier wake in the same moment, in any order.
        assert len(statuses) >= 10
        assert len(set(statuses)) == len(statuses)
        assert statuses[-1].startswith("STATUS=bad: spot: no data for 7")
        nursery.cancel_scope.cancel()


def test_a_status_is_one_short_line(good: Statistics) -> None:
    spot, *others = good.markets
    why = "HTTP 502\n" + "x" * 9_000
    ill = attrs.evolve(spot, rest_silent_seconds=90.0, rest_problem=why, silent_seconds=99.0)

    # The clock is Trio's, and this is no Trio program.
    async def observed() -> str:
        watch = Watch(
            lambda: attrs.evolve(good, markets=(ill, *others)), Thresholds(), is_simulated=True
        )
        return status_line(watch.latest)

    line = trio.run(observed)
    assert line.startswith("SIMULATED bad: spot: ")
    assert line.endswith(" (and 1 more)")
    assert "\n" not in line
    assert len(line) < 600


async def test_a_reload_is_framed_and_ends_also_if_it_fails(
    autojump_clock: trio.testing.MockClock, manager: Manager
) -> None:
    notifier = manager.notifier()
    with suppress(ValueError), notifier.reloading():
        reloading, moment = manager.read()
        raise ValueError("no good")
    assert reloading == "RELOADING=1"
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(microseconds) > 0
    assert manager.read() == ["READY=1"]


async def test_a_change_that_finds_the_socket_full_is_sent_later(
    autojump_clock: trio.testing.MockClock, manager: Manager, good: Statistics
) -> None:
    notifier = manager.notifier(10)
    manager.fill()
    async with trio.open_nursery() as nursery:
        notifier.ready()
        Shown(good).start(nursery, notifier)
        await trio.sleep(3.5)
        assert not manager.has("READY=1")
        await trio.sleep(1)
        assert manager.has("READY=1", "WATCHDOG=1", "STATUS=ok")
        nursery.cancel_scope.cancel()


async def test_a_lost_socket_is_logged_once_and_ends_nothing(
    autojump_clock: trio.testing.MockClock,
    manager: Manager,
    good: Statistics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    notifier = manager.notifier(10)
    manager.close()
    async with trio.open_nursery() as nursery:
        notifier.ready()
        Shown(good).start(nursery, notifier)
        await trio.sleep(60)
        reason = os.strerror(errno.ENOENT)
        expected = f"systemd: it cannot be notified: {reason}; recording goes on"
        assert caplog.messages == [expected]
        manager.listen()
        await trio.sleep(2)
        assert manager.has("READY=1", "WATCHDOG=1")
        nursery.cancel_scope.cancel()


async def test_without_a_watch_it_is_still_fed(
    autojump_clock: trio.testing.MockClock, manager: Manager
) -> None:
    """As while the monitor takes another configuration, and while the last merges run."""
    notifier = manager.notifier(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.run)
        notifier.ready()
        await trio.sleep(10)
        assert manager.has("READY=1", "WATCHDOG=1", "WATCHDOG=1")
        notifier.stopping()
        manager.read()
        await trio.sleep(10)
        lines = manager.read()
        assert "STATUS=stopping: what was received is committed and merged" in lines
        assert lines.count("WATCHDOG=1") >= 4
        nursery.cancel_scope.cancel()


def test_a_service_is_ready_alive_reloaded_and_stopped(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    arguments = ["-m", "kline_trio", "recorder.toml", "--simulate"]
    program = Program(arguments, tmp_path, measured=True)
    try:
        wait_until(lambda: manager.has("READY=1"), "READY")
        lock = tmp_path / "data-simulated" / ".kline_trio"
        assert (lock / "journal.sqlite").exists()
        wait_until(lambda: manager.has("READY=1", "STATUS=SIMULATED ok: 1 series"), "STATUS")
        wait_until(lambda: manager.has(*["WATCHDOG=1"] * 3), "WATCHDOG")
        program.process.send_signal(signal.SIGHUP)
        reload = ("READY=1", "RELOADING=1", "MONOTONIC_USEC=", "READY=1")
        wait_until(lambda: manager.has(*reload), "RELOADING")
        (tmp_path / "recorder.toml").write_text("no good\n")
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: manager.has(*reload, *reload[1:]), "RELOADING again")
        wait_until(lambda: manager.has(*reload, *reload[1:], "WATCHDOG=1"), "WATCHDOG")
        assert program.end(signal.SIGTERM) == 0
        assert manager.has(*reload, "STOPPING=1")
        assert manager.lines.count("READY=1") == 3
    finally:
        program.close()


def test_a_service_that_cannot_start_is_never_ready(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    (tmp_path / "data-simulated").write_text("a file stands in the way")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    program = Program(["-m", "kline_trio", "recorder.toml", "--simulate"], tmp_path, measured=True)
    try:
        assert program.end() == 74
        assert not manager.has("READY=1")
    finally:
        program.close()
