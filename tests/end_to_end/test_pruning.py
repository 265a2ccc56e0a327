"""A whole recorder with `prune_after`: months go to the lake alone, through kill -9."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

import kline_trio
from kline_trio.errors import KlineTrioError
from kline_trio.storage.table import BEGIN
from tests.end_to_end.harness import Program
from tests.end_to_end.test_publishing import run

deltalake = pytest.importorskip("deltalake")

RECORDER = """
[streams.spot]
5m = ["BTCUSDT", "ETHUSDT"]
[store]
layout = "{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet"
[lake]
url = "lake"
publish_seconds = 1
upkeep_seconds = 1
prune_after = "1d"
"""
BEGINS = "2026-09-30T12:00"
SPEED = "7200"
"""Two hours in a second: the first month is old enough after eighteen of them."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for the control socket."""
    # The process of the lake may outlive a recorder that was killed by a moment.
    with TemporaryDirectory(prefix="k-", ignore_cleanup_errors=True) as name:
        Path(name, "recorder.toml").write_text(RECORDER, encoding="utf-8")
        yield Path(name)


def recorder(folder: Path) -> Program:
    words = ["-m", "kline_trio", "recorder.toml", "--simulate", "--speed", SPEED]
    return Program([*words, "--start", BEGINS], folder, measured=True)


def lake(folder: Path) -> pd.DataFrame:
    table = deltalake.DeltaTable(str(folder / "lake-simulated" / "candles"))
    frame: pd.DataFrame = table.to_pyarrow_table().to_pandas()
    return frame.sort_values(["symbol", BEGIN]).reset_index(drop=True)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data-simulated").rglob("2026-*.parquet"))


def test_a_month_goes_to_the_lake_alone_and_can_be_read_there(folder: Path) -> None:
    program = recorder(folder)
    try:
        program.wait_for("candles here that the lake has", seconds=90)
        program.process.send_signal(signal.SIGKILL)
    finally:
        program.close()
    store = folder / "data-simulated"
    assert files(folder) == ["2026-10.parquet"] * 2
    assert {one.time_interval for one in kline_trio.series(store)} == {"5m"}
    with pytest.raises(KlineTrioError, match=r"lake-simulated.*lake=True"):
        kline_trio.read(store, "spot", "BTCUSDT", "5m")
    every = kline_trio.read(store, "spot", "BTCUSDT", "5m", lake=True, missing="raise")
    assert every.index.is_unique
    assert every.index[0] < pd.Timestamp("2026-10-01", tz="UTC")
    month = kline_trio.read(store, "spot", "BTCUSDT", "5m", end="2026-10-01", lake=True)
    there = lake(folder)
    wanted = there[(there["symbol"] == "BTCUSDT") & (there["month"] == "2026-09")]
    assert month["close"].tolist() == wanted["close"].tolist()
    ledger = kline_trio.coverage(store)
    pruned = ledger[ledger["state"] == "in lake"]
    assert len(pruned) == 2
    status, said = run(folder, "status", "data-simulated", "--json")
    assert status == 0, said
    assert all(not one["unexplained"] for one in json.loads(said)["series"])
    status, said = run(folder, "check", "data-simulated")
    assert status == 0, said
