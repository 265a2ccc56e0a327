"""The resources of recorder and commands: open store and HTTP, and the pipeline behind a commit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import attrs
import httpx2
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.errors import StoreInUseError, leaves
from kline_trio.exchange.archive import Archive
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.http import http_client
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.archive_source import ArchiveSource
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.merger import Merger, MergeRule
from kline_trio.recorder.rest_source import RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.catalog import first_stored_ms
from kline_trio.storage.store import Store

_REST_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@attrs.frozen(eq=False)
class Http:
    """The HTTP client, and the REST API of each market."""

    client: httpx2.AsyncClient
    markets: Mapping[str, RestMarket]
    """By trade type, all three."""

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
        store = await retry_while_full(
            commit_door.run,
            Store.open,
            config.store.path,
            config.store.layout,
            effects=("nothing is recorded until the store can be opened", "; the store is open"),
            stop_asked=stop_asked,
        )
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}{advice}") from None
    try:
        yield Storage(store, commit_door, SerialExecutor(environment.on_disk))
    finally:
        # The deadline bounds the wait for the door; the job itself cannot be cut off.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await commit_door.run(store.close)


@asynccontextmanager
async def open_http(config: Config, environment: Environment) -> AsyncIterator[Http]:
    """Keep an HTTP client open while the body runs. Markets of one pool share its rate limit.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    if environment.dial is None:
        await trio.to_thread.run_sync(check_connection, config)
    ca_file, proxy = config.connection.ca_file, config.connection.proxy
    limiters = {
        market.pool: RateLimiter(market.weight_per_minute, config.rest.weight_share)
        for market in MARKETS.values()
    }
    # Large answers are parsed in a thread.
    parse = SerialExecutor(environment.on_disk).run
    async with http_client(ca_file, proxy, environment.http_transport, _REST_SECONDS) as client:
        markets = {}
        for name, market in MARKETS.items():
            hosts, limiter = config.endpoints[name].rest, limiters[market.pool]
            markets[name] = RestMarket(client, market, hosts, limiter, ExchangeClock(), parse)
        yield Http(client, markets)


def check_connection(config: Config) -> None:
    """Check that the CA file and the proxies can be used. This reads files, so it blocks.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    urls = [url for one in config.endpoints.values() for url in one.websocket]
    Dialer(ca_file=config.connection.ca_file, proxy=config.connection.proxy).check(urls)


@contextmanager
def unwrap_lone_error() -> Iterator[None]:
    """Raise an error that is alone in its groups as itself: each nursery wraps it in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error, *others = leaves(group)
        if others or isinstance(error, trio.Cancelled):
            raise
        raise error from None


@attrs.define(eq=False)
class Pipeline:
    """The steps after each commit, in the recorder and in a backfill."""

    config: Config
    storage: Storage
    series: SeriesSet = attrs.field(init=False)
    merger: Merger = attrs.field(init=False)
    subscribers: list[Callable[[Sequence[ReceivedCandle]], None]] = attrs.field(
        init=False, factory=list
    )
    """Called with the candles of each commit, after the states and the merger."""

    def __attrs_post_init__(self) -> None:
        store = self.config.store
        self.series = SeriesSet(round(self.config.completeness.grace_seconds * 1_000))
        self.merger = Merger(self.storage, MergeRule(store.merge_seconds, store.max_merge_seconds))

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Mark candles of any source as durable: update states, plan merges, call subscribers.

        Call this right after the commit, without a checkpoint between. It never blocks.
        """
        self.series.committed(batch)
        self.merger.accepted(batch)
        for subscriber in self.subscribers:
            subscriber(batch)

    def gap_filler(
        self,
        environment: Environment,
        http: Http,
        filled: Callable[[Filled], None] = lambda _: None,
        undelivered: Callable[[Series, int], None] = lambda *_: None,
    ) -> GapFiller:
        """Return a gap filler with its sources, REST and archive.

        Args:
          environment: the wall clock, and the threads for the disk.
          http: carries the requests.
          filled: called for candles that went into the files past the journal.
          undelivered: called with series and open time of a traded candle that no stream delivered.
        """
        storage = self.storage
        rest = RestSource(
            http.markets,
            self.config.completeness,
            lambda *wanted: storage.merge_door.run(first_stored_ms, storage.store.path, *wanted),
        )
        archive = ArchiveSource(
            Archive(http.client, self.config.archive),
            storage,
            SerialExecutor(environment.on_disk),
            filled,
        )
        return GapFiller(
            storage, self.series, rest, archive, self.committed, undelivered, environment.now
        )
