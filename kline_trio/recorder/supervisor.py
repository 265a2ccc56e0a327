"""The recorder as a whole: storage outside, network inside; the network ends first."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.exchange.rest import sync_clock
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.backfill import Backfill
from kline_trio.recorder.broadcast import Broadcast, Candles, Filled, Fills
from kline_trio.recorder.candle_log import CandleLog, LogCandles
from kline_trio.recorder.disk_space import watch_disk_space
from kline_trio.recorder.environment import Environment, RecurringEvent, SerialExecutor, Storage
from kline_trio.recorder.event_sink import EventSink
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.housekeeping import Heartbeat, heal
from kline_trio.recorder.lake_process import PublishError
from kline_trio.recorder.listener import Listener, Route
from kline_trio.recorder.observer import Observer
from kline_trio.recorder.outage_log import OutageLog
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.resources import Http, Pipeline, open_http, open_store, unwrap_lone_error
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.sharing import Budgets, Share, expected_sharers
from kline_trio.recorder.statistics import Statistics
from kline_trio.recorder.tally import Tally
from kline_trio.recorder.universe import Universe
from kline_trio.recorder.writer import Writer
from kline_trio.sharding import Neighbours
from kline_trio.storage.memory import trim_heap
from kline_trio.storage.universe import UniverseFile
from kline_trio.symbols import series_of

logger = logging.getLogger(__name__)

CANDLES_IN_CHANNEL = 10_000
"""All candles of four thousand series that close in one second, twice over; some 5 MB."""
_LOOK_SECONDS = 1.0
_GUARD_SECONDS = 10.0
"""Between two checks that the store still has its files. A commit checks too."""
_TRIM_SECONDS = 60.0
"""Between two returns of freed memory to the system."""
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
    _observer: Observer
    _auditor: Auditor
    _gap_filler: GapFiller
    publisher: Publisher | None = None
    """Publishes to the lake; None: `[lake]` names none."""

    @property
    def series(self) -> tuple[Series, ...]:
        """The series that are recorded now."""
        return self._recording.series

    def statistics(self, *, series: bool = False) -> Statistics:
        """Return what the recorder does now, as one immutable snapshot, without I/O.

        What only the disk can tell (absent candles, rows, files, free space) is counted every ten
        seconds. A snapshot costs some 0.1 ms, and some 10 µs for each series.

        Args:
          series: whether to include all series, and not only those that are late.
        """
        return self._observer.statistics(series=series)

    def backfill(self, since_ms: int | None = None) -> Backfill:
        """Return the gaps up to now, to wait until they are filled; the recorder fills them anyway.

        Args:
          since_ms: fetch the past of all series from this moment on, too, in ms since 1970.
        """
        return Backfill(self._auditor, self._gap_filler, self._auditor.clocks, since_ms)

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
        """Return announcements of candles that go from archives into the files, from now on.

        `candles` does not bring these candles.

        Args:
          waiting: how many announcements may wait for the caller. If one more comes, the oldest
            is lost to the caller.

        Raises:
          ValueError: `waiting` is less than 1.
        """
        return self._broadcast.subscribe_fills(waiting)

    def add_symbols(self, trade_type: str, time_interval: str, *symbols: str) -> None:
        """Record these symbols too, from now on. The other streams go on untouched.

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
        """Stop recording these symbols. Their stored candles stay.

        Raises:
          ValueError: as `add_symbols`.
        """
        self._recording.remove(series_of(trade_type, time_interval, symbols))

    def reconnect(self, trade_type: str | None = None) -> None:
        """Replace all connections, or those of one market, by new ones, without a hole.

        Raises:
          ValueError: there is no such market.
        """
        self._recording.reconnect(trade_type)

    def reconfigure(self, config: Config) -> None:
        """Record by another configuration from now on.

        Streams, WebSocket hosts and `[connection]` change at once and without a hole. All other
        changes are named in the log, and count from the next start on.

        Raises:
          ConfigError: `config` is no Config.
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
    log_candles: LogCandles = LogCandles.AUTO,
) -> AsyncIterator[Recorder]:
    """Record while the body runs.

    When the body ends, cancel the network, commit all received candles, and merge for
    `drain_seconds`. Candles that are not merged by then are durable in the journal. If cancelled,
    or if the body raises, receive and merge nothing more; no accepted candle is lost.

    Args:
      config: the series to record, the hosts, and the store.
      environment: how to reach network, disk and clocks; None: the real ones.
      stop_asked: returns when the body would end at once. A disk that is full at the start is not
        waited for any longer then.
      log_candles: which candles have log lines of their own.

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
                parts = await _Parts.of(config, environment, storage, http, send, log_candles)
                outer.start_soon(parts.pipeline.merger.run)
                outer.start_soon(parts.store, receive)
                async with open_network(parts.recording.listeners, send) as network:
                    for job in parts.jobs_of_network():
                        network.start_soon(job)
                    yield Recorder(
                        parts.broadcast,
                        parts.recording,
                        environment,
                        parts.observer,
                        parts.auditor,
                        parts.gap_filler,
                        parts.publisher,
                    )
            await parts.publish_last()
            await parts.heartbeat.end()
        await parts.log_totals()


@attrs.frozen(eq=False)
class _Parts:
    """The parts of one recorder, wired together."""

    broadcast: Broadcast
    pipeline: Pipeline
    writer: Writer
    auditor: Auditor
    gap_filler: GapFiller
    recording: Recording
    heartbeat: Heartbeat
    observer: Observer
    candle_log: CandleLog
    publisher: Publisher | None

    @classmethod
    async def of(
        cls,
        config: Config,
        environment: Environment,
        storage: Storage,
        http: Http,
        send: trio.MemorySendChannel[ReceivedCandle],
        log_candles: LogCandles,
    ) -> "_Parts":
        """Make the parts; begin with the series and symbols that the store knows."""
        broadcast = Broadcast()
        clocks = http.clocks
        tally = Tally(lambda trade_type: clocks[trade_type].now_ms)

        def publish_fill(filled: Filled) -> None:
            tally.filled(filled)
            broadcast.publish_fill(filled)

        pipeline = Pipeline(config, storage)
        candle_log = CandleLog(pipeline.series, log_candles)
        pipeline.subscribers += [tally.committed, candle_log.committed, broadcast.publish]
        series, rows = pipeline.series, config.store.journal_rows_in_memory
        writer = Writer(storage, rows, pipeline.committed, series.dropped)
        hints = {name: RecurringEvent() for name in http.markets}
        listeners = listeners_of(
            config, environment, http, send, series, lambda name: hints[name].ring()
        )
        gap_filler = pipeline.gap_filler(
            environment,
            http,
            publish_fill,
            lambda one, open_ms: listeners[one.trade_type].suspect(one, open_ms),
        )
        auditor = Auditor(
            storage,
            series,
            clocks,
            config.history.since_ms,
            lambda: not writer.is_short_of_room,
            lambda trade_type: listeners[trade_type].pool.delivered_ms(),
        )
        universe = Universe(
            http.markets,
            await storage.merge_door.run(UniverseFile.open, storage.store.path),
            storage.merge_door,
            config.universe.refresh_seconds,
            hints,
        )
        recording = Recording(config, listeners, series, universe, Share(config.lake.shard))
        publisher = _publisher(config, environment, storage, http, recording)
        recording.resume(await storage.commit_door.run(storage.store.journal.accounts))
        heartbeat = Heartbeat(storage, clocks, environment.wall_clock)
        observer = Observer(
            storage,
            environment,
            recording,
            writer,
            pipeline.merger,
            tally,
            lambda: send.statistics().current_buffer_used,
            publisher,
        )
        return cls(
            broadcast,
            pipeline,
            writer,
            auditor,
            gap_filler,
            recording,
            heartbeat,
            observer,
            candle_log,
            publisher,
        )

    async def store(self, receive: trio.MemoryReceiveChannel[ReceivedCandle]) -> None:
        """Commit candles until all listeners have ended; then begin the last merges."""
        try:
            await self.writer.run(receive)
        finally:
            # Also if the recorder fails: a reader may live outside of the recorder's body.
            self.broadcast.close()
        await self.auditor.keep()
        self.pipeline.merger.finish(self.pipeline.config.store.drain_seconds)

    def jobs_of_network(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Return the jobs, besides the listeners, that end with the network."""
        storage, recording = self.pipeline.storage, self.recording
        yield partial(self.auditor.run, recording.sealed)
        yield partial(heal, storage)
        yield partial(watch_disk_space, storage, lambda: recording.series)
        yield self.heartbeat.run
        yield self.observer.run
        yield self.observer.count
        yield self.candle_log.run
        yield OutageLog(recording.listeners, recording.uses).run
        yield partial(_repeat, _GUARD_SECONDS, storage.commit_door, storage.store.check_held)
        yield from self.gap_filler.jobs()
        if self.publisher is not None:
            yield self.publisher.run
        universe, is_accounted = recording.universe, self.pipeline.series.is_accounted
        for name, rest in universe.markets.items():
            yield partial(self._once_used, name, partial(sync_clock, rest))
            follow = partial(universe.follow, name, recording.list_changed, is_accounted)
            yield partial(self._once_used, name, follow)
        yield recording.announce
        yield partial(_repeat, _TRIM_SECONDS, storage.merge_door, trim_heap)

    async def _once_used(self, trade_type: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run a market's job once something of the market is recorded, which may be never."""
        while True:
            if self.recording.uses(trade_type):
                return await job()
            await trio.sleep(_LOOK_SECONDS)

    async def publish_last(self) -> None:
        """Publish at the end, if `[lake]` says so, for at most `drain_seconds`."""
        if self.publisher is None or not self.publisher.lake.publish_at_stop:
            return
        with trio.move_on_after(self.pipeline.config.store.drain_seconds) as scope:
            try:
                await self.publisher.publish()
            except PublishError as error:
                logger.warning("lake: %s; the next start goes on", error)
        if scope.cancelled_caught:
            logger.warning("lake: the last publication took too long; the next start goes on")

    async def log_totals(self) -> None:
        """Log how many candles were recorded, and how many candles and files the store has."""
        storage, refilled = self.pipeline.storage, self.gap_filler.filled
        waiting = await storage.commit_door.run(storage.store.journal.rows)
        totals = await storage.commit_door.run(storage.store.journal.totals)
        self.candle_log.summarize()
        logger.info(
            "stopped: %s recorded%s, %s waiting in the journal, %s",
            f"{self.writer.recorded:,}",
            f", {refilled:,} refilled" if refilled else "",
            f"{waiting:,}",
            counted(totals.files, "file"),
        )


def _publisher(
    config: Config,
    environment: Environment,
    storage: Storage,
    http: Http,
    recording: Recording,
) -> Publisher | None:
    """Return what publishes to the lake, and divides this recorder's work with its neighbours."""
    if config.lake.url is None:
        return None
    limiters = {id(one.pool): one.pool for one in http.markets.values()}.values()
    budgets = Budgets(list(limiters), environment.dials, config.rest.weight_share)
    budgets.divide(expected_sharers(config.lake))

    def divide(found: Neighbours) -> None:
        budgets.divide(found.sharers)
        recording.hand_over(found.handed_over)

    return Publisher(storage, config.lake, lambda: recording.series, divide)


async def _repeat(seconds: float, door: SerialExecutor, job: Callable[[], object]) -> None:
    """Run a job of the disk again and again, with a pause before each run, until cancelled."""
    while True:
        await trio.sleep(seconds)
        await door.run(job)


def listeners_of(
    config: Config,
    environment: Environment,
    http: Http,
    send: trio.MemorySendChannel[ReceivedCandle],
    series_set: SeriesSet,
    contract_changed: Callable[[str], None] = lambda _: None,
) -> dict[str, Listener]:
    """Return a listener for each market, by trade type, whether or not it is recorded yet.

    Each listener closes a clone of `send`, and passes event times to the market's clock. It calls
    `contract_changed` with the trade type of a market one of whose contracts has changed.
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
    """Listen while the body runs; close `send` with the listeners.

    Yield the nursery for jobs that end with the network. If cancelled, close connections by force.
    """
    with send:
        async with trio.open_nursery() as network:
            for listener in listeners.values():
                network.start_soon(listener.run)
            yield network
            network.cancel_scope.cancel()
