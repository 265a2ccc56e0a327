"""Connections whose servers are behind, each by a time of its own."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.simulator import Replay, Response
from kline_trio.simulator.session import Session
from tests.builders import MINUTE_MS
from tests.faulty_exchange import FaultyExchange, Lag, Shutdown

from .support import START_MS, Peer, closes, parsed, plain_exchange, request

STREAMS = ("btcusdt@kline_1m", "ethusdt@kline_1m")
TARGET = f"/stream?streams={'/'.join(STREAMS)}"
LAG = Lag(trade_type="spot", from_ms=START_MS, until_ms=START_MS + 60_000)
OPEN_MS = START_MS - 20_000


def arrivals(one: Peer, until_s: float) -> list[tuple[int, Any]]:
    """Return what a connection is sent, each with the moment at which it is."""
    found: list[tuple[int, Any]] = []
    one.gives_pongs = True
    while one.now_s < until_s:
        at_ms = one.exchange.now_ms(one.now_s)
        found += [(at_ms, parsed(text)) for text in one.until(one.now_s)]
        turn = one.turns[-1]
        assert turn.close is None
        one.now_s = min(until_s, turn.wake_s, one.exchange.local_s(turn.next_due_ms))
    return found


def second(exchange: FaultyExchange, target: str = TARGET, now_s: float = 0.0) -> Peer:
    """Open another connection."""
    one = Peer(exchange, "spot", target)
    one.now_s = now_s
    return one


@given(st.integers(0, 2**32), st.integers(1, 30_000), st.integers(0, 59))
@settings(max_examples=10, deadline=None)
def test_all_of_a_connection_is_late_by_the_same_time(seed: int, most_ms: int, at_s: int) -> None:
    """The same texts as without a lag, from the moment of the subscription on, each late alike."""
    lag = Lag(trade_type="spot", from_ms=START_MS, until_ms=START_MS + 60_000, most_ms=most_ms)
    late = Peer(
        FaultyExchange(seed=seed, start_ms=START_MS, speed=1.0, faults=[lag]), "spot", "/stream"
    )
    prompt = Peer(FaultyExchange(seed=seed, start_ms=START_MS, speed=1.0), "spot", "/stream")
    behind_ms = late.lag_ms
    assert 0 <= behind_ms <= most_ms
    for one in (late, prompt):
        one.until(at_s)
        one.ask(request("SUBSCRIBE", *STREAMS))
    came = arrivals(late, 200 + behind_ms / 1000)
    wanted = arrivals(prompt, 200)
    assert [event for _, event in came] == [event for _, event in wanted]
    assert all(at_ms - event["data"]["E"] == behind_ms for at_ms, event in came)


def test_a_lag_follows_from_seed_and_number() -> None:
    """Each connection has its own, the same again at every run, whatever its streams are."""

    def lags(seed: int, target: str) -> list[int]:
        exchange = FaultyExchange(seed=seed, start_ms=START_MS, speed=1.0, faults=[LAG])
        return [Peer(exchange, "spot", target).lag_ms for _ in range(20)]

    assert lags(1, TARGET) == lags(1, "/ws")
    assert lags(1, TARGET) != lags(2, TARGET)
    assert len(set(lags(1, TARGET))) > 15


def test_only_connections_of_the_span_lag_and_they_do_for_life() -> None:
    """Who connects before or after is served at once; who connected meanwhile stays behind."""
    exchange = plain_exchange(
        Lag(trade_type="spot", from_ms=START_MS + 5_000, until_ms=START_MS + 10_000)
    )

    exchange.start(0.0)

    def opened(now_s: float, trade_type: str = "spot", target: str = TARGET) -> Session:
        session = exchange.connect(trade_type, target, now_s)
        assert not isinstance(session, Response)
        return session

    def lag_ms(session: Session) -> int:
        return exchange.connection(session).lag_ms

    assert lag_ms(opened(4.9)) == 0
    late = opened(5.0)
    assert lag_ms(late) > 0
    assert lag_ms(opened(6.0, "usdt_futures", "/market/stream")) == 0
    assert lag_ms(opened(10.0)) == 0
    one = second(exchange, now_s=7.0)
    one.session = late
    events = [(at_ms, event) for at_ms, event in arrivals(one, 300) if at_ms > START_MS + 60_000]
    assert {at_ms - event["data"]["E"] for at_ms, event in events} == {lag_ms(late)}
    (told,) = exchange.incidents
    assert (told.fault, told.connection) == ("Lag", exchange.connection(late).number)
    assert told.until_ms - told.from_ms == lag_ms(late)


def test_what_is_late_is_lost_with_its_connection() -> None:
    """What another connection has had already never comes on one that is dropped meanwhile."""
    exchange = plain_exchange(LAG)
    one, two = (Peer(exchange, "spot", TARGET) for _ in range(2))
    first, later = sorted((one, two), key=lambda peer: peer.lag_ms)
    until_s = 41 + first.lag_ms / 1000
    assert first.lag_ms + 2_000 < later.lag_ms
    had = {(k["s"], k["t"]) for k in closes(first.until(until_s))}
    assert ("BTCUSDT", OPEN_MS) in had
    assert closes(later.until(until_s)) == []
    later.ask(request("UNSUBSCRIBE", *STREAMS))
    later.gives_pongs = True
    later.ask(request("SUBSCRIBE", *STREAMS))
    assert OPEN_MS not in {k["t"] for k in closes(later.until(250)) if k["s"] == "BTCUSDT"}


def test_replies_pings_and_notices_are_not_late() -> None:
    """A server that is behind answers and pings on time, and says on time that it goes down."""
    shutdown = Shutdown(trade_type="spot", at_ms=START_MS + 9_000)
    one = Peer(plain_exchange(LAG, shutdown), "spot", "/stream")
    assert one.lag_ms > 1_000
    assert one.ask(request("SUBSCRIBE", *STREAMS))
    one.until(25)
    assert [turn.ping for turn in one.turns if turn.ping] == [b"20000"]
    notices = [turn for turn in one.turns if any("serverShutdown" in text for text in turn.texts)]
    assert notices
    assert '"E":1700000009000' in notices[0].texts[0]


def test_a_replay_lags_too_and_ends(tmp_path: Path) -> None:
    """Each row comes as late as the connection is, the last one before the clock stands still."""
    file = tmp_path / "spot" / "BTCUSDT-1m-2023-11-14.csv"
    file.parent.mkdir()
    opens = [OPEN_MS + n * MINUTE_MS for n in range(3)]
    rows = [f"{ms},1.0,3.0,0.5,2.0,10,{ms + 59_999},20,4,5,9,0" for ms in opens]
    file.write_text("\n".join(rows))
    lag = Lag(trade_type="spot", from_ms=0, until_ms=START_MS * 2)
    exchange = plain_exchange(lag, replay=Replay.from_files([file]))
    finished: list[bool] = []
    exchange.on_finished(lambda: finished.append(True), 0.0)
    one = Peer(exchange, "spot", f"/stream?streams={STREAMS[0]}")
    behind_ms = one.lag_ms
    assert behind_ms > 0
    came = arrivals(one, 240)
    assert [event["data"]["k"]["t"] for _, event in came if event["data"]["k"]["x"]] == opens
    assert {at_ms - event["data"]["E"] for at_ms, event in came} == {behind_ms}
    exchange.handed_over(one.session, one.now_s)
    assert finished == [True]


@pytest.mark.parametrize("at_s", [1.0, 62.0])
def test_on_a_replay_nothing_from_before_a_subscription_comes(tmp_path: Path, at_s: float) -> None:
    """A late connection is not a way into the past."""
    file = tmp_path / "spot" / "BTCUSDT-1m-2023-11-14.csv"
    file.parent.mkdir()
    opens = [OPEN_MS + n * MINUTE_MS for n in range(5)]
    file.write_text("\n".join(f"{ms},1,3,0.5,2,10,{ms + 59_999},20,4,5,9,0" for ms in opens))
    lag = Lag(trade_type="spot", from_ms=0, until_ms=START_MS * 2)
    exchange = plain_exchange(lag, replay=Replay.from_files([file], {"spot": []}))
    exchange.start(0.0)
    one = Peer(exchange, "spot", "/stream")
    assert one.lag_ms > 3_000
    one.gives_pongs = True
    one.until(at_s)
    one.ask(request("SUBSCRIBE", STREAMS[0]))
    since_ms = exchange.now_ms(at_s)
    came = arrivals(one, 400)
    assert came
    assert min(event["data"]["E"] for _, event in came) >= since_ms
