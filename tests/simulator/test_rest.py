"""HTTP answers: ping, time, exchangeInfo and errors."""

from typing import Any

import pytest

from kline_trio.simulator import Request, Response
from kline_trio.simulator.rest import refusal
from kline_trio.simulator.symbols import TRADE_TYPES
from tests.faulty_exchange import Refuse

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
