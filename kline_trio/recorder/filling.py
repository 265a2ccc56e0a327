"""All that brings candles into the store from elsewhere than the streams, put together."""

from collections.abc import Callable, Mapping, Sequence

import attrs
import httpx2
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.exchange.archive import Archive
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rest import RestMarket
from kline_trio.exchange.weights import WeightPool
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.backfill import WORKERS, Backfill
from kline_trio.recorder.completeness import Completeness
from kline_trio.recorder.history import FETCHERS, History
from kline_trio.recorder.seams import Door, Seams
from kline_trio.storage.store import Store

__all__ = ["Filling", "Http", "Storage"]

_LOOK_SECONDS = 0.5


@attrs.frozen(eq=False)
class Storage:
    """An open store, and the two doors to it."""

    store: Store
    commit_door: Door
    """To all that uses the journal."""
    merge_door: Door
    """To what uses the files alone."""


@attrs.frozen(eq=False)
class Http:
    """What is asked over HTTP."""

    client: httpx2.AsyncClient
    markets: Mapping[str, RestMarket]
    """By trade type, all three."""

    @classmethod
    def of(cls, config: Config, client: httpx2.AsyncClient) -> "Http":
        """The markets of a configuration; those of one pool share its budget."""
        pools: dict[str, WeightPool] = {}
        markets = {}
        for trade_type, market in MARKETS.items():
            pool = pools.setdefault(
                market.pool, WeightPool(market.weight_per_minute, config.rest.weight_share)
            )
            hosts = config.endpoints[trade_type].rest
            markets[trade_type] = RestMarket(client, market, hosts, pool, ExchangeClock())
        return cls(client, markets)


@attrs.frozen(eq=False)
class Filling:
    """Who names what is absent, and who fetches it."""

    auditor: Auditor
    backfill: Backfill
    history: History

    @classmethod
    def of(
        cls,
        config: Config,
        seams: Seams,
        storage: Storage,
        http: Http,
        completeness: Completeness,
        accepted: Callable[[Sequence[ReceivedCandle]], None],
        may_judge: Callable[[], bool] = lambda: True,
        told_ms: Callable[[str], int | None] = lambda _: None,
        undelivered: Callable[[Series, int], None] = lambda *_: None,
        sealed: Callable[[Series], None] = lambda _: None,
        until_ms: int | None = None,
    ) -> "Filling":
        """The three, made for each other.

        Args:
          config: what is recorded, and how patiently.
          seams: to the world.
          storage: where to.
          http: where from.
          completeness: what has come.
          accepted: told which candles now wait for a merge.
          may_judge: False as long as candles that came wait for room on the disk.
          told_ms: up to when a market's connections have delivered, if any lives.
          undelivered: told what no stream brought though there were trades in it.
          sealed: told which series has come to its end.
          until_ms: what opens later is not fetched; None: all is.
        """

        def came(batch: Sequence[ReceivedCandle]) -> None:
            accepted(batch)
            auditor.came(batch)

        store, commit_door, merge_door = storage.store, storage.commit_door, storage.merge_door
        backfill = Backfill(
            http.markets,
            store,
            commit_door,
            config.completeness.attempts,
            config.completeness.attempt_seconds,
            seams.now,
            came,
            undelivered,
            lambda *span: history.claim(*span),
            until_ms,
        )
        history = History(
            Archive(http.client, config.archive),
            store,
            commit_door,
            merge_door,
            Door(seams.on_disk),
            backfill.add,
        )
        since = config.history.since
        auditor = Auditor(
            store,
            commit_door,
            merge_door,
            completeness,
            {trade_type: rest.clock for trade_type, rest in http.markets.items()},
            backfill,
            round(since.timestamp() * 1_000) if since else None,
            may_judge,
            told_ms,
            sealed,
        )
        return cls(auditor, backfill, history)

    @property
    def filled(self) -> int:
        """How many candles were fetched."""
        return self.backfill.refilled + self.history.rows

    def received(self, batch: Sequence[ReceivedCandle]) -> None:
        """Streams brought these, and they are durable."""
        self.backfill.received(batch)
        self.auditor.came(batch)

    def start(self, network: trio.Nursery) -> None:
        """Let the workers run in this nursery."""
        for pool in sorted({rest.market.pool for rest in self.backfill.markets.values()}):
            names = {
                name for name, rest in self.backfill.markets.items() if rest.market.pool == pool
            }
            for _ in range(WORKERS):
                network.start_soon(self.backfill.work, names)
        for _ in range(FETCHERS):
            network.start_soon(self.history.work)

    async def until_done(self) -> None:
        """Take stock of every market, and wait until all that is absent was asked for."""
        while not self.auditor.is_stock_taken:
            await self.auditor.audit()
            await trio.sleep(_LOOK_SECONDS)
        # What one of them does not have, it hands to the other.
        while not (self.backfill.is_done and self.history.is_done):
            await self.backfill.until_done()
            await self.history.until_done()
