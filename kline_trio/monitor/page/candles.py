"""Candles of a series for a chart: if they are more than the points, coarser ones."""

from pathlib import Path

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.monitor.http_message import Response
from kline_trio.monitor.page.answers import csv_answer, json_answer
from kline_trio.monitor.page.parameters import BadRequestError, key_of
from kline_trio.storage.catalog import stored_span
from kline_trio.storage.coarse import coarse_candles
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.numbering import numbers_from, open_times_ms

MOST_POINTS = 5_000
CANDLE_COLUMNS = (
    "open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trade_num",
    "candles",
)  # fmt: skip


@attrs.frozen
class CandleQuery:
    """What is asked for."""

    series: Series
    from_ms: int | None
    """The first open time; None: so many candles before the end."""
    to_ms: int | None
    """Exclusive; None: the end of the newest candle."""
    points: int
    """How many candles at most."""

    def span(self, store_path: Path) -> tuple[int, int]:
        """Return the open times that are asked for, the end exclusive.

        Raises:
          BadRequestError: the range ends before it begins.
          KlineTrioError: the journal or the disk refuses.
        """
        to_ms = self.to_ms
        if to_ms is None:
            held = stored_span(store_path, self.series)
            to_ms = MAX_TIME_MS if held is None else held.to_ms
        from_ms = self._newest_from_ms(to_ms) if self.from_ms is None else self.from_ms
        if self.to_ms is not None and from_ms >= to_ms:
            raise BadRequestError("to_ms must be after from_ms")
        return from_ms, max(from_ms, to_ms)

    def _newest_from_ms(self, to_ms: int) -> int:
        """Return the open time from which `points` candles open before a time."""
        interval = self.series.interval
        first = numbers_from(interval, [to_ms]) - self.points
        return max(0, int(open_times_ms(interval, first)[0]))


def candles_answer(store_path: Path, query: CandleQuery, *, is_csv: bool) -> Response:
    """Return the candles that are asked for, and which months of them a lake alone has.

    Raises:
      BadRequestError: the range ends before it begins.
      KlineTrioError: a file or the journal cannot be read.
    """
    from_ms, to_ms = query.span(store_path)
    found = coarse_candles(store_path, query.series, from_ms, to_ms, query.points)
    in_lake = InLake.read(store_path, [query.series]).touching(Span(from_ms, to_ms))
    columns = {name: getattr(found, name).tolist() for name in CANDLE_COLUMNS}
    if is_csv:
        return csv_answer("candles", CANDLE_COLUMNS, zip(*columns.values(), strict=True))
    return json_answer(
        {
            "series": key_of(query.series),
            "interval": query.series.time_interval,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "step": found.width.name,
            "step_ms": found.step_ms,
            "is_coarse": found.is_coarse,
            "in_lake": [[one.from_ms, one.to_ms] for one in in_lake.of_series(query.series)],
            **columns,
        }
    )
