"""What goes wrong, on connections and in the log of incidents, and how spans are found."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kline_trio.simulator import Replay, Response, faults
from kline_trio.simulator.faults import Incident, IncidentLog, Spans
from tests.builders import MINUTE_MS
from tests.faulty_exchange import (
    Drop,
    Fault,
    FaultyExchange,
    Garbage,
    LateClose,
    OmitClose,
    Refuse,
    RepeatClose,
    ReviseClose,
    Shutdown,
    Silence,
    Stall,
)

from .support import (
    START_MS,
    Client,
    Peer,
    Ping,
    closes,
    connected,
    klines,
    parsed,
    plain_exchange,
    request,
)

TARGET = "/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"
STREAM = "btcusdt@kline_1m"
OPEN_MS = START_MS - 20_000
"""Open time of the candle that is forming at the start; it ends 40 s later."""
CLOSE: Any = {"trade_type": "spot", "stream": STREAM, "open_ms": OPEN_MS}


def seen(fault: Fault, until_s: float = 100) -> tuple[list[Any], FaultyExchange]:
    """Return what came of the hit stream, as (E, k), and the exchange."""
    exchange = plain_exchange(fault)
    events = [parsed(text) for text in Peer(exchange, "spot", TARGET).until(until_s)]
    return [
        (event["data"]["E"], event["data"]["k"]) for event in events if event["stream"] == STREAM
    ], exchange


def closes_seen(fault: Fault) -> tuple[list[Any], FaultyExchange]:
    """Return the closing frames of the first candle, as (E, k)."""
    events, exchange = seen(fault)
    return [(at, k) for at, k in events if k["x"] and k["t"] == OPEN_MS], exchange


def true_values(exchange: FaultyExchange) -> tuple[str, int]:
    candle = exchange.closed_candle("spot", "BTCUSDT", "1m", OPEN_MS)
    return candle.close, candle.trade_num


def test_an_omitted_close_never_comes() -> None:
    """All goes on but for one closing frame, and the account names it."""
    found, exchange = closes_seen(OmitClose(**CLOSE))
    assert found == []
    (incident,) = exchange.incidents
    assert (incident.fault, incident.stream, incident.open_ms) == ("OmitClose", STREAM, OPEN_MS)
    assert len(closes(Peer(exchange, "spot", TARGET).until(100))) > 0


def test_a_late_close_comes_after_frames_of_the_next_candle() -> None:
    """The close comes exactly as late as scripted, among forming frames of the next candle."""
    events, exchange = seen(LateClose(**CLOSE, late_ms=25_000))
    at = next(n for n, (_, k) in enumerate(events) if k["x"])
    assert events[at][0] == OPEN_MS + MINUTE_MS + 25_000
    assert events[at][1]["t"] == OPEN_MS
    assert events[at - 1][1]["t"] == OPEN_MS + MINUTE_MS
    assert [one.fault for one in exchange.incidents] == ["LateClose"]


def test_a_repeated_close_comes_twice_the_same() -> None:
    """Both frames have the same candle; only the event time differs."""
    found, exchange = closes_seen(RepeatClose(**CLOSE, after_ms=7_000))
    (first_at, first), (second_at, second) = found
    assert first == second
    assert second_at == first_at + 7_000
    assert (first["c"], first["n"]) == true_values(exchange)


def test_a_revised_close_ends_with_the_true_values() -> None:
    """The first closing frame differs, the second is right."""
    found, exchange = closes_seen(ReviseClose(**CLOSE))
    first, second = (k for _, k in found)
    assert (first["c"], first["n"]) != true_values(exchange)
    assert (second["c"], second["n"]) == true_values(exchange)


def test_a_revision_that_no_connection_got_was_not_sent() -> None:
    """Whoever listens on a connection that ends between the two frames knows the first state."""
    revision = ReviseClose(**CLOSE)
    series = plain_exchange().markets["spot"].series_of(STREAM)
    assert series is not None
    first_ms, _ = plain_exchange(revision).markets["spot"].closes_ms(series, OPEN_MS)
    drop = Drop(trade_type="spot", at_ms=first_ms + 500)
    for scripted, is_sent in (((revision,), True), ((revision, drop), False)):
        exchange = plain_exchange(*scripted)
        found = closes(Peer(exchange, "spot", f"/stream?streams={STREAM}").until(60))
        sent = exchange.last_sent("spot", STREAM, OPEN_MS)
        assert (sent.close, sent.trade_num) == (found[-1]["c"], found[-1]["n"])
        assert ((sent.close, sent.trade_num) == true_values(exchange)) is is_sent


def test_a_silent_stream_leaves_the_others_be() -> None:
    """One stream has a hole of its own, nothing is caught up, the other stream has none."""
    fault = Silence(
        trade_type="spot", stream=STREAM, from_ms=START_MS + 30_000, until_ms=START_MS + 60_000
    )
    exchange = plain_exchange(fault)
    events = [parsed(text) for text in Peer(exchange, "spot", TARGET).until(79)]

    def hole(stream: str) -> bool:
        times = [event["data"]["E"] for event in events if event["stream"] == stream]
        return not any(fault.from_ms <= at < fault.until_ms for at in times)

    assert hole(STREAM)
    assert not hole("ethusdt@kline_1m")
    lost = [one.open_ms for one in exchange.incidents if one.open_ms is not None]
    assert lost == [OPEN_MS]


@pytest.mark.parametrize("cure", [None, "subscription", "connection"])
def test_a_dead_stream_is_cured_as_its_script_says(
    cure: Literal["subscription", "connection"] | None,
) -> None:
    """By nothing, by being subscribed anew anywhere, or by another connection alone."""
    fault = Silence(
        trade_type="spot",
        stream=STREAM,
        from_ms=START_MS + 5_000,
        until_ms=START_MS + 1_000_000,
        cure=cure,
    )
    exchange = plain_exchange(fault)
    old, new = Peer(exchange, "spot", TARGET), Peer(exchange, "spot", "/stream")

    def lives(one: Peer, until_s: float) -> bool:
        one.gives_pongs = True
        return any(STREAM in text for text in one.until(until_s))

    def subscribe(one: Peer) -> None:
        assert one.ask(request("SUBSCRIBE", STREAM)) == ['{"result":null,"id":1}']

    assert lives(old, 4.9)
    assert not lives(old, 20)
    subscribe(old)
    assert not lives(old, 30), "a stream that is subscribed already is not subscribed anew"
    old.ask(request("UNSUBSCRIBE", STREAM))
    subscribe(old)
    assert lives(old, 50) is (cure == "subscription")
    new.until(10)
    subscribe(new)
    # This connection is as old as the other.
    assert lives(new, 30) is (cure == "subscription")
    newest = exchange.connect("spot", TARGET, 30.0)
    assert not isinstance(newest, Response)
    new.session = newest
    assert lives(new, 79) is (cure is not None)


@pytest.mark.parametrize("new_too", [False, True])
def test_a_stall_leaves_pings_and_replies(new_too: bool) -> None:
    """No event comes on an open connection; a new one is hit only if the script says so."""
    fault = Stall(
        trade_type="spot",
        from_ms=START_MS + 5_000,
        until_ms=START_MS + 60_000,
        new_connections_too=new_too,
    )
    exchange = plain_exchange(fault)
    one = Peer(exchange, "spot", TARGET)
    assert one.until(4.9)
    assert one.until(59.9) == []
    assert [turn.ping for turn in one.turns if turn.ping]
    assert one.ask('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    assert klines(one.until(79))
    other = Peer(plain_exchange(fault), "spot", "/stream")
    other.until(10)
    session = other.exchange.connect("spot", TARGET, 10.0)
    assert not isinstance(session, Response)
    other.session = session
    assert bool(other.until(59.9)) is not new_too


@pytest.mark.parametrize("status", [403, 418, 429, 451, 503])
def test_a_handshake_is_refused_while_the_script_says_so(status: int) -> None:
    """Refused connections get the status; before and after, they are taken."""
    fault = Refuse(
        trade_type="spot", from_ms=START_MS + 5_000, until_ms=START_MS + 9_000, status=status
    )
    exchange = plain_exchange(fault)
    Peer(exchange, "spot", TARGET)
    refused = exchange.connect("spot", TARGET, 5.0)
    assert isinstance(refused, Response)
    assert refused.status == status
    assert not isinstance(exchange.connect("usdt_futures", "/market/stream", 5.0), Response)
    assert not isinstance(exchange.connect("spot", TARGET, 9.0), Response)
    assert [one.fault for one in exchange.incidents] == ["Refuse"]


def test_faults_hit_their_own_market_only() -> None:
    """A drop of spot leaves the futures alone."""
    exchange = plain_exchange(Drop(trade_type="spot", at_ms=START_MS + 1_000))
    other = Peer(exchange, "usdt_futures", "/market/stream?streams=btcusdt@kline_1m")
    assert other.until(79)
    assert other.session.close is None


# -- on the wire ----------------------------------------------------------------------------


async def everything(client: Client) -> list[str]:
    """Collect all texts until the stream ends."""
    return await client.texts(lambda _: False)


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        (Drop(trade_type="spot", at_ms=START_MS + 9_000), '"E":'),
        (Shutdown(trade_type="spot", at_ms=START_MS + 8_000, grace_ms=1_000), '"E":'),
    ],
)
async def test_a_drop_ends_the_stream_without_a_close_frame(
    fault: Fault, last: str, autojump_clock: MockClock
) -> None:
    """The stream ends at its time, in the middle of things; only a shutdown is announced."""
    exchange = plain_exchange(fault)
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "spot", TARGET) as client:
            texts = await everything(client)
            assert trio.current_time() == pytest.approx(9.0, abs=0.01)
            assert last in texts[-1]
            assert any("serverShutdown" in text for text in texts) is isinstance(fault, Shutdown)
            assert await client.next() is None


async def test_garbage_comes_between_good_frames(autojump_clock: MockClock) -> None:
    """The scripted text comes once, as it is, and the stream goes on."""
    garbage = Garbage(trade_type="spot", at_ms=START_MS + 8_000)
    exchange = plain_exchange(garbage)
    async with trio.open_nursery() as nursery:
        async with connected(nursery, exchange, "spot", TARGET) as client:
            texts = await client.texts(lambda text: text == garbage.text)
            assert klines(texts[:-1])
            assert klines(await client.texts(lambda text: '"x":true' in text))


async def test_a_stalled_connection_still_pings(autojump_clock: MockClock) -> None:
    """While no data comes, the peer is pinged: pings are no life."""
    stall = Stall(trade_type="spot", from_ms=START_MS, until_ms=START_MS + 10**9)
    async with trio.open_nursery() as nursery:
        async with connected(nursery, plain_exchange(stall), "spot", TARGET) as client:
            assert isinstance(await client.next(), Ping)


# -- on a replay ----------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive file of three minutes."""
    folder = tmp_path / "spot"
    folder.mkdir()
    opens = [OPEN_MS + n * MINUTE_MS for n in range(3)]
    rows = [f"{ms},1.0,3.0,0.5,2.{n},10,{ms + 59_999},20,4,5,9,0" for n, ms in enumerate(opens)]
    file = folder / "BTCUSDT-1m-2023-11-14.csv"
    file.write_text("\n".join(rows))
    return file


@pytest.mark.parametrize(
    ("fault", "name", "opens"),
    [
        (OmitClose, "OmitClose", [1, 2]),
        (partial(LateClose, late_ms=90_000), "LateClose", [1, 0, 2]),
        (RepeatClose, "RepeatClose", [0, 0, 1, 2]),
        (ReviseClose, "ReviseClose", [0, 0, 1, 2]),
        (partial(LateClose, late_ms=500_000), "LateClose", [1, 2, 0]),
    ],
)
def test_a_replay_has_the_same_faults(
    archive: Path, fault: Callable[..., Fault], name: str, opens: list[int]
) -> None:
    """Closes of a replay are omitted, late, repeated and revised as made-up ones are."""
    exchange = plain_exchange(fault(**CLOSE), replay=Replay.from_files([archive]))
    one = Peer(exchange, "spot", f"/stream?streams={STREAM}")
    one.gives_pongs = True
    found = closes(one.until(1_000))
    assert [(k["t"] - OPEN_MS) // MINUTE_MS for k in found] == opens
    assert {k["t"]: k["c"] for k in found}.get(OPEN_MS, "2.0") == "2.0"
    assert [one.fault for one in exchange.incidents] == [name]


def thing(number: int) -> Incident:
    return Incident(fault="Stall", trade_type="spot", from_ms=number, until_ms=number)


def test_each_thing_is_told_once_in_its_order() -> None:
    """However many connections it hits."""
    log = IncidentLog()
    for number in (2, 1, 2):
        log.add(thing(number))
    assert log.incidents == (thing(2), thing(1))


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that years of faults take no more room than a day of them."""
    monkeypatch.setattr(faults, "_MOST_INCIDENTS", 3)
    log = IncidentLog()
    for number in range(10):
        log.add(thing(number))
    assert log.incidents == (thing(7), thing(8), thing(9))


@attrs.frozen
class Span:
    from_ms: int
    until_ms: int


@given(
    st.lists(st.builds(Span, st.integers(0, 50), st.integers(0, 60)), max_size=30),
    st.integers(-5, 70),
)
def test_every_span_that_holds_a_moment_is_found(spans: list[Span], at_ms: int) -> None:
    """Whatever their order, overlaps and lengths, empty and reversed ones included."""
    held = [span for span in spans if span.from_ms <= at_ms < span.until_ms]
    found = list(Spans(spans).at(at_ms))
    assert sorted(map(attrs.astuple, found)) == sorted(map(attrs.astuple, held))
    assert (next(Spans(spans).at(at_ms), None) is None) is (not held)
