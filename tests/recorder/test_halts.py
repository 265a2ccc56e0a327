"""A market that halts: one busy symbol answers for all."""

import time

import pytest

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.recorder.halts import Halts
from kline_trio.storage.journal.ledger import FetchResult

MINUTE_MS = 60_000
HALT = Span(600 * MINUTE_MS, 672 * MINUTE_MS)
SYMBOLS = [Series("spot", f"S{n}USDT", "1m") for n in range(12)]
"""The last one is the busiest."""


def answer(
    series: Series, trade_num: int = 0, span: Span = HALT, asked: Span | None = None
) -> FetchResult:
    candles = tuple(
        Candle(ms, 2, 2, 2, 2, 0, 0, trade_num, 0, 0) for ms in series.interval.open_times_ms(span)
    )
    return FetchResult(series, span if asked is None else asked, candles, Source.REST)


def quiet(count: int) -> Halts:
    halts = Halts()
    for n, series in enumerate(SYMBOLS[-count:]):
        halts.see(series, HALT, 100.0 * (n + 1), now=0.0)
    return halts


def test_where_rest_has_the_busiest_symbol_quiet_all_others_are_believed() -> None:
    halts = quiet(11)
    assert not halts.has(SYMBOLS[0], HALT), "nobody was asked"
    halts.answered(answer(SYMBOLS[-1]))
    assert halts.has(SYMBOLS[0], HALT)
    assert halts.has(SYMBOLS[0], Span(610 * MINUTE_MS, 620 * MINUTE_MS))


@pytest.mark.parametrize(
    "told",
    [
        answer(SYMBOLS[-1], trade_num=3),
        answer(SYMBOLS[-1], span=Span(HALT.from_ms, HALT.to_ms - MINUTE_MS), asked=HALT),
        answer(SYMBOLS[-1], span=Span(HALT.from_ms, HALT.to_ms - MINUTE_MS)),
        answer(SYMBOLS[-2]),
        answer(Series("usdt_futures", SYMBOLS[-1].symbol, "1m")),
    ],
    ids=["with trades", "not whole", "of the first part", "not the busiest", "another market"],
)
def test_another_answer_is_no_halt(told: FetchResult) -> None:
    halts = quiet(11)
    halts.answered(told)
    assert not halts.has(SYMBOLS[0], HALT)


def test_an_answer_that_came_in_pages_is_one() -> None:
    halts, middle_ms = quiet(11), HALT.from_ms + 30 * MINUTE_MS
    for page in (Span(middle_ms, HALT.to_ms), Span(HALT.from_ms, middle_ms)):
        assert not halts.has(SYMBOLS[0], HALT)
        halts.answered(answer(SYMBOLS[-1], span=page))
    assert halts.has(SYMBOLS[0], HALT)


@pytest.mark.parametrize("trade_num", [0, 3])
def test_the_busiest_is_to_ask_first_until_it_has_answered(trade_num: int) -> None:
    halts = quiet(11)
    assert halts.to_ask_first(SYMBOLS[0], HALT, 1.0) == SYMBOLS[-1]
    assert halts.to_ask_first(SYMBOLS[-1], HALT, 1.0) is None, "it does not wait for itself"
    assert not halts.answered(answer(SYMBOLS[-1], span=Span(0, MINUTE_MS))), "another time"
    assert halts.to_ask_first(SYMBOLS[0], HALT, 1.0) == SYMBOLS[-1]
    assert halts.answered(answer(SYMBOLS[-1], trade_num))
    assert halts.to_ask_first(SYMBOLS[0], HALT, 1.0) is None


def test_others_wait_for_a_minute_and_no_longer() -> None:
    halts = quiet(11)
    assert halts.to_ask_first(SYMBOLS[0], HALT, 60.0) == SYMBOLS[-1]
    assert halts.to_ask_first(SYMBOLS[0], HALT, 60.1) is None


def test_thousands_of_symbols_cost_little() -> None:
    """Each is looked at again after each answer, on the event loop."""
    halts = Halts()
    many = [Series("spot", f"S{n}USDT", "1m") for n in range(3_000)]
    for n, series in enumerate(many):
        halts.see(series, HALT, 100.0 + n, now=0.0)
    began = time.process_time()
    for series in many[:500]:
        assert halts.to_ask_first(series, HALT, 1.0) == many[-1]
    assert time.process_time() - began < 0.5


def test_of_a_few_nobody_is_to_ask_first() -> None:
    assert quiet(9).to_ask_first(SYMBOLS[-2], HALT, 1.0) is None


def test_a_few_symbols_are_no_market() -> None:
    halts = quiet(9)
    halts.answered(answer(SYMBOLS[-1]))
    assert not halts.has(SYMBOLS[0], HALT)


def test_longer_or_of_another_market_it_is_not_believed() -> None:
    halts = quiet(11)
    halts.answered(answer(SYMBOLS[-1]))
    assert not halts.has(SYMBOLS[0], Span(HALT.from_ms, HALT.to_ms + MINUTE_MS))
    assert not halts.has(Series("usdt_futures", "S0USDT", "1m"), HALT)
