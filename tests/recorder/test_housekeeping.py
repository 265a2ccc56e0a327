"""The journal keeps heartbeats; in stores of earlier versions, lost candles are found once."""

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.housekeeping import Heartbeat, heal
from kline_trio.storage.check import check
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holdings import Holdings
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.fakes import CountedBell, tell_time
from tests.storage.support import (
    BTC,
    CHINESE,
    LAYOUTS,
    MONTHLY,
    SERIES,
    make_candle,
    merge_all,
    nth_open_time_ms,
    open_store,
    receive,
)
from tests.virtual import slow_disk

STORES = Path(__file__).parents[1] / "stores"


def at(series: Series, n: int) -> int:
    return nth_open_time_ms(series, n)


def span(series: Series, first: int, end: int) -> Span:
    return Span(at(series, first), at(series, end))


def old_store(path: Path, layout: str = LAYOUTS[0]) -> Store:
    """As an earlier version left it: 5 and 6 were lost in silence, 12 is pending and stored."""
    store = open_store(path, layout)
    rows = {
        series: [make_candle(at(series, n)) for n in range(20) if n not in (5, 6)]
        for series in SERIES
    }
    for series in SERIES:
        store.journal.accept(receive(series, *rows[series][:13]))
    merge_all(store)
    for series in SERIES:
        store.journal.accept(receive(series, *rows[series][13:]))
        gap = Gap(series, span(series, 12, 13), at(series, 13), Reason.RECORDER_DOWN)
        store.journal.settle([gap], {series: SeriesAccount(at(series, 0), at(series, 20))})
    store.journal._connection.execute("UPDATE series SET is_compared = 0")
    return store


def ledger(store: Store, series: Series) -> list[tuple[Span, str, str]]:
    with journal_view(store.path) as journal:
        every = [one for one in journal.gaps() if one.series == series]
    return [(one.span, str(one.reason), str(one.state)) for one in every]


def healed(series: Series) -> list[tuple[Span, str, str]]:
    return [
        (span(series, 5, 7), "found missing", "pending"),
        (span(series, 12, 13), "recorder was down", "filled"),
    ]


async def run(store: Store, seed: int = 1) -> int:
    """Heal it to the end; how often the gap filler was woken."""
    bell = CountedBell()
    doors = SerialExecutor(slow_disk(Random(seed))), SerialExecutor(slow_disk(Random(seed)))
    await heal(Storage(store, *doors, bell))
    return len(bell.rings)


def holes(path: Path) -> int:
    return sum(len(file.faults) for file in check(path))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_each_series_is_compared_once_and_says_what_was_found(
    layout: str,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    store = old_store(tmp_path, layout)
    assert holes(tmp_path) == len(SERIES)
    assert await run(store) == len(SERIES)
    for series in SERIES:
        assert ledger(store, series) == healed(series)
        assert sum(
            line.startswith(f"{series}: 2 candles found missing") for line in caplog.messages
        )
    assert caplog.messages[-1] == (
        "compared 4 series with the ledger, once for this version: 8 candles found missing"
    )
    assert holes(tmp_path) == 0
    caplog.clear()
    # No second time.
    assert await run(store) == 0
    assert caplog.messages == []
    store.close()


@pytest.mark.parametrize("name", ["single", "month"])
async def test_a_store_that_version_0_2_wrote_is_healed(
    name: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    shutil.copytree(STORES / "0.2.0" / name, tmp_path / name)
    store = Store.open(tmp_path / name, None)
    assert await run(store) == 3
    for series in (BTC, CHINESE, MONTHLY):
        assert ledger(store, series) == [
            (span(series, 5, 7), "not received", "filled"),
            (span(series, 35, 36), "not received", "filled"),
            (span(series, 40, 44), "found missing", "pending"),
            (span(series, 44, 46), "not received", "pending"),
        ]
    merge_all(store)
    assert holes(store.path) == 0
    store.close()


async def test_a_cut_at_any_step_costs_one_series(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Cancelled after each span of time that the disk may take, until it comes to its end."""
    steps = 0
    while True:
        store = old_store(tmp_path / f"{steps}")
        with trio.move_on_after(0.02 * steps) as cut:
            await run(store)
        store.close()
        store = Store.open(store.path, None)
        await run(store, seed=2)
        for series in SERIES:
            assert ledger(store, series) == healed(series)
        store.close()
        if not cut.cancelled_caught:
            break
        steps += 1
    assert steps > 10


async def test_stored_candles_are_no_longer_pending_after_any_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """In silence: also in a file that a kill kept out of the list."""
    caplog.set_level(logging.INFO, "kline_trio")
    store = open_store(tmp_path, LAYOUTS[2])
    store.journal.accept(receive(BTC, *(make_candle(at(BTC, n)) for n in range(10))))
    merge_all(store)
    late = 1_440 + 5
    gaps = [
        Gap(BTC, span(BTC, first, end), at(BTC, end), Reason.NOT_RECEIVED)
        for first, end in ((8, 12), (late, late + 2))
    ]
    store.journal.settle(gaps, {BTC: SeriesAccount(at(BTC, 0), at(BTC, 12))})
    store.fill_in(table_of(BTC, [make_candle(at(BTC, late))]), BTC)
    assert await run(store) == 0
    assert ledger(store, BTC) == [
        (span(BTC, 8, 10), "not received", "filled"),
        (span(BTC, 10, 12), "not received", "pending"),
        (span(BTC, late, late + 1), "not received", "filled"),
        (span(BTC, late + 1, late + 2), "not received", "pending"),
    ]
    assert caplog.messages == []
    store.close()


async def test_files_without_pending_candles_are_not_looked_at_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """What they hold is not missing for that."""
    store = open_store(tmp_path, LAYOUTS[2])
    store.journal.accept(receive(BTC, *(make_candle(at(BTC, n)) for n in (*range(10), 1_445))))
    merge_all(store)
    gap = Gap(BTC, span(BTC, 1_445, 1_446), at(BTC, 1_446), Reason.NOT_RECEIVED)
    store.journal.settle([gap], {BTC: SeriesAccount(at(BTC, 0), at(BTC, 10))})
    assert await run(store) == 0
    assert ledger(store, BTC) == [(span(BTC, 1_445, 1_446), "not received", "filled")]
    store.close()


async def test_candles_that_come_meanwhile_are_no_gaps(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Candles are committed and merged while the store is looked through."""
    for seed in range(6):
        store = old_store(tmp_path / f"{seed}")
        commit_door, merge_door = (
            SerialExecutor(slow_disk(Random(seed))),
            SerialExecutor(slow_disk(Random(-seed))),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heal, Storage(store, commit_door, merge_door))
            for series in SERIES:
                await commit_door.run(
                    store.journal.accept, receive(series, make_candle(at(series, 5)))
                )
                await merge_door.run(merge_all, store)
        for series in SERIES:
            assert [row for row in ledger(store, series) if row[2] == "pending"] == [
                (span(series, 6, 7), "found missing", "pending")
            ]
        store.close()


@pytest.mark.parametrize("merges", [1, 9, 10])
async def test_a_look_that_a_merge_has_outdated_is_replaced_by_another(
    merges: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A merge follows each of the first looks at the files; the tenth look is the last."""
    store = open_store(tmp_path)
    store.journal.accept(
        receive(BTC, *(make_candle(at(BTC, n)) for n in range(20) if n not in (5, 6)))
    )
    merge_all(store)
    store.journal.settle([], {BTC: SeriesAccount(at(BTC, 0), at(BTC, 20))})
    store.journal._connection.execute("UPDATE series SET is_compared = 0")
    merged = 0

    async def with_merges(job: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        nonlocal merged
        result = job(*arguments)
        if job.__name__.startswith("look") and merged < merges:
            merged += 1
            store.journal.accept(receive(BTC, make_candle(at(BTC, 19 + merged))))
            merge_all(store)
        return result

    storage = Storage(store, SerialExecutor(with_merges), SerialExecutor(with_merges))
    await heal(storage)
    too_fast = f"{BTC}: its files change too fast, it is compared at the next start"
    assert (too_fast in caplog.messages) == (merges == 10)
    if merges == 10:
        assert ledger(store, BTC) == []
        await heal(storage)
    assert ledger(store, BTC) == [(span(BTC, 5, 7), "found missing", "pending")]
    store.close()


async def test_want_of_room_is_waited_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, full = Journal.compare, broken(sqlite3.SQLITE_FULL)

    def compare(journal: Journal, look: Holdings) -> int | None:
        if trio.current_time() < 60:
            full()
        return whole(journal, look)

    monkeypatch.setattr(Journal, "compare", compare)
    store = old_store(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, store)
        await trio.sleep(59)
        assert ledger(store, BTC) != healed(BTC)
    assert ledger(store, BTC) == healed(BTC)
    store.close()


async def test_what_a_damaged_file_held_is_absent(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = old_store(tmp_path)
    file = tmp_path / "spot_BTCUSDT_1m.pqt"
    file.write_bytes(file.read_bytes()[:-50])
    await run(store)
    pending = [row[0] for row in ledger(store, BTC) if row[2] == "pending"]
    assert pending == [span(BTC, 0, 12), span(BTC, 12, 13), span(BTC, 13, 15)]
    assert any("counts as absent" in line for line in caplog.messages)
    store.close()


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
    @disk_errors(Path("journal.sqlite"))
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
