"""Real archives and real recorded sessions through the real program."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tomli

import kline_trio
from tests.end_to_end.harness import (
    ROOT,
    Program,
    Recorder,
    StandIn,
    archive_truth,
    expected_frame,
    stored_frame,
    wait_until,
)

DATA = ROOT / "../shared/data"

ARCHIVES = [
    "klines/spot/BTCUSDT-1m-2023-03-24.zip",  # the outage: 80 minutes are absent
    "klines/spot/BTCUSDT-15m-2023-03-24.zip",
    "klines/spot/ARBUSDT-1m-2023-07-27.zip",
    "klines/usdt_futures/BTCUSDT-1m-2022-09-05.zip",
    "klines/usdt_futures/ETHUSDT-1h-2022-08-24.zip",
    "klines/coin_futures/BTCUSD_PERP-1m-2022-10-24.zip",
]


def real(names: list[str]) -> list[Path]:
    paths = [DATA / name for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip(f"REAL DATA ABSENT: {DATA}")
    return paths


@pytest.mark.parametrize("market", ["spot", "usdt_futures", "coin_futures"])
def test_an_archive_replayed_by_the_built_in_exchange_is_stored_row_for_row(
    tmp_path: Path, market: str
) -> None:
    paths = real([name for name in ARCHIVES if f"/{market}/" in name])
    truth = archive_truth(paths)
    lines = [f"[streams.{market}]"]
    for interval in {key[2] for key in truth}:
        symbols = [key[1] for key in truth if key[2] == interval]
        lines.append(f"{interval} = {symbols}")
    (tmp_path / "recorder.toml").write_text("\n".join(lines), encoding="utf-8")
    program = Program(
        ["-m", "kline_trio", "recorder.toml", "--simulate", "--speed", "20000", "--replay", *paths],
        tmp_path,
        measured=True,
    )
    store = tmp_path / "data-simulated"
    expected = {key: expected_frame(key[2], rows) for key, rows in truth.items()}

    def complete() -> bool:
        try:
            return all(len(kline_trio.read(store, *key)) >= len(expected[key]) for key in truth)
        except kline_trio.KlineTrioError:
            return False

    try:
        wait_until(complete, "the archive should be recorded")
        assert program.end(signal.SIGINT) == 0
    finally:
        program.close()
    for key, frame in expected.items():
        pd.testing.assert_frame_equal(stored_frame(store, key), frame)
    assert len(list(store.glob("*.pqt"))) == len(truth)


def test_archives_of_three_markets_replayed_by_the_second_exchange_are_stored_row_for_row(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    paths = real([name for name in ARCHIVES if "-1m-" in name])
    truth = archive_truth(paths)
    exchange = stand_in("--speed", "20000", "--updates", "1", "--replay", *paths)
    ours = recorder(exchange, *truth)
    with ours.running() as program:
        exchange.wait_for_end()
        ours.wait_for_all(truth)
        assert program.end(signal.SIGINT) == 0
    for key, rows in truth.items():
        pd.testing.assert_frame_equal(stored_frame(ours.store, key), expected_frame(key[2], rows))


CLOSES = [
    ("spot-2021-08-14.txt", 2, 15),
    ("usdt_futures-2021-04-17.txt", 0, 99),
    ("coin_futures-2021-07-22.txt", 0, 33),
    ("quoted-coin_futures-2026-09-25.txt", 1, 0),
    ("quoted-mixed-2021-2025.txt", 0, 3),
    ("quoted-three-markets-2022-05-29.txt", 0, 5),
    ("quoted-usdt_futures-2026-10-07.json", 0, 1),
    ("quoted-usdt_futures-testnet-2026-09-11.txt", 2, 2),
]
"""File, closed candles in it, candles still forming in it; counted by hand."""


@pytest.mark.parametrize(("name", "closed", "forming"), CLOSES)
def test_every_closed_candle_of_a_recorded_session_is_stored_and_nothing_else(
    tmp_path: Path, name: str, closed: int, forming: int
) -> None:
    [path] = real([f"ws/{name}"])
    klines = recorded_klines(path)
    assert sum(kline["x"] is True for _, kline in klines) == closed
    assert sum(kline["x"] is False for _, kline in klines) == forming
    wanted: dict[str, dict[str, list[str]]] = {}
    for market, kline in klines:
        symbols = wanted.setdefault(market, {}).setdefault(str(kline["i"]), [])
        if kline["s"] not in symbols:
            symbols.append(str(kline["s"]))
    text = "".join(
        f"[streams.{market}]\n" + "".join(f"{i} = {symbols}\n" for i, symbols in intervals.items())
        for market, intervals in wanted.items()
    )
    assert tomli.loads(text)
    (tmp_path / "recorder.toml").write_text(text, encoding="utf-8")
    program = Program(
        ["-m", "kline_trio", "recorder.toml", "--simulate", "--replay", path, "--for", "4s"],
        tmp_path,
        measured=True,
    )
    try:
        assert program.end() == 0, program.story()
    finally:
        program.close()
    assert f"stopped: {closed} recorded" in program.err[-1]
    store = tmp_path / "data-simulated"
    for market, kline in klines:
        if kline["x"]:
            frame = kline_trio.read(store, market, str(kline["s"]), str(kline["i"]))
            begin = pd.Timestamp(int(str(kline["t"])), unit="ms", tz="UTC")
            [row] = frame[frame["candle_begin_time"] == begin].itertuples()
            assert row.close == float(str(kline["c"]))
            assert row.trade_num == kline["n"]


def recorded_klines(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Market and kline of each kline frame in the file, read without kline_trio."""
    found = []
    text = path.read_text(encoding="utf-8")
    lines = [text] if path.suffix == ".json" else text.splitlines()
    for line in lines:
        at = line.find("{")
        if at < 0:
            continue
        try:
            frame, _ = json.JSONDecoder().raw_decode(line[at:])
        except json.JSONDecodeError:
            continue
        event = frame.get("data", frame)
        if isinstance(event, dict) and event.get("e") == "kline":
            found.append((market_of(path, event["k"]), event["k"]))
    return found


def market_of(path: Path, kline: dict[str, object]) -> str:
    for market in ("usdt_futures", "coin_futures", "spot"):
        if market in path.name:
            return market
    return "coin_futures" if "_" in str(kline["s"]) else "spot"
