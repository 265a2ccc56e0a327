"""One connection: requests, replies, limits, pings and its end, without socket or waiting."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.simulator.session import LIFETIME_S, MOST_STREAMS, Close
from tests.faulty_exchange import Shutdown

from .support import (
    START_MS,
    Peer,
    closes,
    klines,
    parsed,
    plain_exchange,
    real,
    recorded_frames,
    request,
)

PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}
STREAMS = {
    "spot": "btcusdt@kline_1m",
    "usdt_futures": "btcusdt@kline_1m",
    "coin_futures": "btcusd_perp@kline_1m",
}
MARKETS = list(PATHS)
FUTURES = MARKETS[1:]
OK = '{"result":null,"id":1}'
STREAM = "btcusdt@kline_1m"


def peer(trade_type: str = "spot", target: str | None = None) -> Peer:
    return Peer(plain_exchange(), trade_type, PATHS[trade_type] if target is None else target)


# -- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("trade_type", MARKETS)
def test_streams_of_the_path_come_wrapped(trade_type: str) -> None:
    """``/stream?streams=`` feeds its streams at once, each event under its stream's name."""
    stream = STREAMS[trade_type]
    texts = peer(trade_type, f"{PATHS[trade_type]}?streams={stream}").until(71)
    assert {parsed(text)["stream"] for text in texts} == {stream}
    assert [kline["t"] for kline in closes(texts)] == [START_MS - 20_000]


def test_a_raw_path_gives_bare_events() -> None:
    """``/ws/<stream>`` gives the event without an envelope."""
    texts = peer("spot", f"/ws/{STREAM}").until(10)
    assert {parsed(text)["e"] for text in texts} == {"kline"}


def test_the_envelope_is_a_property_of_the_connection() -> None:
    """SET_PROPERTY takes the envelope away, and GET_PROPERTY tells which form is in force."""
    one = peer("spot", f"/stream?streams={STREAM}")
    assert one.ask(request("GET_PROPERTY", "combined")) == ['{"result":true,"id":1}']
    assert one.ask(request("SET_PROPERTY", "combined", False)) == [OK]
    assert one.ask(request("GET_PROPERTY", "combined")) == ['{"result":false,"id":1}']
    assert all(text.startswith('{"e":"kline"') for text in one.until(5))


@pytest.mark.parametrize("trade_type", MARKETS)
def test_subscribing_is_acknowledged_and_begins_a_stream(trade_type: str) -> None:
    """A stream is silent before SUBSCRIBE and after UNSUBSCRIBE; both are acknowledged."""
    one, stream = peer(trade_type), STREAMS[trade_type]
    assert one.until(10) == []
    assert one.ask(request("SUBSCRIBE", stream)) == [OK]
    assert klines(one.until(20))
    assert one.ask(request("UNSUBSCRIBE", stream)) == [OK]
    assert one.until(79) == []


def test_subscriptions_are_listed_in_their_order() -> None:
    """LIST_SUBSCRIPTIONS names each stream once, in the order of their beginning."""
    one = peer("spot", f"/stream?streams={STREAM}")
    one.ask(request("SUBSCRIBE", "ethusdt@kline_1h", STREAM))
    assert one.ask('{"method":"LIST_SUBSCRIPTIONS","id":3}') == [
        f'{{"result":["{STREAM}","ethusdt@kline_1h"],"id":3}}'
    ]


def test_subscribing_twice_gives_each_close_once() -> None:
    """A stream that is subscribed already goes on as it was."""
    one = peer("spot", f"/stream?streams={STREAM}")
    one.ask(request("SUBSCRIBE", STREAM, STREAM))
    assert len(closes(one.until(71))) == 1


def test_a_close_on_its_way_comes_after_a_new_subscription() -> None:
    """Who subscribes between a candle's end and its close gets the close."""
    one = peer("spot", f"/stream?streams={STREAM}")
    one.until(40)
    one.ask(request("UNSUBSCRIBE", STREAM))
    one.ask(request("SUBSCRIBE", STREAM))
    assert [kline["t"] for kline in closes(one.until(71))] == [START_MS - 20_000]


@pytest.mark.parametrize(
    ("trade_type", "path", "stream"),
    [
        ("spot", "/stream", "nosuchusdt@kline_7m"),
        ("spot", "/stream", "notasymbol@kline_1m"),
        ("spot", "/stream", "BTCUSDT@kline_1m"),
        ("usdt_futures", "/market/stream", "btcusdt@kline_1s"),
        ("usdt_futures", "/stream", "btcusdt@kline_1m"),
        ("usdt_futures", "/public/stream", "btcusdt@kline_1m"),
        ("coin_futures", "/stream", "btcusd@kline_1m"),
    ],
)
def test_an_acknowledgement_proves_nothing(trade_type: str, path: str, stream: str) -> None:
    """Unknown streams, upper case and USD-M's old paths are acknowledged, then stay silent."""
    one = peer(trade_type, path)
    assert one.ask(request("SUBSCRIBE", stream)) == [OK]
    assert one.ask('{"method":"LIST_SUBSCRIPTIONS","id":2}') == [
        f'{{"result":["{stream}"],"id":2}}'
    ]
    assert one.until(79) == []


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", 3, "Invalid JSON"),
        ("[" * 100_000, 3, "Invalid JSON"),
        ("[1]", 2, "missing field `method`"),
        ('{"id":1}', 2, "missing field `method`"),
        ('{"method":"SUBSCRIBE","params":["a@b"],"id":1.5}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":["a@b"],"id":true}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":"a@b"}', 2, "params"),
        ('{"method":"SUBSCRIBE","params":[5]}', 2, "invalid stream"),
        ('{"method":"SUBSCRIBE","params":["no stream"]}', 2, "invalid stream"),
        ('{"method":["SUBSCRIBE"]}', 2, "unknown variant"),
        ('{"method":"LIST_SUBSCRIPTIONS","params":[1]}', 2, "too many parameters"),
        ('{"method":"GET_PROPERTY","params":[1]}', 2, "property name"),
        ('{"method":"GET_PROPERTY","params":["colour"]}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1]}', 1, "expected Boolean"),
    ],
)
def test_a_bad_request_gets_a_nested_error(text: str, code: int, words: str) -> None:
    """Whatever is wrong with a request, spot says so and the connection lives on."""
    one = peer()
    (reply,) = one.ask(text)
    error = parsed(reply)["error"]
    assert error["code"] == code
    assert words in error["msg"]
    assert one.ask(request("SUBSCRIBE", STREAM)) == [OK]


def test_errors_read_as_the_quoted_ones() -> None:
    """Three quoted error frames come out to the letter."""
    quoted = list(recorded_frames(real("ws/quoted-control-frames.txt")[0]))
    one = peer()
    assert one.ask(request("NOT_A_METHOD", request_id=4)) == quoted[2:3]
    assert one.ask("{}") == quoted[3:4]
    assert one.ask(request("SUBSCRIBE", "nonsense", request_id=2)) == quoted[4:5]


@pytest.mark.parametrize("trade_type", FUTURES)
def test_futures_close_on_what_is_no_json(trade_type: str) -> None:
    """Invalid JSON is answered and ends a futures connection."""
    one = peer(trade_type)
    assert '"code":3' in one.ask("{")[0]
    one.until(0)
    assert one.turns[-1].close == Close(1008, "Invalid JSON")


def test_negative_ids_are_for_spot_alone() -> None:
    """Spot takes any 64-bit id, text or null; futures take no negative one."""
    for request_id in (-5, 2**63 - 1, "a-b", None):
        reply = parsed(peer().ask(request("LIST_SUBSCRIPTIONS", request_id=request_id))[0])
        assert reply == {"result": [], "id": request_id}
    assert "unsigned" in peer("usdt_futures").ask(request("LIST_SUBSCRIPTIONS", request_id=-5))[0]


@given(st.text() | st.recursive(st.text(), st.lists).map(str))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_connection(text: str) -> None:
    """Any text at all gets exactly one reply."""
    assert len(peer().ask(text)) == 1


# -- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("trade_type", "limit"), [("spot", 5), ("usdt_futures", 10)])
def test_too_many_messages_in_a_second_end_a_connection(trade_type: str, limit: int) -> None:
    """The limit itself is kept in every second; one message more closes with 1008."""
    one = peer(trade_type)
    for second in range(3):
        one.until(second)
        for _ in range(limit):
            assert one.ask(request("SUBSCRIBE")) == [OK]
    assert one.ask(request("SUBSCRIBE")) == []
    one.until(2)
    assert one.turns[-1].close == Close(1008, "Too many requests")


@pytest.mark.parametrize(("trade_type", "closed"), [("spot", True), ("coin_futures", False)])
def test_control_frames_count_on_spot_alone(trade_type: str, closed: bool) -> None:
    """Six pings or pongs in a second are too many for spot, and nothing to futures."""
    one = peer(trade_type)
    for _ in range(6):
        one.session.receive_control(one.now_s)
    assert (one.session.close is not None) is closed


def test_a_connection_takes_1024_streams() -> None:
    """The 1025th stream closes the connection; streams that it has already count once."""
    one = peer()
    names = [f"s{number}@trade" for number in range(MOST_STREAMS)]
    assert one.ask(request("SUBSCRIBE", *names)) == [OK]
    assert one.ask(request("SUBSCRIBE", *names)) == [OK]
    quoted = list(recorded_frames(real("ws/quoted-control-frames.txt")[0]))
    assert one.ask(request("SUBSCRIBE", "one@more")) == quoted[5:6]
    one.until(0)
    assert one.turns[-1].close == Close(1008, "Too many subscriptions")


def test_too_many_streams_in_the_path_close_at_once() -> None:
    """The limit holds for the handshake as well."""
    one = peer("spot", "/stream?streams=" + "/".join(f"{n}@t" for n in range(MOST_STREAMS + 1)))
    assert one.until(0) == []
    assert one.turns[-1].close == Close(1008, "Too many subscriptions")


# -- life and end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trade_type", "every_s", "within_s"), [("spot", 20, 60), ("usdt_futures", 180, 600)]
)
def test_a_peer_that_gives_no_pong_is_dropped(trade_type: str, every_s: int, within_s: int) -> None:
    """Pings come at the documented pace; the first that stays unanswered ends it all."""
    one = peer(trade_type)
    one.until(every_s + within_s - 1)
    assert len([turn for turn in one.turns if turn.ping]) == (every_s + within_s - 1) // every_s
    assert one.session.close is None
    one.until(every_s + within_s)
    assert one.turns[-1].close == Close(1008, "Pong timeout")


@pytest.mark.parametrize(("pong", "lives"), [(b"20000", False), (b"40000", True), (b"", False)])
def test_only_a_pong_with_the_payload_is_an_answer(pong: bytes, lives: bool) -> None:
    """A pong answers its own ping and older ones; an unsolicited one answers nothing.

    The pings of 20 s and 40 s are sent when the pong comes, and that of 60 s soon after.
    """
    one = peer()
    one.until(41)
    one.session.receive_control(one.now_s, pong)
    deadline_s = 100 if pong == b"20000" else 80
    one.until(deadline_s)
    assert (one.session.close is None) is lives


@pytest.mark.parametrize("trade_type", MARKETS)
def test_a_connection_is_cut_after_24_hours(trade_type: str) -> None:
    """However well a peer answers, its connection ends after a day, without a close frame."""
    one = peer(trade_type)
    one.gives_pongs = True
    one.until(LIFETIME_S - 1)
    assert one.session.close is None
    one.until(LIFETIME_S)
    assert one.turns[-1].close == Close(None, "24 hours")


@pytest.mark.parametrize("target", ["/stream", "/ws"])
def test_a_shutdown_is_announced_before_the_drop(target: str) -> None:
    """``serverShutdown`` comes in the connection's form, and the end after the grace."""
    shutdown = Shutdown(trade_type="spot", at_ms=START_MS + 5_000, grace_ms=3_000)
    one = Peer(plain_exchange(shutdown), "spot", target)
    event = f'{{"e":"serverShutdown","E":{START_MS + 5_000}}}'
    wrapped = f'{{"stream":"!serverShutdown","data":{event}}}'
    assert one.until(7) == [wrapped if target == "/stream" else event]
    assert one.session.close is None
    one.until(8)
    assert one.turns[-1].close == Close(None, "dropped")
