"""What the auditor writes, and when the states adopt it: a real store, in virtual time."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series, Source
from kline_trio.errors import DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import Span
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import State
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount
from kline_trio.storage.journal.ledger import State as GapState
from kline_trio.storage.layout import Layout
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.store import Store
from tests.fakes import CountedBell, tell_time

MINUTE_MS = 60_000
START_MS = 1_719_759_600_000  # 2024-06-30 15:00
BTC, ETH = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH"))
LABEL = datetime(2024, 7, 1, tzinfo=UTC)


def minute(count: float) -> int:
    return START_MS + round(count * MINUTE_MS)


def candle(count: int, trades: int = 5) -> Candle:
    return Candle(minute(count), 1.5, 2.0, 1.0, 1.25, 3.0, 4.0, trades, 1.0, 2.0)


@attrs.define(eq=False)
class Desk:
    """An auditor, and what surrounds it."""

    store: Store
    series: SeriesSet
    clock: ExchangeClock
    may_judge: bool = True
    told_ms: int | None = None
    bell: CountedBell = attrs.field(factory=CountedBell)
    before_job: Callable[[str], None] = lambda _: None
    """Called before each job on the disk, with its name."""
    auditor: Auditor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        door = SerialExecutor(self._on_disk)
        self.auditor = Auditor(
            Storage(self.store, door, door, self.bell),
            self.series,
            {"spot": self.clock},
            None,
            lambda: self.may_judge,
            lambda _: self.told_ms,
        )

    async def _on_disk(self, job: Callable[..., object], *arguments: object) -> object:
        await trio.sleep(0.01)
        self.before_job(getattr(job, "__name__", ""))
        return job(*arguments)

    def tell(self, count: float) -> None:
        """It is so many minutes after the start, on the exchange."""
        tell_time(self.clock, minute(count))

    def receive(self, series: Series, *counts: int) -> None:
        """Candles come, and are committed."""
        batch = [ReceivedCandle(series, candle(count), LABEL) for count in counts]
        for one in batch:
            self.series.received(series, one.candle.open_time_ms)
        self.store.journal.accept(batch)
        self.series.committed(batch)

    def ledger(self, series: Series) -> list[tuple[float, float, str, str]]:
        return [
            (
                (one.span.from_ms - START_MS) / MINUTE_MS,
                (one.span.to_ms - START_MS) / MINUTE_MS,
                str(one.reason),
                str(one.state),
            )
            for one in self.store.journal.gaps_in(series, Span(0, MAX_TIME_MS))
        ]

    def watermark(self, series: Series) -> float:
        return (self.store.journal.accounts()[series].watermark_ms - START_MS) / MINUTE_MS


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = Store.open(tmp_path, Layout())
    yield Desk(store, SeriesSet(5_000), ExchangeClock())
    store.close()


async def begun(desk: Desk, *series: Series) -> None:
    desk.series.set_series(series or (BTC,), {})
    desk.tell(0.5)
    await desk.auditor.audit()


async def test_nothing_is_done_before_the_exchange_has_told_the_time(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.series.set_series([BTC], {})
    await desk.auditor.audit()
    assert desk.store.journal.accounts() == {}
    assert desk.series.state_of(BTC) is State.WANTED
    await begun(desk)
    assert desk.auditor.is_stock_taken
    assert desk.store.journal.accounts() == {BTC: SeriesAccount(minute(0), minute(0))}


async def test_a_gap_and_its_watermark_are_one_transaction_of_that_series_only(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk, BTC, ETH)
    desk.receive(BTC, 0, 1, 2)
    desk.receive(ETH, 0, 2)
    desk.tell(3.5)
    await desk.auditor.audit()
    assert desk.ledger(BTC) == []
    assert desk.ledger(ETH) == [(1, 2, "not received", "pending")]
    assert (desk.watermark(BTC), desk.watermark(ETH)) == (0, 3)
    assert len(desk.bell.rings) == 2, "once for the scan, once for the gap"


async def test_watermarks_are_written_every_ten_minutes_and_at_the_end(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.receive(BTC, 0, 1)
    desk.tell(2.5)
    await desk.auditor.audit()
    assert desk.watermark(BTC) == 0
    await trio.sleep(601)
    await desk.auditor.audit()
    assert desk.watermark(BTC) == 2
    desk.receive(BTC, 2)
    desk.tell(3.5)
    await desk.auditor.keep()
    assert desk.watermark(BTC) == 3


async def test_no_gap_is_named_while_candles_wait_for_space(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    """They are on their way, and would be named though they come."""
    await begun(desk)
    desk.tell(2.5)
    desk.may_judge = False
    await desk.auditor.audit()
    await desk.auditor.keep()
    assert desk.ledger(BTC) == []
    assert desk.watermark(BTC) == 0
    desk.may_judge = True
    await desk.auditor.audit()
    assert desk.ledger(BTC) == [(0, 2, "not received", "pending")]


async def test_a_connection_that_is_behind_is_waited_for_but_for_no_more_than_45_s(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.tell(2.5)
    desk.told_ms = minute(1.9)
    await desk.auditor.audit()
    assert desk.ledger(BTC) == [(0, 1, "not received", "pending")]
    desk.told_ms = minute(0.5)
    desk.tell(2.84 + 5 / 60)
    await desk.auditor.audit()
    # 45 s before that is 2 minutes and 10 s, of which the grace is taken.
    assert desk.ledger(BTC) == [(0, 2, "not received", "pending")]


async def test_gaps_of_many_series_let_candles_through_between(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    """As after a cut of all connections: each series has a gap in the same second."""
    many = [Series("spot", f"COIN{n}USDT", "1m") for n in range(1_000)]
    await begun(desk, *many)
    desk.tell(1.5)
    jobs: list[str] = []
    desk.before_job = jobs.append

    async def commit_candles() -> None:
        door = desk.auditor.storage.commit_door
        for count in range(20):
            await door.run(desk.store.journal.accept, [ReceivedCandle(BTC, candle(count), LABEL)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.auditor.audit)
        nursery.start_soon(commit_candles)
    assert jobs.count("settle") == 4
    first, last = jobs.index("settle"), len(jobs) - 1 - jobs[::-1].index("settle")
    assert jobs[first:last].count("accept") >= 3
    assert all(desk.ledger(one) == [(0, 1, "not received", "pending")] for one in many)


async def test_without_space_nothing_is_adopted_and_all_is_computed_anew(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)

    def full(job: str) -> None:
        if job == "settle":
            raise DiskFullError("full")

    desk.before_job = full
    desk.tell(2.5)
    with pytest.raises(DiskFullError):
        await desk.auditor.audit()
    await desk.auditor.keep()
    assert (desk.ledger(BTC), desk.watermark(BTC)) == ([], 0)
    desk.receive(BTC, 1)
    desk.before_job = lambda _: None
    await desk.auditor.audit()
    assert desk.ledger(BTC) == [(0, 1, "not received", "pending")]


async def test_a_candle_that_comes_while_the_door_is_waited_for_is_not_named(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.tell(2.5)

    async def hold_the_door() -> None:
        async with desk.auditor.storage.commit_door.held():
            await trio.sleep(1)
            desk.receive(BTC, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_the_door)
        await trio.sleep(0.5)
        await desk.auditor.audit()
    assert desk.ledger(BTC) == [(1, 2, "not received", "pending")]


async def test_a_stop_at_any_moment_leaves_no_watermark_ahead_of_its_gaps(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The bug that this design is for: candles marked as judged before anything was written."""

    async def stop_at(seconds: float) -> None:
        folder = tmp_path / f"{seconds:.3f}"
        store = Store.open(folder, Layout())
        store.journal.settle([], {BTC: SeriesAccount(minute(-60), minute(-30))})
        desk = Desk(store, SeriesSet(5_000), ExchangeClock())
        with trio.move_on_after(seconds):
            await begun(desk)
            desk.tell(2.5)
            await desk.auditor.audit()
        await desk.auditor.keep()
        mark = desk.watermark(BTC)
        named = [(one[0], one[1]) for one in desk.ledger(BTC)]
        assert named == ([] if mark == -30 else [(-30, mark)] if mark <= 0 else [(-30, 0), (0, 2)])
        store.close()

    for step in range(40):
        await stop_at(step * 0.003)


async def test_no_gap_is_named_if_space_runs_out_while_the_door_is_waited_for(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.tell(2.5)
    async with trio.open_nursery() as nursery:
        async with desk.auditor.storage.commit_door.held():
            nursery.start_soon(desk.auditor.audit)
            await trio.sleep(1)
            desk.may_judge = False
    assert desk.ledger(BTC) == []


async def test_a_series_that_is_taken_out_keeps_since_when(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.receive(BTC, 0)
    desk.tell(2.5)
    desk.series.set_series([], {"spot": desk.clock.now_ms})
    await desk.auditor.audit()
    assert desk.ledger(BTC) == [(1, 2, "not received", "pending")]
    assert desk.store.journal.accounts()[BTC] == SeriesAccount(minute(0), minute(2), minute(2))
    assert desk.series.state_of(BTC) is State.RETIRED


async def test_thousands_of_series_are_taken_out_in_one_go(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    """What falls due next is looked for once, not once for each: that took seconds."""
    every = [Series("spot", f"COIN{n}USDT", "1m") for n in range(3_000)]
    await begun(desk, *every)
    desk.tell(2.5)
    desk.series.set_series([BTC], {})
    began = time.process_time()
    desk.series.confirm_transition(desk.series.in_state(State.RETIRING))
    assert time.process_time() - began < 0.3
    assert desk.series.state_of(every[0]) is State.RETIRED


async def test_a_file_that_is_lost_while_its_series_is_taken_out_is_named_when_it_is_back(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk, BTC, ETH)
    desk.receive(BTC, 0, 1, 2)
    for merge in plan_merges(desk.store.layout, BTC, desk.store.journal.take(BTC)):
        desk.store.journal.forget(desk.store.write(merge), merge.pending)
    desk.tell(3.5)
    await desk.auditor.audit()
    desk.series.set_series([ETH], {"spot": minute(3.5)})
    await desk.auditor.audit()
    [file] = desk.store.journal.files([BTC])
    (desk.store.path / file.path).unlink()
    desk.series.set_series([BTC, ETH], {"spot": minute(3.5)})
    await desk.auditor.audit()
    assert (0, 3, "lost from its file", "pending") in desk.ledger(BTC)


async def test_a_watermark_that_a_wrong_time_led_away_is_set_back_to_the_last_stored_candle(
    desk: Desk, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As an earlier version left it, which believed a time of ten years ahead."""
    ahead = 10 * 365 * 1_440
    desk.receive(BTC, -20, -19, -15, -12)
    closed = Gap(
        BTC, Span(minute(-14), minute(-12)), minute(5), Reason.EXCHANGE_HAD_NONE, GapState.CLOSED
    )
    true = Gap(
        BTC, Span(minute(-18), minute(-15)), minute(-14), Reason.EXCHANGE_HAD_NONE, GapState.CLOSED
    )
    future = Gap(BTC, Span(minute(-11), minute(ahead)), minute(ahead), Reason.NOT_RECEIVED)
    account = SeriesAccount(minute(-20), minute(ahead))
    desk.store.journal.settle([true, closed, future], {BTC: account})
    await begun(desk)
    await desk.auditor.audit()
    assert desk.store.journal.accounts()[BTC] == SeriesAccount(minute(-20), minute(0))
    assert desk.ledger(BTC) == [
        (-18, -15, "the exchange had none", "closed"),
        (-14, -12, "not received", "pending"),
        (-11, 0, "recorder was down", "pending"),
    ]
    assert "which the exchange has not come to" in caplog.text


async def test_the_end_of_a_sealed_series_is_not_led_away_by_its_last_candle(
    desk: Desk, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Flat candles may go on: it is sealed with the candle of then, which is still to close."""
    hours = Series("spot", "BTCUSDT", "1h")
    end_ms = hours.interval.end_time_ms(hours.interval.open_time_ms(minute(0.5)))
    desk.store.journal.settle([], {hours: SeriesAccount(minute(-300), end_ms, end_ms)})
    await begun(desk, hours)
    assert "has not come to" not in caplog.text


async def test_watermarks_that_were_led_away_are_one_line_of_the_log(
    desk: Desk, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    many = [Series("spot", f"A{n}USDT", "1m") for n in range(40)]
    desk.store.journal.settle([], {one: SeriesAccount(minute(-20), minute(10**6)) for one in many})
    await begun(desk, *many)
    await desk.auditor.audit()
    assert {desk.store.journal.accounts()[one].watermark_ms for one in many} <= {
        minute(-20),
        minute(0),
    }
    [line] = [text for text in caplog.messages if "has not come to" in text]
    assert line.count("A") < 20
    assert "30 more" in line


async def test_a_series_that_is_not_configured_any_more_is_retired_at_the_next_start(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.store.journal.settle([], {ETH: SeriesAccount(minute(-60), minute(-30))})
    await begun(desk)
    assert desk.store.journal.accounts()[ETH] == SeriesAccount(
        minute(-60), minute(-30), minute(0.5)
    )


async def test_a_backfill_retires_nothing_and_names_what_closes_meanwhile_as_its_absence(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    known = SeriesAccount(minute(-60), minute(-30))
    desk.store.journal.settle([], {ETH: known})
    desk.auditor.is_recorder = False
    await begun(desk)
    assert desk.store.journal.accounts()[ETH] == known
    desk.tell(2.5)
    await desk.auditor.keep()
    assert desk.ledger(BTC) == [(0, 2, "recorder was down", "pending")]


async def test_a_series_taken_out_before_a_late_scan_was_not_configured_from_the_start_on(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    """The scan of the others may come hours after the recorder's first frame, as in a ban."""
    desk.store.journal.settle([], {ETH: SeriesAccount(minute(-60), minute(-30))})
    desk.series.set_series((BTC, ETH), {})
    desk.tell(0.5)
    desk.series.set_series((BTC,), {})
    desk.tell(20.5)
    await desk.auditor.audit()
    desk.tell(25.5)
    desk.series.set_series((BTC, ETH), {"spot": minute(25.5)})
    await desk.auditor.audit()
    assert desk.ledger(ETH) == [
        (-30, 0, "recorder was down", "pending"),
        (0, 25, "not configured then", "pending"),
    ]


async def test_the_end_is_written_when_the_exchange_was_asked(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await begun(desk)
    desk.receive(BTC, 0, 1)
    desk.series.on_listings({BTC: minute(1.5)}, frozenset())
    desk.tell(3.5)
    await desk.auditor.audit()
    assert desk.series.state_of(BTC) is State.ENDING
    desk.store.journal.refill([FetchResult(BTC, Span(minute(2), minute(3)), (), Source.REST)])
    await desk.auditor.audit()
    assert desk.series.state_of(BTC) is State.SEALED
    assert desk.ledger(BTC) == [(2, 3, "delisted", "closed")]
    assert desk.store.journal.accounts()[BTC] == SeriesAccount(minute(0), minute(3), minute(3))


async def test_what_was_closed_as_delisted_is_pending_again_when_its_symbol_trades(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    row = Gap(BTC, Span(minute(-9), minute(-8)), minute(-1), Reason.DELISTED, GapState.CLOSED)
    desk.store.journal.settle([row], {BTC: SeriesAccount(minute(-20), minute(0))})
    await begun(desk)
    assert desk.ledger(BTC) == [(-9, -8, "delisted", "closed")]
    desk.series.on_listings({}, frozenset([BTC]))
    await desk.auditor.audit()
    assert desk.ledger(BTC) == [(-9, -8, "not configured then", "pending")]
    assert desk.series.state_of(BTC) is State.LIVE


async def test_the_series_that_are_sealed_are_told_once(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[Series] = []

    def sealed(series: Sequence[Series]) -> None:
        told.extend(series)
        desk.series.set_series([], {})

    await begun(desk)
    desk.series.on_listings({BTC: minute(0.5)}, frozenset())
    desk.tell(3.5)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.auditor.run, sealed)
            await trio.sleep(5)
            gaps = [FetchResult(BTC, Span(minute(0), minute(3)), (), Source.REST, Reason.DELISTED)]
            desk.store.journal.refill(gaps)
    assert told == [BTC]
