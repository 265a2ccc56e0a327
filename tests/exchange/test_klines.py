"""Pages of the klines endpoint, and what its rows mean."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.errors import UnavailableError
from kline_trio.exchange.klines import Answer, newest_page, read_rows
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import INTERVALS, Span

SERIES = Series("spot", "BTCUSDT", "1m")
FIVE = Series("spot", "BTCUSDT", "5m")
FROM_MS = 1_700_000_100_000
SPAN = Span(FROM_MS, FROM_MS + 10 * 60_000)
ASKED = Span(SPAN.from_ms, SPAN.to_ms + 60_000)
DAY_MS = 86_400_000


@given(
    trade_type=st.sampled_from(sorted(MARKETS)),
    name=st.sampled_from(sorted(INTERVALS)),
    cuts=st.sets(st.integers(0, 4_000), min_size=2, max_size=12),
)
def test_pages_take_all_that_is_wanted_and_fit_their_answers(
    trade_type: str, name: str, cuts: set[int]
) -> None:
    """Newest first, until nothing is left; each page ends with the end of what is left."""
    market, interval = MARKETS[trade_type], INTERVALS[name]
    step = 20 if name == "1M" else 1
    times = [interval.open_time_ms(FROM_MS)]
    for _ in range(max(cuts) // step):
        times.append(interval.end_time_ms(times[-1]))
    marks = sorted({cut // step for cut in cuts})
    wanted = [
        Span(times[first], times[end]) for first, end in zip(marks[::2], marks[1::2], strict=False)
    ]
    while wanted:
        page = newest_page(market, interval, wanted)
        assert page.span.to_ms == wanted[-1].to_ms
        assert 1 < page.limit == interval.count(page.asked(interval)) <= market.klines_per_page
        if trade_type == "coin_futures" and name != "1M":
            asked = page.asked(interval)
            assert asked.to_ms - asked.from_ms <= 200 * DAY_MS
        wanted = [
            Span(span.from_ms, min(span.to_ms, page.span.from_ms))
            for span in wanted
            if span.from_ms < page.span.from_ms
        ]


def test_several_small_gaps_are_one_question() -> None:
    def minutes(first: int, end: int) -> Span:
        return Span(FROM_MS + first * 60_000, FROM_MS + end * 60_000)

    gaps = [minutes(0, 2), minutes(400, 401), minutes(890, 900)]
    assert newest_page(MARKETS["spot"], SERIES.interval, gaps).span == minutes(0, 900)
    assert newest_page(MARKETS["usdt_futures"], SERIES.interval, gaps).span == minutes(890, 900)
    assert newest_page(MARKETS["usdt_futures"], SERIES.interval, gaps[:2]).span == minutes(0, 401)


def row(minute: int = 0, **changes: object) -> list[Any]:
    open_time_ms = FROM_MS + minute * 60_000
    fields: list[Any] = [
        open_time_ms, "2.0", "4.0", "1.0", "3.0", "10", open_time_ms + 59_999, "20.5", 7, "4", "8",
        "0",
    ]  # fmt: skip
    for place, value in changes.items():
        fields[int(place.removeprefix("at"))] = value
    return fields


def read(*rows: object, series: Series = SERIES, told_ms: int = 2 * FROM_MS) -> Answer:
    return read_rows(json.dumps(rows).encode(), series, SPAN, ASKED, told_ms)


def test_rows_are_candles_by_open_time() -> None:
    answer = read(row(2), row(0), row(1))
    assert [candle.open_time_ms - FROM_MS for candle in answer.candles] == [0, 60_000, 120_000]
    assert answer.candles[0].quote_volume == 20.5
    assert not answer.bad_rows


def test_a_column_that_the_exchange_appends_is_passed_over() -> None:
    assert read([*row(0), "new"], row(1)) == read(row(0), row(1))


def test_a_row_is_closed_if_a_later_one_is_there_or_its_host_had_told_so() -> None:
    """Nothing marks the candle that is still forming."""
    answer = read(row(0), row(1), told_ms=FROM_MS + 119_999)
    assert [one.open_time_ms for one in answer.candles] == [FROM_MS]
    assert answer.unproven_ms == {FROM_MS + 60_000}
    assert answer.is_complete
    assert not answer.bad_rows
    assert len(read(row(0), row(1), told_ms=FROM_MS + 120_000).candles) == 2


def test_the_candle_after_what_is_wanted_is_the_proof_and_no_more() -> None:
    answer = read(row(9), row(10), told_ms=0)
    assert [one.open_time_ms for one in answer.candles] == [FROM_MS + 9 * 60_000]
    assert not answer.unproven_ms


def test_a_row_that_was_not_asked_for_proves_nothing() -> None:
    """Neither that a candle has closed, nor that what the answer lacks is not there."""
    answer = read(row(3), row(20), told_ms=0)
    assert answer.candles == ()
    assert answer.unproven_ms == {FROM_MS + 3 * 60_000}
    assert not answer.is_complete


def test_an_answer_is_whole_if_it_has_a_row_for_each_candle_and_no_other() -> None:
    rows = [row(n) for n in range(SERIES.interval.count(SPAN))]
    last = SERIES.interval.count(SPAN)
    assert read(*rows).is_whole
    assert read(*rows, row(last)).is_whole, "the candle after them is asked for, too"
    assert read(*rows[:3], row(3, at2="0.5"), *rows[4:]).is_whole, "a bad row is one, too"
    assert not read(*rows[1:]).is_whole
    assert not read(*rows[1:], row(last)).is_whole
    assert not read(*rows, row(last + 1)).is_whole


@pytest.mark.parametrize("bad", [row(at0=str(FROM_MS)), row(at0=None), []])
def test_a_row_of_an_unknown_time_makes_an_answer_incomplete(bad: list[object]) -> None:
    answer = read(bad, row(3))
    assert len(answer.candles) == 1
    assert not answer.is_complete


@pytest.mark.parametrize("bad", [row(4, at0=FROM_MS + 4 * 60_000 + 17), row(4, at2="0.5")])
def test_a_bad_row_spoils_only_its_own_time(bad: list[object]) -> None:
    answer = read(row(3), bad, row(5))
    assert [one.open_time_ms for one in answer.candles] == [FROM_MS + n * 60_000 for n in (3, 5)]
    assert answer.spoiled_ms == {FROM_MS + 4 * 60_000}
    assert answer.is_complete


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row(at0=FROM_MS + 1), "grid"),
        (row(at0=-60_000), "grid"),
        (row(at0=str(FROM_MS)), "not a whole number"),
        (row(at0=float(FROM_MS)), "not a whole number"),
        (row(at0=True), "not a whole number"),
        (row(at0=FROM_MS * 1_000, at6=FROM_MS * 1_000), "grid"),
        (row(20), "outside"),
        (row((ASKED.to_ms - FROM_MS) // 60_000), "outside"),
        (row(-1), "outside"),
        (row(at6=FROM_MS + 299_999), "another interval"),
        (row(at6=FROM_MS + 999), "another interval"),
        (row(at1="NaN"), "decimal"),
        (row(at1="9" * 400), "decimal"),
        (row(at1=2.0), "decimal"),
        (row(at1=None), "decimal"),
        (row(at5="-1"), "decimal"),
        (row(at8=-1), "trades"),
        (row(at8=10**400), "trades"),
        (row(at8="7"), "not a whole number"),
        (row(at2="1.5"), "high"),
        (row(at3="2.5"), "low"),
        (row()[:11], "columns"),
        ([], "columns"),
    ],
)
def test_a_bad_row_is_counted_and_harms_no_other(bad: list[object], why: str) -> None:
    answer = read(bad, row(3))
    assert len(answer.candles) == 1
    [(reason, count)] = answer.bad_rows.items()
    assert why in reason
    assert count == 1


def test_rows_of_a_shorter_interval_are_not_taken_for_the_longer_one() -> None:
    answer = read(*(row(minute) for minute in range(10)), series=FIVE)
    assert answer.candles == ()
    assert answer.bad_rows.total() == 10


def test_a_candle_that_an_outage_cut_short_is_one() -> None:
    """BTCUSDT 2023-03-24 12:39 has a close time of some seconds before the minute's end."""
    assert len(read(row(at6=FROM_MS + 32_123)).candles) == 1


def test_two_rows_of_one_time_must_agree() -> None:
    answer = read(row(0), row(0), row(1), row(1, at4="2.5"))
    assert [one.open_time_ms for one in answer.candles] == [FROM_MS]
    assert answer.spoiled_ms == {FROM_MS + 60_000}
    assert answer.bad_rows.total() == 1


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b"[1]", b"[[1700000040000", b"\xff", b"[" * 5_000, b"null"]
)
def test_what_is_no_list_of_rows_is_no_answer(body: bytes) -> None:
    with pytest.raises(UnavailableError):
        read_rows(body, SERIES, SPAN, ASKED, FROM_MS)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_whatever_comes_it_is_rows_or_an_error(value: object) -> None:
    try:
        answer = read_rows(json.dumps([value]).encode(), SERIES, SPAN, ASKED, 2 * FROM_MS)
    except UnavailableError:
        return
    assert answer.candles == ()
