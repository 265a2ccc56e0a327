"""One life of a connection, in virtual time over memory streams."""

import itertools
import json
import math
from collections.abc import Callable

import pytest
import trio
import trio.testing
from wsproto.events import CloseConnection, Pong, TextMessage

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.exchange.connection import Connection, ConnectionCallbacks, ConnectionOptions
from kline_trio.exchange.connection_events import (
    BadFrame,
    CloseReason,
    ConnectionEvent,
    Disconnected,
    FirstCandle,
    Ready,
    RefusedStream,
    SilentStreams,
)
from kline_trio.exchange.protocol import CandleClosed, ServerShutdown, stream_name
from kline_trio.exchange.subscription import Subscription
from kline_trio.interval import Span
from tests.fakes import MINUTE_MS, OPEN_MS, Peer, Script, ScriptedExchange, kline_frame, silence

BTC = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")
URL = "ws://exchange.test:9443/stream?x=1"
MESSAGES_PER_SECOND = 5


class Life:
    """A connection to a scripted server, and all that came of it."""

    def __init__(
        self,
        script: Script,
        series: tuple[Series, ...] = (BTC,),
        *,
        hears_of_contracts: bool = False,
    ) -> None:
        self.exchange = ScriptedExchange([script])
        self.delivered: list[CandleClosed] = []
        self.told: list[ConnectionEvent] = []
        self.times: list[int] = []
        self.told_up_to: list[int] = []
        self.slow_seconds = self.doubt_seconds = 0.0
        self.believed = Span(0, MAX_TIME_MS)
        subscription = Subscription()
        subscription.subscribe({stream_name(one): one for one in series})
        if hears_of_contracts:
            subscription.subscribe_to_contracts()
        callbacks = ConnectionCallbacks(
            deliver=self.deliver,
            report=self.told.append,
            on_event_time=lambda time_ms, _: self.times.append(time_ms),
            on_delivered_up_to=self.told_up_to.append,
            accepted_span=self.believe,
        )
        options = ConnectionOptions(
            messages_per_second=MESSAGES_PER_SECOND, connect_seconds=10, stall_seconds=30
        )
        self.connection = Connection(subscription, callbacks, options)

    async def believe(self, event_time_ms: int) -> Span:
        await trio.sleep(self.doubt_seconds)
        return self.believed

    async def deliver(self, event: CandleClosed) -> None:
        await trio.sleep(self.slow_seconds)
        self.delivered.append(event)

    async def live(self, dial: Callable[..., object] | None = None) -> Disconnected:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.exchange.serve)
            ended = await self.connection.run(self.exchange.dial, URL)
            nursery.cancel_scope.cancel()
        return ended


async def test_a_closed_candle_is_held_until_its_event_time_is_known_to_have_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for minute in range(3):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.close(1001, "done")

    life = Life(script)
    life.doubt_seconds = 40
    life.believed = Span(OPEN_MS, OPEN_MS + 2 * MINUTE_MS)
    ended = await life.live()
    assert ended.why is CloseReason.LOST, "while one is held, nothing counts as a stall"
    opened = [event.candle.open_time_ms for event in life.delivered]
    assert opened == [OPEN_MS, OPEN_MS + MINUTE_MS]
    [refused] = [one for one in life.told if isinstance(one, BadFrame)]
    assert refused.reason == "an event time that is not the exchange's"
    assert life.told_up_to == [OPEN_MS + 59_000, OPEN_MS + MINUTE_MS + 59_000]


async def test_closed_candles_are_delivered_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.accept()
        assert (request.host, request.target) == ("exchange.test:9443", "/stream?x=1")
        assert await peer.subscribed() == ["btcusdt@kline_1m"]
        for minute in range(3):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.close(1001, "done")

    life = Life(script)
    ended = await life.live()
    assert ended == Disconnected(
        CloseReason.LOST, "the exchange closed it: 1001 'done'", had_candle=True
    )
    opened = [event.candle.open_time_ms for event in life.delivered]
    assert opened == [OPEN_MS, OPEN_MS + MINUTE_MS, OPEN_MS + 2 * MINUTE_MS]
    assert life.told == [FirstCandle(), Ready(OPEN_MS + 59_000)]


async def test_a_silent_peer_costs_the_connect_timeout_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep_forever()

    ended = await Life(script).live()
    assert ended == Disconnected(CloseReason.UNREACHABLE, "no answer within 10 s")
    assert trio.current_time() == pytest.approx(10)


async def test_a_peer_that_closes_before_the_handshake_is_noticed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await trio.aclose_forcefully(peer.stream)

    ended = await Life(script).live()
    assert ended.why is CloseReason.UNREACHABLE
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "'SSH-2.0-OpenSSH'"),
        (b"SSH-2.0-OpenSSH_9.6p1\r\n", "'SSH-2.0-OpenSSH_9.6p1'"),
        (b"220 mail.example ESMTP \x1b[2J\r\n", r"'220 mail.example ESMTP \x1b[2J'"),
        (b"\x15\x03\x01\x00\x02\x02P", r"'\x15\x03\x01\x00\x02\x02P'"),
        (b"HTTP/1.1 abc\r\n\r\n", "'HTTP/1.1 abc'"),
        (b"X" * 100_000, f"'{'X' * 60}'"),
    ],
)
@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_server_that_speaks_no_http_is_named_by_what_it_sent(
    autojump_clock: trio.testing.MockClock, answer: bytes, shown: str, hangs_up: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.send_all(answer)
        if hangs_up:
            await trio.aclose_forcefully(peer.stream)

    assert await Life(script).live() == Disconnected(
        CloseReason.UNREACHABLE, f"not an HTTP server: it sent {shown}"
    )


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (b"\x83\x00", "1002 'Invalid opcode 0x3'"),
        (b"\xc1\x00", "1002 'Reserved bit set unexpectedly'"),
        (b"\x88\x01\x00", "1002 'CLOSE with 1 byte payload'"),
        (b"\x88\x02\x03\xed", "1002 'remote CLOSE with local-only"),
        (b"\x81\x02\xff\xfe", "1007 "),
        (b"\x82\x7f" + (2**20 + 1).to_bytes(8, "big") + bytes(2**20 + 1), "1009 'Exceeded"),
    ],
)
async def test_a_close_of_ours_is_not_told_as_one_of_the_exchange(
    autojump_clock: trio.testing.MockClock, frames: bytes, words: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.stream.send_all(frames)
        await trio.sleep_forever()

    ended = await Life(script).live()
    assert ended.why is CloseReason.LOST
    assert ended.detail.startswith(f"we closed it for a bad frame: {words}")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1007, 1008, 1009, 4000])
async def test_a_close_of_the_exchange_is_told_as_one_whatever_its_code(
    autojump_clock: trio.testing.MockClock, code: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.close(code, "so \x1b[2J")
        await peer.gone()

    ended = await Life(script).live()
    assert ended == Disconnected(CloseReason.LOST, rf"the exchange closed it: {code} 'so \x1b[2J'")


async def test_an_address_that_cannot_be_dialled_is_no_crash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def dial(url: str, nth: int) -> trio.abc.Stream:
        raise OSError("all attempts to connect failed")

    life = Life(silence)
    assert await life.connection.run(dial, URL) == Disconnected(
        CloseReason.UNREACHABLE, "all attempts to connect failed"
    )


@pytest.mark.parametrize("status", [403, 418, 429, 451, 503])
async def test_a_refusal_is_told_apart_and_keeps_what_was_asked(
    autojump_clock: trio.testing.MockClock, status: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reject(status, ((b"Retry-After", b"17"),), b"no")

    assert await Life(script).live() == Disconnected(
        CloseReason.REFUSED, f"HTTP {status}", status, retry_after_seconds=17.0
    )


async def test_a_refusal_whose_text_ends_with_the_connection_is_one_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.send_all(b"HTTP/1.1 451 Unavailable\r\nConnection: close\r\n\r\n<html>")
        await trio.aclose_forcefully(peer.stream)

    assert await Life(script).live() == Disconnected(CloseReason.REFUSED, "HTTP 451", 451)


async def test_pings_are_answered_but_are_not_life(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        while True:
            await peer.ping(b"beat")
            pong = await peer.next_event(Pong)
            assert pong.payload == b"beat"
            await trio.sleep(5)

    life = Life(script)
    ended = await life.live()
    assert ended == Disconnected(CloseReason.STALLED, "no data for 30 s")
    assert trio.current_time() == pytest.approx(30)
    assert life.told == [SilentStreams(("btcusdt@kline_1m",), 30)]


async def test_forming_candles_are_life_and_make_no_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for _ in range(20):
            await peer.candle(BTC, closed=False)
            await trio.sleep(20)
        await peer.gone()

    life = Life(script)
    ended = await life.live()
    assert ended == Disconnected(CloseReason.STALLED, "no data for 30 s", had_candle=True)
    assert trio.current_time() == pytest.approx(19 * 20 + 30)
    assert life.told == [FirstCandle(), Ready(OPEN_MS + 59_000)]


async def test_a_slow_consumer_is_no_stall(autojump_clock: trio.testing.MockClock) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for minute in range(3):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.gone()

    life = Life(script)
    life.slow_seconds = 100
    assert (await life.live()).why is CloseReason.STALLED
    assert len(life.delivered) == 3
    assert trio.current_time() == pytest.approx(3 * 100 + 30)


async def test_what_was_received_before_it_retires_is_still_delivered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Five candles come with one read; a slow consumer has one of them when it retires."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        frames = [kline_frame(BTC, open_time_ms=OPEN_MS + n * MINUTE_MS) for n in range(5)]
        sent = [peer.protocol.send(TextMessage(data=frame)) for frame in frames]
        await peer.stream.send_all(b"".join(sent))
        await peer.gone()

    life = Life(script)
    life.slow_seconds = 1.0
    ended: list[Disconnected] = []

    async def live() -> None:
        ended.append(await life.live())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        await trio.sleep(1.5)
        assert len(life.delivered) == 1
        await life.connection.close_gracefully()
    assert [one.why for one in ended] == [CloseReason.RETIRED]
    assert len(life.delivered) == 5


async def test_frames_that_cannot_be_taken_are_told_and_passed_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bad = kline_frame(BTC).replace('"9.0"', '"0.5"')

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.text("{")
        await peer.text(bad)
        await peer.candle(ETH)
        await peer.text('{"error":{"code":4,"msg":"Too many subscriptions"}}')
        await peer.candle(BTC)
        await peer.gone()

    life = Life(script)
    await life.live()
    assert [event.series for event in life.delivered] == [BTC]
    # Of what one read has brought, candles come first.
    reasons = sorted(event.reason for event in life.told if isinstance(event, BadFrame))
    assert reasons == [
        "a candle of a stream that was not asked for",
        "a frame that is not JSON",
        "a high below the open or the close",
        "an error reply to no request of ours",
    ]


async def test_a_binary_frame_is_no_candle_whatever_it_holds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.binary(kline_frame(BTC).encode())
        await peer.candle(BTC)
        await peer.gone()

    life = Life(script)
    await life.live()
    assert len(life.delivered) == 1
    assert [one.reason for one in life.told if isinstance(one, BadFrame)] == ["a binary frame"]


async def test_a_malformed_forming_candle_is_no_sign_of_life_for_its_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.text(kline_frame(BTC, closed=False).replace('"9.0"', '"0.5"'))
        await peer.gone()

    life = Life(script)
    ended = await life.live()
    assert not ended.had_candle
    assert BadFrame in [type(event) for event in life.told]


async def test_a_shutdown_notice_ends_the_connection_and_is_told_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(300):
            await peer.text('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}')
        await peer.gone()

    life = Life(script)
    assert (await life.live()).why is CloseReason.SHUTDOWN
    assert life.told == [ServerShutdown()]


async def test_an_acknowledged_stream_that_stays_silent_beside_others_is_named_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for _ in range(60):
            await peer.candle(BTC, closed=False)
            await trio.sleep(2)
        await peer.gone()

    life = Life(script, (BTC, ETH))
    await life.live()
    assert life.told == [
        FirstCandle(),
        Ready(OPEN_MS + 59_000),
        SilentStreams(("ethusdt@kline_1m",), 30),
    ]


async def test_a_refused_request_is_asked_again_in_halves_until_the_culprit_is_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    series = tuple(Series("spot", f"A{number}USDT", "1m") for number in range(7))
    accepted: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        while len(accepted) < 6:
            request = await peer.request()
            names = request["params"]
            assert isinstance(names, list)
            if "a3usdt@kline_1m" in names:
                error = {"code": 2, "msg": "Invalid request: invalid stream"}
                await peer.text(json.dumps({"error": error, "id": request["id"]}))
            else:
                accepted.extend(names)
                await peer.reply(request["id"])
        await peer.gone()

    life = Life(script, series)
    await life.live()
    assert sorted(accepted) == [f"a{number}usdt@kline_1m" for number in (0, 1, 2, 4, 5, 6)]
    assert RefusedStream("a3usdt@kline_1m", "Invalid request: invalid stream") in life.told


async def test_requests_are_batched_and_stay_under_half_of_the_rate_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    series = tuple(Series("spot", f"A{number}USDT", "1m") for number in range(1024))
    asked: list[tuple[float, int]] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        while sum(count for _, count in asked) < 1024:
            names = (await peer.request())["params"]
            assert isinstance(names, list)
            asked.append((trio.current_time(), len(names)))
        await peer.gone()

    await Life(script, series).live()
    assert len(asked) == 11
    for (before, _), (after, _) in itertools.pairwise(asked):
        assert after - before >= 2 / MESSAGES_PER_SECOND - 1e-9


async def test_a_ping_after_the_end_is_no_crash_and_no_close_is_ever_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """trio-websocket#184: a ping that comes after our CLOSE raises in its reader."""
    left: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC)
        await peer.text('{"e":"serverShutdown","E":1}')
        await peer.ping(b"late")
        await peer.ping(b"later")
        left.extend(await peer.gone())

    life = Life(script)
    assert (await life.live()).why is CloseReason.SHUTDOWN
    assert not [event for event in left if isinstance(event, CloseConnection)]


async def test_a_ping_after_our_answer_to_a_breach_of_protocol_is_no_crash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        # A reserved opcode, then a ping in the same packet.
        await peer.stream.send_all(b"\x83\x00" + b"\x89\x00" * 3)
        await peer.gone()

    assert (await Life(script).live()).why is CloseReason.LOST


@pytest.mark.parametrize("after_seconds", [0, 1, 5, 40])
async def test_cancelling_at_any_stage_leaves_no_open_stream(
    autojump_clock: trio.testing.MockClock, after_seconds: float
) -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep(2)
        await peer.accept()
        while True:
            await peer.candle(BTC, closed=False)
            await trio.sleep(1)

    life = Life(script)
    with trio.move_on_after(after_seconds) as scope:
        await life.live()
    assert scope.cancelled_caught
    for peer in life.exchange.peers:
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await peer.stream.send_all(b"x" * 2**20)


async def test_a_bug_in_the_consumer_is_not_swallowed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC)
        await peer.gone()

    life = Life(script)
    life.slow_seconds = math.nan
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        await life.live()


async def raw_answer(answer: bytes, autojump_clock: trio.testing.MockClock) -> Disconnected:
    """How a connection ends that gets these bytes for an answer, and then silence."""

    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.stream.send_all(answer)
        await trio.sleep_forever()

    return await Life(script).live()


async def test_a_refusal_whose_text_does_not_end_is_still_a_refusal(
    autojump_clock: trio.testing.MockClock,
) -> None:
    answer = b"HTTP/1.1 418 Teapot\r\nRetry-After: 77\r\nContent-Length: 99\r\n\r\nban"
    ended = await raw_answer(answer, autojump_clock)
    assert (ended.why, ended.status, ended.retry_after_seconds) == (CloseReason.REFUSED, 418, 77.0)


@pytest.mark.parametrize(
    "header",
    [
        b"Sec-WebSocket-Accept: bm90IHRoZSBrZXkgdGhhdCB3ZSBzZW50\r\n",
        b"Sec-WebSocket-Protocol: \xff\xfe\r\n",
        b"Sec-WebSocket-Extensions: \xff\xfe\r\n",
    ],
)
async def test_a_switch_of_protocols_that_is_no_valid_handshake_is_no_connection(
    autojump_clock: trio.testing.MockClock, header: bytes
) -> None:
    """With a wrong key, or with headers that are no text."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    ended = await raw_answer(answer + header + b"\r\n", autojump_clock)
    assert ended == Disconnected(CloseReason.UNREACHABLE, "no valid handshake")


@pytest.mark.parametrize("from_the_begin_on", [True, False])
async def test_news_of_contracts_are_asked_for_once_however_often_they_are_wanted(
    autojump_clock: trio.testing.MockClock, from_the_begin_on: bool
) -> None:
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        with trio.move_on_after(10):
            while True:
                asked.extend(await peer.subscribed())
        await trio.aclose_forcefully(peer.stream)

    life = Life(script, hears_of_contracts=from_the_begin_on)
    life.connection.subscription.subscribe_to_contracts()
    life.connection.subscription.subscribe_to_contracts()
    await life.live()
    assert asked == ["btcusdt@kline_1m", "!contractInfo"]
