"""What the archive is asked for, and what its files make of gaps; in virtual time."""

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Candle, Series, Source
from kline_trio.exchange.archive import Archive
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import FETCHERS, ArchiveSource
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount, State
from kline_trio.storage.layout import Layout
from kline_trio.storage.store import Store
from tests.fakes import CountedBell

MINUTE_MS, DAY_MS = 60_000, 86_400_000
TODAY_MS = 1_719_705_600_000  # 2024-06-30
NOW_MS = TODAY_MS + DAY_MS // 2
BTC = Series("spot", "BTCUSDT", "1m")


def days_ago(from_days: int, to_days: int) -> Span:
    return Span(TODAY_MS - from_days * DAY_MS, TODAY_MS - to_days * DAY_MS)


@attrs.define(eq=False)
class Shelf:
    """A host of archives that makes the days' files, but for some."""

    absent: set[str] = attrs.field(factory=set)
    failing: set[str] = attrs.field(factory=set)
    flat: set[str] = attrs.field(factory=set)
    without_checksum: set[str] = attrs.field(factory=set)
    is_down: bool = False
    asked: Counter[str] = attrs.field(factory=Counter)

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(0.1)
        name = request.url.path.rsplit("/", 1)[1]
        self.asked[name] += 1
        if self.is_down:
            return httpx2.Response(503)
        day = name.removeprefix("BTCUSDT-1m-").split(".")[0]
        if day in self.failing:
            return httpx2.Response(503)
        if day in self.without_checksum and name.endswith(".CHECKSUM"):
            return httpx2.Response(404)
        if day in self.absent:
            return httpx2.Response(404)
        content = self._zip(day)
        if name.endswith(".CHECKSUM"):
            content = f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        return httpx2.Response(200, stream=httpx2.ByteStream(content))

    def _zip(self, day: str) -> bytes:
        begin_ms = next(
            ms for ms in range(TODAY_MS - 40 * DAY_MS, TODAY_MS, DAY_MS) if _day_text(ms) == day
        )
        is_flat = day in self.flat
        rows = [
            f"{ms},1,1,1,1,0,{ms + MINUTE_MS - 1},0,0,0,0,0\n"
            if is_flat
            else f"{ms},1,2,1,1.5,3,{ms + MINUTE_MS - 1},4,5,1,2,0\n"
            for ms in range(begin_ms, begin_ms + DAY_MS, MINUTE_MS)
        ]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
            # The same bytes each time: the checksum is of another request.
            info = zipfile.ZipInfo(f"BTCUSDT-1m-{day}.csv")
            file.writestr(info, "".join(rows))
        return packed.getvalue()


def _day_text(moment_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(moment_ms // 1_000, UTC):%Y-%m-%d}"


@attrs.define(eq=False)
class Bench:
    source: ArchiveSource
    store: Store
    filled: list[Filled]
    bell: CountedBell

    def name(self, span: Span) -> None:
        gap = Gap(BTC, span, NOW_MS, Reason.NOT_CONFIGURED)
        self.store.journal.settle([gap], {BTC: SeriesAccount(span.from_ms, span.to_ms)})

    def states(self) -> set[tuple[Span, Reason, State]]:
        return {
            (one.span, one.reason, one.state)
            for one in self.store.journal.gaps_in(BTC, Span(0, 2**60))
        }


@asynccontextmanager
async def fetching(folder: Path, shelf: Shelf, stop_after: str = "") -> AsyncIterator[Bench]:
    """Fetchers at work; with a job's name they are cancelled right after it."""
    store = Store.open(folder, Layout())
    scope = trio.CancelScope()

    async def on_disk(job: object, *arguments: object) -> object:
        await trio.sleep(0.01)
        assert callable(job)
        result = job(*arguments)
        if stop_after and getattr(job, "__name__", "") == stop_after:
            scope.cancel()
        return result

    bell = CountedBell()
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(shelf)) as client:
        filled: list[Filled] = []
        source = ArchiveSource(
            Archive(client, "https://archive"),
            Storage(store, SerialExecutor(on_disk), SerialExecutor(on_disk), bell),
            SerialExecutor(on_disk),
            filled.append,
        )
        with scope:
            async with trio.open_nursery() as nursery:
                for _ in range(FETCHERS):
                    nursery.start_soon(source.work)
                yield Bench(source, store, filled, bell)
                nursery.cancel_scope.cancel()
    store.close()


async def until_done(bench: Bench) -> None:
    with trio.fail_after(100):
        while not bench.source.is_done:  # noqa: ASYNC110 - in virtual time
            await trio.sleep(0.1)


async def test_only_long_gaps_of_days_that_are_published_are_its_share(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with fetching(tmp_path, Shelf()) as bench:
        share = bench.source.share
        assert share(BTC, days_ago(9, 3), NOW_MS) == days_ago(9, 3)
        assert share(BTC, Span(days_ago(9, 0).from_ms, NOW_MS), NOW_MS) == days_ago(9, 2)
        short = Span(TODAY_MS - 9 * DAY_MS, TODAY_MS - 9 * DAY_MS + 999 * MINUTE_MS)
        assert share(BTC, short, NOW_MS) is None
        assert share(BTC, days_ago(2, 0), NOW_MS) is None


async def test_what_it_has_is_filled_in_and_announced(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    span = days_ago(6, 3)
    async with fetching(tmp_path, Shelf()) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        assert bench.source.spans_of(BTC) == [span]
        await until_done(bench)
        assert bench.source.spans_of(BTC) == []
        assert bench.states() == {(span, Reason.NOT_CONFIGURED, State.FILLED)}
        assert bench.filled == [Filled(BTC, span, Source.ARCHIVE)]
        assert bench.source.progress.rows == BTC.interval.count(span)
        assert len(bench.bell.rings) == 1


async def test_a_file_that_is_not_there_is_asked_for_once_and_splits_the_share(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    span = days_ago(9, 3)
    shelf = Shelf({_day_text(days_ago(6, 5).from_ms)})
    async with fetching(tmp_path, shelf) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await until_done(bench)
        assert bench.source.share(BTC, days_ago(6, 5), NOW_MS) is None
        assert bench.source.share(BTC, span, NOW_MS) == days_ago(5, 3), "the newest part first"
        assert (days_ago(6, 5), Reason.NOT_CONFIGURED, State.PENDING) in bench.states()
    assert max(shelf.asked.values()) == 1


async def test_a_host_that_fails_is_left_alone_for_a_minute(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    span = days_ago(6, 3)
    async with fetching(tmp_path, Shelf(is_down=True)) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await until_done(bench)
        assert bench.source.share(BTC, span, NOW_MS) is None, "REST is asked meanwhile"
        assert bench.states() == {(span, Reason.NOT_CONFIGURED, State.PENDING)}
        await trio.sleep(61)
        assert bench.source.share(BTC, span, NOW_MS) == span


async def test_a_file_that_fails_is_left_to_rest_and_the_others_are_fetched(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """It is one file, and no reason to ask the host for nothing."""
    span, bad = days_ago(15, 3), days_ago(9, 8)
    shelf = Shelf(failing={_day_text(bad.from_ms)})
    async with fetching(tmp_path, shelf) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await until_done(bench)
        assert bench.source.progress.rows == 11 * 1_440
        assert (bad, Reason.NOT_CONFIGURED, State.PENDING) in bench.states()
        assert bench.source.share(BTC, bad, NOW_MS) is None, "REST is asked meanwhile"
        assert bench.source.share(BTC, days_ago(20, 16), NOW_MS) is not None
        await trio.sleep(61)
        assert bench.source.share(BTC, bad, NOW_MS) == bad


async def test_a_file_without_checksum_is_for_rest_and_the_others_are_fetched(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    span, bad = days_ago(15, 3), days_ago(9, 8)
    shelf = Shelf(without_checksum={_day_text(bad.from_ms)})
    async with fetching(tmp_path, shelf) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await until_done(bench)
        assert bench.source.progress.rows == 11 * 1_440
        assert (bad, Reason.ARCHIVE_LACKS, State.PENDING) in bench.states()


@pytest.mark.parametrize("is_halt", [True, False])
async def test_a_flat_day_waits_for_rest_but_for_a_halt_of_the_whole_market(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, is_halt: bool
) -> None:
    span, flat = days_ago(9, 3), days_ago(6, 5)
    async with fetching(tmp_path, Shelf(flat={_day_text(flat.from_ms)})) as bench:
        for n in range(10 * is_halt):
            bench.source.halts.see(Series("spot", f"S{n}USDT", "1m"), flat, 1e6 * (n + 1), 0.0)
        if is_halt:
            times = BTC.interval.open_times_ms(flat)
            candles = tuple(Candle(ms, 1, 1, 1, 1, 0, 0, 0, 0, 0) for ms in times)
            busiest = Series("spot", "S9USDT", "1m")
            bench.source.halts.answered(FetchResult(busiest, flat, candles, Source.REST))
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await until_done(bench)
        if is_halt:
            assert bench.states() == {(span, Reason.NOT_CONFIGURED, State.FILLED)}
            assert bench.source.progress.rows == BTC.interval.count(span)
        else:
            assert (flat, Reason.ARCHIVE_QUIET, State.PENDING) in bench.states()
            assert bench.source.progress.rows == BTC.interval.count(span) - 1_440


@pytest.mark.parametrize("job", ["fill_in", "keep_filled"])
async def test_a_stop_after_its_files_are_written_leaves_a_healthy_store(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, job: str
) -> None:
    """Between the two the file is newer than the journal's list, which is no fault."""
    span = days_ago(6, 3)
    async with fetching(tmp_path, Shelf(), stop_after=job) as bench:
        bench.name(span)
        bench.source.take(BTC, span, NOW_MS)
        await trio.sleep(100)
    assert [fault for file in check(tmp_path) for fault in file.faults] == []
    store = Store.open(tmp_path, Layout())
    state = State.PENDING if job == "fill_in" else State.FILLED
    assert {one.state for one in store.journal.gaps_in(BTC, span)} == {state}
    store.close()
