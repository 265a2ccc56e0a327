"""The whole program on a disk that fills up and is freed again."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.expected import stored_frame
from tests.end_to_end.harness import Program


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, in memory; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"NO FULL DISK IS TRIED: it takes the right to mount one: {done.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], timeout=30, check=True)


def test_it_waits_for_room_and_goes_on_by_itself(small_disk: Path) -> None:
    (small_disk / "recorder.toml").write_text(
        '[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n[store]\nmerge_seconds = 0\n', "utf-8"
    )
    arguments = ["-m", "kline_trio", "recorder.toml", "--simulate", "--speed", "600"]
    program = Program(arguments, small_disk, measured=False)
    try:
        program.wait_for("Recorded spot BTCUSDT-1m", times=5)
        room = os.statvfs(small_disk)
        with (small_disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(room.f_frsize))
            except OSError:
                pass
        told = program.wait_for("disk full")
        assert "No space left" in told or "full" in told
        program.wait_for("candles wait, 0 were dropped")
        (small_disk / "ballast").unlink()
        program.wait_for("there is disk space again; 0 candles were dropped")
        known = program.count("Recorded")
        program.wait_for("Recorded", times=known + 3)
        assert program.end(signal.SIGINT) == 0
    finally:
        program.close()
    frame = stored_frame(small_disk / "data-simulated", ("spot", "BTCUSDT", "1m"))
    assert (frame["candle_begin_time"].diff().dropna() == pd.Timedelta("1min")).all()
    assert program.count("spot: not reached") == 0
