"""A disk without room: the recorder goes on, acknowledges nothing, and says so."""

import contextlib
import errno
import itertools
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import Config, StoreConfig
from kline_trio.errors import DiskError, DiskFullError
from kline_trio.reading.candles import read
from kline_trio.recorder.disk_space import watch_disk_space
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage import store as storage
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.store import Store
from tests.virtual import joined, slow_disk

SPOT = Series("spot", "BTCUSDT", "1m")
START_MS = 1_719_759_600_000


def config_in(folder: Path, **changes: Any) -> Config:  # noqa: ANN401 - of StoreConfig
    return Config(streams=(SPOT,), store=StoreConfig(path=folder / "data", **changes))


def refusing(text: str, code: int) -> Callable[..., None]:
    """In the place of `Journal.accept`: SQLite refuses with this error."""

    @disk_errors(Path("journal.sqlite"))
    def refuse(*_: object) -> None:
        error = sqlite3.OperationalError(text)
        error.sqlite_errorcode = code
        raise error

    return refuse


full = refusing("database or disk is full", sqlite3.SQLITE_FULL)


def begins(folder: Path) -> list[pd.Timestamp]:
    return list(read(folder / "data", "spot", "BTCUSDT", "1m")["candle_begin_time"])


async def test_a_full_disk_is_waited_for_and_what_was_kept_is_accepted_then(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = Exchange(start_ms=START_MS)
    async with (
        joined(exchange) as environment,
        open_recorder(config_in(tmp_path), environment) as recorder,
    ):
        candles = recorder.candles()
        await trio.sleep(10.5)
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "accept", full)
            await trio.sleep(100)
            known = len(begins(tmp_path))
            assert known <= 11
        await trio.sleep(20)
    assert candles.lost == 0
    seen = begins(tmp_path)
    assert len(seen) >= 129
    assert all(later - one == pd.Timedelta("1min") for one, later in itertools.pairwise(seen))
    told = [line for line in caplog.messages if line.startswith("disk full")]
    assert len(told) == 2  # in 100 seconds, once a minute
    assert "0 were dropped" in told[0]
    assert any(line.startswith("there is disk space again") for line in caplog.messages)


async def test_what_memory_cannot_hold_is_dropped_counted_and_asked_for_again(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    config = config_in(tmp_path, journal_rows_in_memory=20)
    async with (
        joined(Exchange(start_ms=START_MS)) as environment,
        open_recorder(config, environment),
    ):
        await trio.sleep(10.5)
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "accept", full)
            await trio.sleep(100)
        await trio.sleep(20)
    seen = begins(tmp_path)
    (again,) = [line for line in caplog.messages if line.startswith("there is disk space again")]
    dropped = int(again.split()[5])
    assert dropped in range(70, 90)
    assert len(seen) in range(129, 133)
    assert all(later - one == pd.Timedelta("1min") for one, later in itertools.pairwise(seen))


async def test_a_disk_that_stays_full_to_the_end_is_said_with_an_error(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(Exchange(start_ms=START_MS)) as environment:
        with pytest.raises(DiskFullError, match="full"):  # noqa: PT012
            async with open_recorder(config_in(tmp_path), environment):
                await trio.sleep(5.5)
                monkeypatch.setattr(Journal, "accept", full)
                await trio.sleep(10)
    assert len(begins(tmp_path)) >= 4


async def test_any_other_error_of_the_disk_ends_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = refusing("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)
    async with joined(Exchange(start_ms=START_MS)) as environment:
        with pytest.raises(DiskError, match="disk I/O error") as caught:  # noqa: PT012
            async with open_recorder(config_in(tmp_path), environment):
                await trio.sleep(5.5)
                monkeypatch.setattr(Journal, "accept", broken)
                await trio.sleep(100)
    assert not isinstance(caught.value, DiskFullError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
async def test_a_merge_without_room_is_tried_again(
    number: int,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it was to write stays in the journal, readable, and candles are accepted all along."""
    caplog.set_level(logging.INFO, "kline_trio")
    config = config_in(tmp_path, merge_seconds=1.0, max_merge_seconds=1.0)

    def refused(*_: object) -> None:
        raise OSError(number, "no")

    async with (
        joined(Exchange(start_ms=START_MS)) as environment,
        open_recorder(config, environment),
    ):
        await trio.sleep(10.5)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "rewrite_file", refused)
            await trio.sleep(30)
            assert len(begins(tmp_path)) >= 38
            before = len(pd.read_parquet(tmp_path / "data" / "spot_BTCUSDT_1m.pqt"))
            assert before <= 11
        await trio.sleep(10)
        assert len(pd.read_parquet(tmp_path / "data" / "spot_BTCUSDT_1m.pqt")) >= 47
    assert len(begins(tmp_path)) >= 49
    assert len([line for line in caplog.messages if line.startswith("disk full")]) == 1
    assert "there is disk space again; merges go on" in caplog.messages


async def test_the_room_is_told_daily_and_warned_of_when_it_is_little(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    free_bytes = 10**9
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))
    commits, merges = (SerialExecutor(slow_disk(Random(1))) for _ in range(2))
    with contextlib.closing(Store.open(tmp_path / "data", None)) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_disk_space, Storage(store, commits, merges), lambda: [SPOT])
            await trio.sleep(60)
            free_bytes = 10**6
            await trio.sleep(86_400)
            nursery.cancel_scope.cancel()
    told = [record for record in caplog.records if record.message.startswith("disk space: ")]
    assert [record.levelno for record in told] == [logging.INFO, logging.WARNING]
    assert told[0].message == "disk space: 1.0 GB free, enough for 14,468 days"
