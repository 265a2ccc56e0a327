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
from kline_trio.exchange.rest import sync_clock
from kline_trio.recorder.announcing import announce
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.broadcast import Broadcast, Candles, Fills
from kline_trio.recorder.core import Core
from kline_trio.recorder.disk_space import watch_disk_space
from kline_trio.recorder.environment import Environment, RecurringEvent, SerialExecutor, Storage
from kline_trio.recorder.guard import guard
from kline_trio.recorder.healing import heal
from kline_trio.recorder.heartbeat import Heartbeat
from kline_trio.recorder.lifetimes import Http, lone_error_plain, open_http, open_store
from kline_trio.recorder.listener import Listener
from kline_trio.recorder.merger import Merger
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.universe import Universe
from kline_trio.recorder.writer import Writer
from kline_trio.storage.memory import trim_heap
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
_GIVE_BACK_SECONDS = 60.0


@attrs.frozen(eq=False)
class Recorder:
    """A running recorder."""

    _broadcast: Broadcast
    _recording: Recording
    _seams: Environment

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
        _demand_config(config)
        self._recording.reconfigure(config, self._seams.dial_by(config.connection))


def _demand_config(config: object) -> None:
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
      environment: to the world.
      stop_asked: returns when the body would end at once: a disk that has no room at the start is
        not waited for any longer then.

    Raises:
      RuntimeError: this is no Trio program.
      ConfigError: it is no configuration, or what is named to reach the exchange cannot be used.
      StoreInUseError: another recorder holds the store, or could take it.
      DiskError: the store cannot be made, read or written; a disk that is only full, or
        read-only, is waited for.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(_NO_TRIO)
    _demand_config(config)
    environment = environment or Environment()
    send, receive = trio.open_memory_channel[ReceivedCandle](CANDLES_IN_CHANNEL)
    async with open_store(config, environment, stop_asked=stop_asked) as storage:
        broadcast = Broadcast()
        core = Core.of(config, storage, broadcast.publish)
        writer = Writer(
            storage,
            config.store.journal_rows_in_memory,
            core.committed,
            core.series.dropped,
        )
        with lone_error_plain():
            async with open_http(config, environment) as http, trio.open_nursery() as outer:
                hints = {name: RecurringEvent() for name in http.markets}
                listeners = listeners_of(
                    config, environment, http, send, core.series, lambda name: hints[name].ring()
                )
                filler = core.filler(
                    config,
                    environment,
                    http,
                    broadcast.publish_fill,
                    lambda one, open_ms: listeners[one.trade_type].suspect(one, open_ms),
                )
                auditor = Auditor(
                    storage,
                    core.series,
                    http.clocks,
                    config.history.since_ms,
                    lambda: not writer.is_short_of_room,
                    lambda trade_type: listeners[trade_type].told_ms(),
                )
                universe = Universe(
                    http.markets,
                    await storage.merge_door.run(UniverseFile.open, storage.store.path),
                    storage.merge_door,
                    config.universe.refresh_seconds,
                    hints,
                )
                recording = Recording(config, listeners, core.series, universe, http.clocks)
                recording.go_on_with(await storage.commit_door.run(storage.store.journal.accounts))
                heartbeat = Heartbeat(storage, http.clocks, environment.wall_clock)
                outer.start_soon(core.merger.run)
                outer.start_soon(_store, writer, auditor, core.merger, broadcast, receive, config)
                async with open_network(listeners, send) as net:
                    net.start_soon(auditor.run, recording.sealed)
                    net.start_soon(heal, storage)
                    net.start_soon(watch_disk_space, storage, lambda: recording.series)
                    net.start_soon(heartbeat.run)
                    net.start_soon(guard, storage)
                    for job in (
                        *filler.jobs(),
                        *_market_jobs(recording, core.series, universe, http),
                    ):
                        net.start_soon(job)
                    net.start_soon(announce, recording, http.markets)
                    net.start_soon(_keep_giving_back, storage.merge_door)
                    yield Recorder(broadcast, recording, environment)
            await heartbeat.end()
        await _say_stopped(storage, writer.recorded, filler.filled)


def _market_jobs(
    recording: Recording, tracked: SeriesSet, universe: Universe, http: Http
) -> Iterator[Callable[[], Awaitable[None]]]:
    """Give the jobs that each market needs once something is recorded of it."""
    for name, rest in http.markets.items():
        yield partial(_once_used, recording, name, sync_clock, rest)
        follow = partial(universe.follow, name, recording.list_changed, tracked.is_accounted)
        yield partial(_once_used, recording, name, follow)


async def _say_stopped(storage: Storage, recorded: int, refilled: int) -> None:
    waiting = await storage.commit_door.run(storage.store.journal.rows)
    totals = await storage.commit_door.run(storage.store.journal.totals)
    logger.info(
        "stopped: %s recorded%s, %s waiting in the journal, %s files",
        f"{recorded:,}",
        f", {refilled:,} refilled" if refilled else "",
        f"{waiting:,}",
        f"{totals.files:,}",
    )


async def _store(
    writer: Writer,
    auditor: Auditor,
    merger: Merger,
    broadcast: Broadcast,
    receive: trio.MemoryReceiveChannel[ReceivedCandle],
    config: Config,
) -> None:
    try:
        await writer.run(receive)
    finally:
        # Also if the recorder fails: a reader may live outside of the recorder's body.
        broadcast.close()
    await auditor.keep()
    merger.finish(config.store.drain_seconds)


async def _keep_giving_back(door: SerialExecutor) -> None:
    """Give freed memory back to the system now and then, until cancelled."""
    while True:
        await trio.sleep(_GIVE_BACK_SECONDS)
        await door.run(trim_heap)


def listeners_of(
    config: Config,
    environment: Environment,
    http: Http,
    send: trio.MemorySendChannel[ReceivedCandle],
    series: SeriesSet | None = None,
    contract_changed: Callable[[str], None] = lambda _: None,
) -> dict[str, Listener]:
    """Return a listener for each market, also for those that nothing is recorded of yet.

    Args:
      config: where the markets are, and how to connect to them.
      environment: to the world.
      http: whose clocks take the event times.
      send: to where candles go; each listener closes a clone of its own.
      series: takes note of what connections have delivered and dropped.
      contract_changed: called with the trade type of a market one of whose contracts has changed.
    """
    told = series or SeriesSet(0)
    return {
        trade_type: Listener(
            rest.market,
            config.endpoints[trade_type].websocket,
            config.connection,
            environment.dial_by(config.connection),
            environment,
            send.clone(),
            rest.clock.add_frame,
            contract_changed,
            told.received,
            told.dropped,
            rest.clock.accepted_span,
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


async def _once_used(
    recording: Recording,
    trade_type: str,
    job: Callable[..., Awaitable[None]],
    *arguments: object,
) -> None:
    """Do a market's job from when on something is recorded of it, which may be never."""
    while True:
        if recording.uses(trade_type):
            return await job(*arguments)
        await trio.sleep(_LOOK_SECONDS)
