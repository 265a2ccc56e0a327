"""Connections that are replaced, doubled and changed while they live; in virtual time."""

import json
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from wsproto.events import TextMessage

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange.markets import MARKETS, Market
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.listener import Listener, Route
from tests.fakes import MINUTE_MS, OPEN_MS, Peer, Script, ScriptedExchange, listener_of
from tests.recorder.test_listener import Never

BTC = Series("spot", "BTCUSDT", "1m")
ETH = Series("spot", "ETHUSDT", "1m")
SOL = Series("spot", "SOLUSDT", "1m")
ETH_1S = Series("spot", "ETHUSDT", "1s")
"""The feed gives nothing of it."""
HOUR = 3_600.0


@attrs.define
class Feed:
    """An exchange whose every connection tells forming candles each second, and each minute's
    close as it comes; it keeps what each connection has asked for, and when.
    """

    asked: list[tuple[float, int, str, tuple[str, ...]]] = attrs.field(factory=list)
    """Of each request: when, on which connection, and what."""
    dead: set[tuple[int, str]] = attrs.field(factory=set)
    """Streams that give nothing on a connection, by its number."""
    shut_down_at: dict[int, float] = attrs.field(factory=dict)
    """When a connection says that it will be shut down; it ends 20 s later."""
    lost_at: dict[int, float] = attrs.field(factory=dict)
    refused: dict[str, int] = attrs.field(factory=dict)
    """How many more requests for one stream alone are refused; with others it is refused too."""
    unanswered: set[int] = attrs.field(factory=set)
    """Connections, by their number, whose handshake is not answered."""
    streams: dict[int, set[str]] = attrs.field(factory=dict)
    """Of each living connection."""
    exchange: ScriptedExchange = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.exchange = ScriptedExchange([self.serve])

    async def serve(self, peer: Peer) -> None:
        try:
            await self._serve(peer)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has left

    async def _serve(self, peer: Peer) -> None:
        number = len(self.streams)
        self.streams[number] = set()
        if number in self.unanswered:
            await peer.gone()
            return
        await peer.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push, peer, number)
            while True:
                message = await peer.next_event(TextMessage)
                request = json.loads(message.data)
                names = tuple(request["params"])
                self.asked.append((trio.current_time(), number, request["method"], names))
                if request["method"] == "SUBSCRIBE" and any(map(self.refused.get, names)):
                    if len(names) == 1:
                        self.refused[names[0]] -= 1
                    error = {"code": 2, "msg": "Invalid request"}
                    await peer.text(json.dumps({"error": error, "id": request["id"]}))
                    continue
                if request["method"] == "SUBSCRIBE":
                    self.streams[number].update(names)
                else:
                    self.streams[number].difference_update(names)
                await peer.reply(request["id"])

    async def _push(self, peer: Peer, number: int) -> None:
        every = {stream_name(one): one for one in (BTC, ETH, SOL)}
        second = round(trio.current_time())
        while trio.current_time() < self.lost_at.get(number, float("inf")):
            shut_down_at = self.shut_down_at.get(number, float("inf"))
            if second == shut_down_at:
                await peer.text('{"e":"serverShutdown","E":1}')
            elif second > shut_down_at + 20:
                break
            for name in sorted(self.streams[number] & every.keys()):
                if (number, name) not in self.dead:
                    minute, rest = divmod(second, 60)
                    open_ms = OPEN_MS + (minute - (rest == 0)) * MINUTE_MS
                    await peer.candle(
                        every[name],
                        open_time_ms=open_ms,
                        closed=rest == 0,
                        event_time_ms=OPEN_MS + second * 1_000,
                    )
            second += 1
            await trio.sleep_until(second)
        await trio.aclose_forcefully(peer.stream)

    def requests(self, method: str, *numbers: int) -> list[tuple[str, ...]]:
        return [
            names
            for _, number, one, names in self.asked
            if one == method and (not numbers or number in numbers)
        ]


@attrs.define
class Running:
    """A listener to a feed, and what it sent."""

    feed: Feed
    listener: Listener
    received: list[ReceivedCandle] = attrs.field(factory=list)

    def minutes(self, series: Series) -> list[int]:
        """The minutes whose closes came, each once however often it came."""
        return sorted(
            {
                (one.candle.open_time_ms - OPEN_MS) // MINUTE_MS
                for one in self.received
                if one.series == series
            }
        )


@asynccontextmanager
async def listening(
    series: Iterable[Series],
    feed: Feed | None = None,
    market: Market = MARKETS["spot"],
    urls: tuple[str, ...] = ("ws://one.test/stream",),
    **patience: float,
) -> AsyncIterator[Running]:
    feed = feed or Feed()
    send, receive = trio.open_memory_channel[ReceivedCandle](1_000)
    listener = listener_of(
        feed.exchange,
        send,
        Environment(random=Never(), wall_clock=lambda: 1_719_759_600.5),
        market=market,
        urls=urls,
        config=ConnectionConfig(read_pause_seconds=0, **patience),  # type: ignore[arg-type]
    )
    listener.listen_to(series)
    running = Running(feed, listener)

    async def take() -> None:
        with receive:
            async for candle in receive:
                running.received.append(candle)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.exchange.serve)
        nursery.start_soon(take)
        nursery.start_soon(listener.run)
        yield running
        nursery.cancel_scope.cancel()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said that a user should look at."""
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_old_connection_is_replaced_before_it_is_cut_and_no_close_is_lost(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    async with listening([BTC, ETH], max_age_hours=1) as running:
        await trio.sleep(3 * HOUR + 200)
    assert running.feed.exchange.dialled_at == [0, HOUR, 2 * HOUR, 3 * HOUR]
    for series in (BTC, ETH):
        minutes = running.minutes(series)
        assert minutes == list(range(minutes[0], 3 * 60 + 3))
    texts = [record.message for record in caplog.records]
    assert texts[:3] == [
        "spot: receiving 2 streams",
        "spot: receiving 2 streams on another connection too",
        "spot: replaced a connection of 1.0 h",
    ]
    assert not warnings(caplog)


async def test_the_older_connection_goes_on_for_as_long_as_closes_have_come_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([BTC], max_age_hours=1) as running:
        await trio.sleep(HOUR + 30)
        assert len(running.feed.exchange.peers) == 2
        twice = [one for one in running.received if one.candle.open_time_ms > OPEN_MS + HOUR * 1e3]
        await trio.sleep(30)
        assert twice == []
        old = running.feed.exchange.peers[0]
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await old.stream.send_all(b"x" * 2**20)


async def test_a_shutdown_notice_opens_a_replacement_while_the_old_connection_delivers(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(shut_down_at={0: 110})
    async with listening([BTC], feed) as running:
        await trio.sleep(400)
    assert running.feed.exchange.dialled_at == [0, 110]
    assert running.minutes(BTC) == list(range(6))
    # The exchange hung up before the overlap was over: the replacement was there already.
    assert warnings(caplog) == [
        "spot: shut down by the server: as it had announced; another connection goes on"
    ]


async def test_of_two_connections_the_loss_of_one_loses_nothing_and_is_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(lost_at={1: 119.5})
    async with listening([BTC], feed, redundancy=2) as running:
        await trio.sleep(200)
        peers = running.feed.exchange.peers
    assert [peer.nth for peer in peers] == [0, 1, 1], "each on an address of its own"
    assert running.minutes(BTC) == [0, 1, 2]
    copies = [one.candle.open_time_ms for one in running.received]
    assert len(copies) == len(set(copies)), "what came twice is sent on once"
    [told] = warnings(caplog)
    assert told == "spot/b: lost: the connection broke; another connection goes on"


async def test_a_copy_that_failed_does_not_go_on_to_the_address_that_the_other_is_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([BTC], Feed(lost_at={0: 0}), redundancy=2) as running:
        await trio.sleep(100)
    assert [peer.nth for peer in running.feed.exchange.peers] == [0, 1, 2]


async def test_streams_come_and_go_on_living_connections_without_touching_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([BTC, ETH], redundancy=2) as running:
        await trio.sleep(90)
        running.listener.listen_to([BTC, SOL])
        await trio.sleep(100)
        running.listener.listen_to([BTC, SOL])
        await trio.sleep(100)
    feed = running.feed
    assert len(feed.exchange.peers) == 2
    for number in (0, 1):
        assert feed.requests("SUBSCRIBE", number) == [
            ("btcusdt@kline_1m", "ethusdt@kline_1m"), ("solusdt@kline_1m",)
        ]  # fmt: skip
        assert feed.requests("UNSUBSCRIBE", number) == [("ethusdt@kline_1m",)]
    assert running.minutes(BTC) == [0, 1, 2, 3]
    assert running.minutes(ETH) == [0]
    assert running.minutes(SOL) == [1, 2, 3]


async def test_a_stream_taken_away_and_asked_for_again_at_once_goes_on(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening([BTC, ETH]) as running:
        await trio.sleep(30)
        running.listener.listen_to([BTC])
        running.listener.listen_to([BTC, ETH])
        await trio.sleep(100)
    assert running.minutes(ETH) == [0, 1]
    assert running.feed.streams[0] == {"btcusdt@kline_1m", "ethusdt@kline_1m"}
    assert not warnings(caplog), "no frame was taken for one that nobody asked for"


async def test_a_stream_that_fits_on_no_connection_gets_a_new_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    market = attrs.evolve(MARKETS["spot"], streams_per_connection=2)
    async with listening([BTC, ETH], market=market) as running:
        await trio.sleep(30)
        running.listener.listen_to([BTC, ETH, SOL])
        await trio.sleep(60)
        assert len(running.feed.exchange.peers) == 2
        running.listener.listen_to([BTC, ETH])
        await trio.sleep(60)
    assert running.minutes(SOL) == [0]
    assert running.minutes(BTC) == [0, 1]


async def test_a_market_without_streams_has_no_connection_until_one_is_wanted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([]) as running:
        await trio.sleep(100)
        assert not running.feed.exchange.peers
        running.listener.listen_to([BTC])
        await trio.sleep(100)
    assert running.minutes(BTC) == [1, 2]


async def test_reconnecting_by_hand_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([BTC]) as running:
        for _ in range(5):
            await trio.sleep(119)
            running.listener.reconnect()
        await trio.sleep(100)
    assert len(running.feed.exchange.peers) == 6
    assert running.minutes(BTC) == list(range(11))


async def test_another_configuration_is_gone_over_to_without_a_hole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening([BTC]) as running:
        await trio.sleep(100)
        other = ConnectionConfig(redundancy=2, read_pause_seconds=0)
        dial = running.feed.exchange.dial
        running.listener.reconfigure(Route(("ws://two.test/stream",), other, dial))
        await trio.sleep(205)
    assert [peer.url for peer in running.feed.exchange.peers] == [
        "ws://one.test/stream", "ws://two.test/stream", "ws://two.test/stream"
    ]  # fmt: skip
    assert running.minutes(BTC) == list(range(5))


@pytest.mark.parametrize(
    ("again", "then"),
    [
        (("ws://new.test/", "ws://newer.test/"), "ws://new.test/"),
        (("ws://one.test/stream", "ws://two.test/stream"), "ws://two.test/stream"),
    ],
)
async def test_other_hosts_begin_with_the_first_and_the_same_hosts_go_on_with_the_one_that_works(
    autojump_clock: trio.testing.MockClock, again: tuple[str, ...], then: str
) -> None:
    hosts = ("ws://one.test/stream", "ws://two.test/stream")
    async with listening([BTC], Feed(lost_at={0: 0}), urls=hosts) as running:
        await trio.sleep(100)
        feed = running.feed
        running.listener.reconfigure(attrs.evolve(running.listener.route, urls=again))
        await trio.sleep(100)
    assert [peer.url for peer in feed.exchange.peers] == [*hosts, then]


async def test_a_dial_of_a_host_that_is_none_any_more_takes_no_turn_of_the_new_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(unanswered={0})
    async with listening([BTC], feed, connect_seconds=10) as running:
        await trio.sleep(8)
        hosts = ("ws://new.test/", "ws://newer.test/")
        feed.unanswered.add(1)
        running.listener.reconfigure(attrs.evolve(running.listener.route, urls=hosts))
        await trio.sleep(100)
    assert feed.exchange.dialled_at[:2] == [0, 8], "both are tried at the same time"
    assert [peer.url for peer in feed.exchange.peers] == ["ws://one.test/stream", *hosts]


async def test_a_stream_that_dies_on_a_living_connection_is_asked_for_anew_then_elsewhere(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed()
    name = stream_name(ETH)
    async with listening([BTC, ETH], feed) as running:
        await trio.sleep(70)
        feed.dead.add((0, name))
        await trio.sleep(60)
        running.listener.suspect(ETH, OPEN_MS + MINUTE_MS)
        await trio.sleep(60)
        assert feed.requests("UNSUBSCRIBE") == [(name,)]
        assert feed.requests("SUBSCRIBE") == [("btcusdt@kline_1m", name), (name,)]
        running.listener.suspect(ETH, OPEN_MS + 2 * MINUTE_MS)
        await trio.sleep(60)
        assert len(feed.exchange.peers) == 2
        assert feed.streams == {0: {"btcusdt@kline_1m"}, 1: {name}}
        await trio.sleep(60)
    assert running.minutes(BTC) == list(range(5))
    assert running.minutes(ETH) == [0, 3, 4]
    assert warnings(caplog) == [
        "spot: ethusdt@kline_1m is dead on a living connection: subscribed anew",
        "spot: ethusdt@kline_1m is dead on a living connection: moved to another connection",
    ]


async def test_many_streams_that_die_together_are_a_few_lines(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """REST brings what they lack one by one, so each is found out at a time of its own."""
    many = [Series("spot", f"A{number}USDT", "1m") for number in range(200)]
    feed = Feed()
    async with listening([BTC, *many], feed) as running:
        await trio.sleep(70)
        feed.dead.update((0, stream_name(one)) for one in many)
        await trio.sleep(60)
        for one in many:
            running.listener.suspect(one, OPEN_MS + MINUTE_MS)
            await trio.sleep(0.1)
        await trio.sleep(60)
    dead = [line for line in warnings(caplog) if "dead on a living connection" in line]
    assert 1 < len(dead) <= 8
    assert "streams are dead on a living connection: subscribed anew: a" in dead[1]
    assert all(len(line) < 400 for line in dead)


async def refill_each_second(listener: Listener, series: Series, seconds: int) -> None:
    """Say of each second's candle that it came over REST, half a second after its end."""
    for _ in range(seconds):
        second = round(trio.current_time())
        await trio.sleep_until(second + 0.5)
        listener.suspect(series, OPEN_MS + (second - 1) * 1_000)
        await trio.sleep_until(second + 1)


def asked_alone(feed: Feed, series: Series) -> list[tuple[int, int, str]]:
    """When, where and how one stream was named in a request of its own."""
    alone = (stream_name(series),)
    return [
        (round(at), number, method) for at, number, method, names in feed.asked if names == alone
    ]


@pytest.mark.parametrize("redundancy", [1, 2])
async def test_a_dead_stream_whose_candles_come_over_rest_each_second_is_asked_for_anew_too(
    autojump_clock: trio.testing.MockClock, redundancy: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening([BTC, ETH_1S], stall_seconds=6, redundancy=redundancy) as running:
        await trio.sleep(30)
        await refill_each_second(running.listener, ETH_1S, 20)
    first, second, *later = asked_alone(running.feed, ETH_1S)
    where = first[1]
    assert [first, second] == [(37, where, "UNSUBSCRIBE"), (37, where, "SUBSCRIBE")]
    copies = range(redundancy)
    assert sorted(later)[: 2 * redundancy] == [
        *((44, old, "UNSUBSCRIBE") for old in copies),
        *((44, redundancy + new, "SUBSCRIBE") for new in copies),
    ]
    said = [line.rpartition(": ")[2] for line in warnings(caplog) if "dead" in line]
    assert said == ["subscribed anew", "moved to another connection"]


async def test_a_stream_refused_once_is_asked_for_again_though_its_refills_come_each_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(refused={stream_name(ETH): 1})
    async with listening([BTC, ETH], feed, stall_seconds=6) as running:
        await trio.sleep(10)
        assert feed.streams == {0: {stream_name(BTC)}}
        await refill_each_second(running.listener, ETH, 20)
    assert asked_alone(feed, ETH) == [
        (1, 0, "SUBSCRIBE"), (17, 0, "UNSUBSCRIBE"), (17, 0, "SUBSCRIBE")
    ]  # fmt: skip
    assert feed.streams == {0: {stream_name(BTC), stream_name(ETH)}}


def contracts_at(feed: Feed) -> list[int]:
    """The connections on which news of contracts were asked for, one for each request."""
    return [number for _, number, _, names in feed.asked if "!contractInfo" in names]


async def test_contracts_are_heard_of_on_whichever_connection_is_first_now(
    autojump_clock: trio.testing.MockClock,
) -> None:
    market = attrs.evolve(MARKETS["spot"], has_contract_stream=True, streams_per_connection=2)
    async with listening([BTC, ETH, SOL], market=market) as running:
        running.listener.listen_to([BTC, ETH, SOL], contracts=True)
        await trio.sleep(30)
        assert contracts_at(running.feed) == [0]
        running.listener.listen_to([ETH, SOL], contracts=True)
        await trio.sleep(30)
        assert contracts_at(running.feed) == [0, 1]
        for contracts in (True, False, True):
            running.listener.listen_to([ETH, SOL, BTC], contracts=contracts)
        await trio.sleep(30)
        assert contracts_at(running.feed) == [0, 1], "once is enough"
        running.listener.reconnect()
        await trio.sleep(30)
        assert contracts_at(running.feed) == [0, 1, 4]


async def test_contracts_are_heard_of_when_the_first_connection_s_last_stream_moves_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    market = attrs.evolve(MARKETS["spot"], has_contract_stream=True, streams_per_connection=2)
    feed = Feed()
    async with listening([BTC, ETH], feed, market) as running:
        running.listener.listen_to([BTC, ETH], contracts=True)
        await trio.sleep(70.5)
        # Twice, for once is no reason to move it; on a connection that carries nothing else, which
        # therefore ends with it.
        for number, minute in ((0, 1), (2, 3)):
            feed.dead.add((number, stream_name(BTC)))
            running.listener.suspect(BTC, OPEN_MS + minute * MINUTE_MS)
            await trio.sleep(140)
    assert feed.streams == {
        0: {stream_name(BTC), "!contractInfo"},
        1: {stream_name(ETH), "!contractInfo"},
        2: {stream_name(BTC), "!contractInfo"},
        3: {stream_name(BTC)},
    }
    assert contracts_at(feed) == [0, 2, 1]


async def test_a_stream_that_only_left_a_close_out_is_left_alone(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening([BTC, ETH]) as running:
        await trio.sleep(130)
        running.listener.suspect(ETH, OPEN_MS + MINUTE_MS)
        await trio.sleep(100)
    assert running.feed.requests("UNSUBSCRIBE") == []
    assert not warnings(caplog)


async def test_a_stream_without_trades_is_asked_for_anew_once_and_not_each_half_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed()
    async with listening([BTC, ETH], feed) as running:
        await trio.sleep(70)
        feed.dead |= {(number, stream_name(ETH)) for number in range(9)}
        await trio.sleep(60)
        running.listener.suspect(ETH, OPEN_MS + MINUTE_MS)
        await trio.sleep(900)
        assert len(feed.requests("UNSUBSCRIBE")) == 1
        running.listener.suspect(ETH, OPEN_MS + 15 * MINUTE_MS)
        running.listener.suspect(ETH, OPEN_MS + 15 * MINUTE_MS)
        await trio.sleep(900)
    assert len([line for line in warnings(caplog) if "dead" in line]) == 2


async def test_a_full_connection_lets_streams_go_before_it_takes_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    market = attrs.evolve(MARKETS["spot"], streams_per_connection=2)
    async with listening([BTC, ETH], market=market) as running:
        await trio.sleep(30)
        running.listener.listen_to([BTC, SOL])
        await trio.sleep(30)
    methods = [method for _, _, method, _ in running.feed.asked]
    assert methods == ["SUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE"]


async def test_a_candle_from_before_the_connection_was_there_says_nothing_of_its_streams(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = Feed(dead={(0, stream_name(ETH))})
    async with listening([BTC, ETH], feed) as running:
        await trio.sleep(100)
        running.listener.suspect(ETH, OPEN_MS - MINUTE_MS)
        await trio.sleep(100)
    assert feed.requests("UNSUBSCRIBE") == []


@pytest.mark.parametrize("held_seconds", [0.5, 45.0])
async def test_what_a_replaced_connection_has_received_is_still_delivered(
    autojump_clock: trio.testing.MockClock, held_seconds: float
) -> None:
    """The channel is full at the moment when the old connection retires."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for minute in range(50):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.gone()

    async def later(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for minute in range(48, 60):
            await peer.candle(BTC, open_time_ms=OPEN_MS + minute * MINUTE_MS)
        await peer.gone()

    scripts: list[Script] = [script, later]
    exchange = ScriptedExchange(scripts)
    send, receive = trio.open_memory_channel[ReceivedCandle](0)
    config = ConnectionConfig(read_pause_seconds=0)
    listener = listener_of(exchange, send, Environment(random=Never()), config=config)
    listener.listen_to([BTC])
    came: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.serve)
        nursery.start_soon(listener.run)
        await trio.sleep(1)
        listener.reconnect()
        await trio.sleep(held_seconds)
        with receive:
            while len(set(came)) < 60:
                with trio.fail_after(200):
                    received = await receive.receive()
                came.append((received.candle.open_time_ms - OPEN_MS) // MINUTE_MS)
                await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
    assert sorted(set(came)) == list(range(60))
