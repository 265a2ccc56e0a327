"""REST: refusals, weights, exchangeInfo, and the rows of the klines endpoint."""

import json
from typing import Any

import pytest

from kline_trio.simulator import Request, Response
from kline_trio.simulator.rest import WEIGHT_LIMITS, refusal, weight_pool
from kline_trio.simulator.symbols import TRADE_TYPES
from tests.faulty_exchange import FaultyExchange, Outage, Refuse, RestFault

from .support import START_MS, parsed, plain_exchange, real

PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
RECORDED = {
    "spot": "exchangeinfo/spot-2021-08-14.json",
    "usdt_futures": "exchangeinfo/usdt_futures-2021-07-22.json",
    "coin_futures": "exchangeinfo/coin_futures-2021-07-22.json",
}


def answer(trade_type: str, target: str, method: str = "GET", now_s: float = 0.0) -> Response:
    request = Request(
        method=method, target=target, trade_type=trade_type, now_ms=START_MS, now_s=now_s
    )
    return plain_exchange().answer(request)


def info(trade_type: str, query: str = "") -> dict[str, Any]:
    content = answer(trade_type, f"{PREFIX[trade_type]}/exchangeInfo{query}").body.decode()
    return dict(parsed(content))


def observed(status: int, market: str) -> dict[str, Any]:
    """Return an error body that was seen in the field."""
    lines = real("errors/rest-errors.observed.jsonl")[0].read_text().splitlines()
    rows = [parsed(line) for line in lines]
    bodies = [
        row["body"] for row in rows if (row["http_status"], row["market"]) == (status, market)
    ]
    return dict(parsed(bodies[0]))


@pytest.mark.parametrize("trade_type", TRADE_TYPES)
def test_ping_and_time_answer_on_each_market(trade_type: str) -> None:
    """``ping`` gives an empty object, ``time`` the exchange's own time."""
    assert answer(trade_type, f"{PREFIX[trade_type]}/ping").body == b"{}"
    time = answer(trade_type, f"{PREFIX[trade_type]}/time")
    assert time.status == 200
    assert time.body == b'{"serverTime":%d}' % START_MS


@pytest.mark.parametrize("trade_type", TRADE_TYPES)
def test_exchange_info_has_the_keys_of_recorded_answers(trade_type: str) -> None:
    """Every key of a symbol is one that real answers have, and those that matter are there."""
    ours = info(trade_type)
    theirs = parsed(real(RECORDED[trade_type])[0].read_text())
    assert set(ours) <= set(theirs)
    # sorUfs and others have come and gone; what we leave out is nothing that a recorder reads
    assert set(ours["symbols"][0]) <= set(theirs["symbols"][0])
    status = "contractStatus" if trade_type == "coin_futures" else "status"
    assert {symbol[status] for symbol in ours["symbols"]} == {"TRADING"}


def test_exchange_info_lists_perpetuals_and_quarterlies() -> None:
    """A perpetual is delivered in 2100, a quarterly on the day in its name."""
    symbols = {one["symbol"]: one for one in info("coin_futures")["symbols"]}
    assert symbols["BTCUSD_PERP"]["deliveryDate"] == 4_133_404_800_000
    assert symbols["BTCUSD_PERP"]["contractSize"] == 100
    assert symbols["ETHUSD_PERP"]["contractSize"] == 10
    assert symbols["BTCUSD_231229"]["contractType"] == "CURRENT_QUARTER"
    assert symbols["BTCUSD_240329"]["contractType"] == "NEXT_QUARTER"


def test_symbols_in_chinese_are_listed() -> None:
    """Real markets list ``币安人生USDT``; it is sent as UTF-8."""
    names = {one["symbol"] for one in info("usdt_futures")["symbols"]}
    assert "币安人生USDT" in names


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("?symbol=ETHUSDT", ["ETHUSDT"]),
        ('?symbols=["BNBUSDT","ETHUSDT"]', ["BNBUSDT", "ETHUSDT"]),
    ],
)
def test_spot_tells_of_chosen_symbols(query: str, symbols: list[str]) -> None:
    """Spot takes ``symbol`` or ``symbols``."""
    assert [one["symbol"] for one in info("spot", query)["symbols"]] == symbols


@pytest.mark.parametrize("query", ["?symbol=NOSUCH", "?symbols=[", "?symbols=[1]"])
def test_an_unknown_symbol_is_refused_as_observed(query: str) -> None:
    """The body of a refused symbol is the one seen in the field."""
    refused = answer("spot", f"/api/v3/exchangeInfo{query}")
    assert refused.status == 400
    seen = parsed('{"code":-1121,"msg":"Invalid symbol."}')
    assert parsed(refused.body.decode()) == seen


@pytest.mark.parametrize(
    ("trade_type", "method", "target"),
    [
        ("spot", "GET", "/"),
        ("spot", "GET", "/fapi/v1/time"),
        ("spot", "POST", "/api/v3/time"),
        ("usdt_futures", "GET", "/fapi/v1/nonsense"),
        ("coin_futures", "GET", "//[/dapi/v1/time"),
    ],
)
def test_an_unknown_path_gets_a_page(trade_type: str, method: str, target: str) -> None:
    """What is not there is answered with 404 and HTML, as real servers do."""
    response = answer(trade_type, target, method)
    assert response.status == 404
    assert ("content-type", "text/html") in response.headers
    assert response.body.startswith(b"<html>")


def test_bans_and_fences_read_as_observed() -> None:
    """418 names the moment of its end; 451 tells of the restricted location."""
    banned = parsed(refusal(418, START_MS).body.decode())
    assert banned["msg"] == observed(418, "unknown")["msg"].replace(
        "1787546698129", str(START_MS + 120_000)
    )
    assert banned["code"] == -1003
    assert parsed(refusal(451, START_MS).body.decode()) == observed(451, "spot")
    assert ("retry-after", "120") in refusal(429, START_MS).headers
    assert parsed(refusal(429, START_MS).body.decode())["code"] == -1003
    assert refusal(503, START_MS).body.startswith(b"<html>")


def test_weight_is_counted_by_pool_and_minute() -> None:
    """Both futures markets draw on one budget, spot on its own; a new minute begins at 0."""
    exchange = plain_exchange()

    def used(trade_type: str, path: str, now_s: float) -> str:
        target = PREFIX[trade_type] + path
        request = Request(target=target, trade_type=trade_type, now_ms=START_MS, now_s=now_s)
        return dict(exchange.answer(request).headers)["x-mbx-used-weight-1m"]

    assert used("spot", "/exchangeInfo", 1) == "20"
    assert used("usdt_futures", "/time", 1) == "1"
    assert used("coin_futures", "/ping", 59) == "2"
    assert used("spot", "/nonsense", 59) == "21"
    assert used("coin_futures", "/ping", 60) == "1"


def test_a_refusal_of_handshakes_spares_http() -> None:
    """While WebSocket handshakes are refused, HTTP goes on."""
    refuse = Refuse(trade_type="spot", from_ms=0, until_ms=START_MS * 2)
    exchange = plain_exchange(refuse)
    assert isinstance(exchange.connect("spot", "/stream", 0.0), Response)
    request = Request(target="/api/v3/ping", trade_type="spot", now_ms=START_MS)
    assert exchange.answer(request).status == 200


SYMBOL = {"spot": "BTCUSDT", "usdt_futures": "BTCUSDT", "coin_futures": "BTCUSD_PERP"}
MINUTE_MS = 60_000
DAY_MS = 86_400_000
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
