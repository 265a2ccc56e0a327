"""The REST interface: hosts in their order, and whatever may come instead of an answer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType

import attrs
import httpx2
import pytest
import trio

from kline_trio.candle import Series
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.klines import Answer as KlinesAnswer
from kline_trio.exchange.klines import Page
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from tests.fakes import tell_time

Answer = Callable[[httpx2.Request], httpx2.Response]


def rest_market(client: httpx2.AsyncClient, trade_type: str, *hosts: str) -> RestMarket:
    market = MARKETS[trade_type]
    pool = RateLimiter(market.weight_per_minute, 1.0)
    return RestMarket(client, market, hosts or ("https://one",), pool, ExchangeClock())


async def ask_time(answer: Answer, *hosts: str, heard_ms: int = 3) -> int:
    """Ask for the time of a market whose clock knows it."""
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = rest_market(client, "usdt_futures", *hosts)
        tell_time(rest.clock, heard_ms)
        return await rest.confirm_time()


async def test_the_time_is_asked_at_the_markets_path() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, json={"serverTime": 1_700_000_000_123, "more": 1})

    assert await ask_time(answer, heard_ms=1_700_000_000_100) == 1_700_000_000_100
    assert asked == ["https://one/fapi/v1/time"]


class Silent:
    """An exchange of which no frames come: its endpoint tells a time, and its candles another."""

    def __init__(
        self,
        told_ms: int,
        newest_ms: int | None,
        *,
        lists: str = "BTCUSDT",
        last_ms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.told_ms, self.newest_ms, self.lists = told_ms, newest_ms, lists
        self.last_ms = last_ms
        """The last candles of symbols that are not traded any more."""
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        what = request.url.path.rsplit("/", 1)[1]
        self.asked.append(what)
        if what == "time":
            return httpx2.Response(200, json={"serverTime": self.told_ms})
        if what == "exchangeInfo":
            symbols = [{"symbol": self.lists, "status": "TRADING"}]
            return httpx2.Response(200, json={"symbols": symbols})
        if (symbol := request.url.params["symbol"]) in self.last_ms:
            return httpx2.Response(200, json=[row(self.last_ms[symbol])])
        if symbol != self.lists:
            return httpx2.Response(400, json={"code": -1121, "msg": "Invalid symbol."})
        rows = [] if self.newest_ms is None else [row(self.newest_ms)]
        return httpx2.Response(200, json=rows)


async def confirmed(exchange: Silent) -> int:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(exchange)) as client:
        return await rest_market(client, "spot").confirm_time()


async def test_without_frames_the_newest_candle_of_a_busy_symbol_confirms_the_time() -> None:
    exchange = Silent(FROM_MS + 41_000, FROM_MS)
    assert await confirmed(exchange) == FROM_MS
    assert exchange.asked == ["time", "klines"]
    with pytest.raises(UnavailableError, match="nothing confirms the answer of the time endpoint"):
        await confirmed(Silent(FROM_MS + 10**12, FROM_MS))


async def test_on_an_exchange_without_that_symbol_another_confirms_it() -> None:
    exchange = Silent(FROM_MS + 41_000, FROM_MS, lists="ETHUSDT")
    assert await confirmed(exchange) == FROM_MS
    assert exchange.asked == ["time", "klines", "exchangeInfo", "klines"]


async def test_a_time_that_nothing_confirms_is_none() -> None:
    with pytest.raises(UnavailableError, match="nothing confirms the answer of the time endpoint"):
        await confirmed(Silent(FROM_MS, None))


async def test_a_leap_takes_the_newest_candle_and_beside_frames_nobody_asks_for_it() -> None:
    exchange = Silent(FROM_MS, FROM_MS)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(exchange)) as client:
        rest = rest_market(client, "spot")
        tell_time(rest.clock, FROM_MS)
        assert await rest.confirm_time() == FROM_MS
        assert exchange.asked == ["time"]
        exchange.told_ms = exchange.newest_ms = FROM_MS + 300_000
        rest.clock.add_frame(FROM_MS + 10)
        assert await rest.confirm_time() == FROM_MS + 300_000
        assert exchange.asked == ["time", "time", "klines"]


async def test_a_symbol_that_is_delisted_tells_no_time_but_the_busy_one_does() -> None:
    exchange = Silent(FROM_MS, FROM_MS)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(exchange)) as client:
        rest = rest_market(client, "spot")
        rest.clock.add_frame(FROM_MS - 10**9, Series("spot", "GONEUSDT", "1m"))
        assert await rest.confirm_time() == FROM_MS
        assert exchange.asked == ["time", "klines", "klines"]


async def test_a_symbol_that_is_halted_tells_no_time_but_the_busy_one_does() -> None:
    exchange = Silent(FROM_MS, FROM_MS, last_ms={"HALTEDUSDT": FROM_MS - 3_600_000})
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(exchange)) as client:
        rest = rest_market(client, "spot")
        rest.clock.add_frame(FROM_MS - 10**9, Series("spot", "HALTEDUSDT", "1m"))
        assert await rest.confirm_time() == FROM_MS
        assert exchange.asked == ["time", "klines", "klines"]


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


async def test_a_host_that_works_is_kept_until_it_does_not() -> None:
    """A dead one costs up to half a minute, and its weight, each time that it is tried."""
    dead, asked = {"one"}, []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        if request.url.host in dead:
            raise httpx2.ConnectError("nobody there")
        return httpx2.Response(200, json={"serverTime": 3})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = rest_market(client, "usdt_futures", "https://one", "https://two", "https://three")
        tell_time(rest.clock, 3)
        for _ in range(2):
            await rest.confirm_time()
        assert asked == ["one", "two", "two"]
        dead |= {"two", "three"}
        with pytest.raises(UnavailableError, match=r"two.*three.*one"):
            await rest.confirm_time()
        dead -= {"one", "three"}
        asked.clear()
        for _ in range(2):
            await rest.confirm_time()
        assert asked == ["two", "three", "three"]


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


async def test_symbols_are_all_that_are_listed_whether_they_trade_or_not() -> None:
    entries = {"BTCUSDT": "NEW_WORD", "币安人生USDT": "TRADING"}
    body = {"symbols": [{"symbol": name, "status": entries[name]} for name in entries]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    async with httpx2.AsyncClient(transport=transport) as client:
        rest = rest_market(client, "spot")
        found = await rest.listings()
        assert {name: listing.is_trading for name, listing in found.items()} == {
            "BTCUSDT": False, "币安人生USDT": True,
        }  # fmt: skip


async def test_what_can_be_no_symbol_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    body = {"symbols": [{"symbol": name} for name in ("A", "../é", "b")]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    async with httpx2.AsyncClient(transport=transport) as client:
        rest = rest_market(client, "spot")
        assert list(await rest.listings()) == list(await rest.listings()) == ["A"]
    [record] = caplog.records
    assert record.getMessage() == (
        "spot: passed over 2 entries of its list that can be no symbols, as '../\\xe9'"
    )


async def _time(rest: RestMarket) -> object:
    return await rest.confirm_time()


async def _symbols(rest: RestMarket) -> object:
    return await rest.listings()


async def _klines(rest: RestMarket) -> object:
    page = Page(Span(FROM_MS, FROM_MS + 5 * 60_000), 5)
    return await rest.klines(Series("spot", "BTCUSDT", "1m"), page, 0)


async def _first(rest: RestMarket) -> object:
    return await rest.oldest_open_time_ms(Series("spot", "BTCUSDT", "1m"))


Question = Callable[[RestMarket], Awaitable[object]]
BOUNDS = [(_time, 1_024), (_klines, 7 * 512), (_first, 3 * 512), (_symbols, 32 * 2**20)]
"""The largest right answer to each question."""


@pytest.mark.parametrize(("ask", "most_bytes"), BOUNDS)
async def test_an_endless_body_is_cut_off(ask: Question, most_bytes: int) -> None:
    """At the largest right answer to what was asked."""
    sent = 0
    piece = b" " * min(most_bytes, 2**20)

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += len(piece)
            yield piece

    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=endless()))
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(UnavailableError, match=f"an answer of more than {most_bytes} bytes"):
            await ask(rest_market(client, "spot"))
    assert sent <= most_bytes + 2 * len(piece)


async def test_a_refusal_without_end_still_says_what_it_says() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"<p>no</p>" * 1_000

    transport = httpx2.MockTransport(lambda _: httpx2.Response(451, content=endless()))
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(RefusedError, match="not for this location"):
            await _klines(rest_market(client, "spot"))


@pytest.mark.parametrize("body", [b"[" + b"[]," * 1_000 + b"[]]", b"[" * 3_000])
async def test_more_rows_than_were_asked_for_are_refused_unread(body: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body))
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(UnavailableError, match="far more than 5 rows"):
            await _klines(rest_market(client, "spot"))


async def test_a_large_answer_is_parsed_away_from_the_event_loop() -> None:
    parsed = []

    async def away(read: Callable[[bytes, str], object], body: bytes, host: str) -> object:
        parsed.append(len(body))
        return read(body, host)

    answers = [b'{"symbols":[{"symbol":"A"}]}', b'{"symbols":[{"symbol":"B"}]}' + b" " * 300_000]

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=answers.pop(0))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = attrs.evolve(rest_market(client, "spot"), parse_away=away)
        assert list(await rest.listings()) == ["A"]
        assert parsed == []
        assert list(await rest.listings()) == ["B"]
        assert parsed == [300_028]


async def test_symbols_that_are_no_text_are_no_answer() -> None:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=b'{"symbols":[{"symbol":"\xff\xfe"}]}')
    )
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(UnavailableError, match="exchangeInfo"):
            await rest_market(client, "spot").listings()


SERIES = Series("spot", "BTCUSDT", "1m")
FROM_MS = 1_700_000_040_000
PAGE = Page(Span(FROM_MS, FROM_MS + 120_000), 3)


def row(open_time_ms: int) -> list[object]:
    return [open_time_ms, "2", "4", "1", "3", "10", open_time_ms + 59_999, "20", 7, "4", "8", "0"]


async def ask_klines(
    answer: Answer, *, now_ms: int = FROM_MS + 10**6
) -> tuple[object, RateLimiter]:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = rest_market(client, "spot")
        tell_time(rest.clock, now_ms)
        try:
            return await rest.klines(SERIES, PAGE, 0.0), rest.pool
        except UnavailableError as error:
            return error, rest.pool


async def test_klines_are_asked_with_both_ends_and_a_limit() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json=[row(FROM_MS + n * 60_000) for n in range(3)])

    got, _ = await ask_klines(answer)
    assert isinstance(got, KlinesAnswer)
    assert [candle.open_time_ms for candle in got.candles] == [FROM_MS, FROM_MS + 60_000]
    assert got.host == "https://one"
    [request] = asked
    # One more than is wanted: it proves that the others have closed.
    assert str(request.url) == (
        "https://one/api/v3/klines?symbol=BTCUSDT&interval=1m"
        f"&startTime={FROM_MS}&endTime={FROM_MS + 179_999}&limit=3"
    )


async def test_a_time_proves_a_close_if_the_same_host_told_it_before_it_was_asked() -> None:
    is_down = False

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("time"):
            return httpx2.Response(200, json={"serverTime": FROM_MS + 120_000})
        if request.url.params["limit"] == "1":
            return httpx2.Response(200, json=[row(FROM_MS + 120_000)])
        if is_down and request.url.host == "one":
            return httpx2.Response(503)
        return httpx2.Response(200, json=[row(FROM_MS), row(FROM_MS + 60_000)])

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        rest = rest_market(client, "spot", "https://one", "https://two")
        before = await rest.klines(SERIES, PAGE, 0.0)
        await rest.confirm_time()
        after = await rest.klines(SERIES, PAGE, 0.0)
        is_down = True
        of_another = await rest.klines(SERIES, PAGE, 0.0)
    assert before.unproven_ms == {FROM_MS + 60_000}
    assert not after.unproven_ms
    assert of_another.unproven_ms == {FROM_MS + 60_000}


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {"retry-after": "7"}, "", 7),
        (429, {}, "<html>", 60),
        (418, {"retry-after": "720"}, "", 720),
        (418, {}, f'{{"code":-1003,"msg":"IP banned until {FROM_MS + 10**6 + 90_000}."}}', 90),
        (418, {"retry-after": "99999999"}, "", 3 * 86_400),
        (429, {"retry-after": "0"}, "", 1),
        (418, {"retry-after": "-5"}, "", 120),
    ],
)
async def test_a_ban_stops_all_who_share_the_pool(
    status: int, headers: dict[str, str], body: str, seconds: float, autojump_clock: object
) -> None:
    got, pool = await ask_klines(lambda _: httpx2.Response(status, headers=headers, text=body))
    assert isinstance(got, UnavailableError)
    before = trio.current_time()
    await pool.acquire(1, 0.0)
    assert trio.current_time() - before == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, '{"code":-1121,"msg":"Invalid symbol."}', -1121),
        (400, '{"code":-1120,"msg":"Invalid interval."}', -1120),
        (400, '{"code":-4108,"msg":"Symbol is on delivering or closed."}', -4108),
        (451, '{"code":0,"msg":"Service unavailable from a restricted location"}', None),
        (403, "<html><head><title>403 Forbidden</title></head></html>", None),
    ],
)
async def test_a_refusal_tells_the_question_from_the_place(
    status: int, body: str, code: int | None
) -> None:
    got, _ = await ask_klines(lambda _: httpx2.Response(status, text=body))
    assert isinstance(got, RefusedError)
    assert got.code == code


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(500, text='{"code":-1000,"msg":"An unknown error occurred"}'),
        httpx2.Response(503, text="<html>"),
        httpx2.Response(400, text='{"code":-1003,"msg":"Too many"}'),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, text='[[1700000040000,"2","4"'),
        httpx2.Response(200, json={"code": 0}),
        httpx2.Response(404, text=""),
    ],
)
async def test_what_may_pass_is_no_refusal(response: httpx2.Response) -> None:
    got, _ = await ask_klines(lambda _: response)
    assert isinstance(got, UnavailableError)
    assert not isinstance(got, RefusedError)


async def test_the_used_weight_is_what_the_exchange_says(autojump_clock: object) -> None:
    headers = {"x-mbx-used-weight-1m": "5999"}
    _, pool = await ask_klines(lambda _: httpx2.Response(200, json=[], headers=headers))
    before = trio.current_time()
    await pool.acquire(2, 0.0)
    assert trio.current_time() - before > 30


async def test_the_budget_is_read_from_the_exchange() -> None:
    limits = [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1234},
    ]
    body = {"symbols": [], "rateLimits": limits}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    async with httpx2.AsyncClient(transport=transport) as client:
        rest = rest_market(client, "spot")
        await rest.listings()
        assert rest.pool.weight_per_minute == 1234


async def test_each_host_that_is_tried_costs_the_weight(autojump_clock: object) -> None:
    """The hosts of a market share the budget of an address."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "one":
            return httpx2.Response(503)
        return httpx2.Response(200, json={"symbols": []})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        pool = RateLimiter(40, 1.0)
        hosts = ("https://one", "https://two")
        await RestMarket(client, MARKETS["spot"], hosts, pool, ExchangeClock()).listings()
        before = trio.current_time()
        await pool.acquire(1, 0.0)
    assert trio.current_time() - before == pytest.approx(60), "twice 20 were spent"
