"""Cut what has to be published into chunks, each one commit of bounded size (pure)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span

MOST_ROWS = 250_000
"""Of a chunk: 60 MB in memory, and a file of 10 to 20 MB."""
_MOST_MONTHS = 64
"""Partitions of a chunk: the condition of its MERGE names each."""


@attrs.frozen
class Chunk:
    """Candles that are published by one commit."""

    spans: Mapping[Series, tuple[Span, ...]]
    """By series; each span lies in one month."""


def month_of(open_time_ms: int) -> str:
    """Return the month of a candle in UTC, as `2026-11`: its partition."""
    return f"{datetime.fromtimestamp(open_time_ms / 1_000, UTC):%Y-%m}"


def month_span(month: str) -> Span:
    """Return the time of a month, as `2026-11`, in UTC.

    Raises:
      ValueError: there is no such month.
    """
    begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    from_ms = int(begin.timestamp() * 1_000)
    if month_of(from_ms) != month:
        raise ValueError(f"{month!r} is no month, as 2026-11")
    return next(months_of(Span(from_ms, from_ms + 31 * 86_400_000)))


def months_of(span: Span) -> Iterator[Span]:
    """Give the parts of a span that each lie in one month of UTC, by time."""
    from_ms = span.from_ms
    while from_ms < span.to_ms:
        begin = datetime.fromtimestamp(from_ms / 1_000, UTC)
        year, month = begin.year + begin.month // 12, begin.month % 12 + 1
        end_ms = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1_000)
        yield Span(from_ms, min(end_ms, span.to_ms))
        from_ms = end_ms


def chunks(wanted: Mapping[Series, Iterable[Span]], most_rows: int = MOST_ROWS) -> Iterator[Chunk]:
    """Cut spans into chunks of at most so many candles, oldest months first.

    A month of one series is cut only if it is larger than that alone. The series of a market and an
    interval come together and by symbol, so that the files of the lake hold symbols in order.

    Args:
      wanted: by series, what has to be published.
      most_rows: how many candles a chunk has at most.
    """
    pieces = sorted(
        (month_of(part.from_ms), series.trade_type, series.time_interval, series.symbol, part)
        for series, spans in wanted.items()
        for span in spans
        for part in months_of(span)
    )
    spans: dict[Series, list[Span]] = {}
    rows, months = 0, set[tuple[str, str, str]]()
    for month, trade_type, time_interval, symbol, part in pieces:
        series = Series(trade_type, symbol, time_interval)
        for small, count in _cut(series, part, most_rows):
            place = (month, trade_type, time_interval)
            is_full = rows + count > most_rows or len(months | {place}) > _MOST_MONTHS
            if spans and is_full:
                yield _chunk(spans)
                spans, rows, months = {}, 0, set()
            spans.setdefault(series, []).append(small)
            rows += count
            months.add(place)
    if spans:
        yield _chunk(spans)


def _cut(series: Series, span: Span, most_rows: int) -> Iterator[tuple[Span, int]]:
    """Give the parts of a span of at most so many candles, each with their number."""
    duration_ms = series.interval.duration_ms
    if duration_ms is None or series.interval.count(span) <= most_rows:
        yield span, series.interval.count(span)
        return
    for from_ms in range(span.from_ms, span.to_ms, most_rows * duration_ms):
        part = Span(from_ms, min(span.to_ms, from_ms + most_rows * duration_ms))
        yield part, series.interval.count(part)


def _chunk(spans: Mapping[Series, Sequence[Span]]) -> Chunk:
    return Chunk({series: tuple(some) for series, some in spans.items()})
