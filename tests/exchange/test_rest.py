"""The REST interface: hosts in their order, and whatever may come instead of an answer."""

from collections.abc import Callable

import httpx2
import pytest

from kline_trio.errors import UnavailableError
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rest import RestMarket

Answer = Callable[[httpx2.Request], httpx2.Response]


async def ask_time(answer: Answer, *hosts: str) -> int:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = RestMarket(client, MARKETS["usdt_futures"], hosts or ("https://one",))
        return await rest.server_time_ms()


async def test_the_time_is_asked_at_the_markets_path() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, json={"serverTime": 1_700_000_000_123, "more": 1})

    assert await ask_time(answer) == 1_700_000_000_123
    assert asked == ["https://one/fapi/v1/time"]


async def test_hosts_are_tried_in_their_order() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "one":
            raise httpx2.ConnectError("nobody there")
        if request.url.host == "two":
            return httpx2.Response(503, text="<html>")
        return httpx2.Response(200, json={"serverTime": 3})

    assert await ask_time(answer, "https://one", "https://two", "https://three") == 3
    with pytest.raises(UnavailableError, match=r"one/fapi/v1/time: nobody there; .*HTTP 503"):
        await ask_time(answer, "https://one", "https://two")


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json={"serverTime": "soon"}),
        httpx2.Response(200, json=[]),
        httpx2.Response(200, content=b""),
        httpx2.Response(200, content=b"\xff\xfe"),
        httpx2.Response(200, content=b'{"x":' + b"[" * 5_000),
        httpx2.Response(200, json={"serverTime": 1_700_000_000_000_000}),
        httpx2.Response(200, json={"serverTime": -1}),
        httpx2.Response(418, json={"code": -1003, "msg": "banned"}),
        httpx2.Response(302, headers={"location": "https://elsewhere"}),
    ],
)
async def test_what_is_no_answer_is_told_with_its_address(response: httpx2.Response) -> None:
    with pytest.raises(UnavailableError, match=r"https://one/fapi/v1/time: .+"):
        await ask_time(lambda _: response)


async def test_symbols_are_all_that_are_listed() -> None:
    body = {"symbols": [{"symbol": "BTCUSDT", "status": "NEW_WORD"}, {"symbol": "币安人生USDT"}]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    async with httpx2.AsyncClient(transport=transport) as client:
        rest = RestMarket(client, MARKETS["spot"], ("https://one",))
        assert await rest.symbols() == {"BTCUSDT", "币安人生USDT"}


async def test_an_endless_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kline_trio.exchange.rest._MAX_BODY_BYTES", 1_000)
    with pytest.raises(UnavailableError, match="an answer of more than 1000 bytes"):
        await ask_time(lambda _: httpx2.Response(200, content=b" " * 1_001))


async def test_symbols_that_are_no_text_are_no_answer() -> None:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=b'{"symbols":[{"symbol":"\xff\xfe"}]}')
    )
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(UnavailableError, match="exchangeInfo"):
            await RestMarket(client, MARKETS["spot"], ("https://one",)).symbols()
