"""A market's connections: kept alive, backed off, told apart; in virtual time."""

import json
import logging
import re
from datetime import UTC
from random import Random

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS, Market
from kline_trio.exchange.protocol import CandleClosed, stream_name
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.event_sink import EventSink
from kline_trio.recorder.listener import backoff_seconds
from kline_trio.recorder.series_set import SeriesSet
from tests.fakes import (
    MINUTE_MS,
    OPEN_MS,
    Peer,
    Script,
    ScriptedExchange,
    TrustingClock,
    listener_of,
    silence,
    vanish,
)

BTC = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")


class Never(Random):
    """No jitter: waits are as long as they can be."""

    def random(self) -> float:
        return 0.0


@attrs.define
class Listening:
    """A listener to a scripted exchange, what it sent and what it said."""

    exchange: ScriptedExchange
    received: list[ReceivedCandle]
    dials: list[float]
    urls: list[str]


async def listen(
    scripts: list[Script],
    *,
    seconds: float,
    series: tuple[Series, ...] = (BTC,),
    urls: tuple[str, ...] = ("ws://one.test/stream",),
    market: Market = MARKETS["spot"],
    stall_seconds: float = 30,
    channel: float = 100,
) -> Listening:
    exchange = ScriptedExchange(scripts)
    send, receive = trio.open_memory_channel[ReceivedCandle](channel)
    patience = ConnectionConfig(connect_seconds=10, stall_seconds=stall_seconds)
    environment = Environment(
        dial=exchange.dial, random=Never(), wall_clock=lambda: 1_719_759_600.5
    )
    listener = listener_of(exchange, send, environment, market=market, urls=urls, config=patience)
    listener.listen_to(series)
    received: list[ReceivedCandle] = []
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.serve)
            nursery.start_soon(listener.run)
            with receive:
                # As they come: the deadline ends the loop, and a comprehension would be lost.
                async for candle in receive:
                    received.append(candle)  # noqa: PERF401
    return Listening(exchange, received, exchange.dialled_at, [peer.url for peer in exchange.peers])


async def lively(peer: Peer) -> None:
    """A script: forming candles for ever."""
    await peer.accept()
    await peer.subscribed()
    while True:
        await peer.candle(BTC, closed=False)
        await trio.sleep(2)


async def one_candle_then_lost(peer: Peer) -> None:
    """A script: one closed candle, then the connection breaks."""
    await peer.accept()
    await peer.subscribed()
    await peer.candle(BTC)
    await trio.sleep(1)
    await trio.aclose_forcefully(peer.stream)


async def test_candles_are_sent_with_their_series_and_receive_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    result = await listen([one_candle_then_lost, silence], seconds=5)
    (received,) = result.received
    assert received.series == BTC
    assert received.candle.open_time_ms == OPEN_MS
    assert received.receive_time.isoformat() == "2024-06-30T15:00:00.500000+00:00"
    assert received.receive_time.tzinfo is UTC


async def test_a_candle_that_waits_for_a_full_channel_when_its_connection_ends_is_dropped_aloud(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else it would be in flight for ever, and the copy of another connection left out."""
    send, receive = trio.open_memory_channel[ReceivedCandle](0)
    told: list[str] = []

    class Telling(SeriesSet):
        def received(self, series: Series, open_time_ms: int) -> None:
            told.append("received")

        def dropped(self, series: Series, open_time_ms: int) -> None:
            told.append("dropped")

    sink = EventSink(send, ExchangeClock(), Telling(0), lambda _: None, Environment().now)
    sink.set_series([BTC])
    candle = Candle(OPEN_MS, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0, 1.0)
    event = CandleClosed(BTC, OPEN_MS + MINUTE_MS, candle)
    with trio.move_on_after(5):
        await sink.deliver(event)
    assert told == ["received", "dropped"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.deliver, event)
        assert (await receive.receive()).candle == event.candle
    assert told == ["received", "dropped", "received"]


@given(
    states=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    turns=st.lists(st.integers(0, 2)),
    ends=st.lists(st.integers(0, 12), min_size=3, max_size=3),
)
def test_of_a_revised_candle_the_state_that_was_sent_last_stays(
    states: list[int], turns: list[int], ends: list[int]
) -> None:
    """However connections interleave, and wherever each of them ends.

    Args:
      states: close prices of one candle, then of the next one, as the exchange sends them.
      turns: which connection delivers its next frame.
      ends: how many frames each connection delivers.
    """

    def closed(minute: int, number: int, close: int) -> CandleClosed:
        open_ms = OPEN_MS + minute * MINUTE_MS
        candle = Candle(open_ms, 1.0, 9.0, 0.0, close, 1.0, 1.0, 1, 1.0, 1.0)
        return CandleClosed(BTC, open_ms + MINUTE_MS + 100 * number, candle)

    frames = [
        closed(minute, number, close) for minute in range(2) for number, close in enumerate(states)
    ]
    connections = [iter(frames[:end]) for end in ends]
    expected: dict[int, CandleClosed] = {}
    stored: dict[int, Candle] = {}

    async def deliver() -> None:
        send, receive = trio.open_memory_channel[ReceivedCandle](1000)
        sink = EventSink(send, TrustingClock(), SeriesSet(0), lambda _: None, Environment().now)
        sink.set_series([BTC])
        # Those that have no turn left go on one after the other.
        for turn in [*turns, *(number for number in range(3) for _ in frames)]:
            event = next(connections[turn], None)
            if event is None:
                continue
            open_ms = event.candle.open_time_ms
            known = expected.get(open_ms)
            if known is None or event.event_time_ms > known.event_time_ms:
                expected[open_ms] = event
            await sink.deliver(event)
        send.close()
        async for received in receive:
            stored[received.candle.open_time_ms] = received.candle

    trio.run(deliver)
    assert stored == {open_ms: event.candle for open_ms, event in expected.items()}


async def test_a_lost_connection_is_opened_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    result = await listen([one_candle_then_lost, lively], seconds=10)
    assert result.dials == [0, pytest.approx(3)]
    assert [record.message for record in caplog.records] == [
        "spot: receiving 1 stream",
        "spot: lost: the connection broke; trying again",
        "spot: receiving 1 stream again after 2.0 s",
    ]


async def test_an_unreachable_exchange_is_tried_for_ever_and_said_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    result = await listen([vanish], seconds=3600)
    waits = [after - before for before, after in zip(result.dials, result.dials[1:], strict=False)]
    assert len(result.dials) > 50
    assert max(waits) <= 60 + 10
    assert len(caplog.records) == 1


async def test_an_acknowledgement_is_no_success_so_the_backoff_grows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def accept_and_drop(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await trio.aclose_forcefully(peer.stream)

    result = await listen([accept_and_drop], seconds=100)
    waits = [after - before for before, after in zip(result.dials, result.dials[1:], strict=False)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(3)
    assert waits[-1] > 20


async def test_each_stall_without_data_doubles_the_patience_up_to_a_quarter_of_an_hour(
    autojump_clock: trio.testing.MockClock,
) -> None:
    result = await listen([silence], seconds=40_000)
    waits = [after - before for before, after in zip(result.dials, result.dials[1:], strict=False)]
    stalls = [30, 60, 120, 240, 480, 900, 900]
    backoffs = [1, 2, 4, 8, 16, 32, 60]
    assert waits[:7] == pytest.approx(
        [stall + backoff for stall, backoff in zip(stalls, backoffs, strict=True)]
    )


async def test_data_resets_backoff_and_patience(autojump_clock: trio.testing.MockClock) -> None:
    async def data_then_silence(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC, closed=False)
        await peer.gone()

    result = await listen([silence, silence, data_then_silence, silence], seconds=400)
    first, second, third, fourth = result.dials[:4]
    assert second - first == pytest.approx(30 + 1)
    assert third - second == pytest.approx(60 + 2)
    assert fourth - third == pytest.approx(120 + 0.5, abs=0.03)  # the connection rests too
    assert result.dials[4] - fourth == pytest.approx(30 + 1)


@pytest.mark.parametrize(
    ("status", "words", "least_seconds"),
    [
        (403, "firewall", 0.5),
        (404, "[endpoints]", 0.5),
        (418, "banned", 30),
        (429, "too many attempts", 2),
        (451, "another host under [endpoints], or use a proxy", 0.5),
        (500, "said no", 0.5),
    ],
)
async def test_a_refusal_says_what_to_do_and_is_tried_again(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    status: int,
    words: str,
    least_seconds: float,
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reject(status)

    result = await listen([refuse, lively], seconds=60)
    assert result.dials[1] - result.dials[0] >= least_seconds
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"spot: refused with HTTP {status}: ")
    assert words in warning


async def test_a_refusal_s_retry_after_is_honoured(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reject(429, ((b"Retry-After", b"720"),))

    result = await listen([refuse, lively], seconds=1000)
    assert result.dials == [0, pytest.approx(720)]


async def test_hosts_are_tried_in_order_and_one_that_works_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    urls = ("ws://one.test/stream", "ws://two.test/stream", "ws://three.test/stream")
    result = await listen(
        [vanish, one_candle_then_lost, one_candle_then_lost, vanish, lively],
        seconds=100,
        urls=urls,
    )
    assert result.urls == [urls[0], urls[1], urls[1], urls[1], urls[2]]


async def test_a_shutdown_notice_reconnects_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def shut_down(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC)
        await trio.sleep(3)
        await peer.text('{"e":"serverShutdown","E":1}')
        await peer.gone()

    result = await listen([shut_down, lively], seconds=10)
    assert result.dials == [0, pytest.approx(3)]


async def test_more_streams_than_fit_are_split_over_connections_that_start_apart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[list[str]] = []

    async def subscribe(peer: Peer) -> None:
        await peer.accept()
        asked.append(await peer.subscribed())
        await peer.gone()

    series = tuple(Series("spot", f"A{number}USDT", "1m") for number in range(5))
    market = attrs.evolve(MARKETS["spot"], streams_per_connection=2)
    result = await listen([subscribe], seconds=5, series=series, market=market)
    assert sorted(len(names) for names in asked) == [1, 2, 2]
    assert len({name for names in asked for name in names}) == 5
    assert result.dials == [0, 0.5, 1.0]


async def test_a_full_channel_holds_the_connection_up_without_losing_or_stalling(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for minute in range(5):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.gone()

    exchange = ScriptedExchange([script])
    send, receive = trio.open_memory_channel[ReceivedCandle](0)
    environment = Environment(dial=exchange.dial, random=Never())
    listener = listener_of(exchange, send, environment)
    listener.listen_to([BTC])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.serve)
        nursery.start_soon(listener.run)
        for minute in range(5):
            await trio.sleep(200)
            received = await receive.receive()
            assert received.candle.open_time_ms == OPEN_MS + minute * MINUTE_MS
        assert exchange.dialled_at == [0]
        nursery.cancel_scope.cancel()
    receive.close()


async def test_each_reason_for_a_bad_frame_is_said_at_powers_of_ten_cut_short_and_escaped(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for _ in range(12):
            await peer.text("\x1b[31m\n" + "x" * 1000)
        await peer.gone()

    await listen([script], seconds=5)
    line, again = [record.message for record in caplog.records]
    assert again.startswith("spot: passed over a frame that is not JSON (10 times): ")
    assert re.fullmatch(
        r"spot: passed over a frame that is not JSON: '\\x1b\[31m\\nx+'\.\.\.", line
    )
    assert len(line) < 300


async def test_refused_and_silent_streams_are_named_once_over_all_connections(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        request = await peer.request()
        await peer.reply(request["id"])
        for _ in range(30):
            await peer.candle(BTC, closed=False)
            await trio.sleep(2)
        await trio.aclose_forcefully(peer.stream)

    await listen([script], seconds=400, series=(BTC, ETH))
    silent = [record.message for record in caplog.records if "silent" in record.message]
    assert silent == [
        "spot: acknowledged, but silent for 30 s: ethusdt@kline_1m (no such symbol, or no trades)"
    ]


async def test_streams_that_were_refused_are_not_counted_among_those_received(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(3):  # both, then each alone
            request = await peer.request()
            error = {"code": 2, "msg": "Invalid request"}
            answer = {"error": error} if stream_name(ETH) in request["params"] else {"result": None}
            await peer.text(json.dumps(answer | {"id": request["id"]}))
        await peer.candle(BTC, closed=False)
        await peer.gone()

    caplog.set_level(logging.INFO, "kline_trio")
    await listen([script], seconds=20, series=(BTC, ETH))
    assert [record.message for record in caplog.records] == [
        "spot: the exchange refuses ethusdt@kline_1m: 'Invalid request'",
        "spot: receiving 1 stream",
    ]


async def test_a_dead_consumer_is_no_second_error(autojump_clock: trio.testing.MockClock) -> None:
    exchange = ScriptedExchange([one_candle_then_lost])
    send, receive = trio.open_memory_channel[ReceivedCandle](0)
    receive.close()
    environment = Environment(dial=exchange.dial)
    listener = listener_of(exchange, send, environment)
    listener.listen_to([BTC])
    with trio.move_on_after(1000) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.serve)
            nursery.start_soon(listener.run)
    assert scope.cancelled_caught


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_backoff_is_capped_and_jitter_takes_at_most_half(failures: int, chance: float) -> None:
    whole = backoff_seconds(failures, 0.0)
    assert 0.5 <= whole <= 60
    assert whole / 2 <= backoff_seconds(failures, chance) <= whole
    assert backoff_seconds(failures + 1, 0.0) >= whole


@pytest.mark.parametrize("notice", ['{"e":"serverShutdown","E":1}', None])
async def test_an_exchange_that_comes_and_goes_is_not_dialled_more_often_than_it_allows(
    autojump_clock: trio.testing.MockClock, notice: str | None
) -> None:
    """300 connections in five minutes are allowed to an address, for all lines together."""

    async def flap(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC)
        if notice is None:
            await trio.aclose_forcefully(peer.stream)
        else:
            await peer.text(notice)
            await peer.gone()

    result = await listen([flap], seconds=300)
    assert len(result.dials) <= 101


async def test_an_exchange_that_comes_and_goes_is_not_dialled_more_often_by_three_markets(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The futures document no limit; one by address may be one for all markets."""

    async def flap(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        await peer.candle(BTC)
        await trio.aclose_forcefully(peer.stream)

    exchange = ScriptedExchange([flap])
    environment = Environment(random=Never())
    send, receive = trio.open_memory_channel[ReceivedCandle](100)
    with receive, send:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.serve)
            for trade_type, market in MARKETS.items():
                listener = listener_of(exchange, send.clone(), environment, market=market)
                listener.listen_to([Series(trade_type, "BTCUSDT", "1m")])
                nursery.start_soon(listener.run)
            await trio.sleep(299)
            nursery.cancel_scope.cancel()
    assert exchange.dialled_at[:3] == [0, 0, 0], "but none waits for another to begin"
    assert len(exchange.dialled_at) == 150
