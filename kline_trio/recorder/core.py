"""What the recorder and the backfill have in common: who names gaps, and who fills them."""

from collections.abc import Callable, Sequence

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.exchange.archive import Archive
from kline_trio.recorder.archive_source import FETCHERS, ArchiveSource
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.committed import Committed
from kline_trio.recorder.gap_filler import WORKERS, Bell, GapFiller, Pool
from kline_trio.recorder.lifetimes import Http
from kline_trio.recorder.merge_rule import MergeRule
from kline_trio.recorder.merger import Merger
from kline_trio.recorder.rest_source import RestSource
from kline_trio.recorder.seams import Door, Seams, Storage
from kline_trio.recorder.series_set import SeriesSet

__all__ = ["Core", "start_filling"]


@attrs.frozen(eq=False)
class Core:
    """The states of the series, and the merger: what knows of each commit."""

    storage: Storage
    series: SeriesSet
    merger: Merger
    gaps_named: Bell

    @classmethod
    def of(cls, config: Config, storage: Storage) -> "Core":
        """Make them for a store."""
        gaps_named = Bell()
        rule = MergeRule(config.store.merge_seconds, config.store.max_merge_seconds)
        merger = Merger(
            storage.store,
            storage.commit_door,
            storage.merge_door,
            rule,
            gaps_named.ring,
        )
        series = SeriesSet(round(config.completeness.grace_seconds * 1_000))
        return cls(storage, series, merger, gaps_named)

    @property
    def subscribers(self) -> tuple[Callable[[Sequence[ReceivedCandle]], None], ...]:
        """Who is told of each commit before all others."""
        return self.series.committed, self.merger.accepted

    def auditor(
        self,
        config: Config,
        http: Http,
        may_judge: Callable[[], bool] = lambda: True,
        told_ms: Callable[[str], int | None] = lambda _: None,
    ) -> Auditor:
        """Make the auditor.

        Args:
          config: from when on the past is wanted.
          http: whose clocks decide what is due.
          may_judge: False as long as candles that came wait for space on the disk.
          told_ms: up to when a market's connections have delivered, if any lives.
        """
        since = config.history.since
        return Auditor(
            self.storage,
            self.series,
            http.clocks,
            round(since.timestamp() * 1_000) if since else None,
            self.gaps_named.ring,
            may_judge,
            told_ms,
        )

    def filler(
        self,
        config: Config,
        seams: Seams,
        http: Http,
        committed: Committed,
        filled: Callable[[Filled], None] = lambda _: None,
        undelivered: Callable[[Series, int], None] = lambda *_: None,
    ) -> GapFiller:
        """Make the gap filler, with its sources.

        Args:
          config: how patiently gaps are asked for.
          seams: to the world.
          http: where from.
          committed: told of candles that are durable.
          filled: told of candles that went into the files past the journal.
          undelivered: told of a candle that no stream brought though there were trades in it.
        """
        archive = ArchiveSource(
            Archive(http.client, config.archive),
            self.storage,
            Door(seams.on_disk),
            filled,
            self.gaps_named.ring,
        )
        patience = config.completeness
        rest = RestSource(http.markets, patience.attempts, patience.attempt_seconds)
        return GapFiller(
            self.storage,
            self.series,
            rest,
            archive,
            committed,
            undelivered,
            seams.now,
            self.gaps_named,
        )


def start_filling(network: trio.Nursery, filler: GapFiller) -> None:
    """Let the workers of a gap filler run as long as the network."""
    markets = filler.rest.markets.values()
    for name in sorted({rest.market.pool for rest in markets}):
        names = frozenset(one.market.trade_type for one in markets if one.market.pool == name)
        pool = Pool(names)
        for _ in range(WORKERS):
            network.start_soon(filler.work, pool)
    network.start_soon(filler.plan_archive)
    for _ in range(FETCHERS):
        network.start_soon(filler.archive.work)
