"""The klines endpoint pages, weighs and refuses as each market's does."""

import json
from typing import Any

import pytest

from kline_trio.simulator import Request, Response
from kline_trio.simulator.rest import WEIGHT_LIMITS, weight_pool
from kline_trio.simulator.symbols import TRADE_TYPES
from tests.builders import DAY_MS, MINUTE_MS
from tests.faulty_exchange import FaultyExchange, Outage, RestFault

from .support import START_MS

PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
SYMBOL = {"spot": "BTCUSDT", "usdt_futures": "BTCUSDT", "coin_futures": "BTCUSD_PERP"}
NOW_MS = START_MS - START_MS % MINUTE_MS + 30_000


Query = dict[str, str | int | None]


def ask(
    trade_type: str,
    query: Query | None = None,
    *,
    exchange: FaultyExchange | None = None,
    now_s: float = 0.0,
) -> Response:
    exchange = exchange or FaultyExchange(seed=5, start_ms=NOW_MS)
    words: Query = {"symbol": SYMBOL[trade_type], "interval": "1m", **(query or {})}
    target = "&".join(f"{name}={value}" for name, value in words.items() if value is not None)
    request = Request(
        target=f"{PREFIX[trade_type]}/klines?{target}",
        trade_type=trade_type,
        now_ms=NOW_MS,
        now_s=now_s,
    )
    return exchange.answer(request)


def rows(
    trade_type: str, exchange: FaultyExchange | None = None, **query: str | int | None
) -> list[list[Any]]:
    response = ask(trade_type, query, exchange=exchange)
    assert response.status == 200, response.body
    return list(json.loads(response.body))


def weight(response: Response) -> int:
    return int(dict(response.headers)["x-mbx-used-weight-1m"])


@pytest.mark.parametrize("trade_type", TRADE_TYPES)
def test_the_newest_row_is_the_candle_that_is_forming(trade_type: str) -> None:
    """Without any mark: only its close time lies ahead."""
    found = rows(trade_type, limit=3)
    assert [row[0] for row in found] == [NOW_MS - 30_000 - n * MINUTE_MS for n in (2, 1, 0)]
    assert found[-1][6] > NOW_MS > found[-2][6]
    assert all(len(row) == 12 for row in found)


@pytest.mark.parametrize("trade_type", ["spot", "usdt_futures"])
def test_pages_go_on_from_their_start(trade_type: str) -> None:
    start = NOW_MS - 30_000 - 600 * MINUTE_MS
    found = rows(trade_type, startTime=start, endTime=NOW_MS, limit=5)
    assert [row[0] for row in found] == [start + n * MINUTE_MS for n in range(5)]


def test_coin_m_counts_back_from_the_end() -> None:
    """Who pages it like spot loses the early part in silence."""
    start = NOW_MS - 30_000 - 600 * MINUTE_MS
    found = rows("coin_futures", startTime=start, endTime=NOW_MS, limit=5)
    assert found[-1][0] == NOW_MS - 30_000
    assert found[0][0] == NOW_MS - 30_000 - 4 * MINUTE_MS


def test_coin_m_spans_200_days_at_most() -> None:
    today_ms = NOW_MS - NOW_MS % DAY_MS
    found = rows("coin_futures", interval="1d", startTime=today_ms - 400 * DAY_MS, limit=1500)
    assert found[0][0] == today_ms - 400 * DAY_MS
    assert found[-1][0] == today_ms - 200 * DAY_MS
    both = rows(
        "coin_futures", interval="1d", startTime=today_ms - 400 * DAY_MS, endTime=NOW_MS, limit=1500
    )
    assert both[0][0] >= NOW_MS - 200 * DAY_MS


def test_the_default_and_the_largest_limit() -> None:
    assert len(rows("spot", startTime=0, endTime=NOW_MS, interval="1h", limit=None)) == 500
    assert len(rows("spot", startTime=0, endTime=NOW_MS, interval="1h", limit=5_000)) == 1_000
    assert len(rows("usdt_futures", startTime=0, interval="1h", limit=5_000)) == 1_500


def test_times_in_seconds_give_an_empty_list() -> None:
    assert rows("spot", startTime=NOW_MS // 1_000 - 60, endTime=NOW_MS // 1_000) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": None}, -1102),
        ({"interval": None}, -1102),
        ({"symbol": "BTCUSDX"}, -1121),
        ({"symbol": "btcusdt"}, -1121),
        ({"interval": "2m"}, -1120),
        ({"startTime": "soon"}, -1100),
        ({"limit": "-1"}, -1100),
        ({"limit": "0"}, -1130),
        ({"startTime": 5, "endTime": 4}, -1023),
    ],
)
def test_wrong_questions_are_answered_with_400(
    query: dict[str, str | int | None], code: int
) -> None:
    response = ask("usdt_futures", query)
    assert response.status == 400
    assert json.loads(response.body)["code"] == code


@pytest.mark.parametrize(
    ("trade_type", "limit", "expected"),
    [
        ("spot", 1, 2), ("spot", 1000, 2), ("usdt_futures", 99, 1), ("usdt_futures", 499, 2),
        ("coin_futures", 1000, 5), ("coin_futures", 1500, 10),
    ],
)  # fmt: skip
def test_what_a_page_weighs(trade_type: str, limit: int, expected: int) -> None:
    assert weight(ask(trade_type, {"limit": limit})) == expected


@pytest.mark.parametrize("trade_type", ["spot", "coin_futures"])
def test_too_much_is_429_and_going_on_a_ban(trade_type: str) -> None:
    exchange = FaultyExchange(seed=5, start_ms=NOW_MS)
    heavy = 1_000 if trade_type == "spot" else 1_500
    each = 2 if trade_type == "spot" else 10
    most = WEIGHT_LIMITS[weight_pool(trade_type)] // each
    query: Query = {"limit": heavy, "startTime": NOW_MS}
    statuses = [ask(trade_type, query, exchange=exchange).status for _ in range(most * 2)]
    assert statuses[:most] == [200] * most
    assert statuses[most] == 429
    assert statuses[-1] == 418
    assert ask(trade_type, exchange=exchange, now_s=100.0).status == 418
    assert ask(trade_type, exchange=exchange, now_s=121.0).status == 200


def test_an_outage_is_absent_rows() -> None:
    start = NOW_MS - 30_000 - 10 * MINUTE_MS
    outage = Outage(
        trade_type="spot", from_ms=start + 2 * MINUTE_MS, until_ms=start + 5 * MINUTE_MS
    )
    exchange = FaultyExchange(seed=5, start_ms=NOW_MS, faults=[outage])
    found = rows("spot", exchange, startTime=start, endTime=NOW_MS)
    minutes = [(row[0] - start) // MINUTE_MS for row in found]
    assert minutes == [0, 1, 5, 6, 7, 8, 9, 10]
    # A longer candle that it only touches is there.
    assert len(rows("spot", exchange, interval="1h", limit=1)) == 1


@pytest.mark.parametrize(("status", "is_json"), [(500, False), (429, True), (451, True)])
def test_rest_can_be_struck_by_a_status(status: int, is_json: bool) -> None:
    fault = RestFault(trade_type="spot", from_ms=0, until_ms=NOW_MS + 1, status=status)
    exchange = FaultyExchange(seed=5, start_ms=NOW_MS, faults=[fault])
    response = ask("spot", exchange=exchange)
    assert response.status == status
    assert response.body.startswith(b"{") == is_json
    assert exchange.incidents[0].fault == "RestFault"


def test_an_answer_can_break_off() -> None:
    fault = RestFault(trade_type="spot", from_ms=0, until_ms=NOW_MS + 1, status=200)
    response = ask("spot", exchange=FaultyExchange(seed=5, start_ms=NOW_MS, faults=[fault]))
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.body)
