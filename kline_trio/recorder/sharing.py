"""The share of one recorder among several: its symbols, and its part of an address's budgets."""

from collections.abc import Collection, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.recorder.connection_pool import Dials
from kline_trio.sharding import Shard
from kline_trio.storage.journal.ledger import SeriesAccount


def expected_sharers(lake: LakeConfig) -> int:
    """Return how many recorders may share this one's address, until the lake tells.

    Together they must never exceed the budget, so all copies of all shards count.
    """
    shards = 1 if lake.shard is None else lake.shard.count
    return 1 if lake.address_group is None else shards * lake.copies


@attrs.frozen(eq=False)
class Budgets:
    """What the exchange allows an address, for this recorder's part of it."""

    limiters: Collection[RateLimiter]
    dials: Dials
    weight_share: float
    """The part of the weight that all recorders of this address use together."""

    def divide(self, sharers: int) -> None:
        """Take one part of so many from now on."""
        for limiter in self.limiters:
            limiter.set_share(self.weight_share / sharers)
        self.dials.sharers = sharers


@attrs.define(eq=False)
class Share:
    """The symbols that this recorder records: those of its shard, and those that it held before.

    A symbol that moves to another shard is recorded by both until the new owner has held it for a
    while. If the lake cannot be reached, it stays.
    """

    shard: Shard | None
    """None: all symbols."""
    _held: set[Series] = attrs.field(init=False, factory=set)
    """Series of other shards that this recorder held before, and has not handed over."""

    def resume(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Keep the series that a store still records until they are handed over.

        Args:
          accounts: those of the store.
        """
        self._held = {
            one
            for one, known in accounts.items()
            if known.retired_ms is None and not self._owns(one)
        }

    def hand_over(self, symbols: Mapping[str, Collection[str]]) -> tuple[Series, ...]:
        """Give up the series of symbols, by market; return those that were held."""
        moved = {one for one in self._held if one.symbol in symbols.get(one.trade_type, ())}
        self._held -= moved
        return tuple(sorted(moved))

    def holds(self, series: Series) -> bool:
        """Return whether this recorder records a series that the configuration means."""
        return self._owns(series) or series in self._held

    def _owns(self, series: Series) -> bool:
        return self.shard is None or self.shard.owns(series.trade_type, series.symbol)
