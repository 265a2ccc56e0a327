"""One market: its connections, each kept alive for ever, replaced and changed without a hole."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from weakref import WeakKeyDictionary

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS, Candle, ReceivedCandle, Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange.connection import Connection, Dial
from kline_trio.exchange.connection_events import (
    BadFrame,
    CloseReason,
    ConnectionEvent,
    Disconnected,
    Heard,
    Ready,
    RefusedStream,
    ShutdownAnnounced,
    SilentStreams,
)
from kline_trio.exchange.connection_log import ConnectionLog
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import CandleClosed, ContractChanged, stream_name
from kline_trio.interval import Span
from kline_trio.recorder.connection_pool import ConnectionHandle, ConnectionPool, Shard, Slot
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.grouped_log import GroupedLog

__all__ = ["Listener", "backoff_seconds"]

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 60.0
_MAX_RETRY_AFTER_SECONDS = 3 * 86_400.0
"""The longest ban there is (Binance docs, rest-api.md, "IP Limits")."""
_MAX_STALL_SECONDS = 15 * 60.0

_LEAST_WAIT_SECONDS = {418: 30.0, 429: 2.0}
"""Asking on during a ban makes it longer."""

_RARELY = 64
"""A stream that stays dead is revived at its 1st, 2nd, 4th ... 64th silence, then at each 64th."""
_FORGET_MS = 40 * 86_400_000
"""Suspicions further apart than any two candles have nothing to do with each other."""


def backoff_seconds(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row.

    Doubles from half a second to a minute; `chance`, from 0 to 1, takes up to half of it away, so
    that connections lost together do not come back together.
    """
    whole = min(_MAX_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
    return whole * (1 - chance / 2)


async def _whatever_it_is(_: int) -> Span:
    return Span(0, MAX_TIME_MS)


@attrs.frozen
class _Suspicion:
    """A stream may be dead though its connections live."""

    count: int
    """How many silences there were; one may last for many due candles."""
    open_time_ms: int
    """Of the newest of those candles."""
    is_open: bool = True
    """Whether nothing was done about the newest silence yet."""


@attrs.define(eq=False)
class Listener:
    """Receives the closed candles of one market's series, on as many connections as they need."""

    market: Market
    urls: tuple[str, ...]
    """The market's WebSocket hosts, tried in order."""
    patience: ConnectionConfig
    dial: Dial
    environment: Environment
    send: trio.MemorySendChannel[ReceivedCandle]
    """This listener's own end; closed when it ends."""
    hear_time: Callable[[int, Series], None]
    """Takes the exchange's time, in milliseconds, with each valid candle, and its series."""
    contract_changed: Callable[[str], None]
    """Told of which market the exchange says that something about a contract has changed."""
    received: Callable[[Series, int], None]
    """Told the series and the open time of each closed candle, before it is sent on."""
    dropped: Callable[[Series, int], None] = lambda *_: None
    """Told the same of a candle that could not be sent on, since its connection was ended."""
    believed: Callable[[int], Awaitable[Span]] = _whatever_it_is
    """Waits until it is known whether an event time has come; returns which ones are believed."""

    bad_frames: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many frames could not be taken, by reason."""
    _roster: ConnectionPool = attrs.field(init=False)
    _connections: dict[ConnectionHandle, Connection] = attrs.field(init=False, factory=dict)
    _hears_of_contracts: bool = attrs.field(init=False, default=False)
    _newest: dict[Series, Candle] = attrs.field(init=False, factory=dict)
    """The last candle that was sent on, of each series."""
    _wanted: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _logs: WeakKeyDictionary[Slot, ConnectionLog] = attrs.field(
        init=False, factory=WeakKeyDictionary
    )
    _named: set[str] = attrs.field(init=False, factory=set)
    """The streams whose refusal was logged."""
    _renewed: GroupedLog = attrs.field(init=False)
    _moved: GroupedLog = attrs.field(init=False)
    _refused: GroupedLog = attrs.field(init=False)
    _gathered: tuple[GroupedLog, ...] = attrs.field(init=False)
    _suspicions: dict[str, _Suspicion] = attrs.field(init=False, factory=dict)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        words = ConnectionLog(self.market.trade_type)
        self._renewed = GroupedLog(lambda names, _: words.revived([*names], "subscribed anew"))
        self._moved = GroupedLog(
            lambda names, _: words.revived([*names], "moved to another connection")
        )
        self._refused = GroupedLog(lambda names, message: words.refused([*names], message))
        self._gathered = (self._renewed, self._moved, self._refused)
        self._roster = ConnectionPool(
            self.market.streams_per_connection - self.market.has_contract_stream,
            self.patience.redundancy,
            self.patience.max_age_hours * 3_600,
            self.environment.dials,
        )

    def listen_to(self, series: Iterable[Series]) -> None:
        """Listen to these series from now on, and to no others; those that stay are not touched."""
        streams = {stream_name(one): one for one in series}
        added, taken = self._roster.want(streams)
        # First what makes room: a connection that is full takes no stream more.
        for shard, names in _by_shard(taken):
            for connection in self._carrying(shard):
                connection.unsubscribe(names)
        for shard, names in _by_shard(added):
            for connection in self._carrying(shard):
                connection.subscribe({name: streams[name] for name in names})
        for name in taken:
            self._suspicions.pop(name, None)
        self._wanted = frozenset(streams.values())
        self._newest = {one: last for one, last in self._newest.items() if one in self._wanted}
        self._hear_of_contracts()
        self._tell()

    def hear_of_contracts(self, *, wanted: bool) -> None:
        """Listen for contracts that are listed or end, too, or no more on further connections."""
        self._hears_of_contracts = wanted and self.market.has_contract_stream
        self._hear_of_contracts()

    def reconnect(self) -> None:
        """Have a new connection take the place of each, without a hole."""
        self._roster.renew()
        self._tell()

    def reconfigure(self, urls: tuple[str, ...], patience: ConnectionConfig, dial: Dial) -> None:
        """Reach the exchange in another way from now on, without a hole."""
        if urls != self.urls:
            self._roster.begin_with_first_host()
        self.urls, self.patience, self.dial = urls, patience, dial
        self._roster.max_age_seconds = patience.max_age_hours * 3_600
        self._roster.resize(patience.redundancy)
        self.reconnect()

    def told_ms(self) -> int | None:
        """The event time up to which all living connections have delivered; None if none lives."""
        return self._roster.told_ms()

    def suspect(self, series: Series, open_time_ms: int) -> None:
        """A candle did not come over its stream, though the exchange had trades in it."""
        if series not in self._wanted:
            return
        name = stream_name(series)
        shard = self._roster.shard_of(name)
        lives = [life for seat in shard.seats for life in seat.lives if life.delivers]
        if not any(life.ready_ms is not None and life.ready_ms <= open_time_ms for life in lives):
            return  # that is the connection's fault, not the stream's
        before = self._suspicions.get(name)
        count = 1
        if before is not None and open_time_ms - before.open_time_ms < _FORGET_MS:
            if open_time_ms <= before.open_time_ms:
                return
            count = before.count + (not before.is_open)
        self._suspicions[name] = _Suspicion(count, open_time_ms)
        for life in lives:
            self._connections[life].suspect(name)

    async def run(self) -> None:
        """Listen until cancelled."""
        chances = iter(self.environment.random.random, None)
        with self.send, ExitStack() as at_the_end:
            for one in self._gathered:
                at_the_end.callback(one.close)
            async with trio.open_nursery() as connections:
                while True:
                    self._news = trio.Event()
                    plan = self._roster.plan(trio.current_time(), chances)
                    for life in plan.begin:
                        self._connections[life] = self._connection(life)
                        url = self.urls[life.seat.host % len(self.urls)]
                        connections.start_soon(self._live, life, url)
                    for life in plan.retire:
                        await self._retire(life)
                    for one in self._gathered:
                        one.flush()
                    say_at = min(one.due_at for one in self._gathered)
                    with trio.move_on_at(min(plan.again_at, say_at)):
                        await self._news.wait()

    def _connection(self, life: ConnectionHandle) -> Connection:
        seat = life.seat
        return Connection(
            self.market,
            seat.shard.streams.copy(),
            deliver=self._deliver,
            tell=partial(self._report, life),
            hear_time=self.hear_time,
            told_up_to=partial(self._told_up_to, life),
            believed=self.believed,
            connect_seconds=self.patience.connect_seconds,
            stall_seconds=_stall_seconds(self.patience.stall_seconds, seat.stalls),
            rest_seconds=self.patience.read_pause_seconds,
            shared_timer=self.environment.shared_timer,
            # One shard's is enough, and each of its connections, for none of them is for ever.
            hears_of_contracts=self._hears_of_contracts and seat.shard is self._roster.shards[0],
        )

    async def _live(self, life: ConnectionHandle, url: str) -> None:
        seat, connection = life.seat, self._connections[life]
        ended = await connection.live(self.dial, url, life.nth)
        del self._connections[life]
        self._roster.end(life, stalled=ended.why is CloseReason.STALLED)
        now = trio.current_time()
        if not life.is_retired:
            goes_on = any(one.delivers for other in seat.shard.seats for one in other.lives)
            down = not any(one.delivers for one in seat.lives)
            self._log(seat).lost(ended, now, down=down, goes_on=goes_on)
            wait = self._wait_seconds(ended, seat.failures)
            seat.not_before = max(seat.not_before, now + wait)
        self._tell()

    async def _retire(self, life: ConnectionHandle) -> None:
        connection = self._connections.get(life)
        if connection is not None:
            if life.seat.lives and life.seat.shard in self._roster.shards:
                self._log(life.seat).retired(trio.current_time() - life.began_at)
            await connection.retire()

    def _wait_seconds(self, ended: Disconnected, failures: int) -> float:
        if ended.why is CloseReason.SHUTDOWN and ended.heard:
            return 0.0
        wait = backoff_seconds(failures, self.environment.random.random())
        asked = min(ended.retry_after_seconds or 0.0, _MAX_RETRY_AFTER_SECONDS)
        return max(wait, asked, _LEAST_WAIT_SECONDS.get(ended.status or 0, 0.0))

    async def _deliver(self, event: CandleClosed) -> None:
        if event.series not in self._wanted:
            return  # on its way when its stream was ended
        if self._newest.get(event.series) == event.candle:
            return  # another connection was faster
        self._newest[event.series] = event.candle
        received = ReceivedCandle(event.series, event.candle, self.environment.now())
        self.received(event.series, event.candle.open_time_ms)
        is_sent = False
        try:
            # send() lets all other tasks go first, each time; a minute's candles come together.
            try:
                self.send.send_nowait(received)
            except trio.WouldBlock:
                await self.send.send(received)
            is_sent = True
        except trio.BrokenResourceError:
            # The receiver died: its own error is on its way up, and will cancel us.
            await trio.sleep_forever()
        finally:
            if not is_sent:
                # The channel was full until the connection ended. Another one may bring it.
                self._newest.pop(event.series, None)
                self.dropped(event.series, event.candle.open_time_ms)

    def _told_up_to(self, life: ConnectionHandle, event_time_ms: int) -> None:
        life.newest_ms = max(life.newest_ms, event_time_ms)
        if len(life.seat.lives) > 1:
            self._tell()

    def _report(self, life: ConnectionHandle, happening: ConnectionEvent) -> None:
        words = self._log(life.seat)
        match happening:
            case Heard():
                life.is_heard = True
                streams = life.seat.shard.streams.keys() - self._connections[life].refused
                words.heard(len(streams), trio.current_time())
            case Ready():
                life.ready_ms, life.ready_at = happening.event_time_ms, trio.current_time()
                self._tell()
            case ShutdownAnnounced():
                life.ends_at = -math.inf
                words.shutting_down(trio.current_time())
                self._tell()
            case BadFrame():
                words.bad_frame(happening, self.bad_frames)
            case SilentStreams():
                # Only if a candle with trades did not come: a stream may have none for a while.
                dead = [
                    name
                    for name in happening.names
                    if name in self._suspicions and self._suspicions[name].is_open
                ]
                for name in dead:
                    self._revive(life, name)
                words.silent([name for name in happening.names if name not in dead], happening)
            case RefusedStream():
                if happening.name not in self._named:
                    self._named.add(happening.name)
                    self._refused.add(happening.name, happening.message)
                    self._tell()
            case ContractChanged():
                self.contract_changed(happening.trade_type or self.market.trade_type)

    def _revive(self, life: ConnectionHandle, name: str) -> None:
        """Ask for a dead stream anew; from the second time on, over another connection."""
        count, shard = self._suspicions[name].count, life.seat.shard
        self._suspicions[name] = attrs.evolve(self._suspicions[name], is_open=False)
        if name not in shard.streams or (count & (count - 1) and count % _RARELY):
            return
        if count == 1:
            self._renewed.add(name)
            self._tell()
            self._connections[life].renew(name)
            return
        self._moved.add(name)
        old, new = self._roster.move(name)
        for connection in self._carrying(old):
            connection.unsubscribe([name])
        for connection in self._carrying(new):
            connection.subscribe({name: new.streams[name]})
        self._hear_of_contracts()
        self._tell()

    def _hear_of_contracts(self) -> None:
        """Over the connections of the first shard, which may have been another's before."""
        for shard in self._roster.shards[:1] if self._hears_of_contracts else ():
            for connection in self._carrying(shard):
                connection.hear_of_contracts()

    def _carrying(self, shard: Shard) -> list[Connection]:
        """The connections on which a shard's streams are."""
        return [
            self._connections[life]
            for seat in shard.seats
            for life in seat.lives
            if not life.is_retired
        ]

    def _log(self, seat: Slot) -> ConnectionLog:
        if seat not in self._logs:
            name = self.market.trade_type
            part = str(seat.shard.number) if self._roster.is_split else ""
            copy = chr(ord("a") + seat.copy) if self._roster.redundancy > 1 else ""
            self._logs[seat] = ConnectionLog(f"{name}/{part}{copy}" if part or copy else name)
        return self._logs[seat]

    def _tell(self) -> None:
        self._news.set()


def _by_shard(found: Mapping[str, Shard]) -> Iterator[tuple[Shard, list[str]]]:
    for shard in dict.fromkeys(found.values()):
        yield shard, [name for name, one in found.items() if one is shard]


def _stall_seconds(patience_seconds: float, stalls: int) -> float:
    # Quiet contracts and maintenance: each stall without a data frame doubles the patience.
    most = max(_MAX_STALL_SECONDS, patience_seconds)
    return min(most, patience_seconds * 2.0 ** min(stalls, 16))
