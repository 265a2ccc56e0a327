"""An exchange that says what is not so, over real sockets: what it says alone is not believed."""

import signal
from collections.abc import Callable

import pandas as pd
import pytest

from kline_trio.candle import Series
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from tests.end_to_end.expected import COIN, SPOT, USDT, Key, expected_frame, stored_frame
from tests.end_to_end.harness import Recorder, StandIn, wait_until
from tests.end_to_end.test_faults import record_two_more

YEAR = 365 * 86_400


def accounts(ours: Recorder) -> dict[Series, SeriesAccount]:
    with journal_view(ours.store) as journal:
        return journal.accounts()


def assert_no_lie_was_believed(exchange: StandIn, ours: Recorder, *keys: Key) -> None:
    """What is stored was traded; what is not is in the ledger, and was not denied."""
    truth = exchange.truth()
    with journal_view(ours.store) as journal:
        absences = tuple(journal.gaps())
    assert [one for one in absences if one.state is State.CLOSED] == []
    for key in keys:
        frame = stored_frame(ours.store, key)
        pd.testing.assert_frame_equal(frame, expected_frame(key[2], truth[key]).loc[frame.index])
        assert accounts(ours)[Series(*key)].watermark_ms <= max(row.T for row in truth[key]) + 1
    assert [fault for file in check(ours.store) for fault in file.faults] == []


@pytest.mark.parametrize(
    ("speed", "start", "ahead"),
    [
        (60, "2031-01-31T23:00:00Z", -86_400),
        (600, "2017-08-17T04:00:00Z", 10 * YEAR),
    ],
)
def test_a_time_endpoint_that_lies_at_the_start_moves_no_watermark(
    stand_in: Callable[..., StandIn],
    recorder: Callable[..., Recorder],
    speed: int,
    start: str,
    ahead: int,
) -> None:
    exchange = stand_in("--speed", str(speed), "--start", start)
    exchange.do("lie", about="time", ahead=ahead, seconds=4 * speed)
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        record_two_more(program, SPOT)
        wait_until(lambda: Series(*SPOT) in accounts(ours), "the time should become known")
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert_no_lie_was_believed(exchange, ours, SPOT)


@pytest.mark.parametrize("speed", [60, 600])
def test_a_lie_of_a_moment_is_not_believed(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], speed: int
) -> None:
    exchange = stand_in("--speed", str(speed))
    ours = recorder(exchange, SPOT, COIN)

    def lie(about: str, ahead: float) -> None:
        for market in ("spot", "coin_futures"):
            exchange.do("lie", market=market, about=about, ahead=ahead, seconds=speed)

    with ours.running() as program:
        record_two_more(program, SPOT, COIN)
        # What bears witness of time comes last: two that say the same are believed.
        for about, by in (("time", 10 * YEAR), ("rows", 0.007), ("rows", -10 * YEAR)):
            lie(about, by)
            exchange.do("drop")
            record_two_more(program, SPOT)
        exchange.do("silence", stream="btcusdt@kline_1m", seconds=300)
        for ahead in (46 * 60, 7 * YEAR):
            lie("event", ahead)
        for ahead in (3 * 3_600, 7 * YEAR, -YEAR, -50 * YEAR):
            lie("candle", ahead)
        record_two_more(program, SPOT, COIN)
        assert program.end(signal.SIGINT) == 0
    assert program.count("passed over an event time that is not the exchange's") == 2
    assert_no_lie_was_believed(exchange, ours, SPOT, COIN)


def test_where_an_archives_file_is_quiet_among_busy_rows_the_exchange_is_asked(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--speed", "60", "--history-days", "4.2")
    at = -3.5 * 86_400
    for ahead, minutes in ((at, 13), (at + 7_200, 4), (at + 43_200, 600)):
        exchange.do(
            "lie", "usdt_futures", about="quiet", symbol=USDT[1], ahead=ahead, seconds=minutes * 60
        )
    ours = recorder(exchange, SPOT, USDT)
    with ours.running("--since", "2023-03-20T12:00:00Z", command="backfill") as program:
        assert program.end(seconds=120) == 0, program.story()
    with journal_view(ours.store) as journal:
        absences = [*journal.gaps()]
    asked = [one for one in absences if one.reason is Reason.ARCHIVE_QUIET]
    assert sum(one.series.interval.count(one.span) for one in asked) >= 617
    # A minute passes each second: what closes while the program ends may be pending.
    of_before = [one for one in absences if one.reason is not Reason.RECORDER_DOWN]
    assert {one.state for one in of_before} == {State.FILLED}
    truth = exchange.truth()
    for key in (SPOT, USDT):
        frame = stored_frame(ours.store, key)
        assert len(frame) >= 3.9 * 1_440
        pd.testing.assert_frame_equal(frame, expected_frame(key[2], truth[key]).loc[frame.index])
