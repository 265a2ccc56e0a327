"""What the recorder and the backfill have in common: who names gaps, and who fills them."""

from collections.abc import Callable, Sequence

import attrs

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.exchange.archive import Archive
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import ArchiveSource
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.lifetimes import Http
from kline_trio.recorder.merger import Merger, MergeRule
from kline_trio.recorder.rest_source import RestSource
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.storage.catalog import first_stored_ms

__all__ = ["Core"]


@attrs.frozen(eq=False)
class Core:
    """The states of the series, and the merger: what knows of each commit."""

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
    ) -> "Core":
        """Make them for a store."""
        rule = MergeRule(config.store.merge_seconds, config.store.max_merge_seconds)
        series = SeriesSet(round(config.completeness.grace_seconds * 1_000))
        return cls(storage, series, Merger(storage, rule), publish)

    def committed(self, batch: Sequence[ReceivedCandle]) -> None:
        """Tell all who track commits that candles are durable, whichever source they are of.

        Call this right after the commit, without a checkpoint between. Those who are told are
        synchronous, and never wait for a door.
        """
        self.series.committed(batch)
        self.merger.accepted(batch)
        self.publish(batch)

    def filler(
        self,
        config: Config,
        environment: Environment,
        http: Http,
        filled: Callable[[Filled], None] = lambda _: None,
        undelivered: Callable[[Series, int], None] = lambda *_: None,
    ) -> GapFiller:
        """Make the gap filler, with its sources.

        Args:
          config: how patiently gaps are asked for.
          environment: to the world.
          http: where from.
          filled: told of candles that went into the files past the journal.
          undelivered: told of a candle that no stream brought though there were trades in it.
        """
        archive = ArchiveSource(
            Archive(http.client, config.archive),
            self.storage,
            SerialExecutor(environment.on_disk),
            filled,
        )
        rest = RestSource(http.markets, config.completeness, self._first_stored_ms)
        return GapFiller(
            self.storage,
            self.series,
            rest,
            archive,
            self.committed,
            undelivered,
            environment.now,
        )

    async def _first_stored_ms(self, series: Series, span: Span) -> int | None:
        door, store = self.storage.merge_door, self.storage.store
        return await door.run(first_stored_ms, store.path, series, span)
