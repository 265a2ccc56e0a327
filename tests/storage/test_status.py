"""What `status` says: rows, what is due by now, what is absent, and whether a recorder runs."""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from kline_trio.candle import Series
from kline_trio.candle import Source as From
from kline_trio.commands.cli import main
from kline_trio.listing import Listing
from kline_trio.storage import status as module
from kline_trio.storage.journal.ledger import FetchResult, Reason, SeriesAccount
from kline_trio.storage.paths import universe_path
from kline_trio.storage.status import StoreStatus, status
from kline_trio.storage.store import Store
from kline_trio.storage.universe import UniverseFile, changes
from tests.storage.support import (
    BTC,
    LAYOUTS,
    absent,
    at,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
    span,
)

STORES = Path(__file__).parents[1] / "stores"
ETH = Series("spot", "ETHUSDT", "1m")
LOCAL_MS = 1_800_000_000_000
"""The local clock is years away from the exchange's."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """20 minutes of BTC, accounted for up to there, in files and journal."""
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(0, 15))
    merge_all(store)
    store.journal.accept(minutes(15, 20))
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(20))})
    return store


def stop(store: Store, minute: float, local_ms: int = LOCAL_MS) -> None:
    """What an orderly end of a recorder leaves."""
    store.journal.beat(None, {"spot": at(minute)}, local_ms)
    store.close()


def of(found: StoreStatus, series: Series = BTC) -> module.SeriesStatus:
    [one] = [one for one in found.series if one.series == series]
    return one


def test_while_a_recorder_runs_the_exchanges_time_that_it_kept_counts(store: Store) -> None:
    """Not the local time since: a simulated exchange runs 60 times faster, or 600."""
    store.journal.beat(os.getpid(), {"spot": at(20.1)}, LOCAL_MS)
    found = status(store.path, LOCAL_MS + 59_000)
    one = of(found)
    assert (found.pid, found.heard_ms) == (os.getpid(), LOCAL_MS)
    assert (one.rows, one.due, one.stored, one.unexplained) == (20, 20, 20, 0)
    assert (one.complete_percent, one.behind_ms) == (100.0, 6_000)
    assert found.clocks["spot"].now_ms == at(20.1)
    store.close()


def test_what_a_late_connection_may_bring_yet_is_in_flight(store: Store) -> None:
    store.journal.beat(os.getpid(), {"spot": at(21.5)}, LOCAL_MS)
    assert of(status(store.path, LOCAL_MS)).due == 20
    store.journal.beat(os.getpid(), {"spot": at(21.8)}, LOCAL_MS)
    one = of(status(store.path, LOCAL_MS))
    assert (one.due, one.unaccounted, one.holes) == (21, 1, 0)
    store.close()


def test_after_a_stop_the_local_time_that_passed_counts(store: Store) -> None:
    """Five minutes after a recorder has stopped, five candles more are due."""
    stop(store, 20.05)
    found = status(store.path, LOCAL_MS + 300_000)
    one = of(found)
    assert found.pid is None
    assert found.heard_ms == LOCAL_MS
    assert (one.due, one.stored, one.unaccounted, one.holes) == (24, 20, 4, 0)
    assert one.complete_percent == pytest.approx(100 * 20 / 24)
    assert one.behind_ms == 303_000
    # Within its grace a candle is in flight, not missing.
    assert of(status(store.path, LOCAL_MS + 301_000)).due == 24
    assert of(status(store.path, LOCAL_MS + 302_000)).due == 25
    assert of(status(store.path, LOCAL_MS + 302_000, grace_ms=20_000)).due == 24


def test_a_local_clock_that_was_set_back_takes_nothing_away(store: Store) -> None:
    stop(store, 20.5)
    assert of(status(store.path, LOCAL_MS - 10**9)).due == 20


def test_an_exchange_that_tells_no_later_time_stands_still(store: Store) -> None:
    """Its heartbeats go on, and the exchange's time in them does not."""
    store.journal.beat(os.getpid(), {"spot": at(20)}, LOCAL_MS)
    for minute in range(1, 6):
        store.journal.beat(os.getpid(), {"spot": at(20)}, LOCAL_MS + minute * 60_000)
    found = status(store.path, LOCAL_MS + 310_000)
    assert found.heard_ms == LOCAL_MS + 300_000
    assert "it tells no later one" in found.clocks["spot"].source
    assert of(found).unaccounted == 5
    store.close()


def test_after_a_kill_candles_beyond_the_last_heartbeat_do_not_hurt(store: Store) -> None:
    """At sixty times the speed an hour of candles can lie between two heartbeats."""
    store.journal.beat(None, {"spot": at(5)}, LOCAL_MS)
    store.close()
    one = of(status(store.path, LOCAL_MS))
    assert (one.due, one.stored, one.unexplained, one.behind_ms) == (20, 20, 0, 0)


def test_without_any_exchange_time_the_watermark_counts(store: Store) -> None:
    store.close()
    found = status(store.path, LOCAL_MS)
    assert found.clocks == {}
    assert (of(found).due, of(found).unexplained, of(found).behind_ms) == (20, 0, None)


def test_a_series_that_is_recorded_no_more_is_due_up_to_its_watermark(store: Store) -> None:
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(20), at(20))})
    stop(store, 100)
    one = of(status(store.path, LOCAL_MS))
    assert (one.due, one.unexplained, one.is_retired) == (20, 0, True)


def test_rows_are_counted_and_holes_told(tmp_path: Path) -> None:
    """A hole that the ledger does not know is neither complete nor explained."""
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 5), *minutes(7, 10)])
    merge_all(store)
    store.journal.accept([*minutes(3, 5, 7.0), *minutes(10, 15)])
    store.journal.settle([absent(15, 18), absent(18, 19)], {BTC: SeriesAccount(at(0), at(20))})
    closed = FetchResult(BTC, span(18, 19), (), From.REST, Reason.EXCHANGE_HAD_NONE)
    store.journal.refill([closed])
    store.close()
    one = of(status(tmp_path))
    # Those that wait and are in the file, too, are there once.
    assert (one.rows, one.stored, one.due) == (13, 13, 20)
    assert one.absent == {"pending": 3, "the exchange had none": 1}
    assert (one.holes, one.unaccounted) == (3, 0)
    assert one.due == one.stored + sum(one.absent.values()) + one.unexplained


def test_what_is_pending_and_stored_is_stored(store: Store) -> None:
    store.journal.settle([absent(14, 17)], {})
    store.close()
    one = of(status(store.path))
    assert (one.absent, one.complete_percent, one.unexplained) == ({}, 100.0, 0)


@pytest.mark.parametrize("name", ["single", "month"])
def test_journals_of_earlier_versions_are_measured_against_the_watermark(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are, and without a byte of them changed."""
    shutil.copytree(STORES / "0.2.0" / name, tmp_path / "v3")
    shutil.copytree(STORES / "0.1.0" / name, tmp_path / "v1")
    found = status(tmp_path / "v3", LOCAL_MS)
    assert [one.series for one in found.series if one.holes == 4] == [
        one.series for one in found.series
    ]
    assert {(one.due, one.rows, one.stored) for one in found.series} == {(46, 40, 40)}
    assert all(one.absent == {"pending": 2} for one in found.series)
    assert main(["status", str(tmp_path / "v3")]) == 1
    said = capsys.readouterr().out
    assert "spot is measured at each series' watermark: no exchange time is known" in said
    assert main(["status", str(tmp_path / "v1")]) == 0
    assert "3 series" in capsys.readouterr().out


def test_a_status_beside_a_recorder_at_work_is_never_wrong(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 5))
    end = threading.Event()

    def work() -> None:
        minute = 5
        while not end.is_set():
            store.journal.settle(
                [absent(minute, minute + 1)], {BTC: SeriesAccount(at(0), at(minute + 1))}
            )
            found = (make_candle(at(minute)),)
            store.journal.refill([FetchResult(BTC, span(minute, minute + 1), found, From.REST)])
            merge_all(store)
            minute += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(100):
            for one in status(tmp_path).series:
                assert one.unexplained == 0
                assert one.due == one.stored + sum(one.absent.values())
    finally:
        end.set()
        worker.join()
        store.close()


def test_a_pid_of_the_past_is_no_recorder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a dead one, nor one that another process has by now, nor who else holds the lock."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = store.path / ".kline_trio" / "lock"
    store.journal.beat(dead.pid, {}, LOCAL_MS)
    assert status(store.path).pid is None  # this process holds it, and is no recorder
    lock.write_text(f"{dead.pid}\n")
    assert status(store.path).pid is None
    store.journal.beat(os.getpid(), {}, LOCAL_MS)
    lock.write_text(f"{os.getpid()}\n")
    assert status(store.path).pid == os.getpid()
    store.close()
    assert status(store.path).pid is None  # it lives, and does not hold the lock
    # Where the system lists no locks, the pid must do.
    monkeypatch.setattr(module, "_LOCKS", store.path / "none")
    assert status(store.path).pid == os.getpid()
    lock.write_text("nonsense")
    assert status(store.path).pid is None


def test_a_look_never_keeps_a_starting_recorder_out(store: Store) -> None:
    """Not even for a moment: no lock is asked for."""
    stop(store, 20)
    taken: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda *_: taken.append(1))
        status(store.path, LOCAL_MS)
    assert taken == []


def test_thousands_of_series_take_seconds(tmp_path: Path) -> None:
    """By their footers: 300 files with 600,000 rows here."""
    store = open_store(tmp_path, LAYOUTS[1])
    store.journal.accept(minutes(0, 2_000))
    merge_all(store)
    [file] = tmp_path.rglob("*2024-01.parquet")
    for n in range(300):
        (tmp_path / f"{n}.parquet").hardlink_to(file)
    begin = time.process_time()
    status(tmp_path)
    assert time.process_time() - begin < 10
    store.close()


def test_the_command_says_it_all(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: (LOCAL_MS + 300_000) / 1_000)
    store.journal.settle([absent(20, 22)], {BTC: SeriesAccount(at(0), at(23))})
    stop(store, 20.05)
    assert main(["status", str(store.path)]) == 1
    assert capsys.readouterr().out == (
        "1 series, 83.333 % complete, last candle 2024-01-31 00:20:00, 5 min behind;"
        " no recorder runs since 2027-01-15 08:00:00 local time, UTC:"
        " this is read from the store alone\n"
        "spot is measured at 2024-01-31 00:25:03: the exchange's time of the last recorder,"
        " and the local time since\n"
        "spot BTCUSDT-1m  2024-01-31 00:00:00 to 2024-01-31 00:20:00            20 rows"
        "   83.333 %, 5 min behind  absent: 2 pending  2 unexplained: 1 neither stored nor in the"
        " ledger (see python -m kline_trio check), 1 that no recorder has accounted for since"
        " 2024-01-31 00:23:00\n"
    )


def test_the_command_for_programs(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: LOCAL_MS / 1_000)
    stop(store, 20.05)
    assert main(["status", str(store.path), "--json", "--max-age", "1s"]) == 0
    told = json.loads(capsys.readouterr().out)
    [series] = told.pop("series")
    assert told == {
        "source": "store",
        "verdict": None,
        "simulated": False,
        "reasons": [],
        "problem": None,
        "store": str(store.path),
        "recorder": {"pid": None, "last_heartbeat": "2027-01-15 08:00:00+00:00"},
        "complete_percent": 100.0,
        "damaged": [],
        "statistics": None,
        "in_lake": [],
    }
    assert series == {
        "trade_type": "spot",
        "symbol": "BTCUSDT",
        "time_interval": "1m",
        "from": "2024-01-31 00:00:00+00:00",
        "to": "2024-01-31 00:20:00+00:00",
        "rows": 20,
        "due": 20,
        "complete_percent": 100.0,
        "absent": {},
        "last_close": "2024-01-31 00:20:00+00:00",
        "behind_seconds": 3.0,
        "unexplained": 0,
        "unaccounted": 0,
        "watermark": "2024-01-31 00:20:00+00:00",
        "retired": False,
        "unlisted": False,
        "did_you_mean": None,
        "measured_at": "2024-01-31 00:20:03+00:00",
        "clock": "the exchange's time of the last recorder, and the local time since",
        "recorder": {"pid": None, "last_heartbeat": "2027-01-15 08:00:00+00:00"},
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-age", "2m"], []),
        (["--max-age", "90s"], ["spot BTCUSDT-1m: its last candle is 3 min behind"]),
        (["--min-complete", "80"], []),
        (["--min-complete", "95.5"], ["BTCUSDT-1m: 90.909 % complete", "all series: 90.909 %"]),
    ],
)
def test_limits_that_are_not_kept_have_status_1(
    options: list[str],
    told: list[str],
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: LOCAL_MS / 1_000)
    store.journal.settle([absent(20, 22)], {BTC: SeriesAccount(at(0), at(22))})
    stop(store, 23)
    assert main(["status", str(store.path), *options]) == (1 if told else 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told)
    for line, words in zip(lines, told, strict=True):
        assert words in line


def test_a_series_of_the_configuration_that_is_not_there_is_too_old(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not one that has begun, and of which no candle has closed yet."""
    monkeypatch.setattr(time, "time", lambda: LOCAL_MS / 1_000)
    month = Series("spot", "BTCUSDT", "1M")
    first_ms = nth_open_time_ms(month, 0)
    store.journal.settle([], {month: SeriesAccount(first_ms, first_ms)})
    stop(store, 20)
    file = store.path.parent / "recorder.toml"
    file.write_text('[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n1M = ["BTCUSDT"]\n')
    assert main(["status", str(file)]) == 3  # no recorder runs
    assert "spot ETHUSDT-1m  nothing stored" in capsys.readouterr().out
    assert main(["status", str(file), "--max-age", "5m"]) == 1
    assert capsys.readouterr().err == "spot ETHUSDT-1m: nothing is stored\n"


def test_what_a_recorder_is_naming_in_this_moment_is_looked_at_again(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: LOCAL_MS / 1_000)
    monkeypatch.setattr(
        time,
        "sleep",
        lambda _: store.journal.settle([absent(20, 21)], {BTC: SeriesAccount(at(0), at(21))}),
    )
    store.journal.beat(os.getpid(), {"spot": at(21.9)}, LOCAL_MS)
    assert main(["status", str(store.path)]) == 0
    said = capsys.readouterr().out
    assert f"a recorder runs (pid {os.getpid()})" in said
    assert "absent: 1 pending" in said
    assert "unexplained" not in said
    store.close()


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path), "--max-age", "5m"]) == 0
    assert "nothing is stored there" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["foo.parquet", "spot_BTCUSDT_1m.pqt"])
def test_a_damaged_file_is_named_and_the_others_are_told_of(
    name: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    futures = Series("usdt_futures", "BTCUSDT", "1m")
    store.journal.accept(receive(futures, make_candle(at(0))))
    stop(store, 20.05)
    (store.path / name).write_bytes(b"junk")
    assert main(["status", str(store.path)]) == 1
    told = capsys.readouterr()
    assert "usdt_futures BTCUSDT-1m  2024-01-31 00:00:00" in told.out
    assert f"{store.path / name} is damaged or no Parquet file" in told.err


def test_a_market_without_a_clock_beside_one_with(store: Store) -> None:
    futures = Series("usdt_futures", "BTCUSDT", "1m")
    store.journal.accept(receive(futures, make_candle(at(0))))
    store.journal.settle([], {futures: SeriesAccount(at(0), at(1))})
    stop(store, 20)
    found = status(store.path, LOCAL_MS)
    assert of(found, futures).clock is None
    assert of(found, futures).due == 1
    assert set(found.clocks) == {"spot"}
    with contextlib.closing(sqlite3.connect(store.path / ".kline_trio/journal.sqlite")) as journal:
        assert journal.execute("SELECT count(*) FROM exchange_time").fetchone() == (2,)
    assert ETH not in {one.series for one in found.series}


def test_a_misspelt_symbol_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    """By the list that a recorder has seen; a symbol that was listed once is right."""
    names = ("BTCUSDT", "ETHUSDT", "LUNAUSDT")
    seen = {name: Listing(symbol=name, status="TRADING") for name in names}
    file = UniverseFile.open(store.path)
    file.append(changes("spot", {}, seen, at(0)))
    file.append(changes("spot", seen, {name: seen[name] for name in names[:2]}, at(5)))
    wrong, odd = Series("spot", "ETHUSTD", "1m"), Series("spot", "XYZ", "1m")
    luna, unseen = Series("spot", "LUNAUSDT", "1m"), Series("coin_futures", "BTCUSD", "1m")
    accounts = {one: SeriesAccount(at(8), at(20)) for one in (wrong, odd, luna, unseen)}
    pending = [attrs.evolve(absent(8, 20), series=one) for one in accounts]
    store.journal.settle(pending, accounts)
    store.close()
    assert main(["status", str(store.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split("-1m")[0]: line for line in lines if "pending" in line}
    assert told["spot ETHUSTD"].endswith("lists no ETHUSTD; did you mean ETHUSDT?")
    assert told["spot XYZ"].endswith("12 pending  the exchange lists no XYZ")
    assert told["spot LUNAUSDT"].endswith("12 pending")
    assert told["coin_futures BTCUSD"].endswith("12 pending")
    assert main(["status", str(store.path), "--json"]) == 0
    found = {one["symbol"]: one for one in json.loads(capsys.readouterr().out)["series"]}
    assert found["ETHUSTD"]["unlisted"]
    assert found["ETHUSTD"]["did_you_mean"] == "ETHUSDT"
    assert not found["BTCUSDT"]["unlisted"]
    # One that no recorder has begun with yet.
    config = tmp_path / "recorder.toml"
    config.write_text('[streams.spot]\n1m = ["BTCUSTD"]\n', encoding="utf-8")
    assert main(["status", str(config)]) == 3
    assert "nothing stored" in (told_now := capsys.readouterr().out)
    assert "the exchange lists no BTCUSTD; did you mean BTCUSDT?" in told_now
    universe_path(store.path).write_bytes(b"nonsense")
    assert main(["status", str(store.path)]) == 0
