"""Whole programs over real sockets: whatever goes wrong, the store ends complete or explained."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import kline_trio
from tests.end_to_end.expected import ETH, SPOT, archive_truth, expected_frame, real_data
from tests.end_to_end.harness import ROOT, Recorder, StandIn, wait_until

DAY = ["klines/spot/BTCUSDT-1m-2023-03-24.zip", "klines/spot/ETHUSDT-1m-2023-03-24.zip"]


def test_a_real_day_ends_equal_to_the_archive_whatever_the_exchange_does(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    """Drops, stalls of many candles, a silent stream, REST that fails, and a kill -9 with minutes
    until the restart: each series is the exchange's own truth, row for row, and the outage of that
    day is in the ledger as 80 minutes that nobody has.
    """
    paths = real_data(DAY)
    truth = archive_truth(paths)
    exchange = stand_in("--speed", "2400", "--replay", *paths)
    ours = recorder(exchange, SPOT, ETH)
    more = "stall_seconds = 1\n[completeness]\nattempts = 3\nattempt_seconds = 0.3\n"
    ours.configure(exchange, more)
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=20)
        exchange.do("rest", mode="500")
        exchange.do("drop")
        time.sleep(0.5)
        # A close that comes behind a pause waits for up to ten seconds, which are hours there.
        exchange.do("rest", mode="ok")
        program.wait_for("receiving 2 streams again")
        exchange.do("silence", stream="btcusdt@kline_1m", seconds=90 * 60)
        exchange.do("stall", seconds=1.5)
        program.wait_for("Refilled")
        exchange.do("rest", mode="429")
        exchange.do("drop")
        exchange.do("rest", mode="ok")
        program.end(signal.SIGKILL)
    time.sleep(1.0)  # forty minutes there
    with ours.running() as program:
        program.wait_for("Refilled")
        exchange.wait_for_end(120)

        def complete() -> bool:
            frames = [ours.readable(key) for key in (SPOT, ETH)]
            return all(frame is not None and len(frame) >= 1_360 for frame in frames) and bool(
                len(closed(ours.store))
            )

        wait_until(complete, "all of the day should be there")
        assert program.end(signal.SIGINT) == 0
    for key in (SPOT, ETH):
        frame = kline_trio.read(ours.store, *key, start="2023-03-24", end="2023-03-25")
        known = expected_frame(key[2], truth[key])
        assert frame.equals(known.loc[frame.index])
        assert len(frame) == len(known) == 1_360
    outage = closed(ours.store)
    day = outage[outage["from"] < "2023-03-25"]
    assert sorted(map(str, day["symbol"])) == ["BTCUSDT", "ETHUSDT"]
    assert set(map(str, day["from"])) == {"2023-03-24 12:40:00+00:00"}
    assert set(map(str, day["to"])) == {"2023-03-24 14:00:00+00:00"}
    assert set(day["reason"]) == {"the exchange had none"}
    ledger = kline_trio.coverage(ours.store)
    assert {"not received", "recorder was down"} <= set(ledger["reason"])
    filled = ledger[ledger["reason"] == "recorder was down"]
    assert set(filled["state"]) == {"filled"}


def closed(store: Path) -> pd.DataFrame:
    ledger = kline_trio.coverage(store)
    return ledger[ledger["state"] == "closed"]


def test_the_selftest_that_users_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", "selftest", "--minutes", "0.5", "--seed", "5"],
        capture_output=True, text=True, timeout=180, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"0 lost, 0 duplicated, [\d,]+ gaps? explained", last)


def test_backfill_and_a_comparison_by_the_commands_that_users_type(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--start", "2023-03-24T10:00:00Z", "--speed", "60")
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=3)
        assert program.end(signal.SIGINT) == 0
    time.sleep(0.5)

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "kline_trio", *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=ours.folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    status, said = run("backfill", "recorder.toml")
    assert status == 0, said
    assert re.search(r"done: \d+ candles? filled in", said), said
    status, said = run("status", "recorder.toml", "--json")
    [told] = json.loads(said)["series"]
    # A minute passes each second here: some have closed since.
    assert told["unexplained"] == told["unaccounted"] <= 3
    assert set(told["absent"]) <= {"pending"}
    assert told["absent"].get("pending", 0) <= 3
    status, said = run("check", "recorder.toml", "--against", "rest")
    assert status == 0, said
    assert re.search(
        r"BTCUSDT-1m: (\d+) compared, \1 equal, 0 differing, 0 absent here, 0 absent there", said
    )
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m")
        status, said = run("backfill", "recorder.toml", "--since", "2023-01-01")
        assert status == 0, said
        assert "the recorder that runs fetches" in said
        program.end(signal.SIGINT)
