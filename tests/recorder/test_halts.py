"""A market that halts: one busy symbol answers for all."""

import pytest

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.recorder.halts import Halts
from kline_trio.storage.ledger import Refill

MINUTE_MS = 60_000
HALT = Span(600 * MINUTE_MS, 672 * MINUTE_MS)
SYMBOLS = [Series("spot", f"S{n}USDT", "1m") for n in range(12)]
"""The last one is the busiest."""


def answer(series: Series, trade_num: int = 0, span: Span = HALT) -> Refill:
    candles = tuple(
        Candle(ms, 2, 2, 2, 2, 0, 0, trade_num, 0, 0) for ms in series.interval.open_times_ms(span)
    )
    return Refill(series, HALT, candles, Source.REST)


def quiet(count: int) -> Halts:
    halts = Halts()
    for n, series in enumerate(SYMBOLS[-count:]):
        halts.see(series, HALT, 100.0 * (n + 1))
    return halts


def test_where_rest_has_the_busiest_symbol_quiet_all_others_are_believed() -> None:
    halts = quiet(11)
    assert not halts.has(SYMBOLS[0], HALT), "nobody was asked"
    halts.confirm(answer(SYMBOLS[-1]))
    assert halts.has(SYMBOLS[0], HALT)
    assert halts.has(SYMBOLS[0], Span(610 * MINUTE_MS, 620 * MINUTE_MS))


@pytest.mark.parametrize(
    "told",
    [
        answer(SYMBOLS[-1], trade_num=3),
        answer(SYMBOLS[-1], span=Span(HALT.from_ms, HALT.to_ms - MINUTE_MS)),
        answer(SYMBOLS[-2]),
        answer(Series("usdt_futures", SYMBOLS[-1].symbol, "1m")),
    ],
    ids=["with trades", "not whole", "not the busiest", "another market"],
)
def test_another_answer_is_no_halt(told: Refill) -> None:
    halts = quiet(11)
    halts.confirm(told)
    assert not halts.has(SYMBOLS[0], HALT)


def test_a_few_symbols_are_no_market() -> None:
    halts = quiet(9)
    halts.confirm(answer(SYMBOLS[-1]))
    assert not halts.has(SYMBOLS[0], HALT)


def test_longer_or_of_another_market_it_is_not_believed() -> None:
    halts = quiet(11)
    halts.confirm(answer(SYMBOLS[-1]))
    assert not halts.has(SYMBOLS[0], Span(HALT.from_ms, HALT.to_ms + MINUTE_MS))
    assert not halts.has(Series("usdt_futures", "S0USDT", "1m"), HALT)
