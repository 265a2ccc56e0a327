"""A whole recorder with `[lake]`: what it publishes, also beside `publish`, and after kill -9."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

import kline_trio
from kline_trio.sharding import owner
from kline_trio.storage.table import BEGIN
from tests.end_to_end.harness import ROOT, Program

deltalake = pytest.importorskip("deltalake")

RECORDER = """
[streams.spot]
1m = ["BTCUSDT", "ETHUSDT"]
[lake]
url = "lake"
publish_seconds = 2
"""
PUBLISHED = "lake: published"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for the control socket."""
    # The process of the lake may outlive a recorder that was killed by a moment.
    with TemporaryDirectory(prefix="k-", ignore_cleanup_errors=True) as name:
        Path(name, "recorder.toml").write_text(RECORDER, encoding="utf-8")
        yield Path(name)


def recorder(folder: Path, file: str = "recorder.toml") -> Program:
    words = ["-m", "kline_trio", file, "--simulate", "--speed", "600"]
    return Program(words, folder, measured=True)


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", *arguments],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def published(folder: Path) -> pd.DataFrame:
    table = deltalake.DeltaTable(str(folder / "lake-simulated" / "candles"))
    frame: pd.DataFrame = table.to_pyarrow_table().to_pandas()
    return frame.sort_values(["symbol", BEGIN]).reset_index(drop=True)


def recorded(folder: Path) -> pd.DataFrame:
    names = ["BTCUSDT", "ETHUSDT"]
    frame = kline_trio.read(folder / "data-simulated", "spot", symbols=names, index="begin")
    return frame.reset_index().sort_values(["symbol", BEGIN]).reset_index(drop=True)


def test_every_candle_is_in_the_lake_once_after_kills_and_a_last_publish(folder: Path) -> None:
    for _ in range(2):
        program = recorder(folder)
        try:
            program.wait_for(PUBLISHED, times=2)
            program.process.send_signal(signal.SIGKILL)
        finally:
            program.close()
    status, said = run(folder, "publish", "recorder.toml", "--simulate")
    assert status == 0, said
    found, wanted = published(folder), recorded(folder)
    values = [name for name in wanted.columns if name != "symbol"]
    assert len(found) > 20
    assert not found.duplicated(["trade_type", "symbol", "time_interval", BEGIN]).any()
    times = [BEGIN, "candle_end_time"]
    found[times] = found[times].astype(wanted[BEGIN].dtype)
    pd.testing.assert_frame_equal(found[["symbol", *values]], wanted[["symbol", *values]])


def test_publish_beside_a_recorder_lets_that_one_publish(folder: Path) -> None:
    text = RECORDER.replace("publish_seconds = 2", "publish_seconds = 3600")
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    program = recorder(folder)
    try:
        program.wait_for("Recorded spot ETHUSDT-1m", times=3)
        status, said = run(folder, "publish", "recorder.toml", "--simulate")
        assert (status, "the recorder has published everything" in said) == (0, True), said
        assert program.count(PUBLISHED) == 1
        assert len(published(folder)) >= 4
    finally:
        program.close()


def test_a_recorder_without_credentials_for_its_lake_records(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    lake = '[lake]\nurl = "s3://bucket/klines"\nendpoint = "http://127.0.0.1:1"\n'
    text = RECORDER.partition("[lake]")[0] + lake + "publish_seconds = 1\n"
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    status, said = run(folder, "publish", "recorder.toml")
    assert (status, "there is no store" in said) == (2, True), said
    program = recorder(folder)
    try:
        line = program.wait_for("candles wait in the store")
        assert "s3://bucket/klines-simulated: no credentials" in line
        program.wait_for("Recorded spot ETHUSDT-1m", times=10)
    finally:
        program.close()


def test_a_symbol_that_moves_is_recorded_by_both_until_its_owner_holds_it(folder: Path) -> None:
    for number in (1, 2):
        text = RECORDER.replace("publish_seconds = 2", "publish_seconds = 1")
        text += f'shard = "{number}/2"\nhandover_seconds = 1\naddress_group = "here"\n'
        (folder / f"part{number}.toml").write_text(text, encoding="utf-8")
    [moved] = [one for one in ("BTCUSDT", "ETHUSDT") if owner("spot", one, 2) == 2]
    first = recorder(folder)
    try:
        first.wait_for("Recorded spot ETHUSDT-1m", times=60)
    finally:
        first.close()
    # The store of the first is that of part 1 now.
    (folder / "data-simulated").rename(folder / "data-simulated-part1")
    old = recorder(folder, "part1.toml")
    try:
        old.wait_for(f"Recorded spot {moved}-1m", times=5)
        new = recorder(folder, "part2.toml")
        try:
            new.wait_for(f"Recorded spot {moved}-1m")
            old.wait_for(f"handed over to the recorder of their shard: spot {moved}-1m")
            new.wait_for(PUBLISHED, times=2)
        finally:
            new.close()
    finally:
        old.close()
    assert new.count("Recorded spot") == new.count(f"Recorded spot {moved}-1m")


def test_the_lake_asked_for_without_a_url_is_named(folder: Path) -> None:
    text = RECORDER.partition("[lake]")[0]
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    status, said = run(folder, "publish", "recorder.toml")
    assert (status, "publishes nothing: name a lake" in said) == (2, True), said
