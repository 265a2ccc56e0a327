"""The control socket of the real program: status, reload and backfill beside a recorder."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kline_trio.monitor.control_socket import socket_of
from tests.end_to_end.harness import ROOT, Program, wait_until

STREAMS = '[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n'
RECORDED = "Recorded spot BTCUSDT-1m"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path: pytest's own can be too long for a socket."""
    with TemporaryDirectory(prefix="k-") as name:
        yield Path(name)


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", *arguments],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@contextmanager
def simulated(folder: Path, *options: str) -> Iterator[Program]:
    """A recorder of the built-in exchange."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recorder.toml"
    if not file.exists():
        file.write_text(STREAMS)
    words = ["-m", "kline_trio", "recorder.toml", "--simulate", *options]
    program = Program(words, folder, measured=True)
    try:
        yield program
    finally:
        program.close()


def test_status_reload_and_backfill_beside_a_recorder(tmp_path: Path) -> None:
    with simulated(tmp_path) as program:
        program.wait_for(RECORDED, times=2)
        assert run(tmp_path, "status", "--live", "--quiet") == (0, "")
        status, said = run(tmp_path, "status", "recorder.toml")
        assert status == 0, said
        first, second, third, *_ = said.splitlines()
        assert first.endswith("of --simulate")
        assert second.startswith("SIMULATED")
        assert f"the recorder (pid {program.process.pid}) was asked" in third
        status, said = run(tmp_path, "status", "data-simulated", "--json")
        told = json.loads(said)
        assert (told["source"], told["simulated"]) == ("recorder", True)
        assert told["statistics"]["markets"][0]["received"] > 0

        # The past of a day, fetched by the recorder.
        status, said = run(tmp_path, "backfill", "recorder.toml", "--simulate",
                           "--since", "2026-09-20")  # fmt: skip
        assert status == 0, said
        assert "done: " in said
        status, said = run(tmp_path, "gaps", "recorder.toml", "--json")
        pasts = [one for one in json.loads(said)["gaps"] if one["from"].startswith("2026-09-20")]
        assert [one["state"] for one in pasts] == ["filled", "filled"]
        status, said = run(tmp_path, "backfill", "recorder.toml", "--simulate",
                           "--until", "2026-09-20")  # fmt: skip
        assert (status, "leave out --until" in said) == (75, True)

        # A change, seen first, then made.
        file = tmp_path / "recorder.toml"
        file.write_text(STREAMS.replace("ETHUSDT", "BNBUSDT") + "[history]\nsince = 2020-01-01\n")
        status, said = run(tmp_path, "reload", "--dry-run")
        assert status == 0, said
        assert "streams.spot.1m: ETHUSDT -> BNBUSDT" in said
        assert "history.since: not set -> 2020-01-01" in said
        assert program.count("reading the configuration anew") == 0
        status, said = run(tmp_path, "reload", "recorder.toml")
        assert status == 0, said
        assert "from the next start on: [history]" in said
        program.wait_for("configuration read anew: 1 series added, 1 removed")
        status, said = run(tmp_path, "reload", "recorder.toml")
        assert "nothing differs" in said
        assert "from the next start on: [history]" in said

        # The monitor begins anew by its own table, and still answers.
        with file.open("a") as written:
            written.write("[monitor]\nsilent_seconds = 30\n")
        status, said = run(tmp_path, "reload", "recorder.toml")
        assert "monitor.silent_seconds: 45 -> 30" in said
        assert run(tmp_path, "status", "--live", "--quiet") == (0, "")

        assert program.end(signal.SIGINT) == 0
        last = "simulated candles are in data-simulated;"
        last += " now: python -m kline_trio status recorder.toml"
        # Warnings that came more than once may be summed up after it.
        assert any(line.endswith(last) for line in program.err[-3:])
    assert run(tmp_path, "status", "--live", "--quiet")[0] == 1
    status, said = run(tmp_path, "status", "recorder.toml")
    assert "no recorder runs" in said
    assert status in (1, 3)  # 1: in the time that has passed since, candles were due
    assert run(tmp_path, "reload")[0] == 1


@pytest.mark.parametrize("depth", [0, 2])
def test_a_killed_recorder_leaves_a_socket_that_the_next_one_replaces(
    depth: int, tmp_path: Path
) -> None:
    """Also where the store's path is longer than a socket's may be."""
    folder = tmp_path.joinpath(*["d" * 80] * depth)
    store = folder / "data-simulated"
    for is_killed in (True, False):
        with simulated(folder) as program:
            program.wait_for(RECORDED, times=2)
            place = socket_of(store)
            assert place.is_relative_to(store) is not bool(depth)
            assert len(os.fsencode(place)) < 108
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
            assert run(folder, "status", "--live", "--quiet") == (0, "")
            if is_killed:
                program.end(signal.SIGKILL)
                assert place.exists()
                assert run(folder, "status", "--live", "--quiet")[0] == 1
            else:
                assert program.end(signal.SIGTERM) == 0
                assert not place.exists()


def test_clients_that_misbehave_delay_nothing(tmp_path: Path) -> None:
    with simulated(tmp_path, "--for", "120s") as program:
        program.wait_for(RECORDED, times=2)
        place = str(socket_of(tmp_path / "data-simulated"))
        idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for number, client in enumerate(idle):
            client.settimeout(5)
            client.connect(place)
            if number % 2:
                try:
                    client.sendall(b"x" * 1_000_000)
                except OSError:
                    client.close()
        before = program.count(RECORDED)
        program.wait_for(RECORDED, times=before + 3)
        # After five seconds they are left, and others are answered.
        wait_until(lambda: run(tmp_path, "status", "--live", "--quiet")[0] == 0, "an answer")
        for client in idle:
            client.close()
        assert program.end(signal.SIGINT) == 0
    assert program.count("bug") == program.count("ERROR") == 0


def test_a_health_check_loads_little_and_takes_a_tenth_of_a_second(tmp_path: Path) -> None:
    with simulated(tmp_path, "--for", "120s") as program:
        program.wait_for(RECORDED, times=2)
        code = (
            "import sys, time\n"
            "from kline_trio.commands.cli import main\n"
            "assert main(['status', '--live', '--quiet', 'recorder.toml']) == 0\n"
            "heavy = ('pandas', 'pyarrow', 'trio', 'numpy', 'attrs', 'httpx2', 'sqlite3')\n"
            "print([name for name in heavy if name in sys.modules], time.process_time())"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
        ).stdout  # fmt: skip
    names, _, seconds = said.strip().rpartition(" ")
    assert names == "[]"
    # Of CPU: the machine may be busy.
    assert float(seconds) < 0.2


def test_a_socket_that_cannot_be_made_ends_no_recording(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 80] * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))  # as long as the store's
        for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
            patch.delenv(name, raising=False)
        with simulated(folder) as program:
            program.wait_for("control: no socket can be made")
            program.wait_for(RECORDED, times=3)
            status, said = run(folder, "status", "data-simulated")
            assert "and has no control socket: this is read from the store alone" in said
            assert status == 0, said
            assert program.end(signal.SIGINT) == 0
