"""What recorder and commands open around their work, and close after it: the store, and HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import attrs
import httpx2
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config, StoreConfig
from kline_trio.errors import DiskFullError, StoreInUseError
from kline_trio.exchange.archive import Archive
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.http import http_client
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.exchange.transport import Dialler
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import ArchiveSource
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.merger import Merger, MergeRule
from kline_trio.recorder.rest_source import RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.catalog import first_stored_ms
from kline_trio.storage.store import Store

__all__ = ["Http", "Pipeline", "check_connection", "open_http", "open_store", "unwrap_lone_error"]

_REST_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@attrs.frozen(eq=False)
class Http:
    """The HTTP client, and what it asks."""

    client: httpx2.AsyncClient
    markets: Mapping[str, RestMarket]
    """By trade type, all three."""

    @classmethod
    def of(cls, config: Config, client: httpx2.AsyncClient, parse_door: SerialExecutor) -> "Http":
        """Return the markets of a configuration. Those of one pool share its rate limit.

        Args:
          config: the hosts.
          client: carries the requests.
          parse_door: parses large answers, in a thread.
        """
        limiters: dict[str, RateLimiter] = {}
        markets = {}
        for trade_type, market in MARKETS.items():
            limiter = limiters.setdefault(
                market.pool, RateLimiter(market.weight_per_minute, config.rest.weight_share)
            )
            hosts = config.endpoints[trade_type].rest
            markets[trade_type] = RestMarket(
                client, market, hosts, limiter, ExchangeClock(), parse_door.run
            )
        return cls(client, markets)

    @property
    def clocks(self) -> dict[str, ExchangeClock]:
        """The clock of each market, by trade type."""
        return {trade_type: rest.clock for trade_type, rest in self.markets.items()}


@asynccontextmanager
async def open_store(
    config: Config,
    environment: Environment,
    advice: str = "",
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> AsyncIterator[Storage]:
    """Hold the store while the body runs. While the disk is full at the start, wait.

    Args:
      config: where the store is.
      environment: the threads for the disk.
      advice: is appended to the message of a StoreInUseError.
      stop_asked: returns when the wait for space is to end.

    Raises:
      DiskFullError: there was no space until a stop was asked.
      ConfigError: the CA file or a proxy cannot be used; nothing was made on the disk.
      StoreInUseError: another process holds the store.
      DiskError: the store cannot be made, read or written.
    """
    if environment.dial is None:
        # Before anything is made on the disk.
        await trio.to_thread.run_sync(check_connection, config)
    commit_door = SerialExecutor(environment.on_disk)
    try:
        store = await _opened(config.store, commit_door, stop_asked)
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}{advice}") from None
    try:
        yield Storage(store, commit_door, SerialExecutor(environment.on_disk))
    finally:
        # The deadline bounds the wait for the door; the job itself cannot be cut off.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await commit_door.run(store.close)


async def _opened(
    where: StoreConfig, commit_door: SerialExecutor, stop_asked: Callable[[], Awaitable[None]]
) -> Store:
    log = DiskFullLog()
    while True:
        try:
            store = await commit_door.run(Store.open, where.path, where.layout)
        except DiskFullError as error:
            log.no_room(error, "nothing is recorded until the store can be opened")
            with trio.move_on_after(RETRY_SECONDS) as pause:
                await stop_asked()
            if not pause.cancelled_caught:
                raise
        else:
            log.room("; the store is open")
            return store


@asynccontextmanager
async def open_http(config: Config, environment: Environment) -> AsyncIterator[Http]:
    """Keep an HTTP client open while the body runs.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    if environment.dial is None:
        await trio.to_thread.run_sync(check_connection, config)
    ca_file, proxy = config.connection.ca_file, config.connection.proxy
    async with http_client(ca_file, proxy, environment.http_transport, _REST_SECONDS) as client:
        yield Http.of(config, client, SerialExecutor(environment.on_disk))


def check_connection(config: Config) -> None:
    """Check that the CA file and the proxies can be used. This reads files, so it blocks.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    urls = [url for one in config.endpoints.values() for url in one.websocket]
    Dialler(ca_file=config.connection.ca_file, proxy=config.connection.proxy).check(urls)


@contextmanager
def unwrap_lone_error() -> Iterator[None]:
    """Raise an error that is alone in its groups as itself: each nursery wraps it in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup | trio.Cancelled):
            raise
        raise error from None


@attrs.frozen(eq=False)
class Pipeline:
    """What follows each commit, in the recorder and in a backfill."""

    storage: Storage
    series: SeriesSet
    merger: Merger
    publish: Callable[[Sequence[ReceivedCandle]], None]
    """Called with the candles of each commit, after the states and the merger."""

    @classmethod
    def of(
        cls,
        config: Config,
        storage: Storage,
        publish: Callable[[Sequence[ReceivedCandle]], None] = lambda _: None,
    ) -> "Pipeline":
        """Make the pipeline of a store."""
        rule = MergeRule(config.store.merge_seconds, config.store.max_merge_seconds)
        series = SeriesSet(round(config.completeness.grace_seconds * 1_000))
        return cls(storage, series, Merger(storage, rule), publish)

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Mark candles of any source as durable: update the states, plan merges, publish copies.

        Call this right after the commit, without a checkpoint between. It never blocks.
        """
        self.series.committed(batch)
        self.merger.accepted(batch)
        self.publish(batch)

    def gap_filler(
        self,
        config: Config,
        environment: Environment,
        http: Http,
        filled: Callable[[Filled], None] = lambda _: None,
        undelivered: Callable[[Series, int], None] = lambda *_: None,
    ) -> GapFiller:
        """Make the gap filler, with its sources.

        Args:
          config: where the archive is, and how patiently REST is asked.
          environment: clocks, and the threads for the disk.
          http: carries the requests.
          filled: called for candles that went into the files past the journal.
          undelivered: called with the series and open time of a candle that had trades, and that
            no stream delivered.
        """
        executor, attempts = SerialExecutor(environment.on_disk), config.completeness
        archive = ArchiveSource(
            Archive(http.client, config.archive), self.storage, executor, filled
        )
        rest = RestSource(
            http.markets, attempts.attempts, attempts.attempt_seconds, self._first_stored_ms
        )
        now, committed = environment.now, self.committed
        return GapFiller(self.storage, self.series, rest, archive, committed, undelivered, now)

    async def _first_stored_ms(self, series: Series, span: Span) -> int | None:
        door, store = self.storage.merge_door, self.storage.store
        return await door.run(first_stored_ms, store.path, series, span)
