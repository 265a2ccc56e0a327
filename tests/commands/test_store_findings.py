"""Disk, store and limits: each fault has its line, verdict and advice."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import attrs
import psutil
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.commands.finding import Verdict
from kline_trio.commands.store_findings import judge_files
from kline_trio.errors import DiskFullError
from kline_trio.exchange.markets import MARKETS
from kline_trio.storage.layout import Layout
from tests.builders import patterns
from tests.commands.examined import MONTHLY, NOW_MS, World, instead, of, says
from tests.storage.support import open_store


async def test_few_descriptors(autojump_clock: trio.testing.MockClock, world: World) -> None:
    world.replace(open_files=lambda: 60)
    assert says(
        await world.fault(),
        "error files open files: 60 allowed; 1 connection and the store need up to 66",
        "allow more: `ulimit -n 4096`, or LimitNOFILE=4096 in a unit of systemd",
    )


def mount(kind: str, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system say that a file system of a kind is mounted there."""

    @attrs.frozen
    class Mounted:
        mountpoint: str
        fstype: str
        device: str = "device"

    parts = [Mounted("/", "ext4"), Mounted(str(where.resolve()), kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda *, all: parts)  # noqa: A006


@pytest.mark.parametrize(
    ("kind", "words", "advice"),
    [
        (
            "nfs4",
            "error disk DATA: a network file system (nfs4), where a store can be torn",
            "set [store] path to a folder on a local disk, and copy snapshots of it over the",
        ),
        (
            "tmpfs",
            (
                "warning disk DATA: a file system in memory (tmpfs): a restart of the machine"
                " loses all candles"
            ),
            "set [store] path to a folder on a local disk",
        ),
    ],
)
async def test_a_disk_of_another_kind(
    autojump_clock: trio.testing.MockClock,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    words: str,
    advice: str,
) -> None:
    mount(kind, tmp_path, monkeypatch)
    fault = await world.fault()
    assert says(fault, words.replace("DATA", str(world.config.store.path)), advice)


async def test_a_store_in_the_place_of_a_file(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.config.store.path.write_bytes(b"")
    assert says(
        await world.fault(),
        f"error disk {world.config.store.path}: {world.config.store.path} is no folder",
        "move it away, or set another [store] path",
    )


async def test_a_folder_that_cannot_be_written(
    autojump_clock: trio.testing.MockClock,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Root may write everywhere, and so may tests.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert says(
        await world.fault(),
        f"error disk {world.config.store.path}: {tmp_path} cannot be written by this user",
        "change its owner or mode, mount its disk for writing, or set another [store] path",
    )


async def test_a_disk_that_refuses_or_hangs(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def hang(job: Callable[..., object], *arguments: object) -> object:
        await trio.sleep(99 if job.__name__ == "inspect_store" else 0)
        return job(*arguments)

    async def fail(job: Callable[..., object], *arguments: object) -> object:
        if job.__name__ == "inspect_store":
            raise DiskFullError("/data: Input/output error")
        return job(*arguments)

    path, advice = world.config.store.path, "look whether the disk is mounted and healthy, as by"
    world.replace(in_thread=hang)
    words = f"error disk {path}: the disk does not answer within 10 s"
    assert says(await world.fault(), words, advice)
    world.replace(in_thread=fail)
    assert says(await world.fault(), f"error disk {path}: /data: Input/output error", advice)


@pytest.mark.parametrize(
    ("free_bytes", "verdict", "end"),
    [
        (250_000_000, "error", "3,617 days of 1 series; while the disk is full, nothing"),
        (300_000_000, "ok", "more than ten years of 1 series"),
        (0, "error", "0 days of 1 series; while the disk is full, nothing is recorded"),
    ],
)
async def test_little_space(
    autojump_clock: trio.testing.MockClock,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: int,
    verdict: str,
    end: str,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))
    [space] = of("space", await world.examine())
    assert space.verdict == verdict
    assert f"{free_bytes / 1e9:.1f} GB free, enough for {end}" in space.message
    if verdict == "error":
        advice = "make room on the disk, or set [store] path to a larger one"
        assert says(space, f"error space {world.config.store.path}: {space.message}", advice)


async def test_space_for_less_than_a_month_is_a_warning(
    autojump_clock: trio.testing.MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    seconds = [Series("spot", f"A{number}USDT", "1s") for number in range(20)]
    symbols = [{"symbol": one.symbol, "status": "TRADING"} for one in seconds]
    world.change(streams=tuple(seconds))
    world.answer = instead("exchangeInfo", 200, json={"symbols": symbols})
    assert says(
        await world.fault(),
        f"warning space {world.config.store.path}: 1.0 GB free, enough for 12 days of 20 series",
        "make room on the disk, or set [store] path to a larger one",
    )


async def test_a_store_that_a_recorder_holds(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """It is no fault: `doctor` may look at a machine that records."""
    store = open_store(world.config.store.path)
    store.journal.beat(os.getpid(), {}, NOW_MS - 12_000)
    held = f"lock {store.path}: held by the recorder with pid {os.getpid()}, last heartbeat"
    [lock] = of("lock", await world.examine())
    assert says(
        lock,
        f"ok {held} 12 s ago",
        f"to start another recorder, stop this one first: `kill -TERM {os.getpid()}`",
    )
    store.journal.beat(os.getpid(), {}, NOW_MS - 600_000)
    assert says(
        await world.fault(),
        f"warning {held} 600 s ago",
        "look at the end of its log: a recorder writes a heartbeat each minute",
    )
    store.journal.beat(None, {}, NOW_MS - 600_000)
    [lock] = of("lock", await world.examine())
    assert lock.message == f"held by the process with pid {os.getpid()}"
    store.close()


def pid_of_the_past() -> int:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return dead.pid


async def test_how_the_last_run_ended(autojump_clock: trio.testing.MockClock, world: World) -> None:
    path = world.config.store.path
    store = open_store(path)
    dead = pid_of_the_past()
    store.journal.beat(dead, {}, NOW_MS)
    store.close()
    assert says(
        await world.fault(),
        f"warning run {path}: the last one (pid {dead}) was killed or crashed after"
        " 2023-11-14 22:13:20+00:00",
        "look at the end of its log, and for its pid in the log of the system",
    )
    store = open_store(path)
    store.journal.beat(None, {}, NOW_MS)
    store.close()
    lock, run = of("lock", found := await world.examine()), of("run", found)
    assert [one.message for one in (*lock, *run)] == [
        "free", "the last one ended in order, 2023-11-14 22:13:20+00:00",
    ]  # fmt: skip


async def test_a_journal_that_cannot_be_read(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    store = open_store(world.config.store.path)
    store.close()
    journal = store.path / ".kline_trio" / "journal.sqlite"
    journal.write_bytes(b"nonsense" * 4_096)
    fault = await world.fault()
    assert (fault.check, fault.verdict) == ("run", Verdict.ERROR)
    assert str(journal) in fault.message
    assert fault.advice.endswith("it keeps a damaged journal aside, and its readable rows")


async def test_too_many_series_for_the_layout(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    names = ("BTCUSDT", "ETHUSDT")
    series = [Series("spot", name, one) for name in names for one in MARKETS["spot"].intervals]
    world.change(streams=tuple(series), patterns=patterns('[streams.spot]\n1s = ["BTCUSD_*"]'))
    [layout] = of("layout", await world.examine())
    assert (layout.verdict, layout.message) == (
        Verdict.OK,
        "13 series below an hour, in one file each",
    )
    many = [Series("spot", f"{name}USDT", "1m") for name in "ABCDEFGHIJKLMNOPQRSTU"]
    symbols = [{"symbol": one.symbol, "status": "TRADING"} for one in many]
    world.answer = instead("exchangeInfo", 200, json={"symbols": symbols})
    world.change(streams=tuple(many), patterns=())
    line = (
        "warning layout {trade_type}_{symbol}_{time_interval}.pqt: 21 series below an hour in one"
        " file each: beyond 20, merges copy whole files too often"
    )
    assert says(await world.fault(), line, f'set [store] layout to "{MONTHLY}"')
    open_store(world.config.store.path).close()
    fault = await world.fault()
    command = f"python -m kline_trio relayout {world.config.store.path} --layout"
    assert says(fault, line, f'set [store] layout to "{MONTHLY}", after `{command}')
    world.change(store=attrs.evolve(world.config.store, layout=Layout(MONTHLY)))
    fault = await world.fault()
    assert (fault.check, fault.verdict) == ("layout", Verdict.ERROR)
    assert "is laid out as '{trade_type}_{symbol}_{time_interval}.pqt': a start" in fault.message
    assert "set [store] layout back, or write the store anew and swap" in fault.advice


async def test_patterns_that_match_nothing_need_neither_space_nor_connections(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.change(streams=(), patterns=patterns('[streams.spot]\n1m = ["NOPE*"]'))
    found = await world.examine()
    assert [one.check for one in found if one.verdict is not Verdict.OK] == ["symbols"]
    [files], [space] = of("files", found), of("space", found)
    assert files.message == "1,024 allowed; 0 connections and the store need up to 64"
    assert space.message.endswith("GB free")


async def test_without_a_list_patterns_are_not_counted(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.change(patterns=patterns('[streams.spot]\n1m = ["*"]'))
    world.answer = instead("exchangeInfo", 503)
    [layout] = of("layout", await world.examine())
    assert layout.message == "1 series below an hour, in one file each"


@settings(deadline=None)
@example(counts={"spot": 3_000}, redundancy=4, limit=80)
@given(
    counts=st.dictionaries(st.sampled_from(list(MARKETS)), st.integers(1, 3_000), max_size=3),
    redundancy=st.integers(1, 4),
    limit=st.integers(0, 2_000),
)
def test_a_limit_of_open_files_is_enough_or_an_error_names_one_that_is(
    counts: dict[str, int], redundancy: int, limit: int
) -> None:
    series = [one for name in counts for one in [Series(name, "A", "1m")] * counts[name]]
    finding = judge_files(limit, series, redundancy)
    connections = sum(-(-count // 1_024) for count in counts.values()) * redundancy
    assert (finding.verdict is Verdict.OK) == (limit >= 2 * connections + 64)
    if finding.verdict is Verdict.ERROR:
        enough = int(finding.advice.split()[4].rstrip("`,"))
        assert judge_files(enough, series, redundancy).verdict is Verdict.OK
    assert judge_files(math.inf, series, redundancy).message.startswith("unlimited allowed; ")
