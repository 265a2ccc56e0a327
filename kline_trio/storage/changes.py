"""New rows for the files of a series, and what a merge makes of them and of a file's own rows.

Readers apply the same rules, so they see each candle of the journal as the next merge leaves it.
"""

from collections.abc import Mapping, Sequence

import attrs
import pyarrow as pa

from kline_trio.candle import Candle, Series, Source
from kline_trio.storage.journal.ledger import Revision
from kline_trio.storage.table import BEGIN, differing, overlay, table_of, without


@attrs.frozen
class Changes:
    """New rows of a series, each table by open time and unique; no time is in both."""

    series: Series
    replacing: pa.Table
    """These win over the rows of a file, as the stream's do."""
    filling: pa.Table
    """The rows of a file win over these, as over REST's."""
    origins: Mapping[int, Source] = attrs.field(factory=dict)
    """The sources of the rows, by open time. Other rows are the archive's."""

    @classmethod
    def of(cls, series: Series, candles: Sequence[tuple[Candle, Source]]) -> "Changes":
        """Return candles of the journal, by open time and unique, as rows."""
        origins = {candle.open_time_ms: origin for candle, origin in candles}
        replacing = [candle for candle, origin in candles if origin.replaces]
        filling = [candle for candle, origin in candles if not origin.replaces]
        return cls(series, table_of(series, replacing), table_of(series, filling), origins)

    @property
    def first_ms(self) -> int:
        """The open time of the first row, of which there is at least one."""
        both = (self.replacing, self.filling)
        return min(int(table[BEGIN][0].value) for table in both if len(table))

    def over(self, held: pa.Table) -> pa.Table:
        """Return these rows and those of a file, by open time, as a merge leaves them."""
        filled = overlay(held, without(self.filling, held))
        return overlay(filled, self.replacing)

    def revisions(self, held: pa.Table) -> list[Revision]:
        """Return the candles of which the rows of a file have other values."""
        return [
            Revision(
                self.series, old, new, self.origins.get(new.open_time_ms, Source.ARCHIVE), wins
            )
            for rows, wins in ((self.filling, False), (self.replacing, True))
            for old, new in differing(held, rows)
        ]
