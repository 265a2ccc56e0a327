"""The klines endpoint: pages of requests, and the rows of an answer (pure).

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

MAX_SPAN_MS = 200 * 86_400_000
"""COIN-M answers at most 200 days at once."""

_DECODER = msgspec.json.Decoder(list[list[object]])


@attrs.frozen
class Page:
    """One request. It covers one candle more than is wanted: if that later row is there, it proves
    that the candles before it have closed.
    """

    span: Span
    """The wanted candles."""
    limit: int
    """The number of candles, with the one after the span."""

    def query(self, series: Series) -> dict[str, str]:
        """Return the parameters: always both ends and a limit, so that no default applies."""
        return {
            "symbol": series.symbol,
            "interval": series.time_interval,
            "startTime": str(self.span.from_ms),
            "endTime": str(self.asked(series.interval).to_ms - 1),
            "limit": str(self.limit),
        }

    def asked(self, interval: Interval) -> Span:
        """Return the requested span: the wanted candles, and one candle more."""
        return Span(self.span.from_ms, interval.end_time_ms(self.span.to_ms))


@attrs.frozen
class Answer:
    """The answer to a page."""

    candles: tuple[Candle, ...]
    """By open time, unique, closed, and all within the page's span."""
    bad_rows: Counter[str] = attrs.field(factory=Counter)
    """The number of refused rows, by reason."""
    spoiled_ms: frozenset[int] = frozenset()
    """The open times of wanted candles with only bad rows."""
    unproven_ms: frozenset[int] = frozenset()
    """The open times of wanted candles that may still be forming: nothing proves their close."""
    is_complete: bool = True
    """Whether all rows are within the requested span. If not, an absent row proves nothing."""
    is_whole: bool = True
    """Whether there is a row for each wanted candle, and none outside the requested span. If not,
    the rows may be of another time: shifted by whole candles, they stay on the grid."""
    host: str = ""
    """The host that gave it."""


def newest_page(market: Market, interval: Interval, spans: Sequence[Span]) -> Page:
    """Return the request for the newest wanted candles, with as many before them as fit.

    It never covers more than its answer can hold: COIN-M counts back from the end, and silently
    leaves out at the beginning what does not fit. `spans` are the wanted candles, in order; those
    between two spans are requested too.
    """
    to_ms = spans[-1].to_ms
    earliest_ms = _earliest_ms(market, interval, spans[-1])
    from_ms = max(spans[-1].from_ms, earliest_ms)
    for span in reversed(spans[:-1]):
        if span.to_ms > earliest_ms:
            from_ms = max(span.from_ms, earliest_ms)
    page = Span(from_ms, to_ms)
    return Page(page, interval.count(page) + 1)


def _earliest_ms(market: Market, interval: Interval, span: Span) -> int:
    """Return the earliest open time that fits on a page which ends after the span."""
    asked_ms = interval.end_time_ms(span.to_ms)
    least_ms = asked_ms - MAX_SPAN_MS if market.pages_end_first else 0
    if interval.duration_ms is not None:
        least_ms = max(least_ms, asked_ms - market.klines_per_page * interval.duration_ms)
        return least_ms + (span.to_ms - least_ms) % interval.duration_ms
    # There are not as many months as fit on a page.
    months_ms = list(interval.open_times_ms(span))
    return next((ms for ms in months_ms if ms >= least_ms), months_ms[-1])


def read_rows(body: bytes, series: Series, wanted: Span, asked: Span, host_time_ms: int) -> Answer:
    """Return the closed candles of an answer. A bad row is counted, and spoils only its own time.

    No field of a row says whether its candle has closed. A later row proves it. So does a time that
    the same host gave before the request.

    Args:
      body: of a status 200.
      series: the requested series.
      wanted: the wanted candles.
      asked: the requested span.
      host_time_ms: the last time that the host's time endpoint gave before the request.

    Raises:
      UnavailableError: it is not a list of rows.
    """
    try:
        rows = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnavailableError(f"an answer that is no list of rows: {error}") from None
    candles: dict[int, Candle] = {}
    spoiled: set[int] = set()
    bad: Counter[str] = Counter()
    is_complete = True
    for row in rows:
        fault, open_time_ms = None, row[0] if row else None
        try:
            candle = Candle.from_rest(row, series.interval)
        except ProtocolError as error:
            fault = str(error)
        if type(open_time_ms) is not int or open_time_ms not in asked:
            is_complete = False
            fault = fault or "a row outside of what was asked for"
        elif fault:
            spoiled.add(series.interval.open_time_ms(open_time_ms))
        elif candles.setdefault(open_time_ms, candle) != candle:
            spoiled.add(open_time_ms)
            fault = "two rows of one time that differ"
        if fault:
            bad[fault] += 1
    last_ms = max(candles, default=0)
    there = {ms for ms in (*candles, *spoiled) if ms in wanted}
    unproven = {
        ms
        for ms in there & candles.keys()
        if ms == last_ms and series.interval.end_time_ms(ms) > host_time_ms
    }
    taken = [candles[ms] for ms in sorted(there & candles.keys() - spoiled - unproven)]
    return Answer(
        tuple(taken),
        bad,
        frozenset(spoiled),
        frozenset(unproven),
        is_complete,
        is_whole=is_complete and len(there) == series.interval.count(wanted),
    )
