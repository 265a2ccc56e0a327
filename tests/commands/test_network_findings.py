"""Routes, REST hosts, clock, archive and symbols: each fault has its line, verdict and advice."""

import json
from functools import partial

import attrs
import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.commands.finding import Verdict, text_of
from kline_trio.commands.network_findings import (
    judge_archive,
    judge_clock,
    judge_host,
    judge_route,
)
from kline_trio.config import EndpointConfig
from kline_trio.exchange.connection_events import CloseReason, Disconnected
from kline_trio.exchange.markets import MARKETS, Market
from kline_trio.exchange.probe import HttpProbe, RouteProbe
from kline_trio.storage.layout import Layout
from tests.builders import SPOT, patterns
from tests.commands.examined import (
    FUTURE,
    MONTHLY,
    NOW_MS,
    Answer,
    World,
    deliver,
    healthy,
    instead,
    of,
    says,
)
from tests.fakes import Peer, Script, silence, vanish

# Routes


async def test_a_route_that_accepts_and_never_sends(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """The commonest fault of 2026: klines of USD-M moved to /market/stream."""
    old = EndpointConfig(
        websocket=("wss://fstream.binance.com/stream",), rest=("https://fapi.binance.com",)
    )
    endpoints = {**world.config.endpoints, "usdt_futures": old}
    world.change(streams=(FUTURE,), endpoints=endpoints)
    world.script = silence
    began = trio.current_time()
    assert says(
        await world.fault(),
        "error route usdt_futures wss://fstream.binance.com/stream: connection and subscription are"
        " accepted, but no frame of btcusdt@kline_1m came within 15 s",
        "set [endpoints.usdt_futures] websocket to the default,"
        " wss://fstream.binance.com/market/stream: routes for other kinds of streams accept",
    )
    assert trio.current_time() - began < 16


async def test_the_right_route_in_a_maintenance(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.script = silence
    fault = await world.fault()
    assert fault.verdict is Verdict.ERROR
    assert fault.advice == "look whether the exchange announces maintenance, and try again"


async def mute(peer: Peer) -> None:
    await peer.accept()
    await peer.gone()


async def close(peer: Peer) -> None:
    await peer.accept()
    await peer.subscribed()
    await peer.close(1008, "Too many requests")
    await peer.gone()


async def refuse_stream(peer: Peer) -> None:
    await peer.accept()
    request = await peer.request()
    fault = {"code": 2, "msg": "Invalid request: \x1b[2J"}
    await peer.text(json.dumps({"error": fault, "id": request["id"]}))
    await peer.gone()


async def babble(peer: Peer) -> None:
    await peer.accept()
    await peer.subscribed()
    while True:
        await peer.text("<html>")
        await trio.sleep(1)


def refuse(status: int, *headers: tuple[bytes, bytes]) -> Script:
    return partial(Peer.reject, status=status, headers=headers)


ROUTE = "error route spot wss://stream.binance.com:9443/stream:"


@pytest.mark.parametrize(
    ("script", "message", "advice"),
    [
        (
            mute,
            (
                "the connection is accepted, but not the subscription, and no frame of"
                " btcusdt@kline_1m came within 15 s"
            ),
            "look whether the exchange announces maintenance, and try again; if a proxy is in use",
        ),
        (
            close,
            (
                "the connection ended before a frame came: the exchange closed it: 1008"
                " 'Too many requests'"
            ),
            "try again in a minute; if it ends again, look for a firewall or proxy that cuts",
        ),
        (
            vanish,
            "not reached: the server closed the connection before it answered the handshake",
            "look whether the exchange",
        ),
        (
            refuse_stream,
            r"the stream btcusdt@kline_1m is refused: Invalid request: \x1b[2J",
            "look whether the exchange",
        ),
        (
            babble,
            "no valid frame of btcusdt@kline_1m came: a frame that is not JSON",
            "look whether the exchange",
        ),
        (
            refuse(451),
            "the handshake is refused: HTTP 451",
            "use a proxy in another location ([connection] proxy)",
        ),
        (refuse(403), "the handshake is refused: HTTP 403", "wait some minutes; if it stays, use"),
        (
            refuse(429, (b"retry-after", b"30")),
            "the handshake is refused: HTTP 429",
            "wait 30 s, and look for other programs at this address that connect too often",
        ),
        (refuse(404), "the handshake is refused: HTTP 404", "look whether the exchange announces"),
    ],
)
async def test_a_route_with_a_fault(
    autojump_clock: trio.testing.MockClock,
    world: World,
    script: Script,
    message: str,
    advice: str,
) -> None:
    world.script = script
    assert says(await world.fault(), f"{ROUTE} {message}", advice)


async def test_a_fault_of_a_route_is_a_warning_if_another_one_delivers(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def second_works(peer: Peer) -> None:
        await (deliver(peer) if "other" in peer.url else silence(peer))

    spot = world.config.endpoints["spot"]
    spot = attrs.evolve(spot, websocket=(*spot.websocket, "wss://other.test/stream"))
    world.change(endpoints={**world.config.endpoints, "spot": spot})
    world.script = second_works
    fault = await world.fault()
    assert (fault.check, fault.verdict) == ("route", Verdict.WARNING)
    assert fault.message.endswith("came within 15 s; another host does its work")


# REST, clock, archive

PAGE = "<html><body>Attention Required!</body></html>"
REST = "rest spot https://api.binance.com:"


@pytest.mark.parametrize(
    ("answer", "line", "advice"),
    [
        (
            instead("/api/", 451, json={"code": 0, "msg": "Service unavailable ..."}),
            f"error {REST} HTTP 451: not served to this location",
            (
                'name another host under [endpoints.spot] rest, as "https://data-api.binance.vision",'
                " or use a proxy in another location"
            ),
        ),
        (
            instead("/api/", 403, text=PAGE),
            f"error {REST} HTTP 403: a web firewall refuses this address",
            "wait some minutes; if it stays, use another address or a proxy, or name another host",
        ),
        (
            instead("/api/", 418, headers={"retry-after": "4000"}),
            f"error {REST} HTTP 418: this address is banned",
            "stop all programs at this address that send requests, for 4,000 s; then lower [rest]",
        ),
        (
            instead("/api/", 429),
            f"warning {REST} HTTP 429: the request weight of this address is used up",
            "find the programs at this address that send so many requests; wait some minutes, and",
        ),
        (
            instead("/api/", 200, text=PAGE),
            f"error {REST} HTTP 200, but the body is not the exchange's time",
            "open https://api.binance.com in a browser: a firewall, a proxy or the login page",
        ),
        (
            instead("/api/", 404, json={"code": -1, "msg": "no\n"}),
            f"error {REST} HTTP 404 for https://api.binance.com/api/v3/time: -1 'no\\\\n'",
            "look whether the exchange announces maintenance, and try again",
        ),
        (
            instead("/api/", 503, json={"code": -1008, "msg": "Server is overloaded."}),
            f"error {REST} HTTP 503: -1008 'Server is overloaded.'",
            "look whether the exchange announces maintenance, and try again",
        ),
    ],
)
async def test_a_rest_host_with_a_fault(
    autojump_clock: trio.testing.MockClock,
    world: World,
    answer: Answer,
    line: str,
    advice: str,
) -> None:
    """Then there is no list of symbols, and nothing to compare the clock with."""
    world.answer = answer
    rest, symbols = await world.faults()
    assert says(rest, line, advice)
    assert says(
        symbols,
        "warning symbols spot: no list of symbols, so that names and patterns are not checked:"
        " no REST host can be used",
        "correct what the lines of `rest` say, and try again",
    )
    assert "/api/v3/exchangeInfo" not in world.asked, "a host that refuses is asked no more"


async def test_a_rest_host_that_does_not_answer(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(60 if "/api/" in str(request.url) else 0)
        return healthy(request)

    world.answer = slow
    rest, _ = await world.faults()
    assert says(rest, f"error {REST} no whole answer within 8 s", "look whether the exchange")


async def test_futures_have_no_other_host_to_name(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.change(streams=(FUTURE,))
    world.script = partial(deliver, series=FUTURE)
    world.answer = instead("/fapi/", 451)
    rest, _ = await world.faults()
    assert rest.advice.startswith("name another host under [endpoints.usdt_futures] rest, or use")


async def test_a_refusal_of_one_host_is_a_warning_if_another_one_answers(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    spot = world.config.endpoints["spot"]
    spot = attrs.evolve(spot, rest=(*spot.rest, "https://data-api.binance.vision"))
    world.change(endpoints={**world.config.endpoints, "spot": spot})
    world.answer = instead("//api.binance.com", 451)
    fault = await world.fault()
    assert fault.verdict is Verdict.WARNING
    assert fault.message == "HTTP 451: not served to this location; another host does its work"


async def test_weight_that_other_programs_use(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.answer = instead(
        "/time", 200, json={"serverTime": NOW_MS}, headers={"x-mbx-used-weight-1m": "5000"}
    )
    assert says(
        await world.fault(),
        f"warning {REST} answers in 0.00 s; this address has used 5,000 of 6,000 weight in this"
        " minute",
        "find the programs at this address that send so many requests, and stop them",
    )


async def test_a_host_that_counts_no_weight(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.answer = instead("/time", 200, json={"serverTime": NOW_MS})
    [rest] = of("rest", await world.examine())
    assert rest.message == "answers in 0.00 s"


@pytest.mark.parametrize(
    ("off_ms", "words"),
    [
        (-43_000, "43.00 s behind"),
        (9 * 365 * 86_400_000, "283,824,000.00 s (3,285 d) ahead of"),
    ],
)
async def test_a_local_clock_that_is_off_is_a_warning(
    autojump_clock: trio.testing.MockClock, world: World, off_ms: int, words: str
) -> None:
    world.now_ms = NOW_MS + off_ms
    assert says(
        await world.fault(),
        f"warning clock spot: the local clock is {words} the exchange's, give or take 0.00 s",
        "set the clock by NTP, as by `timedatectl set-ntp true`, unless the exchange is a simulated"
        " one; only labels such as those of the log are affected",
    )


async def test_a_slow_answer_does_not_make_the_clock_wrong(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(5)
        return healthy(request)

    world.answer = slow
    [clock] = of("clock", await world.examine())
    assert clock.verdict is Verdict.OK
    assert clock.message.endswith("is 2.50 s ahead of the exchange's, give or take 2.50 s")


@pytest.mark.parametrize(
    ("answer", "message", "advice"),
    [
        (
            instead(".CHECKSUM", 404, text="<Error><Code>NoSuchKey</Code></Error>"),
            (
                "HTTP 404: there is no https://data.binance.vision/data/spot/daily/klines/BTCUSDT/1m/"
                "BTCUSDT-1m-2023-11-06.zip.CHECKSUM"
            ),
            "look whether the exchange announces maintenance",
        ),
        (
            instead(".CHECKSUM", 403),
            "HTTP 403: the host refuses this address or location",
            "try again in an hour; if it stays, use a proxy ([connection] proxy)",
        ),
        (
            instead(".CHECKSUM", 200, text=PAGE),
            (
                "the body of https://data.binance.vision/data/spot/daily/klines/BTCUSDT/1m/"
                "BTCUSDT-1m-2023-11-06.zip.CHECKSUM is no checksum"
            ),
            "look whether the exchange announces maintenance",
        ),
        (
            instead(".CHECKSUM", 503),
            (
                "HTTP 503 for https://data.binance.vision/data/spot/daily/klines/BTCUSDT/1m/"
                "BTCUSDT-1m-2023-11-06.zip.CHECKSUM"
            ),
            "try again in some minutes",
        ),
    ],
)
async def test_an_archive_with_a_fault_is_a_warning(
    autojump_clock: trio.testing.MockClock,
    world: World,
    answer: Answer,
    message: str,
    advice: str,
) -> None:
    """REST has the same candles."""
    world.answer = answer
    assert says(
        await world.fault(),
        f"warning archive https://data.binance.vision: {message}; history comes from REST alone,"
        " which is slower",
        advice,
    )


# Symbols


async def test_symbols_that_are_not_listed_or_do_not_trade(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    names = ("BTCUSDX", "币安人生USDT", "OLDUSDT")
    series = [Series("spot", name, "1m") for name in names]
    world.change(streams=(SPOT, *series))
    near, far, old = await world.faults()
    assert says(
        near,
        "error symbols spot BTCUSDX: the exchange does not list it: it has no new candles",
        "did you mean BTCUSDT? Correct it under [streams.spot]",
    )
    assert says(
        far,
        "error symbols spot 币安人生USDT: the exchange does not list it: it has no new candles",
        "correct it under [streams.spot], or take it out",
    )
    assert says(
        old,
        "warning symbols spot OLDUSDT: it does not trade (status BREAK): it has no new candles",
        "take it out of [streams.spot] if it is not to trade again",
    )


async def test_hundreds_of_unknown_symbols_are_a_few_lines(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    series = [Series("spot", f"NONE{number}", "1m") for number in range(300)]
    world.change(
        streams=tuple(series),
        store=attrs.evolve(world.config.store, layout=Layout(MONTHLY)),
    )
    faults = await world.faults()
    assert len(faults) == 11
    assert faults[-1].message == "290 more symbols have the same fault"


async def test_a_pattern_that_matches_nothing(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.change(patterns=patterns('[streams.spot]\n3m = ["BTC*", "NOPE*", "!X*"]'))
    one, two = await world.faults()
    assert says(
        one,
        "warning symbols spot 3m: NOPE* matches no symbol that trades",
        "correct it under [streams.spot], or take it out",
    )
    assert text_of(two, before=one) == "warning  symbols  spot 3m: !X* matches no symbol"


async def test_a_list_of_symbols_that_cannot_be_read(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.answer = instead("/exchangeInfo", 200, text="{}")
    fault = await world.fault()
    assert (fault.check, fault.verdict) == ("symbols", Verdict.WARNING)
    assert "https://api.binance.com/api/v3/exchangeInfo: " in fault.message


async def test_a_list_of_symbols_that_takes_too_long(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(60 if "exchangeInfo" in str(request.url) else 0)
        return healthy(request)

    world.answer = slow
    assert (await world.fault()).message.endswith("are not checked: no answer within 20 s")


# Whatever comes

TEXTS = st.text(max_size=30)
OFF_MS = st.integers(-100_000, 100_000)


@settings(deadline=None)
@given(off_ms=OFF_MS, there_ms=st.integers(0, 9_000), back_ms=st.integers(0, 9_000))
def test_a_warning_about_the_clock_is_never_false(off_ms: int, there_ms: int, back_ms: int) -> None:
    """However the round trip divides; and more than the round trip and a second is always seen."""
    round_trip_ms = there_ms + back_ms
    probe = HttpProbe(
        url="https://one/api/v3/time",
        status=200,
        body=json.dumps({"serverTime": NOW_MS + there_ms}).encode(),
        sent_ms=NOW_MS + off_ms,
        seconds=round_trip_ms / 1_000,
    )
    [finding] = judge_clock(probe, "spot")
    if finding.verdict is not Verdict.OK:
        assert abs(off_ms) > 1_000
    if abs(off_ms) > 1_001 + round_trip_ms:
        assert finding.verdict is Verdict.WARNING
        assert ("ahead of" if off_ms > 0 else "behind") in finding.message


@settings(deadline=None)
@given(
    market=st.sampled_from(list(MARKETS.values())),
    status=st.none() | st.integers(100, 599),
    body=st.binary(max_size=60) | TEXTS.map(lambda text: json.dumps({"msg": text}).encode()),
    used=st.none() | st.integers(0, 10**9),
    problem=TEXTS,
)
def test_whatever_a_host_answers_has_a_line_and_a_fault_has_advice(
    market: Market, status: int | None, body: bytes, used: int | None, problem: str
) -> None:
    probe = HttpProbe(
        url="https://one", status=status, body=body, used_weight=used, problem=problem
    )
    for finding in (
        judge_host(probe, market, "https://one"),
        judge_archive(probe, "https://one"),
        *judge_clock(probe, market.trade_type),
    ):
        assert all(line.isprintable() for line in text_of(finding).split("\n"))
        assert finding.advice or finding.verdict is Verdict.OK
    assert judge_archive(probe, "https://one").verdict is not Verdict.ERROR


@settings(deadline=None)
@given(
    market=st.sampled_from(list(MARKETS.values())),
    ended=st.none()
    | st.builds(
        Disconnected,
        why=st.sampled_from(CloseReason),
        detail=TEXTS,
        status=st.none() | st.integers(100, 599),
        retry_after_seconds=st.none() | st.floats(0, 10**6),
    ),
    refusal=st.none() | TEXTS,
    is_acknowledged=st.booleans(),
)
def test_whatever_ends_a_route_without_a_frame_is_an_error_with_advice(
    market: Market, ended: Disconnected | None, refusal: str | None, *, is_acknowledged: bool
) -> None:
    probe = RouteProbe(
        url="wss://one/stream",
        stream="btcusdt@kline_1m",
        ended=ended,
        refusal=refusal,
        is_acknowledged=is_acknowledged,
    )
    finding = judge_route(probe, market)
    assert finding.verdict is Verdict.ERROR
    assert finding.advice
    assert finding.message
