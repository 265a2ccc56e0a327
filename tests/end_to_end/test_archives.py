"""Real archives of all three markets through the real program: files hold exactly their rows."""

import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import kline_trio
from tests.end_to_end.expected import (
    Key,
    archive_truth,
    expected_frame,
    real_data,
    stored_frame,
    streams_toml,
)
from tests.end_to_end.harness import Program, Recorder, StandIn, wait_until

ARCHIVES = [
    "klines/spot/BTCUSDT-1m-2023-03-24.zip",  # the outage: 72 flat rows, 80 minutes are absent
    "klines/spot/BTCUSDT-15m-2023-03-24.zip",
    "klines/spot/ARBUSDT-1m-2023-07-27.zip",  # a "day" of 230 rows
    "klines/usdt_futures/BTCUSDT-1m-2022-09-05.zip",
    "klines/usdt_futures/ETHUSDT-1h-2022-08-24.zip",
    "klines/coin_futures/BTCUSD_PERP-1m-2022-10-24.zip",
]
ROWS = {
    ("spot", "BTCUSDT", "1m"): 1_360,
    ("spot", "BTCUSDT", "15m"): 91,
    ("spot", "ARBUSDT", "1m"): 230,
    ("usdt_futures", "BTCUSDT", "1m"): 1_440,
    ("usdt_futures", "ETHUSDT", "1h"): 24,
    ("coin_futures", "BTCUSD_PERP", "1m"): 1_440,
}
FAST = "80000"
"""Exchange seconds a second: a day takes one."""


@pytest.mark.parametrize("market", ["spot", "usdt_futures", "coin_futures"])
def test_an_archive_replayed_by_the_built_in_exchange_is_stored_row_for_row(
    tmp_path: Path, market: str
) -> None:
    paths = real_data([name for name in ARCHIVES if f"/{market}/" in name])
    truth = archive_truth(paths)
    expected = {key: expected_frame(key[2], rows) for key, rows in truth.items()}
    assert {key: len(frame) for key, frame in expected.items()} == {
        key: rows for key, rows in ROWS.items() if key[0] == market
    }
    (tmp_path / "recorder.toml").write_text(streams_toml(truth), encoding="utf-8")
    options: list[str | Path] = ["--simulate", "--speed", FAST, "--replay", *paths]
    program = Program(["-m", "kline_trio", "recorder.toml", *options], tmp_path, measured=True)
    store = tmp_path / "data-simulated"

    def complete() -> bool:
        return all(readable_rows(store, key) >= len(frame) for key, frame in expected.items())

    try:
        wait_until(complete, "the archive should be recorded")
        assert program.end(signal.SIGINT) == 0
    finally:
        program.close()
    for key, frame in expected.items():
        pd.testing.assert_frame_equal(stored_frame(store, key), frame)
    assert len(list(store.glob("*.pqt"))) == len(expected)


def readable_rows(store: Path, key: Key) -> int:
    try:
        return len(kline_trio.read(store, *key))
    except kline_trio.KlineTrioError:
        return 0


def test_archives_of_three_markets_replayed_by_the_second_exchange_are_stored_row_for_row(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    paths = real_data([name for name in ARCHIVES if "-1m-" in name])
    truth = archive_truth(paths)
    exchange = stand_in("--speed", FAST, "--updates", "1", "--replay", *paths)
    ours = recorder(exchange, *truth)
    with ours.running() as program:
        exchange.wait_for_end()
        ours.wait_for_all(truth)
        assert program.end(signal.SIGINT) == 0
    for key, rows in truth.items():
        pd.testing.assert_frame_equal(stored_frame(ours.store, key), expected_frame(key[2], rows))
    assert len(list(ours.store.glob("*.pqt"))) == len(truth)
