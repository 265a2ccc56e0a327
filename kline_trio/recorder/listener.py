"""One market: its connections, each kept alive for ever, replaced and changed without a hole."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from weakref import WeakKeyDictionary

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange import connection_events as events
from kline_trio.exchange.connection import Connection, ConnectionCallbacks, ConnectionOptions, Dial
from kline_trio.exchange.connection_log import ConnectionLog
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import ContractChanged, ServerShutdown, stream_name
from kline_trio.exchange.sieved_stream import ReadPacer
from kline_trio.exchange.subscription import Subscription
from kline_trio.recorder.backoff import doubled
from kline_trio.recorder.connection_pool import ConnectionHandle, ConnectionPool, Shard, Slot
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.event_sink import EventSink
from kline_trio.recorder.grouped_log import GroupedLog
from kline_trio.recorder.statistics import ConnectionStatistics, ListenerStatistics, Traffic

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 60.0
_MAX_RETRY_AFTER_SECONDS = 3 * 86_400.0
"""The longest ban there is (Binance docs, rest-api.md, "IP Limits")."""
_MAX_STALL_SECONDS = 15 * 60.0

_LEAST_WAIT_SECONDS = {418: 30.0, 429: 2.0}
"""Requests during a ban make it longer."""

_RARELY = 64
"""A stream that stays dead is revived at its 1st, 2nd, 4th ... 64th silence, then at each 64th."""
_FORGET_MS = 40 * 86_400_000
"""Suspicions further apart than any two candles are independent."""


def backoff_seconds(failures: int, chance: float) -> float:
    """Return how long to wait after so many failures in a row.

    The wait doubles from half a second to a minute. `chance`, from 0 to 1, takes up to half of it
    away, so that connections that were lost together do not come back together.
    """
    return doubled(_FIRST_BACKOFF_SECONDS, failures, _MAX_BACKOFF_SECONDS) * (1 - chance / 2)


@attrs.frozen
class Route:
    """How to reach a market's streams."""

    urls: tuple[str, ...]
    """The market's WebSocket hosts, tried in order."""
    connection: ConnectionConfig
    dial: Dial = attrs.field(eq=False)


@attrs.frozen
class _Suspicion:
    """Why a stream may be dead though its connections live."""

    count: int
    """How many silences there were. One silence may last for many due candles."""
    open_time_ms: int
    """Open time of the newest candle that the stream did not deliver."""
    is_open: bool = True
    """Whether the newest silence is not handled yet."""


@attrs.define(eq=False)
class _Suspicions:
    """Streams that may be dead, by name, and when to revive them (pure)."""

    _by_name: dict[str, _Suspicion] = attrs.field(init=False, factory=dict)

    def add(self, name: str, open_time_ms: int) -> bool:
        """Suspect a stream for a candle. Return False if it is suspected for a newer one."""
        before, count = self._by_name.get(name), 1
        if before is not None and open_time_ms - before.open_time_ms < _FORGET_MS:
            if open_time_ms <= before.open_time_ms:
                return False
            count = before.count + (not before.is_open)
        self._by_name[name] = _Suspicion(count, open_time_ms)
        return True

    def forget(self, name: str) -> None:
        """Drop the suspicion against a stream, if there is one."""
        self._by_name.pop(name, None)

    def is_open(self, name: str) -> bool:
        """Return whether a stream's newest silence is not handled yet."""
        return name in self._by_name and self._by_name[name].is_open

    def close(self, name: str) -> int:
        """Take a stream's silence as handled. Return its number; 0: leave the stream alone."""
        suspicion = self._by_name[name]
        self._by_name[name] = attrs.evolve(suspicion, is_open=False)
        count = suspicion.count
        return 0 if count & (count - 1) and count % _RARELY else count


@attrs.define(eq=False)
class _Log:
    """Writes the lines of a market: of each slot by itself, of streams many in one line."""

    trade_type: str
    bad_frames: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many frames could not be taken, by reason, over all connections."""
    resubscribed: GroupedLog = attrs.field(init=False)
    moved: GroupedLog = attrs.field(init=False)
    _refused: GroupedLog = attrs.field(init=False)
    _refused_names: set[str] = attrs.field(init=False, factory=set)
    _by_slot: WeakKeyDictionary[Slot, ConnectionLog] = attrs.field(
        init=False, factory=WeakKeyDictionary
    )

    def __attrs_post_init__(self) -> None:
        log = ConnectionLog(self.trade_type)
        self.resubscribed = GroupedLog(lambda names, _: log.revived([*names], "subscribed anew"))
        self.moved = GroupedLog(
            lambda names, _: log.revived([*names], "moved to another connection")
        )
        self._refused = GroupedLog(lambda names, message: log.refused([*names], message))

    def of(self, slot: Slot, pool: ConnectionPool) -> ConnectionLog:
        """Return the log of a slot. The log gets its name at its first use."""
        if slot not in self._by_slot:
            part = str(slot.shard.number) if len(pool.shards) > 1 else ""
            copy = chr(ord("a") + slot.copy) if pool.redundancy > 1 else ""
            place = f"/{part}{copy}" if part or copy else ""
            self._by_slot[slot] = ConnectionLog(self.trade_type + place)
        return self._by_slot[slot]

    def refused(self, stream: events.RefusedStream) -> bool:
        """Log a refused stream once. Return whether this was the first refusal of the stream."""
        is_first = stream.name not in self._refused_names
        if is_first:
            self._refused_names.add(stream.name)
            self._refused.add(stream.name, stream.message)
        return is_first

    def flush(self) -> float:
        """Write the lines that are due. Return when the next one is."""
        gathered = (self.resubscribed, self.moved, self._refused)
        for one in gathered:
            one.flush()
        return min(one.due_at for one in gathered)

    def close(self) -> None:
        """Write all lines that are gathered."""
        for one in (self.resubscribed, self.moved, self._refused):
            one.close()


@attrs.define(eq=False)
class Listener:
    """Receives the closed candles of one market's series, on as many connections as they need."""

    market: Market
    route: Route
    environment: Environment
    sink: EventSink

    pool: ConnectionPool = attrs.field(init=False)
    _connections: dict[ConnectionHandle, Connection] = attrs.field(init=False, factory=dict)
    _suspicions: _Suspicions = attrs.field(init=False, factory=_Suspicions)
    _hears_of_contracts: bool = attrs.field(init=False, default=False)
    _log: _Log = attrs.field(init=False)
    heard_at: float = attrs.field(init=False, default=-math.inf)
    """When the last valid candle came on any connection, by Trio's clock."""
    _past: Traffic = attrs.field(init=False, factory=Traffic)
    """Of the connections that have ended."""
    lost: int = attrs.field(init=False, default=0)
    """How many connections have ended by themselves."""
    _last_end: events.Disconnected | None = attrs.field(init=False, default=None)
    """How the last of those ended."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the pool is to be asked for a new plan."""

    def __attrs_post_init__(self) -> None:
        self._log = _Log(self.market.trade_type)
        self.pool = ConnectionPool(
            self.market.streams_per_connection - self.market.has_contract_stream,
            self.route.connection.redundancy,
            self.route.connection.max_age_hours * 3_600,
            self.environment.dials,
        )

    def listen_to(self, series: Iterable[Series], *, contracts: bool = False) -> None:
        """Listen to these series from now on, and to no others; those that stay are not touched.

        Args:
          series: of this market.
          contracts: whether to listen for listed and ended contracts, too. If not, connections that
            do so go on, and new ones do not begin.
        """
        self._hears_of_contracts = contracts and self.market.has_contract_stream
        streams = {stream_name(one): one for one in series}
        added, removed = self.pool.set_streams(streams)
        # Unsubscribe first: a full connection takes no further stream.
        for shard, names in _by_shard(removed):
            for connection in self._carrying(shard):
                connection.subscription.unsubscribe(names)
        for shard, names in _by_shard(added):
            for connection in self._carrying(shard):
                connection.subscription.subscribe({name: streams[name] for name in names})
        for name in removed:
            self._suspicions.forget(name)
        self.sink.set_series(streams.values())
        self._hear_of_contracts()
        self._news.set()

    def reconnect(self) -> None:
        """Replace each connection by a new one, without a hole."""
        self.pool.renew()
        self._news.set()

    def reconfigure(self, route: Route) -> None:
        """Reach the exchange by another route from now on, without a hole."""
        if route.urls != self.route.urls:
            self.pool.reset_hosts()
        self.route = route
        self.pool.max_age_seconds = route.connection.max_age_hours * 3_600
        self.pool.resize(route.connection.redundancy)
        self.reconnect()

    def suspect(self, series: Series, open_time_ms: int) -> None:
        """Suspect a stream: it did not deliver a candle that had trades."""
        if series not in self.sink.wanted:
            return
        name = stream_name(series)
        handles = [one for one in self.pool.shard_of(name).handles if one.delivers]
        if not any(one.ready_ms is not None and one.ready_ms <= open_time_ms for one in handles):
            return  # that is the connection's fault, not the stream's
        if self._suspicions.add(name, open_time_ms):
            for handle in handles:
                self._connections[handle].subscription.watch(name, trio.current_time())

    def traffic(self) -> Traffic:
        """Return what all connections have received since the start."""
        return sum(map(_traffic, self._connections.values()), self._past)

    def statistics(self) -> ListenerStatistics:
        """Return what the market's connections do, and what they have received."""
        now = trio.current_time()
        found = tuple(
            self._connection_statistics(handle, connection, now)
            for handle, connection in self._connections.items()
        )
        return ListenerStatistics(
            connections=found,
            traffic=self.traffic(),
            reconnects=self.lost,
            last_end=self._last_end,
            bad_frames=self._log.bad_frames.total(),
        )

    def _connection_statistics(
        self, handle: ConnectionHandle, connection: Connection, now: float
    ) -> ConnectionStatistics:
        slot, last = handle.slot, handle.slot.last_end
        return ConnectionStatistics(
            name=self._log.of(slot, self.pool).name,
            url=connection.url,
            address=connection.address,
            age_seconds=now - handle.began_at,
            is_delivering=handle.delivers,
            streams=len(slot.shard.streams),
            traffic=_traffic(connection),
            silent_seconds=connection.silent_seconds,
            reconnects=slot.reconnects,
            last_end=None if last is None else str(last),
        )

    async def run(self) -> None:
        """Listen until cancelled. Then close the connections by force, and the channel's end."""
        chances = iter(self.environment.random.random, None)
        with self.sink.send, closing(self._log):
            async with trio.open_nursery() as connections:
                while True:
                    self._news = trio.Event()
                    plan = self.pool.plan(trio.current_time(), chances)
                    for handle in plan.begin:
                        self._connections[handle] = self._connection(handle)
                        url = self.route.urls[handle.slot.host % len(self.route.urls)]
                        connections.start_soon(self._live, handle, url)
                    for handle in plan.retire:
                        await self._retire(handle)
                    with trio.move_on_at(min(plan.again_at, self._log.flush())):
                        await self._news.wait()

    def _connection(self, handle: ConnectionHandle) -> Connection:
        shard, config = handle.slot.shard, self.route.connection
        # Quiet contracts and maintenance: each stall without a data frame doubles the patience.
        longest = max(_MAX_STALL_SECONDS, config.stall_seconds)
        subscription = Subscription()
        subscription.subscribe(shard.streams)
        # One shard is enough, on each of its connections, for each of them can end.
        if self._hears_of_contracts and shard is self.pool.shards[0]:
            subscription.subscribe_to_contracts()
        callbacks = ConnectionCallbacks(
            deliver=self.sink.deliver,
            report=partial(self._on_event, handle),
            on_event_time=self.sink.clock.add_frame,
            on_delivered_up_to=partial(self._delivered_up_to, handle),
            accepted_span=self.sink.clock.accepted_span,
        )
        options = ConnectionOptions(
            messages_per_second=self.market.messages_per_second,
            connect_seconds=config.connect_seconds,
            stall_seconds=doubled(config.stall_seconds, handle.slot.stalls, longest),
            pacer=ReadPacer(config.read_pause_seconds, self.environment.shared_timer),
        )
        return Connection(subscription, callbacks, options)

    async def _live(self, handle: ConnectionHandle, url: str) -> None:
        slot = handle.slot
        ended = await self._connections[handle].run(self.route.dial, url, handle.nth_address)
        self._past += _traffic(self._connections.pop(handle))
        self.pool.end(handle, stalled=ended.why is events.CloseReason.STALLED)
        now = trio.current_time()
        if not handle.is_retired:
            goes_on = any(one.delivers for one in slot.shard.handles)
            down = not any(one.delivers for one in slot.handles)
            self._log.of(slot, self.pool).lost(ended, now, down=down, goes_on=goes_on)
            wait = self._wait_seconds(ended, slot.failures)
            slot.not_before = max(slot.not_before, now + wait)
            slot.reconnects, slot.last_end = slot.reconnects + 1, ended
            self.lost, self._last_end = self.lost + 1, ended
        self._news.set()

    async def _retire(self, handle: ConnectionHandle) -> None:
        connection, slot = self._connections.get(handle), handle.slot
        if connection is not None:
            if slot.handles and slot.shard in self.pool.shards:
                log = self._log.of(slot, self.pool)
                log.retired(trio.current_time() - handle.began_at)
            await connection.close_gracefully()

    def _wait_seconds(self, ended: events.Disconnected, failures: int) -> float:
        if ended.why is events.CloseReason.SHUTDOWN and ended.had_candle:
            return 0.0
        wait = backoff_seconds(failures, self.environment.random.random())
        asked = min(ended.retry_after_seconds or 0.0, _MAX_RETRY_AFTER_SECONDS)
        return max(wait, asked, _LEAST_WAIT_SECONDS.get(ended.status or 0, 0.0))

    def _delivered_up_to(self, handle: ConnectionHandle, event_time_ms: int) -> None:
        self.heard_at = trio.current_time()
        handle.newest_ms = max(handle.newest_ms, event_time_ms)
        if len(handle.slot.handles) > 1:
            self._news.set()

    def _on_event(self, handle: ConnectionHandle, event: events.ConnectionEvent) -> None:
        log = self._log.of(handle.slot, self.pool)
        match event:
            case events.FirstCandle():
                handle.is_heard = True
                refused = self._connections[handle].subscription.refused
                streams = handle.slot.shard.streams.keys() - refused
                log.receiving(len(streams), trio.current_time())
            case events.Ready():
                handle.ready_ms, handle.ready_at = event.event_time_ms, trio.current_time()
                self._news.set()
            case ServerShutdown():
                handle.ends_at = -math.inf
                log.shutting_down(trio.current_time())
                self._news.set()
            case events.BadFrame():
                log.bad_frame(event, self._log.bad_frames)
            case events.SilentStreams():
                # Only if a candle with trades did not come: a stream may have none for a while.
                dead = [name for name in event.names if self._suspicions.is_open(name)]
                for name in dead:
                    self._revive(handle, name)
                log.silent([name for name in event.names if name not in dead], event)
            case events.RefusedStream():
                if self._log.refused(event):
                    self._news.set()
            case ContractChanged():
                self.sink.contract_changed(event.trade_type or self.market.trade_type)

    def _revive(self, handle: ConnectionHandle, name: str) -> None:
        """Subscribe a dead stream anew; from the second time on, over another connection."""
        nth = self._suspicions.close(name)
        if not nth or name not in handle.slot.shard.streams:
            return
        if nth == 1:
            self._log.resubscribed.add(name)
            self._connections[handle].subscription.resubscribe(name)
        else:
            self._log.moved.add(name)
            old, new = self.pool.move(name)
            for connection in self._carrying(old):
                connection.subscription.unsubscribe([name])
            for connection in self._carrying(new):
                connection.subscription.subscribe({name: new.streams[name]})
            self._hear_of_contracts()
        self._news.set()

    def _hear_of_contracts(self) -> None:
        """Listen on the connections of the first shard, which may have been another before."""
        for shard in self.pool.shards[:1] if self._hears_of_contracts else ():
            for connection in self._carrying(shard):
                connection.subscription.subscribe_to_contracts()

    def _carrying(self, shard: Shard) -> list[Connection]:
        """Return the connections that carry a shard's streams."""
        return [self._connections[one] for one in shard.handles if not one.is_retired]


def _by_shard(found: Mapping[str, Shard]) -> Iterator[tuple[Shard, list[str]]]:
    for shard in dict.fromkeys(found.values()):
        yield shard, [name for name, one in found.items() if one is shard]


def _traffic(connection: Connection) -> Traffic:
    sieve = connection.sieve
    if sieve is None:
        return Traffic()
    candles = sieve.candles
    return Traffic(sieve.frames, sieve.received_bytes, candles.dropped, candles.closed)
