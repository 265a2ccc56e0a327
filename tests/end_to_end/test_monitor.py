"""The monitor of a recorder that runs as a whole program."""

import http.client
import json
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from tests.end_to_end.expected import SPOT
from tests.end_to_end.harness import Program, Recorder, Simulated, StandIn, wait_until

SPEED = 60
IDLE = 200


def port_of(program: Program, times: int = 1) -> int:
    line = program.wait_for("monitor: http://", times=times)
    return int(line.rpartition(":")[2].partition("/")[0])


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Scraper:
    """One connection that is kept, as Prometheus keeps its own."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def lags(self) -> tuple[float, float]:
        """Lags so far: their sum in real seconds, and their count."""
        self.connection.request("GET", "/metrics")
        text = self.connection.getresponse().read().decode()
        found = [
            sum(map(float, re.findall(rf"lag_seconds_{name}\{{.*\}} (\S+)", text)))
            for name in ("sum", "count")
        ]
        return found[0] / SPEED, found[1]

    def answer_seconds(self) -> float:
        """The median time of an answer, which waits for each task that holds the recorder up."""
        times = []
        for _ in range(31):
            began = time.perf_counter()
            self.connection.request("GET", "/healthz")
            self.connection.getresponse().read()
            times.append(time.perf_counter() - began)
            time.sleep(0.03)
        return median(times)

    def mean_lag(self, seconds: float) -> float:
        """The mean lag, in real seconds, of the candles that are recorded in this time."""
        before = self.lags()
        time.sleep(seconds)
        after = self.lags()
        assert after[1] - before[1] >= seconds * 0.7, "recording goes on"
        return (after[0] - before[0]) / (after[1] - before[1])


def test_idle_sockets_and_a_reader_that_never_reads_do_not_change_the_lag(
    simulated: Callable[..., Simulated], recorder: Callable[..., Recorder]
) -> None:
    ours = recorder(simulated("--speed", str(SPEED), "--seed", "3"), SPOT)
    with ours.running("--monitor", "127.0.0.1:0") as program, ExitStack() as sockets:
        port = port_of(program)
        program.wait_for("Recorded spot BTCUSDT-1m", times=3)
        scraper = Scraper(port)
        sockets.callback(scraper.connection.close)
        quiet, quiet_answer = scraper.mean_lag(6), scraper.answer_seconds()

        dead = sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
        dead.setblocking(False)
        asked = dead.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2_000)
        assert asked > 10_000
        for _ in range(IDLE):
            sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
        attacked_answer, attacked = scraper.answer_seconds(), scraper.mean_lag(6)
        # Real seconds; the machine itself may be busy.
        assert attacked < quiet + 0.25
        assert attacked_answer < quiet_answer + 0.1

        # After their deadline there is room for others.
        def answers() -> bool:
            try:
                return get(port, "/healthz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(answers, "a place should become free", 20)
        assert program.count("ERROR") == 0
        assert program.end(signal.SIGTERM) == 0


def test_the_monitor_changes_at_sighup_and_a_mistake_changes_nothing(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT)
    path = ours.folder / "recorder.toml"
    heard = ours.folder / "heard"
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m")
        plain = path.read_text(encoding="utf-8")
        table = '[monitor]\naddress = "127.0.0.1:0"\n'

        def reload(text: str) -> None:
            path.write_text(text, encoding="utf-8")
            program.process.send_signal(signal.SIGHUP)

        reload(plain + table)
        port = port_of(program)
        assert get(port, "/healthz")[0] == 200

        reload(plain + table + 'address = "0.0.0.0:0"\n')
        program.wait_for("the configuration stays as it was")
        reload(plain + table.replace("127.0.0.1", "0.0.0.0"))
        program.wait_for("the configuration stays as it was", times=2)
        program.wait_for("name a token_file")
        assert program.count("name a token_file") == 1
        assert get(port, "/healthz")[0] == 200

        words = json.dumps(["sh", "-c", f"cat > {heard}.new && mv {heard}.new {heard}"])
        reload(f"{plain}{table}silent_seconds = 2\non_change = {words}\n")
        port = port_of(program, times=2)
        assert get(port, "/healthz")[0] == 200
        exchange.do("stall")
        wait_until(heard.exists, "the command should hear of it", 30)
        told = json.loads(heard.read_text(encoding="utf-8"))
        assert (told["was"], told["verdict"]) == ("ok", "bad")
        assert told["reasons"][0]["code"] in ("no_data", "clock_lost", "absent")
        assert get(port, "/readyz")[0] == 503

        reload(plain)
        program.wait_for("configuration read anew", times=3)
        wait_until(lambda: is_closed(port), "the server should end")
        assert program.count("next start") == 0
        assert program.end(signal.SIGTERM) == 0


def is_closed(port: int) -> bool:
    try:
        get(port, "/healthz")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("what", ["a port in use", "a command that hangs"])
def test_recording_and_its_end_do_not_wait_for_the_monitor(
    simulated: Callable[..., Simulated],
    recorder: Callable[..., Recorder],
    tmp_path: Path,
    what: str,
) -> None:
    exchange = simulated("--speed", str(SPEED), "--seed", "3")
    ours = recorder(exchange, SPOT)
    with ExitStack() as sockets:
        if what == "a port in use":
            taken = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
            table = f'[monitor]\naddress = "127.0.0.1:{taken.getsockname()[1]}"'
        else:
            runs = json.dumps(["sh", "-c", f"trap '' TERM; touch {tmp_path}/runs; sleep 1000"])
            # No disk lasts so long: health is degraded.
            table = f"[monitor]\nfree_days = 31536000\non_change = {runs}"
        ours.configure(exchange, connection=table)
        with ours.running() as program:
            if what == "a port in use":
                program.wait_for("Address already in use; recording goes on")
            else:
                wait_until((tmp_path / "runs").exists, "the command should run", 40)
            seen = program.count("Recorded spot BTCUSDT-1m")
            program.wait_for("Recorded spot BTCUSDT-1m", times=seen + 5)
            began = time.monotonic()
            assert program.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 10
