"""The store is guarded, and the journal keeps heartbeats: pid and exchange times."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import attrs
import pytest
import trio
import trio.testing

from kline_trio.errors import DiskError, KlineTrioError, StoreInUseError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.recorder.housekeeping import Heartbeat
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.journal import Journal
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.paths import journal_path, lock_path
from kline_trio.storage.store import Store
from tests.builders import SPOT, START_MS
from tests.fakes import tell_time
from tests.recorder.test_supervisor import config_in, stored
from tests.storage.support import open_store
from tests.virtual import joined, slow_disk

EXCHANGE_MS = 1_719_759_600_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def kept(store: Store) -> tuple[int | None, dict[str, tuple[int, int]]]:
    with journal_view(store.path) as journal:
        return journal.pid(), journal.exchange_times()


def wall_clock() -> float:
    return 1_000.0 + trio.current_time()


async def test_the_first_comes_at_once_and_one_when_a_markets_time_is_known(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    clocks = {"spot": ExchangeClock(), "usdt_futures": ExchangeClock()}
    started_ms = round(wall_clock() * 1_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat(store, **clocks).run)
        await trio.sleep(0.5)
        assert kept(store) == (os.getpid(), {"": (started_ms, started_ms)})
        tell_time(clocks["spot"], EXCHANGE_MS)
        await trio.sleep(2.5)
        pid, times = kept(store)
        assert pid == os.getpid()
        assert times["spot"][0] == EXCHANGE_MS
        assert set(times) == {"", "spot"}
        first = times["spot"]
        for _ in range(58):
            await trio.sleep(1)
            now_ms = clocks["spot"].now_ms or 0
            tell_time(clocks["spot"], now_ms + 60_000)
        assert kept(store)[1]["spot"] == first
        await trio.sleep(5)
        later = kept(store)[1]["spot"]
        assert later[0] == EXCHANGE_MS + 58 * 60_000
        assert later[1] - first[1] == pytest.approx(60_000, abs=3_000)
        nursery.cancel_scope.cancel()
    store.close()


async def test_a_time_that_stands_still_keeps_the_local_time_when_it_was_new(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    clock = ExchangeClock()
    tell_time(clock, EXCHANGE_MS)
    with trio.move_on_after(605):
        await heartbeat(store, spot=clock).run()
    _, times = kept(store)
    assert times["spot"][0] == EXCHANGE_MS
    assert times[""][1] - times["spot"][1] == pytest.approx(600_000, abs=5_000)
    store.close()


async def test_an_orderly_end_leaves_the_times_and_no_pid(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    clock = ExchangeClock()
    tell_time(clock, EXCHANGE_MS)
    with trio.move_on_after(10):
        await heartbeat(store, spot=clock).run()
    tell_time(clock, EXCHANGE_MS + 7_000)
    end_ms = round(wall_clock() * 1_000)
    await heartbeat(store, spot=clock).end()
    assert kept(store) == (None, {"spot": (EXCHANGE_MS + 7_000, end_ms), "": (end_ms, end_ms)})
    store.close()


def heartbeat(store: Store, **clocks: ExchangeClock) -> Heartbeat:
    on_disk = slow_disk(Random(1))
    return Heartbeat(
        Storage(store, SerialExecutor(on_disk), SerialExecutor(on_disk)), clocks, wall_clock
    )


def broken(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = code
        raise error

    return fail


async def test_a_full_disk_is_passed_over_until_the_next_minute(
    store: Store, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ExchangeClock()
    tell_time(clock, EXCHANGE_MS)
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "beat", broken(sqlite3.SQLITE_FULL))
            nursery.start_soon(heartbeat(store, spot=clock).run)
            await trio.sleep(30)
            assert kept(store) == (None, {})
        await trio.sleep(35)
        assert kept(store)[0] == os.getpid()
        nursery.cancel_scope.cancel()
    store.close()


@pytest.mark.parametrize(
    ("place", "kind"), [(journal_path, DiskError), (lock_path, StoreInUseError)]
)
@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_recorder_whose_files_are_taken_away_ends(
    place: Callable[[Path], Path],
    kind: type[KlineTrioError],
    *,
    is_busy: bool,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
) -> None:
    """At the next commit, or within ten seconds; and what was recorded is there."""
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT if is_busy else attrs.evolve(SPOT, time_interval="1M"))
    recorded = 0

    async def record(environment: Environment) -> None:
        nonlocal recorded
        async with open_recorder(config, environment):
            await trio.sleep(20)
            recorded = len(stored(tmp_path, SPOT)) if is_busy else 0
            place(tmp_path / "data").unlink()
            await trio.sleep_forever()

    async with joined(exchange) as environment:
        with trio.fail_after(40), pytest.raises(kind, match="while the recorder h"):
            await record(environment)
    if is_busy:
        assert recorded > 5
        assert len(stored(tmp_path, SPOT)) >= recorded
