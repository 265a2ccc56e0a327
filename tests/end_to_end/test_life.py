"""Starts and ends of the program: statuses, signals, kills, and what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import kline_trio
from tests.end_to_end.expected import SPOT, expected_frame, stored_frame
from tests.end_to_end.harness import ROOT, Program, Recorder, StandIn, wait_until

STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'
NOBODY = '[endpoints.spot]\nwebsocket = "ws://127.0.0.1:9/stream"\nrest = "http://127.0.0.1:9"\n'


@contextmanager
def ran(folder: Path, *arguments: str | Path) -> Iterator[Program]:
    program = Program(["-m", "kline_trio", *arguments], folder, measured=True)
    try:
        yield program
    finally:
        program.close()


def ended(folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    with ran(folder, *arguments) as program:
        status = program.end()
        return status, "\n".join(program.out), "\n".join(program.err)


def test_what_was_told_as_recorded_survives_kill_9(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--speed", "480")
    ours = recorder(exchange, SPOT)
    told = 0
    for _ in range(3):
        with ours.running() as program:
            program.wait_for("Recorded spot BTCUSDT-1m", times=4)
            program.end(signal.SIGKILL)
            told += sum("Recorded spot" in line for line in program.err)
        frame = ours.readable(SPOT)
        assert frame is not None
        assert len(frame) >= told
        assert frame.index.is_unique
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m")
        assert program.end(signal.SIGINT) == 0
    frame = stored_frame(ours.store, SPOT)
    known = expected_frame("1m", exchange.truth()[SPOT])
    assert len(frame) > told
    pd.testing.assert_frame_equal(frame, known.loc[frame.index])
    assert not list((ours.store / ".kline_trio" / "tmp").iterdir())


def test_a_store_in_use_is_refused_and_its_holder_unharmed(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    ours = recorder(stand_in(), SPOT)
    with ours.running() as holder:
        holder.wait_for("Recorded spot")
        status, _, told = ended(ours.folder, "recorder.toml")
        assert status == 75
        assert told.splitlines() == [
            f"{ours.store} is in use by the recorder with pid {holder.process.pid}"
        ]
        before = sum("Recorded spot" in line for line in holder.err)
        holder.wait_for("Recorded spot", times=before + 2)
        assert holder.end(signal.SIGTERM) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """The store's door is blocked, so that the first signal alone would wait."""
    code = (
        "import sys, time\n"
        "from kline_trio.commands.cli import main\n"
        "from kline_trio.storage.journal.writer import Journal\n"
        "Journal.rows = lambda self: time.sleep(600)\n"
        "sys.exit(main(['recorder.toml']))\n"
    )
    (tmp_path / "recorder.toml").write_text(STREAMS + NOBODY, encoding="utf-8")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        program = Program(["-c", code], tmp_path, measured=False)
        try:
            program.wait_for("1 series in 1 market")
            program.process.send_signal(number)
            program.wait_for("stopping; a second signal ends at once")
            # The handler for a second one is set a moment after the first is told of.
            wait_until(partial(again, program, number), "it should end")
            assert program.end() == status
        finally:
            program.close()


def again(program: Program, number: signal.Signals) -> bool:
    """Send the signal once more; whether the program has ended."""
    program.process.send_signal(number)
    return program.process.poll() is not None


def test_a_bad_configuration_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(
        '[streams.spot]\n7m = ["BTCUSDT"]\n[sotre]\n', encoding="utf-8"
    )
    for arguments in (["recorder.toml"], ["recorder.toml", "--check"], ["tail", "recorder.toml"]):
        status, said, told = ended(tmp_path, *arguments)
        assert status == 2
        assert not said
        assert len(told.splitlines()) == 2
        assert "recorder.toml: streams.spot.7m: unknown interval; one of 1s 1m" in told
        assert 'did you mean "store"?' in told
    assert [path.name for path in tmp_path.iterdir()] == ["recorder.toml"]


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    status, _, told = ended(tmp_path, "none.toml")
    hint = "python -m kline_trio init none.toml writes one"
    assert (status, told) == (2, f"none.toml: cannot be read: No such file or directory; {hint}")


def test_a_store_that_cannot_be_made_is_told_before_any_connection(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        (tmp_path / "recorder.toml").write_text(
            STREAMS + endpoint(door) + '[store]\npath = "file/data"\n', encoding="utf-8"
        )
        status, _, told = ended(tmp_path, "recorder.toml")
        with pytest.raises(BlockingIOError):  # nobody has come
            door.accept()
    assert status == 74
    assert len(told.splitlines()) == 1
    assert f"{tmp_path}/file" in told
    assert (tmp_path / "file").read_bytes() == b"in the way"


def test_an_unreachable_exchange_is_told_once_and_tried_for_ever(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(30)
        (tmp_path / "recorder.toml").write_text(STREAMS + endpoint(door), encoding="utf-8")
        with ran(tmp_path, "recorder.toml") as program:
            for _ in range(3):
                door.accept()[0].close()
            program.wait_for("1 series in 1 market")
            assert program.end(signal.SIGINT) == 0
    assert program.count("spot: not reached") == program.count("trying again") == 1
    assert program.err[-1].endswith("stopped: 0 recorded, 0 waiting in the journal, 0 files")


def endpoint(door: socket.socket) -> str:
    """The spot market's endpoints with the WebSocket at this socket, and REST at none."""
    return NOBODY.replace("ws://127.0.0.1:9", f"ws://127.0.0.1:{door.getsockname()[1]}")


def test_a_new_configuration_is_good_and_no_old_one_is_overwritten(tmp_path: Path) -> None:
    assert ended(tmp_path, "init")[0] == 0
    status, said, _ = ended(tmp_path, "recorder.toml", "--check")
    assert (status, said) == (0, "recorder.toml: good, 6 series")
    before = (tmp_path / "recorder.toml").read_bytes()
    status, _, told = ended(tmp_path, "init")
    now = "now: python -m kline_trio recorder.toml"
    assert (status, told) == (2, f"recorder.toml is there already; it stays as it is; {now}")
    assert (tmp_path / "recorder.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["recorder.toml"]


def test_a_simulated_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    for _ in range(2):
        with ran(tmp_path, "recorder.toml", "--simulate", "--speed", "60") as program:
            program.wait_for("Recorded spot BTCUSDT-1m", times=4)
            assert program.end(signal.SIGINT) == 0
    frame = stored_frame(tmp_path / "data-simulated", SPOT)
    assert len(frame) >= 8
    assert (frame["candle_begin_time"].diff().dropna() == pd.Timedelta("1min")).all()
    assert not (tmp_path / "data").exists()


def test_options_of_the_built_in_exchange_need_it(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    for options in ("--speed 2", "--replay x.zip", "--seed 1", "--start 2024-01-01"):
        status, _, told = ended(tmp_path, "recorder.toml", *options.split())
        assert (status, told) == (
            2,
            f"{options.split()[0]} is for the built-in exchange: add --simulate",
        )
    for options in ("--speed 0", "--speed nan", "--replay none.zip"):
        status, _, told = ended(tmp_path, "recorder.toml", "--simulate", *options.split())
        assert status == 2
        assert len(told.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recorder.toml"]


def test_a_signal_counts_from_the_start(tmp_path: Path) -> None:
    """Also while the store is being opened: the first one stops it, a second ends it at once."""
    code = (
        "import sys, time\n"
        "from kline_trio.commands.cli import main\n"
        "from kline_trio.storage.store import Store\n"
        "whole = Store.open\n"
        "def slow(*arguments):\n"
        "    print('opening', flush=True)\n"
        "    time.sleep(float(sys.argv[1]))\n"
        "    return whole(*arguments)\n"
        "Store.open = slow\n"
        "sys.exit(main(['recorder.toml']))\n"
    )
    (tmp_path / "recorder.toml").write_text(STREAMS + NOBODY, encoding="utf-8")
    for seconds, signals, status in (("1", 1, 0), ("600", 2, 130)):
        program = Program(["-c", code, seconds], tmp_path, measured=False)
        try:
            program.wait_for("opening")
            for _ in range(signals):
                program.process.send_signal(signal.SIGINT)
                program.wait_for("SIGINT: stopping")
            assert program.end() == status
        finally:
            program.close()


def test_a_stderr_that_nobody_reads_does_not_hold_it_up(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4_096)
    os.set_blocking(writing, True)
    arguments = ["-m", "kline_trio", "recorder.toml", "--simulate", "--for", "2s"]
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=tmp_path, stderr=writing, env=surroundings()
    ) as process:
        assert _end_of(process) == 0
    os.close(reading)
    os.close(writing)
    assert len(stored_frame(tmp_path / "data-simulated", SPOT)) >= 1


def test_a_reader_of_tail_may_leave(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    arguments = ["-m", "kline_trio", "tail", "recorder.toml", "--simulate"]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=surroundings(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert _end_of(process) == 0
        assert b"bug" not in process.stderr.read()


def _end_of(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")} | {
        "PYTHONPATH": str(ROOT)
    }


def test_a_pipe_in_the_place_of_the_configuration_keeps_no_signal_waiting(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    with ran(tmp_path, "recorder.toml", "--simulate", "--speed", "600") as program:
        program.wait_for("Recorded spot BTCUSDT-1m")
        (tmp_path / "recorder.toml").unlink()
        os.mkfifo(tmp_path / "recorder.toml")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("it is no file, but a pipe or a device")
        assert program.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("journal.sqlite", 74, "was deleted, moved or replaced"),
        ("journal.sqlite-wal", 74, "was deleted, moved or replaced"),
        ("lock", 75, "was deleted or replaced"),
    ],
)
def test_a_recorder_whose_files_are_deleted_ends_and_loses_nothing(
    name: str, status: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    arguments = ("recorder.toml", "--simulate", "--speed", "600")
    with ran(tmp_path, *arguments) as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=20)
        (tmp_path / "data-simulated" / ".kline_trio" / name).unlink()
        assert program.end() == status
        assert program.count(words) == 1
    recorded = program.count("Recorded spot BTCUSDT-1m")
    have = kline_trio.read(tmp_path / "data-simulated", "spot", "BTCUSDT", "1m")
    assert len(have) >= recorded
    with ran(tmp_path, *arguments) as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=3)
        assert program.end(signal.SIGINT) == 0
