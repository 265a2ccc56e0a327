"""Whatever has to be published is cut into chunks that are small, whole and in order."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.lake import plan
from kline_trio.lake.plan import chunks, month_of, months_of
from kline_trio.spans import joined

DAY_MS = 86_400_000
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
BEGIN_MS = 1_700_000_000_000


@st.composite
def plans(draw: st.DrawFn) -> dict[Series, list[Span]]:
    """What a journal could have as unpublished: spans on the grid of each series."""
    wanted = {}
    for symbol in draw(st.sets(st.sampled_from(SYMBOLS), min_size=1)):
        for name in draw(st.sets(st.sampled_from(["1h", "1d", "1w", "1M"]), min_size=1)):
            series = Series(draw(st.sampled_from(["spot", "usdt_futures"])), symbol, name)
            days = draw(st.lists(st.integers(0, 200), min_size=2, max_size=6, unique=True))
            times = sorted({series.interval.open_time_ms(BEGIN_MS + n * DAY_MS) for n in days})
            spans = [Span(*pair) for pair in list(pairwise(times))[::2]]
            if spans:
                wanted[series] = spans
    return wanted


@settings(deadline=None)
@given(plans(), st.integers(1, 100))
def test_the_chunks_are_the_plan_and_each_is_small(
    wanted: dict[Series, list[Span]], most_rows: int
) -> None:
    found = list(chunks(wanted, most_rows))
    whole: dict[Series, list[Span]] = {}
    for chunk in found:
        rows = 0
        for series, spans in chunk.spans.items():
            whole.setdefault(series, []).extend(spans)
            rows += sum(map(series.interval.count, spans))
            for span in spans:
                assert month_of(span.from_ms) == month_of(span.to_ms - 1)
        assert rows <= most_rows
        assert chunk.spans
    assert {one: joined(spans) for one, spans in whole.items()} == {
        one: joined(spans) for one, spans in wanted.items()
    }
    for found_spans in whole.values():
        # Each moment is in one chunk only.
        assert all(one.to_ms <= other.from_ms for one, other in pairwise(sorted(found_spans)))


@settings(deadline=None)
@given(plans(), st.integers(1, 100))
def test_older_months_come_first(wanted: dict[Series, list[Span]], most_rows: int) -> None:
    last = ""
    for chunk in chunks(wanted, most_rows):
        months = [month_of(span.from_ms) for spans in chunk.spans.values() for span in spans]
        assert last <= min(months)
        last = max(months)
        for spans in chunk.spans.values():
            assert list(spans) == sorted(spans)


def test_series_of_one_market_and_interval_come_by_symbol() -> None:
    names = [("spot", symbol, "1h") for symbol in reversed(SYMBOLS)]
    names.insert(1, ("spot", "AUSDT", "1d"))
    begin_ms = BEGIN_MS // DAY_MS * DAY_MS
    wanted = {Series(*one): [Span(begin_ms, begin_ms + DAY_MS)] for one in names}
    order = [list(chunk.spans) for chunk in chunks(wanted, most_rows=30)]
    assert [[(one.time_interval, one.symbol) for one in some] for some in order] == [
        [("1d", "AUSDT"), ("1h", "AUSDT")],
        [("1h", "BUSDT")],
        [("1h", "CUSDT")],
    ]


def test_a_chunk_names_64_partitions_at_most() -> None:
    series = Series("spot", "AUSDT", "1M")
    span = Span(series.interval.open_time_ms(0), series.interval.open_time_ms(BEGIN_MS))
    found = list(chunks({series: [span]}, 100_000))
    months = [len(list(one.spans[series])) for one in found]
    assert months[:-1] == [plan._MOST_MONTHS] * (len(months) - 1)
    assert sum(months) == series.interval.count(span)


@pytest.mark.parametrize(
    ("first", "end", "months"),
    [
        ("2024-01-31T23:59", "2024-02-01T00:00", 1),
        ("2024-01-31T23:59", "2024-02-01T00:01", 2),
        ("2023-12-31T00:00", "2024-01-02T00:00", 2),
        ("2024-02-01T00:00", "2024-03-01T00:00", 1),
        ("2020-01-15T00:00", "2024-01-15T00:00", 49),
    ],
)
def test_months_are_those_of_utc(first: str, end: str, months: int) -> None:
    times = [
        int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)
        for text in (first, end)
    ]
    found = list(months_of(Span(*times)))
    assert len(found) == months
    assert joined(found) == [Span(*times)]


def test_nothing_to_publish_is_no_chunk() -> None:
    assert list(chunks({})) == []
    assert list(chunks({Series("spot", "AUSDT", "1m"): []})) == []
