"""The calendars, against dates that were published."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.interval import INTERVALS, Interval, Span

NAMES = [
    "1s",
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
]

TIMES_MS = st.integers(0, 7_258_118_400_000)  # until 2200


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def test_there_are_sixteen_intervals_shortest_first() -> None:
    assert list(INTERVALS) == NAMES


@pytest.mark.parametrize(
    ("name", "open_time"),
    [
        ("1m", "2024-06-30 15:00"),
        ("4h", "2017-08-17 04:00"),  # BTCUSDT's first
        ("1d", "2020-08-11"),  # SOLUSDT's first
        ("3d", "2017-08-17"),
        ("3d", "2017-08-20"),
        ("3d", "2019-12-11"),
        ("3d", "2023-12-08"),
        ("3d", "2024-01-01"),
        ("3d", "2026-07-01"),
        ("3d", "2026-07-13"),
        ("1w", "2017-08-14"),  # before BTCUSDT was listed: by the calendar, not by the listing
        ("1w", "2019-03-11"),
        ("1w", "2023-06-12"),
        ("1w", "2026-06-29"),
        ("1M", "2022-05-01"),
        ("1M", "2023-05-01"),
    ],
)
def test_published_candles_are_on_the_grid(name: str, open_time: str) -> None:
    assert INTERVALS[name].is_open_time(at(open_time))


@pytest.mark.parametrize(
    ("name", "open_time", "end"),
    [
        ("1s", "2024-02-28 23:59:59", "2024-02-29"),
        ("30m", "2024-02-29 23:30", "2024-03-01"),
        ("8h", "2024-02-29 16:00", "2024-03-01"),
        ("3d", "2024-02-28", "2024-03-02"),
        ("1w", "2024-02-26", "2024-03-04"),
        ("1M", "2024-02-01", "2024-03-01"),
        ("1M", "2023-02-01", "2023-03-01"),
        ("1M", "2023-12-01", "2024-01-01"),
        ("1M", "2100-02-01", "2100-03-01"),
    ],
)
def test_a_candle_ends_where_the_next_one_opens(name: str, open_time: str, end: str) -> None:
    assert INTERVALS[name].end_time_ms(at(open_time)) == at(end)


@pytest.mark.parametrize("name", NAMES)
@given(time_ms=TIMES_MS)
def test_every_moment_is_in_exactly_one_candle(name: str, time_ms: int) -> None:
    interval = INTERVALS[name]
    open_time_ms = interval.open_time_ms(time_ms)
    end_time_ms = interval.end_time_ms(open_time_ms)
    assert open_time_ms <= time_ms < end_time_ms
    assert interval.is_open_time(open_time_ms)
    assert interval.is_open_time(end_time_ms)
    assert interval.open_time_ms(end_time_ms - 1) == open_time_ms


@given(time_ms=TIMES_MS)
def test_weeks_begin_on_mondays_and_months_on_the_first(time_ms: int) -> None:
    def opens(name: str) -> datetime:
        open_time_ms = INTERVALS[name].open_time_ms(time_ms)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=open_time_ms)

    assert opens("1w").isoweekday() == 1
    assert opens("1M").day == 1


def test_a_span_has_its_begin_and_not_its_end() -> None:
    assert [ms in Span(10, 20) for ms in (9, 10, 19, 20)] == [False, True, True, False]


def test_the_month_has_a_second_name_for_file_systems_that_ignore_case() -> None:
    assert Interval.from_text("1mo") is Interval.from_text("1M")
    assert Interval.from_text("1M").file_name == "1mo"
    assert Interval.from_text("1m").file_name == "1m"


@pytest.mark.parametrize("text", ["7m", "", "1Mo", "60", "1S", "1D"])
def test_an_unknown_interval_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="one of 1s 1m 3m"):
        Interval.from_text(text)
