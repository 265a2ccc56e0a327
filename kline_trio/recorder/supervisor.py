"""The recorder as a whole: storage outside, network inside, each ended in its turn."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.exchange.clock_sync import sync_clock
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.broadcast import Broadcast, Candles, Fills
from kline_trio.recorder.disk_space import watch_disk_space
from kline_trio.recorder.environment import Environment, RecurringEvent, Storage
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.healing import heal
from kline_trio.recorder.housekeeping import Heartbeat, guard, trim_memory
from kline_trio.recorder.listener import EventSink, Listener, Route
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.resources import (
    Http,
    Pipeline,
    open_http,
    open_store,
    unwrap_lone_error,
)
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.universe import Universe
from kline_trio.recorder.writer import Writer
from kline_trio.storage.universe import UniverseFile
from kline_trio.symbols import series_of

__all__ = ["CANDLES_IN_CHANNEL", "Recorder", "listeners_of", "open_network", "open_recorder"]

logger = logging.getLogger(__name__)

CANDLES_IN_CHANNEL = 10_000
"""All candles of four thousand series that close in one second, twice over; some 5 MB."""
_LOOK_SECONDS = 1.0
_NO_TRIO = (
    "open_recorder needs Trio: run your async function by trio.run(main), not by asyncio.run;"
    " an asyncio program does so in a thread (asyncio.to_thread(trio.run, main)) or a process"
    " of its own"
)


@attrs.frozen(eq=False)
class Recorder:
    """A running recorder."""

    _broadcast: Broadcast
    _recording: Recording
    _environment: Environment

    @property
    def series(self) -> tuple[Series, ...]:
        """What is recorded now."""
        return self._recording.series

    def candles(self, waiting: int = 1_000) -> Candles:
        """Return the candles accepted from now on, as they come, in no promised order.

        Args:
          waiting: how many candles of the stream, and how many refills, may wait for the caller.
            If one more comes, the oldest is lost to the caller.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        return self._broadcast.subscribe(waiting)

    def fills(self, waiting: int = 1_000) -> Fills:
        """Return what goes into the files from archives from now on; `candles` does not bring it.

        Args:
          waiting: how many announcements may wait for the caller. If one more comes, the oldest
            is lost to the caller.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        return self._broadcast.subscribe_fills(waiting)

    def add_symbols(self, trade_type: str, time_interval: str, *symbols: str) -> None:
        """Record these symbols too, from now on; the other streams go on untouched.

        Args:
          trade_type: the market.
          time_interval: of the candles, in the exchange's spelling; `1mo` is `1M`.
          symbols: in any case of their ASCII letters.

        Raises:
          ValueError: there is no such market, interval or symbol; nothing was changed. As long as
            the exchange's list of symbols is not known, an unknown symbol is logged later instead.
        """
        self._recording.add(series_of(trade_type, time_interval, symbols))

    def remove_symbols(self, trade_type: str, time_interval: str, *symbols: str) -> None:
        """Record these symbols no more; what is stored of them stays.

        Raises:
          ValueError: as `add_symbols`.
        """
        self._recording.remove(series_of(trade_type, time_interval, symbols))

    def reconnect(self, trade_type: str | None = None) -> None:
        """Let new connections take the place of all, or of those of one market, without a hole.

        Raises:
          ValueError: there is no such market.
        """
        self._recording.reconnect(trade_type)

    def reconfigure(self, config: Config) -> None:
        """Record by another configuration from now on.

        Streams, WebSocket hosts and `[connection]` change at once and without a hole; what else is
        other is said in the log, and counts from the next start on.

        Raises:
          ConfigError: it is no configuration.
        """
        _require_config(config)
        self._recording.reconfigure(config, self._environment.dial_for(config.connection))


def _require_config(config: object) -> None:
    if not isinstance(config, Config):
        wanted = 'a kline_trio.Config is wanted, as Config.from_toml("recorder.toml") gives'
        raise ConfigError([f"{wanted}, not {config!r:.200}"])


@asynccontextmanager
async def open_recorder(
    config: Config,
    environment: Environment | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> AsyncIterator[Recorder]:
    """Record while the body runs.

    When the body ends, the network is cancelled, what was received is committed, and merges go on
    for `drain_seconds`; what then still waits is durable in the journal. If cancelled, or if the
    body raises, nothing more is received or merged, and nothing accepted is lost.

    Args:
      config: what to record, from where, to where.
      environment: how to reach network, disk and clocks; None: the real ones.
      stop_asked: returns when the body would end at once. A disk that is full at the start is not
        waited for any longer then.

    Raises:
      RuntimeError: this is no Trio program.
      ConfigError: `config` is no Config, or its CA file or a proxy cannot be used.
      StoreInUseError: another recorder holds the store, or could take it.
      DiskError: the store cannot be made, read or written. If the disk is only full, or read-only,
        the recorder waits instead.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(_NO_TRIO)
    _require_config(config)
    environment = environment or Environment()
    send, receive = trio.open_memory_channel[ReceivedCandle](CANDLES_IN_CHANNEL)
    async with open_store(config, environment, stop_asked=stop_asked) as storage:
        with unwrap_lone_error():
            async with open_http(config, environment) as http, trio.open_nursery() as outer:
                parts = await _Parts.of(config, environment, storage, http, send)
                outer.start_soon(parts.pipeline.merger.run)
                outer.start_soon(parts.store, receive)
                async with open_network(parts.recording.listeners, send) as network:
                    for job in parts.jobs_of_network():
                        network.start_soon(job)
                    yield Recorder(parts.broadcast, parts.recording, environment)
            await parts.heartbeat.end()
        await parts.log_totals()


@attrs.frozen(eq=False)
class _Parts:
    """The parts of one recorder, wired together."""

    config: Config
    http: Http
    broadcast: Broadcast
    pipeline: Pipeline
    writer: Writer
    auditor: Auditor
    gap_filler: GapFiller
    recording: Recording
    heartbeat: Heartbeat

    @classmethod
    async def of(
        cls,
        config: Config,
        environment: Environment,
        storage: Storage,
        http: Http,
        send: trio.MemorySendChannel[ReceivedCandle],
    ) -> "_Parts":
        """Make the parts, and begin with what the store knows of series and symbols."""
        broadcast = Broadcast()
        pipeline = Pipeline.of(config, storage, broadcast.publish)
        series, clocks, rows = pipeline.series, http.clocks, config.store.journal_rows_in_memory
        writer = Writer(storage, rows, pipeline.committed, series.dropped)
        hints = {name: RecurringEvent() for name in http.markets}
        listeners = listeners_of(
            config, environment, http, send, series, lambda name: hints[name].ring()
        )
        gap_filler = pipeline.gap_filler(
            config,
            environment,
            http,
            broadcast.publish_fill,
            lambda one, open_ms: listeners[one.trade_type].suspect(one, open_ms),
        )
        auditor = Auditor(
            storage,
            series,
            clocks,
            config.history.since_ms,
            lambda: not writer.is_short_of_room,
            lambda trade_type: listeners[trade_type].delivered_ms(),
        )
        universe = Universe(
            http.markets,
            await storage.merge_door.run(UniverseFile.open, storage.store.path),
            storage.merge_door,
            config.universe.refresh_seconds,
            hints,
        )
        recording = Recording(config, listeners, series, universe, clocks)
        recording.resume(await storage.commit_door.run(storage.store.accounts))
        heartbeat = Heartbeat(storage, clocks, environment.wall_clock)
        return cls(
            config, http, broadcast, pipeline, writer, auditor, gap_filler, recording, heartbeat
        )

    async def store(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        """Commit candles until all listeners have ended; then begin the last merges."""
        try:
            await self.writer.run(receive)
        finally:
            # Also if the recorder fails: a reader may live outside of the recorder's body.
            self.broadcast.close()
        await self.auditor.keep()
        self.pipeline.merger.finish(self.config.store.drain_seconds)

    def jobs_of_network(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Return the jobs, besides the listeners, that end with the network."""
        storage, recording = self.pipeline.storage, self.recording
        yield partial(self.auditor.run, recording.sealed)
        yield partial(heal, storage)
        yield partial(watch_disk_space, storage, lambda: recording.series)
        yield self.heartbeat.run
        yield partial(guard, storage)
        yield from self.gap_filler.jobs()
        for name, rest in self.http.markets.items():
            yield partial(self._once_used, name, partial(sync_clock, rest))
            is_accounted = self.pipeline.series.is_accounted
            follow = partial(recording.universe.follow, name, recording.list_changed, is_accounted)
            yield partial(self._once_used, name, follow)
        yield partial(recording.announce, self.http.markets)
        yield partial(trim_memory, storage.merge_door)

    async def _once_used(self, trade_type: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run a market's job once something of the market is recorded, which may be never."""
        while True:
            if self.recording.uses(trade_type):
                return await job()
            await trio.sleep(_LOOK_SECONDS)

    async def log_totals(self) -> None:
        """Log what this recorder has recorded, and what the store holds now."""
        storage, refilled = self.pipeline.storage, self.gap_filler.filled
        waiting = await storage.commit_door.run(storage.store.rows)
        totals = await storage.commit_door.run(storage.store.totals)
        logger.info(
            "stopped: %s recorded%s, %s waiting in the journal, %s files",
            f"{self.writer.recorded:,}",
            f", {refilled:,} refilled" if refilled else "",
            f"{waiting:,}",
            f"{totals.files:,}",
        )


def listeners_of(
    config: Config,
    environment: Environment,
    http: Http,
    send: trio.MemorySendChannel[ReceivedCandle],
    series_set: SeriesSet,
    contract_changed: Callable[[str], None] = lambda _: None,
) -> dict[str, Listener]:
    """Return a listener for each market, by trade type, whether or not it is recorded yet.

    Args:
      config: where the markets are, and how to connect to them.
      environment: how to reach network and clocks.
      http: its clocks take the event times.
      send: takes the candles; each listener closes a clone of its own.
      series_set: takes note of received and of dropped candles.
      contract_changed: called with the trade type of a market one of whose contracts has changed.
    """
    dial = environment.dial_for(config.connection)
    return {
        trade_type: Listener(
            rest.market,
            Route(config.endpoints[trade_type].websocket, config.connection, dial),
            environment,
            EventSink(send.clone(), rest.clock, series_set, contract_changed, environment.now),
        )
        for trade_type, rest in http.markets.items()
    }


@asynccontextmanager
async def open_network(
    listeners: Mapping[str, Listener], send: trio.MemorySendChannel[ReceivedCandle]
) -> AsyncIterator[trio.Nursery]:
    """Listen while the body runs; `send` is closed with it.

    The nursery is for what else ends with the network. If cancelled, connections are closed by
    force.
    """
    with send:
        async with trio.open_nursery() as network:
            for listener in listeners.values():
                network.start_soon(listener.run)
            yield network
            network.cancel_scope.cancel()
