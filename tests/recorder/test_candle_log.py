"""Which candles have log lines of their own, and what a summary says."""

import logging
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.recorder.candle_log import CandleLog, LogCandles
from kline_trio.recorder.series_set import SeriesSet
from tests.builders import MINUTE_MS, START_MS

MANY = [Series("spot", f"A{number}USDT", "1m") for number in range(21)]
HOURLY = [Series("spot", f"A{number}USDT", "1h") for number in range(1_000)]
LABEL = datetime(2033, 1, 1, tzinfo=UTC)


def log_of(series: list[Series], mode: LogCandles = LogCandles.AUTO) -> CandleLog:
    recorded = SeriesSet(5_000)
    recorded.set_series(series, {"spot": START_MS})
    return CandleLog(recorded, mode)


def commit(
    log: CandleLog, *series: Series, minute: int = 0, source: Source = Source.STREAM
) -> None:
    candle = Candle(START_MS + minute * MINUTE_MS, 1, 2, 1, 2, 5, 8, 3, 2, 4)
    log.committed([ReceivedCandle(one, candle, LABEL, source) for one in series])


def test_few_candles_have_a_line_each_that_names_the_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    log = log_of(MANY[:20])
    commit(log, MANY[0], MANY[1])
    log.summarize()
    assert caplog.messages == [
        "Recorded spot A0USDT-1m at 2024-06-30 15:01:00+00:00",
        "Recorded spot A1USDT-1m at 2024-06-30 15:01:00+00:00",
    ]
    assert {one.levelno for one in caplog.records} == {logging.INFO}


async def test_many_candles_are_summed_up_each_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = log_of(MANY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for minute in range(3):
            await trio.sleep(35)
            commit(log, *MANY, minute=minute)
        await trio.sleep(45)
        nursery.cancel_scope.cancel()
    assert caplog.messages == [
        "Recorded 21 candles of 21 series, up to the close at 2024-06-30 15:01:00+00:00",
        "Recorded 42 candles of 21 series, up to the close at 2024-06-30 15:03:00+00:00",
    ]


def test_each_of_many_candles_can_still_be_seen_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    commit(log_of(MANY), MANY[7])
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.DEBUG,
        "Recorded spot A7USDT-1m at 2024-06-30 15:01:00+00:00",
    )


def test_many_series_of_hours_are_few_candles_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = log_of(HOURLY)
    commit(log, HOURLY[0])
    assert len(caplog.messages) == 1
    commit(log, *HOURLY)  # all hours close at once
    log.summarize()
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("Recorded 1,000 candles of 1,000 series, up to")


@pytest.mark.parametrize(
    ("mode", "lines", "summaries"),
    [(LogCandles.ALWAYS, 21, 0), (LogCandles.SUMMARY, 0, 1), (LogCandles.NEVER, 0, 0)],
)
def test_the_choice_can_be_made(
    caplog: pytest.LogCaptureFixture, mode: LogCandles, lines: int, summaries: int
) -> None:
    caplog.set_level(logging.INFO)
    log = log_of(MANY, mode)
    commit(log, *MANY)
    log.summarize()
    assert sum("USDT-1m at" in line for line in caplog.messages) == lines
    assert sum("candles of" in line for line in caplog.messages) == summaries


def test_a_summary_of_nothing_is_no_line_and_refills_have_lines_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = log_of(MANY)
    commit(log, *MANY, source=Source.REST)
    log.summarize()
    assert not caplog.messages
    commit(log, MANY[3])
    log.summarize()
    log.summarize()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Recorded 1 candle of 1 series, up to")
