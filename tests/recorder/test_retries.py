"""When a gap may be asked for again."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.recorder.retries import Retries

BTC, ETH = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH"))
MINUTE_MS = 60_000


def span(from_minute: int, to_minute: int) -> Span:
    return Span(from_minute * MINUTE_MS, to_minute * MINUTE_MS)


def test_only_what_was_asked_for_waits() -> None:
    retries = Retries()
    retries.put_off(BTC, span(2, 4), 10.0)
    assert retries.ready(BTC, span(0, 6), 5.0) == [span(0, 2), span(4, 6)]
    assert retries.ready(ETH, span(0, 6), 5.0) == [span(0, 6)]
    assert retries.ready(BTC, span(0, 6), 10.0) == [span(0, 6)]


def test_when_it_ends() -> None:
    retries = Retries()
    retries.put_off(BTC, span(2, 4), 10.0)
    retries.put_off(ETH, span(2, 4), 8.0)
    assert retries.ready_at(BTC, span(2, 3), 5.0) == 10.0
    assert retries.ready_at(BTC, span(1, 3), 5.0) == 5.0
    assert retries.next_at(5.0) == 8.0
    assert retries.next_at(9.0) == 10.0
    assert retries.next_at(10.0) == math.inf


_spans = st.tuples(st.integers(0, 20), st.integers(1, 10)).map(lambda p: span(p[0], p[0] + p[1]))


@given(waits=st.lists(st.tuples(_spans, st.integers(0, 10))), asked=_spans, now=st.integers(0, 11))
def test_it_is_a_set_of_minutes(waits: list[tuple[Span, int]], asked: Span, now: int) -> None:
    retries = Retries()
    busy: set[int] = set()
    for one, until in waits:
        retries.put_off(BTC, one, until)
        if until > now:
            busy.update(range(one.from_ms, one.to_ms, MINUTE_MS))
    ready = [
        ms
        for one in retries.ready(BTC, asked, now)
        for ms in range(one.from_ms, one.to_ms, MINUTE_MS)
    ]
    assert ready == [ms for ms in range(asked.from_ms, asked.to_ms, MINUTE_MS) if ms not in busy]
