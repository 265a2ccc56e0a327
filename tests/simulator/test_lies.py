"""Each lie as its victim hears it, while and only while it is told."""

import json
from typing import Any

import pytest

from kline_trio.simulator import Request
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS
from tests.faulty_exchange import (
    Fault,
    FaultyExchange,
    NewListing,
    WrongFirst,
    WrongFrame,
    WrongRows,
    WrongTime,
)

from .support import START_MS, Peer, parsed, plain_exchange

TARGET = "/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"
YEAR_MS = 365 * DAY_MS
SPAN: Any = {
    "trade_type": "spot",
    "from_ms": START_MS + MINUTE_MS,
    "until_ms": START_MS + 2 * MINUTE_MS,
}


def asked(exchange: FaultyExchange, what: str, minute: float) -> Any:  # noqa: ANN401 - as JSON is
    request = Request(
        target=f"/api/v3/{what}", trade_type="spot", now_ms=START_MS + int(minute * MINUTE_MS)
    )
    return json.loads(exchange.answer(request).body)


def told(exchange: FaultyExchange) -> list[str]:
    return [one.fault for one in exchange.incidents]


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, 10 * YEAR_MS, -DAY_MS])
def test_the_time_endpoint_tells_another_time(ahead_ms: int) -> None:
    exchange = plain_exchange(WrongTime(ahead_ms=ahead_ms, **SPAN))
    for minute, off_ms in ((0.5, 0), (1.5, ahead_ms), (2.0, 0)):
        now_ms = START_MS + int(minute * MINUTE_MS)
        assert asked(exchange, "time", minute)["serverTime"] == now_ms + off_ms
        assert asked(exchange, "exchangeInfo", minute)["serverTime"] == now_ms + off_ms
    assert told(exchange) == ["WrongTime"]


@pytest.mark.parametrize("ahead_ms", [7, 10 * YEAR_MS, -DAY_MS])
def test_rows_bear_other_times(ahead_ms: int) -> None:
    exchange = plain_exchange(WrongRows(ahead_ms=ahead_ms, **SPAN))
    what = "klines?symbol=BTCUSDT&interval=1m&limit=3"
    [right, wrong, after] = [asked(exchange, what, minute) for minute in (0.9, 1.5, 2.0)]
    assert wrong[0][0] == right[0][0] + ahead_ms
    assert wrong[0][6] == right[0][6] + ahead_ms
    assert after[0][0] == right[0][0] + MINUTE_MS, "which row it would be is not moved"
    assert told(exchange) == ["WrongRows"]


def test_the_first_candle_is_another_for_who_asks_for_one() -> None:
    lie_ms = START_MS - 20 * MINUTE_MS
    exchange = plain_exchange(WrongFirst(first_ms=lie_ms, **SPAN))
    what = "klines?symbol=BTCUSDT&interval=1m&startTime=0&limit="
    assert asked(exchange, f"{what}1", 1.5)[0][0] == lie_ms - lie_ms % MINUTE_MS
    assert asked(exchange, f"{what}2", 1.5)[0][0] < lie_ms
    assert asked(exchange, f"{what}1", 2.5)[0][0] < lie_ms
    assert told(exchange) == ["WrongFirst"]


def frames(fault: Fault) -> list[Any]:
    texts = Peer(plain_exchange(fault), "spot", TARGET).until(70)
    return [parsed(text)["data"] for text in texts]


@pytest.mark.parametrize("ahead_ms", [46 * MINUTE_MS, -YEAR_MS])
def test_one_frame_tells_another_event_time(ahead_ms: int) -> None:
    lie = WrongFrame(trade_type="spot", at_ms=START_MS + MINUTE_MS, ahead_ms=ahead_ms)
    [wrong] = [one for one in frames(lie) if abs(one["E"] - START_MS) > 10 * MINUTE_MS]
    assert abs(wrong["k"]["t"] - START_MS) <= MINUTE_MS


@pytest.mark.parametrize("ahead_ms", [7 * YEAR_MS, -50 * YEAR_MS])
def test_one_closed_candle_is_of_another_time(ahead_ms: int) -> None:
    lie = WrongFrame(
        trade_type="spot", at_ms=START_MS + MINUTE_MS, ahead_ms=ahead_ms, moves="candle"
    )
    [wrong] = [one for one in frames(lie) if abs(one["E"] - START_MS) > 10 * MINUTE_MS]
    k = wrong["k"]
    assert k["x"] is True
    assert k["T"] - k["t"] == MINUTE_MS - 1
    assert abs(k["t"] - START_MS - ahead_ms) <= MINUTE_MS


def test_the_date_of_a_new_contract_is_late() -> None:
    late = NewListing(
        trade_type="usdt_futures",
        symbol="NEWUSDT",
        at_ms=START_MS + MINUTE_MS,
        dated_late_ms=1_800_000,
    )
    request = Request(
        target="/fapi/v1/exchangeInfo", trade_type="usdt_futures", now_ms=START_MS + 2 * MINUTE_MS
    )
    symbols = json.loads(plain_exchange(late).answer(request).body)["symbols"]
    [dated] = [one["onboardDate"] for one in symbols if one["symbol"] == "NEWUSDT"]
    assert dated == START_MS + MINUTE_MS + 1_800_000
