"""How many may come in, and what is counted about them."""

from itertools import accumulate

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kline_trio.simulator import Request, Response
from kline_trio.simulator.session import RateLimit
from tests.faulty_exchange import Connection, FaultyExchange, Lag, Refuse

from .support import START_MS, Peer, connected, plain_exchange, request

STREAM = "btcusdt@kline_1m"
PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}


def attempt(exchange: FaultyExchange, trade_type: str, now_s: float) -> int:
    """Return the status of a handshake, 101 if it is taken."""
    answer = exchange.connect(trade_type, PATHS[trade_type], now_s)
    return answer.status if isinstance(answer, Response) else 101


def test_spot_takes_300_attempts_in_five_minutes() -> None:
    """Beyond them it refuses with 429; attempts that were refused count as well."""
    exchange = plain_exchange()
    assert {attempt(exchange, "spot", second) for second in range(250)} == {101}
    assert [attempt(exchange, "spot", 299) for _ in range(51)] == [101] * 50 + [429]
    assert attempt(exchange, "spot", 299.9) == 429
    # what was refused at 299 s counts, so two have to grow old
    assert [attempt(exchange, "spot", 302), attempt(exchange, "spot", 302)] == [101, 429]
    assert attempt(exchange, "spot", 602) == 101
    counted = exchange.statistics["spot"]
    assert (counted.attempts, counted.opened, counted.refused) == (305, 302, 3)


@pytest.mark.parametrize("trade_type", ["usdt_futures", "coin_futures"])
def test_futures_name_no_such_limit(trade_type: str) -> None:
    exchange = plain_exchange()
    assert {attempt(exchange, trade_type, 0) for _ in range(400)} == {101}
    assert exchange.statistics[trade_type].peak_open == 400


@given(st.lists(st.integers(0, 4), max_size=700))
def test_the_newest_attempts_decide(pauses: list[int]) -> None:
    """Held against all attempts ever made, whatever came of them."""
    times = list(accumulate((pause / 4 for pause in pauses), initial=0.0))
    taken = [
        len([at for at in times[: n + 1] if at > now_s - 300]) <= 300
        for n, now_s in enumerate(times)
    ]
    limit = RateLimit(300, within_s=300.0)
    assert [limit.count(now_s) for now_s in times] == taken


def test_connections_and_what_they_carry_can_be_seen() -> None:
    """Which are open, since when, how far behind, and with which streams."""
    lag = Lag(trade_type="spot", from_ms=START_MS + 10_000, until_ms=START_MS + 20_000)
    exchange = plain_exchange(lag)
    one = Peer(exchange, "spot", f"/stream?streams={STREAM}")
    late = exchange.connect("spot", "/ws", 12.0)
    assert not isinstance(late, Response)
    one.ask(request("SUBSCRIBE", "no@such", "ethusdt@kline_1m"))
    one.ask(request("UNSUBSCRIBE", "ethusdt@kline_1m"))
    late.begin([STREAM], START_MS + 12_000)
    lag_ms = exchange.connection(late).lag_ms
    assert exchange.connections("spot") == (
        Connection(number=1, opened_ms=START_MS, lag_ms=0, streams=(STREAM, "no@such")),
        Connection(
            number=2,
            opened_ms=START_MS + 12_000,
            lag_ms=lag_ms,
            streams=(STREAM,),
        ),
    )
    assert exchange.connections("usdt_futures") == ()
    assert exchange.statistics["spot"].subscriptions == {STREAM: 2, "no@such": 1}
    exchange.disconnect(one.session, 13.0)
    exchange.disconnect(one.session, 13.0)
    assert [connection.number for connection in exchange.connections("spot")] == [2]
    counted = exchange.statistics["spot"]
    assert (counted.opened, counted.open, counted.peak_open) == (2, 1, 2)
    assert counted.subscriptions == {STREAM: 1}


def test_a_breach_of_the_message_limit_is_counted_once() -> None:
    """While its connection is open still, and afterwards; with the most messages of a second."""
    exchange = plain_exchange()
    one, other = (Peer(exchange, "spot", "/stream") for _ in range(2))
    for _ in range(4):
        other.ask(request("LIST_SUBSCRIPTIONS"))
    assert exchange.statistics["spot"].most_messages_per_s == 4
    for _ in range(6):
        one.ask(request("LIST_SUBSCRIPTIONS"))
    for _ in range(2):
        counted = exchange.statistics["spot"]
        assert (counted.too_many_requests, counted.most_messages_per_s) == (1, 6)
        exchange.disconnect(one.session, 1.0)
    assert exchange.statistics["coin_futures"].too_many_requests == 0


def test_requests_for_klines_are_counted() -> None:
    """Those that were answered, and no others."""
    exchange = plain_exchange()
    for target in (
        "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2",
        "/api/v3/klines?symbol=NOSUCH&interval=1m",
        "/api/v3/time",
        "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2023-11-12.zip",
    ):
        exchange.answer(Request(target=target, trade_type="spot", now_ms=START_MS))
    assert {name: one.klines_answered for name, one in exchange.statistics.items()} == {
        "spot": 1, "usdt_futures": 0, "coin_futures": 0,
    }  # fmt: skip


def test_scripted_refusals_are_attempts() -> None:
    """They count as attempts, and not as refused for their number."""
    refuse = Refuse(trade_type="spot", from_ms=START_MS, until_ms=START_MS + 1_000)
    exchange = plain_exchange(refuse)
    exchange.start(0.0)
    assert attempt(exchange, "spot", 0.0) == 503
    assert attempt(exchange, "spot", 1.0) == 101
    counted = exchange.statistics["spot"]
    assert (counted.attempts, counted.opened, counted.refused) == (2, 1, 0)


async def test_counts_on_the_wire(autojump_clock: MockClock) -> None:
    """A connection is open until its stream has ended."""
    exchange = plain_exchange()
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "spot", f"/stream?streams={STREAM}") as client:
            await client.say(request("LIST_SUBSCRIPTIONS"))
            await client.texts(lambda text: "result" in text)
            assert exchange.statistics["spot"].subscriptions == {STREAM: 1}
    counted = exchange.statistics["spot"]
    assert (counted.open, counted.opened, counted.most_messages_per_s) == (0, 1, 1)
