"""The program records what an exchange closes: all of it, once, as it was."""

import re
import signal
from collections.abc import Callable

import pandas as pd
import pytest

import kline_trio
from kline_trio.simulator.exchange import Exchange
from tests.end_to_end.conftest import THREE_MARKETS
from tests.end_to_end.harness import (
    Recorder,
    Simulated,
    StandIn,
    expected_frame,
    stored_frame,
    wait_until,
)


def test_three_markets_are_stored_as_the_second_exchange_knows_them(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--until", "+1200")
    ours = recorder(exchange)
    with ours.running() as program:
        program.wait_for("first close")
        exchange.wait_for_end()
        truth = exchange.truth()
        ours.wait_for_all(truth)
        assert program.end(signal.SIGINT) == 0
    assert set(truth) == set(THREE_MARKETS)
    for key, rows in truth.items():
        assert len(rows) >= 4
        expected = expected_frame(key[2], rows)
        pd.testing.assert_frame_equal(stored_frame(ours.store, key), expected)
        pd.testing.assert_frame_equal(kline_trio.read(ours.store, *key), expected)
    told = "\n".join(program.err)
    assert re.search(rf"4 series in 3 markets -> {ours.store}; first close in \d+ s", told)
    assert re.search(
        r"Recorded spot BTCUSDT-1m at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00$", told, re.MULTILINE
    )
    count = sum(map(len, truth.values()))
    assert program.err[-1].endswith(f"stopped: {count} recorded, 0 waiting in the journal, 4 files")


def test_three_markets_are_stored_as_the_built_in_exchange_sends_them(
    simulated: Callable[..., Simulated], recorder: Callable[..., Recorder]
) -> None:
    ours = recorder(simulated("--speed", "120", "--seed", "3"))

    def all_have(count: int) -> bool:
        frames = [ours.readable(key) for key in THREE_MARKETS]
        return all(frame is not None and len(frame) >= count for frame in frames)

    with ours.running() as program:
        wait_until(lambda: all_have(3), "three candles of every series should be readable")
        assert program.end(signal.SIGTERM) == 0
    for key in THREE_MARKETS:
        frame = stored_frame(ours.store, key)
        step = pd.Timedelta(key[2].replace("m", "min"))
        begins = frame["candle_begin_time"]
        assert (begins.diff().dropna() == step).all()
        assert (frame.index == begins + step).all()
        assert (frame["low"] <= frame["open"]).all()
        assert (frame["close"] <= frame["high"]).all()
        same = closes_by_seed(key, begins.iloc[0], begins.iloc[-1])
        assert frame["close"].to_list() == same


def closes_by_seed(
    key: tuple[str, str, str], first: pd.Timestamp, last: pd.Timestamp
) -> list[float]:
    """What the exchange's pure prices say, without network or recorder."""
    market = Exchange(seed=3).markets[key[0]]
    step_ms = int(key[2].removesuffix("m")) * 60_000
    opens = range(int(first.timestamp()) * 1_000, int(last.timestamp()) * 1_000 + 1, step_ms)
    return [float(market.kline(key[1], key[2], open_ms).close) for open_ms in opens]


def test_candles_can_be_read_while_the_recorder_runs(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    """Files lag behind by merge_seconds; reading does not."""
    exchange = stand_in("--until", "+400")
    ours = recorder(exchange)
    with ours.running() as program:
        program.wait_for("first close")
        exchange.wait_for_end()
        truth = exchange.truth()
        ours.wait_for_all(truth)
        for key, rows in truth.items():
            pd.testing.assert_frame_equal(
                kline_trio.read(ours.store, *key), expected_frame(key[2], rows)
            )
        assert len(kline_trio.series(ours.store)) == 4


def test_a_second_run_goes_on_in_the_same_files(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--speed", "240")
    ours = recorder(exchange, ("spot", "BTCUSDT", "1m"))
    for _ in range(2):
        with ours.running() as program:
            program.wait_for("Recorded spot BTCUSDT-1m", times=3)
            assert program.end(signal.SIGINT) == 0
    [rows] = exchange.truth().values()
    frame = stored_frame(ours.store, ("spot", "BTCUSDT", "1m"))
    known = expected_frame("1m", rows)
    assert len(frame) >= 6
    assert frame.index.is_unique
    pd.testing.assert_frame_equal(frame, known.loc[frame.index])


@pytest.mark.parametrize("command", ["record", "tail"])
def test_for_stops_by_itself(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], command: str
) -> None:
    ours = recorder(stand_in(), ("spot", "BTCUSDT", "1m"))
    with ours.running("--for", "2s", command=command) as program:
        assert program.end() == 0
    if command == "tail":
        assert re.match(r"2023-03-24 10:\d\d:00\+00:00 spot BTCUSDT-1m open \d", program.out[0])
        assert not ours.store.exists()
