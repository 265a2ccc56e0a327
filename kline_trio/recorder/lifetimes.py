"""What is opened around the work, and closed after it, whatever becomes of the work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import attrs
import httpx2
import trio

from kline_trio.config import Config, StoreConfig
from kline_trio.errors import DiskFullError, StoreInUseError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.http import http_client
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.storage.store import Store

__all__ = ["Http", "check_ways", "lone_error_plain", "open_http", "open_store"]

_REST_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@attrs.frozen(eq=False)
class Http:
    """What is asked over HTTP."""

    client: httpx2.AsyncClient
    markets: Mapping[str, RestMarket]
    """By trade type, all three."""

    @classmethod
    def of(cls, config: Config, client: httpx2.AsyncClient, parse_door: SerialExecutor) -> "Http":
        """The markets of a configuration; those of one pool share its budget.

        Args:
          config: where they are.
          client: carries the requests.
          parse_door: through which large answers are parsed, in a thread.
        """
        pools: dict[str, RateLimiter] = {}
        markets = {}
        for trade_type, market in MARKETS.items():
            pool = pools.setdefault(
                market.pool, RateLimiter(market.weight_per_minute, config.rest.weight_share)
            )
            hosts = config.endpoints[trade_type].rest
            markets[trade_type] = RestMarket(
                client, market, hosts, pool, ExchangeClock(), parse_door.run
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
    """Hold the store while the body runs; a disk without room is waited for.

    Args:
      config: where the store is.
      environment: to the world.
      advice: goes behind the words of a StoreInUseError.
      stop_asked: returns when the wait for room is to end.

    Raises:
      DiskFullError: there was no room until a stop was asked.
      ConfigError: what is named to reach the exchange cannot be used; nothing was made.
      StoreInUseError: another process holds it.
      DiskError: it cannot be made, read or written.
    """
    if environment.dial is None:
        # Before anything is made on the disk.
        await trio.to_thread.run_sync(check_ways, config)
    commit_door, merge_door = (
        SerialExecutor(environment.on_disk),
        SerialExecutor(environment.on_disk),
    )
    try:
        store = await _opened(config.store, commit_door, stop_asked)
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}{advice}") from None
    try:
        yield Storage(store, commit_door, merge_door)
    finally:
        # The deadline bounds the wait for the door; the job itself cannot be cut off.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await commit_door.run(store.close)


async def _opened(
    where: StoreConfig, commit_door: SerialExecutor, stop_asked: Callable[[], Awaitable[None]]
) -> Store:
    words = DiskFullLog()
    while True:
        try:
            store = await commit_door.run(Store.open, where.path, where.layout)
        except DiskFullError as error:
            words.no_room(error, "nothing is recorded until the store can be opened")
            with trio.move_on_after(RETRY_SECONDS) as patience:
                await stop_asked()
            if not patience.cancelled_caught:
                raise
        else:
            words.room("; the store is open")
            return store


@asynccontextmanager
async def open_http(config: Config, environment: Environment) -> AsyncIterator[Http]:
    """Ask over HTTP while the body runs.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    if environment.dial is None:
        await trio.to_thread.run_sync(check_ways, config)
    ways = config.connection
    async with http_client(
        ways.ca_file, ways.proxy, environment.http_transport, _REST_SECONDS
    ) as client:
        yield Http.of(config, client, SerialExecutor(environment.on_disk))


def check_ways(config: Config) -> None:
    """See whether what a configuration names to reach the exchange can be used; it reads files.

    Raises:
      ConfigError: the CA file or a proxy cannot be used.
    """
    ways = config.connection
    urls = [url for one in config.endpoints.values() for url in one.websocket]
    Dialer(ca_file=ways.ca_file, proxy=ways.proxy).check(urls)


@contextmanager
def lone_error_plain() -> Iterator[None]:
    """Raise a lone error as itself: nurseries wrap even one error, once for each level."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup | trio.Cancelled):
            raise
        raise error from None
