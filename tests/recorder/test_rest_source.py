"""What becomes of gaps by what REST answers, over a scripted transport."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig
from kline_trio.errors import UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.recorder.rest_source import Outcome, RestSource, _Witnesses
from kline_trio.storage.journal.ledger import Gap, Reason
from tests.fakes import tell_time

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = 1_719_759_600_000  # 2024-06-30 15:00
BTC = Series("spot", "BTCUSDT", "1m")
COIN = Series("coin_futures", "BTCUSD_PERP", "1m")


def gap(
    from_ms: int, to_ms: int, asked: int = 0, reason: Reason = Reason.NOT_RECEIVED, of: Series = BTC
) -> Gap:
    return Gap(of, Span(from_ms, to_ms), NOW_MS, reason, asked=asked)


def recent(minutes: int = 3, asked: int = 0) -> Gap:
    return gap(NOW_MS - (minutes + 1) * MINUTE_MS, NOW_MS - MINUTE_MS, asked)


def row(open_ms: int, trades: int = 5) -> list[object]:
    end_ms = open_ms + MINUTE_MS - 1
    return [open_ms, "1", "2", "1", "1.5", "3", end_ms, "4", trades, "1", "2", "0"]


@attrs.define(eq=False)
class Wire:
    """A market as a test wants it, and how often each endpoint was asked."""

    rows: dict[int, list[object]] = attrs.field(factory=dict)
    listed: dict[str, str] = attrs.field(factory=dict)
    onboard_ms: int | None = None
    asked: Counter[str] = attrs.field(factory=Counter)
    is_down: bool = False
    has_list: bool = True
    """Whether the list of symbols can be had."""
    stored_ms: Sequence[int] = ()
    """The candles that we have."""

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        what = request.url.path.rsplit("/", 1)[1]
        self.asked[what] += 1
        await trio.sleep(0.1)
        if self.is_down or (what == "exchangeInfo" and not self.has_list):
            return httpx2.Response(503)
        if what == "exchangeInfo":
            symbols = [
                {"symbol": name, "status": status, "contractStatus": status,
                 "onboardDate": self.onboard_ms}
                for name, status in self.listed.items()
            ]  # fmt: skip
            return httpx2.Response(200, json={"symbols": symbols})
        if what == "time":
            return httpx2.Response(200, json={"serverTime": NOW_MS})
        query = request.url.params
        from_ms, to_ms = int(query.get("startTime", 0)), int(query.get("endTime", 2**60))
        found = [self.rows[ms] for ms in sorted(self.rows) if from_ms <= ms <= to_ms]
        limit = int(query["limit"])
        newest_first = "startTime" not in query or request.url.path.startswith("/dapi")
        return httpx2.Response(200, json=found[-limit:] if newest_first else found[:limit])


@asynccontextmanager
async def source(wire: Wire, attempts: int = 4) -> AsyncIterator[RestSource]:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(wire)) as client:
        markets = {}
        for name in ("spot", "coin_futures"):
            clock = ExchangeClock()
            tell_time(clock, NOW_MS)
            pool = RateLimiter(6_000, 1.0)
            markets[name] = RestMarket(client, MARKETS[name], ("https://a",), pool, clock)

        async def first_stored_ms(_: Series, within: Span) -> int | None:
            await trio.sleep(0.1)
            known = [ms for ms in wire.stored_ms if within.from_ms <= ms < within.to_ms]
            return min(known, default=None)

        if not wire.is_down:
            await markets["spot"].confirm_time()
        yield RestSource(markets, CompletenessConfig(attempts=attempts), first_stored_ms)


async def asked_again(rest: RestSource, *gaps: Gap) -> Outcome:
    """Ask a second time, 10 s after the first: only then an absence is believed."""
    first = await rest.ask(gaps[0].series, gaps)
    assert {refill.closes for refill in first.refills} == {None}
    await trio.sleep(10)
    return await rest.ask(gaps[0].series, gaps)


async def test_what_is_there_fills_and_tells_what_the_stream_should_have_brought(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(3)
    wire = Wire({ms: row(ms) for ms in BTC.interval.open_times_ms(one.span)})
    wire.rows[one.span.to_ms - MINUTE_MS] = row(one.span.to_ms - MINUTE_MS, trades=0)
    async with source(wire) as rest:
        outcome = await rest.ask(BTC, [one])
    assert [candle.open_time_ms for candle in outcome.candles] == sorted(wire.rows)
    [refill] = outcome.refills
    assert (refill.span, refill.closes) == (one.span, None)
    assert outcome.undelivered_ms == one.span.to_ms - 2 * MINUTE_MS, "the last without trades"


@pytest.mark.parametrize(("asked", "wait_seconds"), [(0, 10.0), (1, 60.0), (2, 360.0), (3, None)])
async def test_a_new_gap_is_asked_for_each_time_after_longer(
    autojump_clock: trio.testing.MockClock, asked: int, wait_seconds: float | None
) -> None:
    one = recent(asked=asked)
    async with source(Wire(listed={"BTCUSDT": "TRADING"})) as rest:
        outcome = await asked_again(rest, one)
    [refill] = outcome.refills
    if wait_seconds is None:
        assert (refill.closes, outcome.wait_seconds) == (Reason.EXCHANGE_HAD_NONE, {})
    else:
        assert (refill.closes, outcome.wait_seconds) == (None, {one.span: wait_seconds})


@pytest.mark.parametrize("asked", [0, 1])
async def test_of_a_gap_of_long_ago_two_answers_are_enough(
    autojump_clock: trio.testing.MockClock, asked: int
) -> None:
    one = gap(NOW_MS - 3 * DAY_MS, NOW_MS - 2 * DAY_MS, asked)
    wire = Wire({0: row(0)}, {"BTCUSDT": "TRADING"})
    async with source(wire) as rest:
        outcome = await asked_again(rest, one)
    assert [refill.closes for refill in outcome.refills] == [
        Reason.EXCHANGE_HAD_NONE if asked else None
    ]
    assert list(outcome.wait_seconds.values()) == ([] if asked else [10.0])


async def test_what_lies_behind_the_end_of_a_symbol_is_delisted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(asked=3)
    last_ms = one.span.from_ms - MINUTE_MS
    async with source(Wire({last_ms: row(last_ms)}, {"BTCUSDT": "BREAK"})) as rest:
        assert (await asked_again(rest, one)).wait_seconds == {one.span: 10.0}
        await trio.sleep(10)
        [refill] = (await rest.ask(BTC, [one])).refills
    assert refill.closes is Reason.DELISTED


async def test_one_wrong_answer_about_the_newest_candle_calls_no_symbol_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A symbol that is halted has candles before and after the gap."""
    one = recent(asked=3)
    before_ms, after_ms = one.span.from_ms - MINUTE_MS, one.span.to_ms
    wire = Wire({before_ms: row(before_ms)}, {"BTCUSDT": "HALT"})
    async with source(wire) as rest:
        assert (await asked_again(rest, one)).refills == ()
        wire.rows[after_ms] = row(after_ms)
        for closes in ([], [Reason.EXCHANGE_HAD_NONE]):
            await trio.sleep(10)
            assert [told.closes for told in (await rest.ask(BTC, [one])).refills] == closes


async def test_two_answers_with_other_newest_candles_call_no_symbol_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The rows of a host may be a year behind, and later ten."""
    one = recent(asked=3)
    wire = Wire({}, {"BTCUSDT": "BREAK"})
    async with source(wire) as rest:
        for years in (1, 10, 3):
            moved_ms = one.span.from_ms - years * 365 * DAY_MS
            wire.rows = {moved_ms: row(moved_ms)}
            assert [told.closes for told in (await rest.ask(BTC, [one])).refills] in ([], [None])
            await trio.sleep(10)


async def test_a_newest_candle_of_before_stored_ones_calls_no_symbol_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(asked=3)
    moved_ms = one.span.from_ms - 365 * DAY_MS
    stored_ms = one.span.from_ms - MINUTE_MS
    wire = Wire({moved_ms: row(moved_ms)}, {"BTCUSDT": "BREAK"}, stored_ms=[stored_ms])
    async with source(wire) as rest:
        for _ in range(4):
            assert [told.closes for told in (await rest.ask(BTC, [one])).refills] in ([], [None])
            await trio.sleep(10)
        wire.rows[stored_ms] = row(stored_ms)
        for _ in range(2):
            told = await rest.ask(BTC, [one])
            await trio.sleep(10)
    assert [refill.closes for refill in told.refills] == [Reason.DELISTED]


async def test_without_the_list_nothing_is_closed_and_what_came_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Why a candle is absent cannot be told then; that is no reason to throw others away."""
    one = recent(3, asked=3)
    there_ms = one.span.from_ms
    wire = Wire({there_ms: row(there_ms)}, has_list=False)
    missing = gap(there_ms + MINUTE_MS, one.span.to_ms, asked=3)
    both = [gap(there_ms, there_ms + MINUTE_MS), missing]
    async with source(wire) as rest:
        await asked_again(rest, *both)
        outcome = await rest.ask(BTC, both)
    assert [candle.open_time_ms for candle in outcome.candles] == [there_ms]
    assert {refill.closes for refill in outcome.refills} == {None}
    assert outcome.wait_seconds == {missing.span: 10.0}


async def test_a_newest_candle_of_a_time_to_come_closes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(asked=3)
    lie_ms = NOW_MS + 3_650 * DAY_MS
    wire = Wire(listed={"BTCUSDT": "BREAK"})
    async with source(wire) as rest:
        first_ms = one.span.from_ms - MINUTE_MS
        wire.rows = {first_ms: row(first_ms)}
        await asked_again(rest, attrs.evolve(one, asked=0))
        wire.rows[lie_ms] = row(lie_ms)
        outcome = await rest.ask(BTC, [one])
    assert outcome.refills == ()
    assert outcome.wait_seconds == {one.span: 10.0}


async def test_a_first_candle_of_a_time_to_come_is_no_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lie_ms = NOW_MS + 3_650 * DAY_MS
    async with source(Wire({lie_ms: row(lie_ms)})) as rest:
        with pytest.raises(UnavailableError, match="a time to come"):
            await rest.before_the_first(BTC, [recent()])


async def test_whether_a_series_is_over_is_asked_once_for_all_gaps_of_a_page(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each is judged by itself: what lies before the end is no delisting."""
    before, last_ms, behind = (NOW_MS - n * MINUTE_MS for n in (9, 8, 4))
    gaps = [gap(ms, ms + MINUTE_MS, asked=3) for ms in (before, behind)]
    wire = Wire({ms: row(ms) for ms in (before - MINUTE_MS, last_ms)}, {"BTCUSDT": "BREAK"})
    async with source(wire) as rest:
        for _ in range(2):
            await rest.ask(BTC, gaps)
            await trio.sleep(10)
        wire.asked.clear()
        outcome = await rest.ask(BTC, gaps)
    closes = [refill.closes for refill in outcome.refills]
    assert closes == [Reason.EXCHANGE_HAD_NONE, Reason.DELISTED]
    assert wire.asked["klines"] == 2, "the page, and the newest"


async def test_a_list_of_before_the_first_attempt_is_not_believed_and_one_of_after_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire(listed={"BTCUSDT": "TRADING"})
    async with source(wire) as rest:
        await asked_again(rest, recent(asked=3))
        await trio.sleep(400)
        await rest.ask(BTC, [recent(asked=3)])
        assert wire.asked["exchangeInfo"] == 1
        await trio.sleep(31)
        await rest.ask(BTC, [recent(asked=3)])
        assert wire.asked["exchangeInfo"] == 2


async def test_workers_that_need_the_list_at_the_same_time_ask_for_it_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Spot's has 15 MB."""
    wire = Wire(listed={"BTCUSDT": "TRADING"})
    async with source(wire) as rest:
        await rest.ask(BTC, [recent(asked=3)])
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(rest.ask, BTC, [recent(asked=3)])
    assert wire.asked["exchangeInfo"] == 1


async def test_one_answer_closes_nothing_whatever_is_recorded_of_earlier_attempts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After a restart the ledger tells how often it was asked, and not when or whom."""
    async with source(Wire(listed={"BTCUSDT": "TRADING"}), attempts=1) as rest:
        one = recent(asked=5)
        outcome = await rest.ask(BTC, [one])
        assert [refill.closes for refill in outcome.refills] == [None]
        assert outcome.wait_seconds == {one.span: 10.0}
        await trio.sleep(5)
        assert [refill.closes for refill in (await rest.ask(BTC, [one])).refills] == [None]
        await trio.sleep(5)
        [refill] = (await rest.ask(BTC, [one])).refills
        assert refill.closes is Reason.EXCHANGE_HAD_NONE


async def test_rows_of_another_time_say_nothing_of_what_is_absent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(3, asked=3)
    times = list(BTC.interval.open_times_ms(one.span))
    wire = Wire({times[0]: row(times[0]), times[1]: row(times[1] - 3_000 * DAY_MS)})
    there, lacking = Span(times[0], times[1]), Span(times[1], one.span.to_ms)
    async with source(wire) as rest:
        outcome = await rest.ask(BTC, [one])
        assert not outcome.refills
        assert outcome.wait_seconds == {there: 10.0, lacking: 10.0}
        for _ in range(3):
            await trio.sleep(20)
            outcome = await rest.ask(BTC, [one])
            [refill] = outcome.refills
            assert refill.span == there, "what it has said twice is taken"
            assert outcome.wait_seconds == {lacking: 10.0}


@pytest.mark.parametrize("moved", [-2, 2])
@pytest.mark.parametrize("has_others", [True, False], ids=["with rows around", "the only rows"])
async def test_rows_that_were_moved_by_whole_candles_are_not_taken(
    autojump_clock: trio.testing.MockClock, moved: int, has_others: bool
) -> None:
    """They stand on the grid; only that some are lacking, or outside, tells that they are wrong."""
    one = recent(6)
    times = list(BTC.interval.open_times_ms(one.span))
    offsets = range(-3, 9) if has_others else range(max(0, -moved), 4)
    true = [times[0] + n * MINUTE_MS for n in offsets]

    def rows(by: int) -> dict[int, list[object]]:
        return {ms: row(ms + by * MINUTE_MS, trades=ms // MINUTE_MS % 97) for ms in true}

    wire = Wire(rows(moved), listed={"BTCUSDT": "TRADING"})
    async with source(wire) as rest:
        outcome = await rest.ask(BTC, [one])
        assert outcome.candles == []
        wire.rows = rows(0)
        await trio.sleep(10)
        first = (await rest.ask(BTC, [one])).candles
        await trio.sleep(10)
        again = (await rest.ask(BTC, [one])).candles
    there = [ms for ms in true if ms in times]
    assert [candle.open_time_ms for candle in again] == there
    assert first == (again if len(there) == len(times) else []), "a whole answer needs no second"
    assert all(candle.trade_num == candle.open_time_ms // MINUTE_MS % 97 for candle in again)


async def test_rows_beside_a_hole_are_taken_when_two_answers_have_the_same_values(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = recent(4)
    there = list(BTC.interval.open_times_ms(one.span))[1:]
    wire = Wire(listed={"BTCUSDT": "TRADING"})
    async with source(wire) as rest:
        for trades, is_taken in ((5, False), (6, False), (6, True)):
            wire.rows = {ms: row(ms, trades) for ms in there}
            candles = (await rest.ask(BTC, [one])).candles
            assert [candle.trade_num for candle in candles] == [6, 6, 6] * is_taken
            await trio.sleep(10)


async def test_a_row_that_cannot_be_closes_its_own_time_when_it_comes_twice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As 1,201 rows of February 2018 do."""
    one = recent(3)
    times = list(BTC.interval.open_times_ms(one.span))
    wire = Wire({ms: row(ms) for ms in times})
    wire.rows[times[1]] = [times[1] + 17, *row(times[1])[1:]]
    middle = Span(times[1], times[2])
    async with source(wire) as rest:
        outcome = await rest.ask(BTC, [one])
        assert [candle.open_time_ms for candle in outcome.candles] == [times[0], times[2]]
        assert outcome.wait_seconds == {middle: 10.0}
        assert {refill.closes for refill in outcome.refills} == {None}
        await trio.sleep(10)
        [refill] = (await rest.ask(BTC, [attrs.evolve(one, span=middle, asked=1)])).refills
        assert (refill.span, refill.closes) == (middle, Reason.OFF_THE_GRID)


async def test_a_candle_whose_close_is_not_proven_is_left_out_and_delays_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = gap(NOW_MS - 2 * MINUTE_MS, NOW_MS + MINUTE_MS, asked=3)
    times = list(BTC.interval.open_times_ms(one.span))
    async with source(Wire({ms: row(ms) for ms in times})) as rest:
        outcome = await rest.ask(BTC, [one])
        [refill] = outcome.refills
        assert refill.span == Span(one.span.from_ms, NOW_MS)
        assert outcome.wait_seconds == {Span(NOW_MS, NOW_MS + MINUTE_MS): 2.0}
        assert rest.markets["spot"].clock.doubt.is_set(), "so that the time is asked for at once"


@pytest.mark.parametrize("of", [BTC, COIN])
async def test_what_is_older_than_the_first_candle_is_closed_when_two_answers_agree(
    autojump_clock: trio.testing.MockClock, of: Series
) -> None:
    first_ms = NOW_MS - 500 * DAY_MS
    hour = [first_ms + n * MINUTE_MS for n in range(60)]
    since = [NOW_MS - n * DAY_MS for n in range(500)]
    one = gap(NOW_MS - 900 * DAY_MS, NOW_MS, reason=Reason.NOT_CONFIGURED, of=of)
    # The list's date is only a hint: it may be late.
    wire = Wire(
        {ms: row(ms) for ms in (*hour, *since)}, {of.symbol: "TRADING"}, NOW_MS - 400 * DAY_MS
    )
    async with source(wire) as rest:
        [refill] = (await rest.before_the_first(of, [one])).refills
        assert (refill.span, refill.closes) == (Span(one.span.from_ms, first_ms), None)
        asked = wire.asked.total()
        await trio.sleep(5)
        await rest.before_the_first(of, [one])
        assert wire.asked.total() == asked, "nothing new is to be had so soon"
        await trio.sleep(5)
        [refill] = (await rest.before_the_first(of, [one])).refills
        assert refill.span == Span(one.span.from_ms, first_ms)
        assert refill.closes is Reason.NOT_LISTED


async def test_a_first_candle_that_is_another_the_second_time_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first_ms, lie_ms = NOW_MS - 500 * DAY_MS, NOW_MS - DAY_MS
    one = gap(NOW_MS - 900 * DAY_MS, NOW_MS, reason=Reason.NOT_CONFIGURED)
    wire = Wire({lie_ms: row(lie_ms)})
    async with source(wire) as rest:
        await rest.before_the_first(BTC, [one])
        wire.rows = {first_ms: row(first_ms)}
        for closes in (None, Reason.NOT_LISTED):
            await trio.sleep(10)
            [refill] = (await rest.before_the_first(BTC, [one])).refills
            assert (refill.span.to_ms, refill.closes) == (first_ms, closes)


async def test_nothing_behind_a_stored_candle_was_not_listed_yet(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stored_ms, lie_ms = NOW_MS - 500 * DAY_MS, NOW_MS - DAY_MS
    one = gap(NOW_MS - 900 * DAY_MS, NOW_MS, reason=Reason.NOT_CONFIGURED)
    wire = Wire({lie_ms: row(lie_ms)}, stored_ms=[stored_ms])
    async with source(wire) as rest:
        for _ in range(2):
            [refill] = (await rest.before_the_first(BTC, [one])).refills
            assert refill.span == Span(one.span.from_ms, stored_ms)
            await trio.sleep(10)


async def test_without_an_answer_nothing_becomes_of_a_gap(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with source(Wire(is_down=True)) as rest:
        with pytest.raises(UnavailableError, match="503"):
            await rest.ask(BTC, [recent(asked=3)])


@pytest.mark.parametrize(("asked", "closes"), [(0, None), (3, Reason.REFUSED)])
async def test_a_refusal_is_believed_at_the_last_attempt(
    autojump_clock: trio.testing.MockClock, asked: int, closes: Reason | None
) -> None:
    gaps: Sequence[Gap] = [recent(asked=asked)]
    async with source(Wire()) as rest:
        outcome = rest.refused(gaps)
    assert [refill.closes for refill in outcome.refills] == [closes]
    assert bool(outcome.wait_seconds) == (closes is None)


def test_the_answer_before_is_a_witness_after_a_ban_of_hours_for_each_of_its_spans() -> None:
    witnesses = _Witnesses()
    spans = [Span(0, MINUTE_MS), Span(2 * MINUTE_MS, 3 * MINUTE_MS)]
    for now, is_sure in ((0.0, False), (4_000.0, True), (8_000.0, True)):
        said = [witnesses.confirm(BTC, span, "one.test", now, "absent") for span in spans]
        assert said == [is_sure, is_sure]
    assert len(witnesses._statements[BTC]) == 4
