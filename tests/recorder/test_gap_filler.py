"""Which gap is asked for when: the ledger is the queue. In virtual time, with a real store."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series, Source
from kline_trio.config import CompletenessConfig
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.archive import Archive
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import ArchiveSource
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.rest_source import Outcome, RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount, State
from kline_trio.storage.layout import Layout
from kline_trio.storage.store import Store
from tests.fakes import tell_time
from tests.virtual import slow_disk

MINUTE_MS = 60_000
NOW_MS = 1_719_759_600_000  # 2024-06-30 15:00
BTC, ETH, LTC = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH", "LTC"))

Answer = Callable[[Series, Sequence[Gap]], Outcome]


def ago(minutes: int) -> int:
    return NOW_MS - minutes * MINUTE_MS


def gap(series: Series, from_ago: int, to_ago: int) -> Gap:
    span = Span(ago(from_ago), ago(to_ago))
    return Gap(series, span, NOW_MS, Reason.NOT_RECEIVED)


def candle(open_time_ms: int) -> Candle:
    return Candle(open_time_ms, 1.5, 2.0, 1.0, 1.25, 3.0, 4.0, 5, 1.0, 2.0)


def filled(gaps: Sequence[Gap]) -> Outcome:
    """The exchange has it all."""
    return Outcome(
        tuple(
            FetchResult(
                one.series,
                one.span,
                tuple(candle(ms) for ms in one.series.interval.open_times_ms(one.span)),
                Source.REST,
            )
            for one in gaps
        )
    )


def lacking(gaps: Sequence[Gap], seconds: float) -> Outcome:
    """The exchange has nothing, and is to be asked again after so long."""
    refills = tuple(FetchResult(one.series, one.span, (), Source.REST) for one in gaps)
    return Outcome(refills, {one.span: seconds for one in gaps})


@attrs.define(eq=False)
class Scripted(RestSource):
    """Answers as a test says, after a tenth of a second, and keeps what was asked, and when."""

    answer: Answer = lambda _, gaps: filled(gaps)
    asked: list[tuple[float, Series, list[Span]]] = attrs.field(factory=list)
    under_way: list[Series] = attrs.field(factory=list)

    async def ask(self, series: Series, gaps: Sequence[Gap]) -> Outcome:
        assert series not in self.under_way, "a series is asked for twice at the same time"
        self.asked.append((trio.current_time(), series, [one.span for one in gaps]))
        self.under_way.append(series)
        try:
            await trio.sleep(0.1)
            return self.answer(series, gaps)
        finally:
            self.under_way.remove(series)

    async def before_the_first(self, series: Series, gaps: object) -> Outcome:
        return Outcome(())


@attrs.define(eq=False)
class Bench:
    filler: GapFiller
    rest: Scripted
    store: Store
    committed: list[ReceivedCandle]
    jobs: list[str]
    """The jobs on the disk, by name."""

    def name(self, *gaps: Gap) -> None:
        accounts = {one.series: SeriesAccount(0, NOW_MS) for one in gaps}
        self.store.journal.settle(gaps, accounts)
        self.filler.storage.gaps_named.ring()

    def asked(self) -> list[Series]:
        return [series for _, series, _ in self.rest.asked]

    def states(self, series: Series) -> set[State]:
        span = Span(0, MAX_TIME_MS)
        return {one.state for one in self.store.journal.gaps_in(series, span)}


@asynccontextmanager
async def working(
    folder: Path, answer: Answer | None = None, *, workers: int = 4, recorded: Sequence[Series] = ()
) -> AsyncIterator[Bench]:
    store = Store.open(folder, Layout())
    run, jobs = slow_disk(Random(0), 0.01), list[str]()

    async def on_disk(job: Callable[..., object], *arguments: object) -> object:
        jobs.append(getattr(job, "__name__", ""))
        return await run(job, *arguments)

    storage = Storage(store, SerialExecutor(on_disk), SerialExecutor(on_disk))
    series = SeriesSet(5_000)
    series.set_series(recorded or (BTC, ETH, LTC), {})
    clock = ExchangeClock()
    tell_time(clock, NOW_MS)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(_nothing)) as client:
        market = MARKETS["spot"]
        rest = Scripted(
            {"spot": RestMarket(client, market, ("https://a",), RateLimiter(6_000, 1.0), clock)},
            CompletenessConfig(attempts=4, attempt_seconds=10.0),
            nothing_is_stored,
        )
        if answer is not None:
            rest.answer = answer
        archive = ArchiveSource(
            Archive(client, "https://archive"), storage, SerialExecutor(on_disk), lambda _: None
        )
        got: list[ReceivedCandle] = []
        filler = GapFiller(
            storage,
            series,
            rest,
            archive,
            got.extend,
            lambda *_: None,
            lambda: datetime(2024, 7, 1, tzinfo=UTC),
        )
        bench = Bench(filler, rest, store, got, jobs)
        async with trio.open_nursery() as nursery:
            *_, keep_saying = jobs_of_it = filler.jobs(workers)
            for job in (*jobs_of_it[:workers], keep_saying):
                nursery.start_soon(job)
            yield bench
            nursery.cancel_scope.cancel()
    store.close()


async def nothing_is_stored(_: Series, within: Span) -> None:
    await trio.lowlevel.checkpoint()


def _nothing(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(404)


async def test_the_newest_gap_is_asked_for_first(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path, workers=1) as bench:
        bench.name(gap(BTC, 9, 8), gap(ETH, 3, 2), gap(LTC, 6, 5))
        await trio.sleep(3)
        assert bench.asked() == [ETH, LTC, BTC]
        # Also those that are named while others wait.
        bench.name(gap(BTC, 90, 80), gap(ETH, 80, 70))
        await trio.sleep(0.05)
        bench.name(gap(LTC, 20, 10))
        await trio.sleep(3)
        assert bench.asked()[3:] == [ETH, LTC, BTC]


async def test_a_gap_is_asked_for_on_a_clock_that_runs_on_between_two_looks(
    tmp_path: Path,
) -> None:
    """Virtual time stands still while a task works, and the real one does not."""
    with trio.fail_after(5):
        async with working(tmp_path) as bench:
            bench.name(gap(BTC, 9, 7))
            await bench.filler.until_done()
            assert bench.asked() == [BTC]


async def test_gaps_that_are_filled_are_told_once_with_their_source(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path) as bench:
        bench.name(gap(BTC, 9, 7))
        await trio.sleep(3)
        assert [one.candle.open_time_ms for one in bench.committed] == [ago(9), ago(8)]
        assert {one.source for one in bench.committed} == {Source.REST}
        assert bench.states(BTC) == {State.FILLED}
        assert bench.filler.progress.refilled == 2
        assert await bench.filler.pending() == 0
        with trio.fail_after(2):
            await bench.filler.until_done()


async def test_a_series_is_released_when_its_question_fails(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    failures = iter([UnavailableError("HTTP 500"), UnavailableError("HTTP 500")])

    def answer(_: Series, gaps: Sequence[Gap]) -> Outcome:
        for error in failures:
            raise error
        return filled(gaps)

    async with working(tmp_path, answer) as bench:
        bench.name(gap(BTC, 9, 7))
        await trio.sleep(0.5)
        assert bench.filler.progress.problem == f"{BTC}: HTTP 500"
        await trio.sleep(30)
        assert bench.asked() == [BTC, BTC, BTC]
        assert bench.states(BTC) == {State.FILLED}
        assert bench.filler.progress.problem is None


async def test_what_the_exchange_does_not_have_waits_and_others_go_on(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    def answer(series: Series, gaps: Sequence[Gap]) -> Outcome:
        return lacking(gaps, 60.0) if series == BTC else filled(gaps)

    async with working(tmp_path, answer, workers=1) as bench:
        bench.name(gap(BTC, 3, 2), gap(ETH, 9, 8))
        await trio.sleep(50)
        assert bench.asked() == [BTC, ETH]
        assert bench.filler.backoff.next_at(trio.current_time()) == pytest.approx(60, abs=1)
        # A newer gap of the same series does not wait.
        bench.name(gap(BTC, 2, 1))
        await trio.sleep(5)
        assert [spans for _, _, spans in bench.rest.asked][2:] == [[Span(ago(2), ago(1))]]
        await trio.sleep(20)
        assert bench.rest.asked[3][2][0] == Span(ago(3), ago(2))


async def test_a_refusal_is_believed_when_it_stays(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    def answer(_: Series, __: Sequence[Gap]) -> Outcome:
        raise RefusedError("HTTP 400: -1121 Invalid symbol.", code=-1121)

    async with working(tmp_path, answer) as bench:
        bench.name(gap(BTC, 9, 7))
        await trio.sleep(1_000)
        assert len(bench.asked()) == 4
        [row] = bench.store.journal.gaps_in(BTC, Span(0, MAX_TIME_MS))
        assert (row.state, row.reason, row.asked) == (State.CLOSED, Reason.REFUSED, 4)


async def test_while_a_market_rests_the_queue_is_not_walked_in_vain(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """A ban takes minutes, in which others of the recorder ring again and again."""

    def answer(_: Series, __: Sequence[Gap]) -> Outcome:
        raise RefusedError("HTTP 403")

    async with working(tmp_path, answer) as bench:
        bench.name(gap(BTC, 9, 7), gap(ETH, 9, 7))
        await trio.sleep(5)
        bench.jobs.clear()
        for _ in range(100):
            bench.filler.storage.gaps_named.ring()
            await trio.sleep(1)
        assert bench.jobs == []


async def test_what_is_not_recorded_or_not_closed_is_not_asked_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path, recorded=[BTC]) as bench:
        bench.filler.until_ms = ago(5)
        bench.name(gap(ETH, 9, 8), gap(BTC, 7, -1))
        await trio.sleep(100)
        assert [spans for _, _, spans in bench.rest.asked] == [[Span(ago(7), ago(5))]]
        assert await bench.filler.pending() == 0


async def test_a_long_gap_is_asked_for_page_after_page_without_a_pause(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Other workers have read the queue meanwhile, and passed over the series."""

    def newest_candle(_: Series, gaps: Sequence[Gap]) -> Outcome:
        to_ms = gaps[-1].span.to_ms
        return filled([attrs.evolve(gaps[-1], span=Span(to_ms - MINUTE_MS, to_ms))])

    async with working(tmp_path, newest_candle) as bench:
        bench.name(gap(BTC, 9, 4))
        await trio.sleep(3)
        assert bench.asked() == [BTC] * 5
        assert bench.states(BTC) == {State.FILLED}


async def test_a_row_that_no_bell_told_of_is_found_within_a_minute(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """One that moved between two reads of the queue."""
    async with working(tmp_path) as bench:
        await trio.sleep(5)
        bench.store.journal.settle([gap(BTC, 9, 8)], {BTC: SeriesAccount(0, NOW_MS)})
        await trio.sleep(61)
        assert bench.asked() == [BTC]


async def test_of_a_gap_that_still_forms_only_what_has_closed_is_asked_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """As of a symbol that trades again: no answer proves that such a candle does not come."""
    async with working(tmp_path) as bench:
        bench.name(gap(BTC, 2, -3))
        await trio.sleep(5)
        assert [spans for _, _, spans in bench.rest.asked] == [[Span(ago(2), ago(0))]]


async def test_each_of_many_series_is_asked_for_once(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """More than one read of the queue gives; no worker waits for another's series."""
    many = [Series("spot", f"COIN{n}USDT", "1m") for n in range(250)]
    async with working(tmp_path, recorded=many) as bench:
        bench.name(*(gap(one, 3 + n % 7, 2) for n, one in enumerate(many)))
        await trio.sleep(30)
        assert sorted(bench.asked()) == sorted(many)
        assert await bench.filler.pending() == 0


async def test_a_series_with_many_gaps_keeps_no_worker_from_the_others(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Its rows fill the first page of the queue."""
    async with working(tmp_path) as bench:
        scattered = [gap(BTC, n, n - 1) for n in range(400, 100, -2)]
        bench.name(*scattered, gap(ETH, 900, 899), gap(LTC, 950, 949))
        await trio.sleep(0.3)
        assert set(bench.asked()) == {BTC, ETH, LTC}


async def test_candles_are_told_of_after_their_commit(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path) as bench:
        bench.name(gap(BTC, 9, 7))
        await trio.sleep(0.05)
        async with bench.filler.storage.commit_door.held():
            await trio.sleep(1)
            assert bench.committed == []
        await trio.sleep(1)
        assert len(bench.committed) == 2


async def test_a_stop_at_any_moment_of_a_question_leaves_the_gap_pending_or_filled(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    for step in range(60):
        folder = tmp_path / str(step)
        async with working(folder) as bench:
            bench.name(gap(BTC, 9, 7))
            # The answer comes after a tenth of a second.
            await trio.sleep(0.09 + step * 0.001)
            told = [*bench.committed]
        store = Store.open(folder, Layout())
        [row] = store.journal.gaps_in(BTC, Span(0, MAX_TIME_MS))
        assert (row.state is State.FILLED) == bool(store.journal.rows())
        assert not told or row.state is State.FILLED
        store.close()


async def test_a_long_and_old_gap_is_the_archives_and_rest_is_not_asked_for_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    day = 1_440
    async with working(tmp_path) as bench:
        bench.name(gap(BTC, 10 * day, 0))
        await trio.sleep(5)
        newest_asked = {spans[0].from_ms for _, _, spans in bench.rest.asked}
        share = bench.filler.archive.share(BTC, Span(ago(10 * day), ago(0)), NOW_MS)
        assert share is not None
        assert min(newest_asked) == share.to_ms
        [*_, rest_of_it] = bench.store.journal.gaps_in(BTC, Span(0, share.to_ms))
        assert rest_of_it.state is State.PENDING


@pytest.mark.parametrize("is_halt", [True, False])
async def test_of_a_market_that_is_quiet_the_busiest_symbol_is_asked_for_first(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, is_halt: bool
) -> None:
    many = [Series("spot", f"A{number}USDT", "1m") for number in range(12)]
    busiest, days = many[5], 5 * 1_440
    quiet = [attrs.evolve(gap(one, days, days - 60), reason=Reason.ARCHIVE_QUIET) for one in many]

    def answer(_: Series, gaps: Sequence[Gap]) -> Outcome:
        outcome = filled(gaps)
        if not is_halt:
            return outcome
        [refill] = outcome.refills
        candles = tuple(attrs.evolve(one, trade_num=0) for one in refill.candles)
        return Outcome((attrs.evolve(refill, candles=candles),))

    async with working(tmp_path, answer, recorded=many) as bench:
        for row in quiet:
            expected = 900.0 if row.series == busiest else 100.0
            bench.filler.archive.halts.see(row.series, row.span, expected, trio.current_time())
        bench.name(*quiet)
        await trio.sleep(10)
        assert bench.asked()[0] == busiest
        if is_halt:
            assert bench.asked() == [busiest], "the archive's rows of all others are right"
        else:
            assert bench.rest.asked[1][0] >= bench.rest.asked[0][0] + 0.1, "after its answer"
            assert sorted(bench.asked(), key=str) == sorted(many, key=str)


@pytest.mark.parametrize("why", ["it fails", "it is not recorded", "its gap is filled already"])
async def test_nobody_waits_for_a_busiest_symbol_that_does_not_answer(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, why: str
) -> None:
    many = [Series("spot", f"A{number}USDT", "1m") for number in range(12)]
    busiest, others, days = many[5], {*many} - {many[5]}, 5 * 1_440
    quiet = [attrs.evolve(gap(one, days, days - 60), reason=Reason.ARCHIVE_QUIET) for one in many]

    def answer(series: Series, gaps: Sequence[Gap]) -> Outcome:
        if series == busiest:
            raise UnavailableError("the answer cannot be read")
        return filled(gaps)

    recorded = sorted(others, key=str) if why == "it is not recorded" else many
    async with working(tmp_path, answer, recorded=recorded) as bench:
        for row in quiet:
            expected = 900.0 if row.series == busiest else 100.0
            bench.filler.archive.halts.see(row.series, row.span, expected, trio.current_time())
        is_filled = why == "its gap is filled already"
        bench.name(*(row for row in quiet if row.series in (others if is_filled else recorded)))
        await trio.sleep(180)
        assert others <= {*bench.asked()}


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        (None, "Refilled"),
        (RefusedError("no \x1b", code=-1121), "refuses to answer"),
    ],
)
async def test_a_storm_of_many_series_is_a_few_lines(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: RefusedError | None,
    phrase: str,
) -> None:
    caplog.set_level("INFO", "kline_trio")
    many = [Series("spot", f"A{number}USDT", "1m") for number in range(300)]

    def answer(_: Series, gaps: Sequence[Gap]) -> Outcome:
        if fault is not None:
            raise fault
        return filled(gaps)

    async with working(tmp_path, answer, recorded=many) as bench:
        bench.name(*(gap(series, 5, 3) for series in many))
        await trio.sleep(60)
        assert len(bench.asked()) >= len(many)
    lines = [line for line in caplog.messages if phrase in line]
    assert len(lines) <= 10
    if fault is None:
        counts = [int(line.split()[1].replace(",", "")) for line in lines]
        assert sum(counts) == bench.filler.progress.refilled == 600
        assert "2 candles of spot" in lines[0]
    else:
        assert " more: " in lines[1]
