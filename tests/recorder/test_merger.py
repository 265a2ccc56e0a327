"""Which series is merged when, in virtual time and with a real store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.errors import DiskError, DiskFullError
from kline_trio.recorder.disk_space import RETRY_SECONDS
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.merger import SHARE, Merger, MergeRule
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.parquet import FileMerge
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.fakes import CountedBell

BTC, ETH, SOL = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH", "SOL"))
START_MS = 1_706_659_200_000  # 2024-01-31: the month ends within the first day of candles
MINUTE_MS = 60_000
RULE = MergeRule(merge_seconds=60, max_merge_seconds=3_600)
MONTHS = DEFAULT_LAYOUT + "/{month}.parquet"
_MOST_WRITES = 400
"""More is a loop that does not wait."""

# The rule: what it promises, and what it costs over years.

_rows = st.integers(1, 10_000_000)


@given(new_rows=_rows, file_rows=_rows)
def test_a_merge_waits_at_least_and_at_most(new_rows: int, file_rows: int) -> None:
    assert 60 <= RULE.due_after_seconds(new_rows, file_rows) <= 3_600


@given(new_rows=_rows)
def test_a_series_first_candle_is_due_at_once(new_rows: int) -> None:
    assert RULE.due_after_seconds(new_rows, 0) == 0


@given(new_rows=_rows, file_rows=_rows)
def test_more_rows_are_never_due_later(new_rows: int, file_rows: int) -> None:
    later = RULE.due_after_seconds(new_rows, file_rows)
    assert RULE.due_after_seconds(new_rows + 1, file_rows) <= later


@given(file_rows=_rows)
def test_a_share_of_the_file_is_due_as_soon_as_may_be(file_rows: int) -> None:
    enough = int(SHARE * file_rows) + 1
    assert RULE.due_after_seconds(enough, file_rows) == 60


def test_a_cap_below_the_least_wait_is_no_cap() -> None:
    assert MergeRule(merge_seconds=90, max_merge_seconds=10).due_after_seconds(1, 10_000) == 90


def test_a_minute_is_written_64_times_at_most_until_the_cap() -> None:
    """Rows written per new row, for 1m candles, over the first days of a file."""
    file_rows, new_rows, written = 1, 0, 0
    minutes = 3_600
    for _ in range(minutes):
        new_rows += 1
        # Candles come a minute apart: the rule is asked when one came, and then each minute.
        if RULE.due_after_seconds(new_rows, file_rows) <= (new_rows - 1) * 60:
            file_rows += new_rows
            written += file_rows
            new_rows = 0
    assert written <= (1 / SHARE + 2) * minutes


# The merger.


@attrs.frozen
class Write:
    """A file that was written, or was to be."""

    at: float
    symbol: str
    month: str
    rows: int
    known: FileEntry | None


@attrs.define
class Disk:
    """Does each job at once, or after a virtual time, and notes what is written."""

    fail: Callable[[], Exception | None] = lambda: None
    seconds: float = 0.0
    writes: list[Write] = attrs.field(factory=list)
    jobs: list[str] = attrs.field(factory=list)

    async def run(self, job: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        name = job.__name__
        self.jobs.append(name)
        if name == "write":
            merge, known = arguments
            assert isinstance(merge, FileMerge)
            self.writes.append(
                Write(
                    trio.current_time(),
                    merge.series.symbol,
                    merge.path.stem,
                    len(merge.pending),
                    known,
                )
            )
            assert len(self.writes) < _MOST_WRITES
            if error := self.fail():
                raise error
            await trio.sleep(self.seconds)
        await trio.lowlevel.checkpoint()
        return job(*arguments)

    @property
    def told(self) -> list[tuple[float, str]]:
        return [(write.at, write.symbol) for write in self.writes]


@attrs.define
class Bench:
    """A merger over a store."""

    path: Path
    layout: str = DEFAULT_LAYOUT
    disk: Disk = attrs.field(factory=Disk)
    store: Store = attrs.field(init=False)
    merger: Merger = attrs.field(init=False)
    bell: CountedBell = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.store = Store.open(self.path, Layout(self.layout))
        self.bell = CountedBell()
        doors = SerialExecutor(self.disk.run), SerialExecutor(self.disk.run)
        self.merger = Merger(Storage(self.store, *doors, self.bell), RULE)

    def accept(self, series: Series, first: int, count: int = 1) -> None:
        """As the writer does."""
        batch = received(series, first, count)
        self.store.journal.accept(batch)
        self.merger.accepted(batch)

    def stored(self) -> dict[str, int]:
        return {file.series.symbol: file.rows for file in self.store.journal.files()}


def received(series: Series, first: int, count: int) -> list[ReceivedCandle]:
    return [
        ReceivedCandle(
            series,
            Candle(START_MS + n * MINUTE_MS, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 7, 1.0, 1.0),
            datetime(2024, 2, 1, tzinfo=UTC),
        )
        for n in range(first, first + count)
    ]


def filled(path: Path, layout: str = DEFAULT_LAYOUT, **rows: int) -> None:
    """A store with that many minutes of each symbol in files."""
    store = Store.open(path, Layout(layout))
    for symbol, count in rows.items():
        series = Series("spot", symbol, "1m")
        batch = [item.candle for item in received(series, 0, count)]
        _fill(store, series, batch)
    store.close()


def _fill(store: Store, series: Series, batch: list[Candle]) -> None:
    store.journal.keep_filled(series, store.fill_in(table_of(series, batch), series), [], [])


@contextmanager
def on(path: Path, layout: str = DEFAULT_LAYOUT, **disk: Any) -> Iterator[Bench]:  # noqa: ANN401
    bench = Bench(path, layout, Disk(**disk))
    try:
        yield bench
    finally:
        bench.store.close()


async def test_a_first_candle_is_merged_at_once_and_later_ones_by_the_rule(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    with on(tmp_path) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(10)
            bench.accept(BTC, 0)
            await trio.sleep(10)
            bench.accept(BTC, 1)
            await trio.sleep(30)
            bench.accept(BTC, 2)
            await trio.sleep(200)
            bench.merger.finish(10)
        assert [(write.at, write.rows) for write in bench.disk.writes] == [(10, 1), (80, 2)]
        assert bench.store.journal.rows() == 0
        assert bench.bell.rings == []


async def test_a_large_file_waits_for_a_share_or_for_the_longest(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    filled(tmp_path, BTCUSDT=640)
    with on(tmp_path) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            bench.accept(BTC, 640)
            await trio.sleep(4_000)
            for n in range(12):
                bench.accept(BTC, 641 + n)
                await trio.sleep(60)
            bench.merger.finish(10)
        times = [(write.at, write.rows) for write in bench.disk.writes]
        assert times == [(3_601, 1), (4_001 + 10 * 60, 11), (4_001 + 12 * 60, 1)]


async def test_the_cheapest_is_merged_first(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Of those that are due at the same time."""
    filled(tmp_path, BTCUSDT=50, ETHUSDT=5, SOLUSDT=500)
    with on(tmp_path) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            for series, first in ((SOL, 500), (BTC, 50), (ETH, 5)):
                bench.accept(series, first, 10)
            await trio.sleep(100)
            assert bench.disk.told == [(61, "ETHUSDT"), (61, "BTCUSDT"), (61, "SOLUSDT")]
            bench.merger.finish(10)


async def test_what_an_earlier_run_left_is_merged_before_anything_else(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """At once, though by the rule it would wait."""
    filled(tmp_path, BTCUSDT=640, ETHUSDT=640)
    store = Store.open(tmp_path, None)
    store.journal.accept(received(BTC, 640, 1))
    store.close()
    with on(tmp_path, seconds=1.0) as bench:
        async with trio.open_nursery() as nursery:
            bench.accept(ETH, 640)
            nursery.start_soon(bench.merger.run)
            await trio.sleep(2)
            assert bench.disk.told == [(0, "BTCUSDT")]
            assert bench.stored() == {"BTCUSDT": 641, "ETHUSDT": 640}
            bench.merger.finish(10)
        assert bench.stored() == {"BTCUSDT": 641, "ETHUSDT": 641}


async def test_a_merge_rests_after_want_of_room_whatever_comes_meanwhile(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_room_until = 12.0

    def fail() -> Exception | None:
        return DiskFullError("full") if trio.current_time() < no_room_until else None

    caplog.set_level("INFO")
    with on(tmp_path, fail=fail) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            bench.accept(BTC, 0)
            for n in range(1, 12):
                await trio.sleep(1)
                bench.accept(BTC, n)
            await trio.sleep(30)
            bench.merger.finish(1)
        assert [(write.at, write.rows) for write in bench.disk.writes] == [
            (0, 1), (RETRY_SECONDS, 6), (2 * RETRY_SECONDS, 11), (3 * RETRY_SECONDS, 12),
        ]  # fmt: skip
        assert bench.stored() == {"BTCUSDT": 12}
    assert caplog.text.count("disk full") == 1
    assert "merges go on" in caplog.text


async def test_what_waited_for_room_is_due_as_soon_as_there_is_some(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What has waited is not counted anew, or it would wait for the longest."""
    filled(tmp_path, BTCUSDT=640)
    with on(tmp_path) as bench:
        bench.disk.fail = lambda: DiskFullError("full") if len(bench.disk.writes) == 1 else None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            bench.accept(BTC, 640, 12)
            await trio.sleep(200)
            bench.merger.finish(10)
        assert bench.disk.told == [(61, "BTCUSDT"), (66, "BTCUSDT")]


async def test_want_of_room_for_one_series_holds_up_no_other(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    with on(tmp_path) as bench:
        bench.disk.fail = lambda: (
            DiskFullError("full") if bench.disk.writes[-1].symbol == "BTCUSDT" else None
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            bench.accept(BTC, 0)
            bench.accept(ETH, 0)
            await trio.sleep(1)
            assert bench.stored() == {"ETHUSDT": 1}
            bench.merger.finish(12)
        assert [at for at, symbol in bench.disk.told if symbol == "BTCUSDT"] == [0, 5, 10]
        assert bench.store.journal.rows() == 1
        assert trio.current_time() == 13


async def test_another_error_of_the_disk_ends_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    with on(tmp_path, fail=lambda: DiskError("broken")) as bench:
        bench.accept(BTC, 0)
        with pytest.raises(DiskError, match="broken"):
            await bench.merger.run()


async def test_the_end_begins_nothing_after_its_deadline(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Cheapest first; what is left waits in the journal."""
    rows = {f"COIN{n}USDT": 10 * n for n in range(1, 6)}
    filled(tmp_path, DEFAULT_LAYOUT, **rows)
    with on(tmp_path, seconds=2.0) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            for symbol, count in reversed(rows.items()):
                bench.accept(Series("spot", symbol, "1m"), count)
            bench.merger.finish(5)
        assert bench.disk.told == [(1, "COIN1USDT"), (3, "COIN2USDT"), (5, "COIN3USDT")]
        assert trio.current_time() == 7
        assert bench.store.journal.rows() == 2


async def test_the_end_waits_for_nothing_if_nothing_waits(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    with on(tmp_path) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(3)
            bench.merger.finish(1_000)
        assert trio.current_time() == 3


async def test_gaps_that_a_merge_names_are_told_of_after_they_are_in_the_ledger(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    filled(tmp_path, BTCUSDT=20, ETHUSDT=20)
    with on(tmp_path) as bench:
        accounts = {one: SeriesAccount(START_MS, START_MS + 20 * MINUTE_MS) for one in (BTC, ETH)}
        bench.store.journal.settle([], accounts)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            (tmp_path / "spot_BTCUSDT_1m.pqt").unlink()
            bench.accept(BTC, 20)
            bench.accept(ETH, 20)
            await trio.sleep(100)
            assert bench.bell.rings == [61]
            [gap] = bench.store.journal.pending_gaps([BTC, ETH])
            assert (gap.series, gap.span.from_ms) == (BTC, START_MS)
            bench.merger.finish(10)


async def test_a_late_candle_of_an_older_month_does_not_drive_the_rule(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Its file's entry is that of its path, and the newest file's size decides when to merge."""
    filled(tmp_path, MONTHS, BTCUSDT=2_000)  # 1,440 of January, 560 of February
    with on(tmp_path, MONTHS) as bench:
        entries = {file.path.stem: file for file in bench.store.journal.files()}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            await trio.sleep(1)
            bench.accept(BTC, 3)
            await trio.sleep(4_000)
            # A share of February's rows, and not of January's.
            bench.accept(BTC, 2_000, 10)
            await trio.sleep(100)
            bench.accept(BTC, 2_010, 10)
            await trio.sleep(100)
            bench.merger.finish(10)
        told = [(write.at, write.month, write.rows) for write in bench.disk.writes]
        assert told == [(3_601, "2024-01", 1), (4_061, "2024-02", 10), (4_161, "2024-02", 10)]
        known = [write.known for write in bench.disk.writes]
        assert known[:2] == [entries["2024-01"], entries["2024-02"]]
        assert known[2] is not None
        assert known[2].rows == 570
        assert all(file.held is None for file in bench.merger._newest_file.values())


async def test_a_merge_is_three_jobs(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What the door of commits is needed for, whatever else is looked up."""
    with on(tmp_path) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.merger.run)
            for n in range(150):
                bench.accept(Series("spot", f"COIN{n}USDT", "1m"), 0)
            await trio.sleep(1)
            bench.merger.finish(10)
        assert len(bench.disk.jobs) == 2 + 3 * 150
