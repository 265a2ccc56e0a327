"""Recorded sessions and quoted frames through the real program: closed candles, nothing else.

Behind each recording a made-up candle is played on every market of it: frames of one market come
in their order, so when that candle is recorded, all that was recorded before it has been played.
"""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import kline_trio
from tests.end_to_end.expected import Key, expected_frame, real_data, stored_frame, streams_toml
from tests.end_to_end.harness import Program
from tests.stand_in_candles import Row

SESSIONS = [
    ("spot-2021-08-14.txt", 2, 15),
    ("usdt_futures-2021-04-17.txt", 0, 99),
    ("coin_futures-2021-07-22.txt", 0, 33),
    ("quoted-coin_futures-2026-09-25.txt", 1, 0),
    ("quoted-mixed-2021-2025.txt", 0, 3),
    ("quoted-three-markets-2022-05-29.txt", 0, 5),
    ("quoted-usdt_futures-2026-10-07.json", 0, 1),
    ("quoted-usdt_futures-testnet-2026-09-11.txt", 2, 2),
]
"""File, closed candles in it, candles still forming in it; counted with grep."""

LAST = {
    "spot": ("LASTUSDT", "1.00000000"),
    "usdt_futures": ("LASTUSDT", "1.00"),
    "coin_futures": ("LASTUSD_PERP", "1.0"),
}


def last_candles(folder: Path, markets: set[str]) -> Iterator[tuple[Key, Path]]:
    """An archive file of one candle in 2030 for each market."""
    opened = int(pd.Timestamp("2030-01-01", tz="UTC").timestamp()) * 1_000
    for market in sorted(markets):
        symbol, price = LAST[market]
        path = folder / market / f"{symbol}-1m-2030-01-01.csv"
        path.parent.mkdir()
        row = [opened, *[price] * 4, "1", opened + 59_999, "1", 1, "0", "0", "0"]
        path.write_text(",".join(map(str, row)) + "\n", encoding="utf-8")
        yield (market, symbol, "1m"), path


@pytest.mark.parametrize(("name", "closed", "forming"), SESSIONS)
def test_every_closed_candle_of_a_recorded_session_is_stored_and_nothing_else(
    tmp_path: Path, name: str, closed: int, forming: int
) -> None:
    [path] = real_data([f"ws/{name}"])
    klines = list(recorded_klines(path))
    assert sum(kline["x"] is True for _, kline in klines) == closed
    assert sum(kline["x"] is False for _, kline in klines) == forming
    last = dict(last_candles(tmp_path, {key[0] for key, _ in klines}))
    text = streams_toml([*dict.fromkeys(key for key, _ in klines), *last])
    (tmp_path / "recorder.toml").write_text(text, encoding="utf-8")
    options: list[str | Path] = ["--simulate", "--speed", "600", "--replay", path, *last.values()]
    program = Program(["-m", "kline_trio", "recorder.toml", *options], tmp_path, measured=True)
    try:
        for trade_type, symbol, interval in last:
            program.wait_for(f"Recorded {trade_type} {symbol}-{interval}")
        assert program.end(signal.SIGINT) == 0, program.story()
    finally:
        program.close()
    told = "\n".join(program.err)
    assert f"stopped: {closed + len(last)} recorded, 0 waiting in the journal" in told
    assert "passed over" not in told
    store = tmp_path / "data-simulated"
    expected: dict[Key, list[Row]] = {key: [] for key in last}
    for key, kline in klines:
        if kline["x"]:
            row = Row(**{field: kline[field] for field in Row.__dataclass_fields__})
            expected.setdefault(key, []).append(row)
    stored = {(s.trade_type, s.symbol, s.interval.name) for s in kline_trio.series(store)}
    assert stored == set(expected)
    for key in expected.keys() - last.keys():
        pd.testing.assert_frame_equal(
            stored_frame(store, key), expected_frame(key[2], expected[key])
        )


def recorded_klines(path: Path) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Series and kline of each kline frame in the file, read without kline_trio."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("wss://", "ws://")) or not line:
            continue
        frame = json.loads(re.sub(r"^[\d.]+: ", "", line))
        event = frame.get("data", frame)
        if isinstance(event, dict) and event.get("e") == "kline":
            kline = event["k"]
            yield (market_of(path.name, kline), kline["s"], kline["i"]), kline


def market_of(name: str, kline: dict[str, Any]) -> str:
    """The market, by the file's name or by what is peculiar to a market's klines."""
    for market in ("usdt_futures", "coin_futures", "spot"):
        if market in name:
            return market
    if "USD_" in kline["s"]:
        return "coin_futures"
    return "spot" if re.search(r"\.\d{8}$", kline["o"]) else "usdt_futures"
