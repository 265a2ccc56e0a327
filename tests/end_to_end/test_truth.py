"""What `status` and `check` say of a store that the real program wrote."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.harness import ROOT, Recorder, StandIn

BTC = ("spot", "BTCUSDT", "1m")


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_file_replaced_by_an_older_copy_is_told_repaired_and_fetched_again(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--start", "2023-03-24T10:00:00Z", "--speed", "60")
    ours = recorder(exchange, BTC)
    file, copy = ours.store / "spot_BTCUSDT_1m.pqt", ours.folder / "older"
    for _ in range(2):
        if file.exists():
            shutil.copyfile(file, copy)
        with ours.running() as program:
            program.wait_for("Recorded spot BTCUSDT-1m", times=4)
            status, said = run(ours.folder, "check", "recorder.toml", "--repair")
            assert status == 75, said
            assert program.end(signal.SIGINT) == 0
    status, said = run(ours.folder, "check", "recorder.toml")
    assert status == 0, said
    shutil.copyfile(copy, file)

    status, said = run(ours.folder, "check", "recorder.toml")
    assert status == 1
    assert "the ledger does not tell of" in said
    assert said.count("neither stored nor in the ledger") >= 1
    status, said = run(ours.folder, "status", "recorder.toml", "--json")
    assert status == 1
    [told] = json.loads(said)["series"]
    lost = told["unexplained"] - told["unaccounted"]
    assert lost >= 4
    assert told["rows"] == told["due"] - sum(told["absent"].values()) - told["unexplained"]

    status, said = run(ours.folder, "check", "recorder.toml", "--repair")
    assert f"spot BTCUSDT-1m: {lost:,} candles are gaps of the ledger now" in said
    assert status == 0, said
    status, said = run(ours.folder, "backfill", "recorder.toml")
    assert status == 0, said
    status, said = run(ours.folder, "status", "recorder.toml", "--json")
    [told] = json.loads(said)["series"]
    assert told["unexplained"] == told["unaccounted"]
    assert told["absent"] == {}
