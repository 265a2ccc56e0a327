"""The klines endpoint: which pages a span takes, and what an answer's rows mean (pure).

Sources: Binance docs, spot rest-api.md "Kline/Candlestick data"; USD-M and COIN-M docs,
"Kline/Candlestick Data".
"""

from collections import Counter
from collections.abc import Sequence

import attrs
import msgspec

from kline_trio.candle import Candle, Series
from kline_trio.errors import ProtocolError, UnavailableError
from kline_trio.exchange.markets import Market
from kline_trio.interval import Interval, Span

__all__ = ["Answer", "Page", "newest_page", "read_rows"]

_MAX_SPAN_MS = 200 * 86_400_000
"""COIN-M answers no more than 200 days at once."""

_DECODER = msgspec.json.Decoder(list[list[object]])


@attrs.frozen
class Page:
    """One request."""

    span: Span
    limit: int
    weight: int

    def query(self, series: Series) -> dict[str, str]:
        """Its parameters: always both ends and a limit, so that no default decides anything."""
        return {
            "symbol": series.symbol,
            "interval": series.time_interval,
            "startTime": str(self.span.from_ms),
            "endTime": str(self.span.to_ms - 1),
            "limit": str(self.limit),
        }


@attrs.frozen
class Answer:
    """What a page brought."""

    candles: tuple[Candle, ...]
    """By open time, unique, closed, and all within the page's span."""
    bad_rows: Counter[str]
    """How many rows could not be taken, by reason."""


def newest_page(market: Market, interval: Interval, spans: Sequence[Span]) -> Page:
    """The request for the newest of what is wanted, and for as much before it as fits.

    It never asks for more than its answer can hold: COIN-M counts back from the end, and what does
    not fit would be missing at the beginning, in silence.

    Args:
      market: whose limits count.
      interval: of the candles.
      spans: what is wanted, in order; what lies between two of them is asked for along.
    """
    to_ms = spans[-1].to_ms
    earliest_ms = _earliest_ms(market, interval, spans[-1])
    from_ms = max(spans[-1].from_ms, earliest_ms)
    for span in reversed(spans[:-1]):
        if span.to_ms > earliest_ms:
            from_ms = max(span.from_ms, earliest_ms)
    page = Span(from_ms, to_ms)
    limit = interval.count(page)
    return Page(page, limit, market.kline_weight(limit))


def _earliest_ms(market: Market, interval: Interval, span: Span) -> int:
    """The earliest open time that fits on a page which ends with the span."""
    least_ms = span.to_ms - _MAX_SPAN_MS if market.pages_end_first else 0
    if interval.duration_ms is not None:
        least_ms = max(least_ms, span.to_ms - market.klines_per_page * interval.duration_ms)
        return least_ms + (span.to_ms - least_ms) % interval.duration_ms
    # There are not as many months as fit on a page.
    last_ms = max(interval.open_times_ms(Span(span.from_ms, span.to_ms)))
    return min((ms for ms in interval.open_times_ms(span) if ms >= least_ms), default=last_ms)


def read_rows(body: bytes, series: Series, span: Span, now_ms: int) -> Answer:
    """The closed candles of an answer; bad rows are counted, and harm no other row.

    Args:
      body: of a status 200.
      series: whose candles were asked for.
      span: which of them.
      now_ms: the exchange's time when it was asked: a candle that ends later is still forming,
        though no mark says so.

    Raises:
      UnavailableError: it is not a list of rows.
    """
    try:
        rows = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnavailableError(f"an answer that is no list of rows: {error}") from None
    candles: dict[int, Candle] = {}
    bad: Counter[str] = Counter()
    for row in rows:
        try:
            candle = Candle.from_rest(row, series.interval)
        except ProtocolError as error:
            bad[str(error)] += 1
            continue
        if not span.from_ms <= candle.open_time_ms < span.to_ms:
            bad["a row outside of what was asked for"] += 1
        elif candles.setdefault(candle.open_time_ms, candle) != candle:
            bad["two rows of one time that differ"] += 1
        elif series.interval.end_time_ms(candle.open_time_ms) > now_ms:
            del candles[candle.open_time_ms]
    return Answer(tuple(candles[ms] for ms in sorted(candles)), bad)
