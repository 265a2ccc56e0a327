"""Make one ledger of a series of the ledgers of several recorders (pure).

A due candle that the lake lacks is closed only if each recorder that accounts for the candle has
closed it. Else it is pending: a recorder still asks for it, or has it as stored although the lake
lacks it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.spans import common, joined
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State


@attrs.frozen
class OneLedger:
    """What one recorder knows of a series."""

    recorder: str
    account: SeriesAccount
    gaps: tuple[Gap, ...] = ()
    """Its coverage of the series, by time. No two gaps overlap."""

    def accounted(self) -> list[Span]:
        """Return the candles of which the recorder knows whether they are stored."""
        spans = [one.span for one in self.gaps]
        if self.account.first_ms < self.account.watermark_ms:
            spans.append(Span(self.account.first_ms, self.account.watermark_ms))
        return joined(spans)

    def received(self) -> list[Span]:
        """Return the candles that the recorder never missed."""
        missed = joined(one.span for one in self.gaps)
        return [piece for span in self.accounted() for piece in span.without(missed)]


def united_account(every: Iterable[SeriesAccount]) -> SeriesAccount:
    """Return the account of several recorders: from the first begin to the last watermark.

    The series is retired if no recorder records it any more.
    """
    accounts = list(every)
    retired = [one.retired_ms for one in accounts]
    return SeriesAccount(
        min(one.first_ms for one in accounts),
        max(one.watermark_ms for one in accounts),
        None if None in retired else max(ms for ms in retired if ms is not None),
    )


def united_gaps(
    series: Series,
    account: SeriesAccount,
    every: Sequence[OneLedger],
    stored: Sequence[Span],
) -> list[Gap]:
    """Return the gaps of a store that has an account and some candles, by time.

    Args:
      series: whose candles they are.
      account: of the store; its due candles are stored, or in one of the gaps.
      every: the ledgers of the recorders.
      stored: the candles of the store; in order, and no two spans touch.
    """
    every = sorted(every, key=lambda one: one.recorder)
    gaps = [*_unfilled(series, account, every, stored), *_filled(every, stored)]
    return sorted(gaps, key=lambda gap: gap.span)


def _unfilled(
    series: Series,
    account: SeriesAccount,
    every: Sequence[OneLedger],
    stored: Sequence[Span],
) -> Iterator[Gap]:
    """Give the due candles that are not stored."""
    end_ms = series.interval.open_time_ms(account.watermark_ms)
    if account.first_ms >= end_ms:
        return
    looks = [_Look.of(one) for one in every]
    moments = sorted({ms for look in looks for ms in look.moments})
    whole = Span(account.first_ms, end_ms)
    for missing in whole.without(_reaching(stored, whole)):
        for piece in _cut(missing, moments):
            gap = _gap_among([look.at(piece.from_ms) for look in looks])
            if gap is None:
                gap = Gap(series, piece, account.watermark_ms, Reason.FOUND_MISSING)
            yield attrs.evolve(gap, span=piece)


def _cut(span: Span, moments: Sequence[int]) -> Iterator[Span]:
    """Give the parts of a span between the moments, which are in order."""
    at = bisect_right(moments, span.from_ms)
    from_ms = span.from_ms
    while at < len(moments) and moments[at] < span.to_ms:
        yield Span(from_ms, moments[at])
        from_ms = moments[at]
        at += 1
    yield Span(from_ms, span.to_ms)


_STORED = object()
_UNKNOWN = object()


@attrs.frozen
class _Look:
    """The gaps of a ledger, to be looked up by time."""

    moments: tuple[int, ...]
    """All times at which an answer may change."""
    _accounted: Sequence[Span]
    _gaps: Sequence[Gap]

    @classmethod
    def of(cls, one: OneLedger) -> "_Look":
        accounted = one.accounted()
        spans = (*accounted, *(gap.span for gap in one.gaps))
        moments = tuple(ms for span in spans for ms in (span.from_ms, span.to_ms))
        return cls(moments, accounted, one.gaps)

    def at(self, open_time_ms: int) -> object:
        """Return the unfilled gap of a candle, or one of the two constants."""
        n = bisect_right(self._gaps, open_time_ms, key=lambda gap: gap.span.from_ms) - 1
        if n >= 0 and open_time_ms in self._gaps[n].span:
            gap = self._gaps[n]
            return _STORED if gap.state is State.FILLED else gap
        n = bisect_right(self._accounted, open_time_ms, key=lambda span: span.from_ms) - 1
        is_accounted = n >= 0 and open_time_ms in self._accounted[n]
        return _STORED if is_accounted else _UNKNOWN


def _gap_among(found: Iterable[object]) -> Gap | None:
    """Return the gap that candles are in which the lake lacks; None: nobody has such a gap."""
    known = [one for one in found if one is not _UNKNOWN]
    gaps = [one for one in known if isinstance(one, Gap)]
    closed = [gap for gap in gaps if gap.state is State.CLOSED]
    if known and len(closed) == len(known):
        return closed[0]
    return next((gap for gap in gaps if gap.state is State.PENDING), None)


def _filled(every: Sequence[OneLedger], stored: Sequence[Span]) -> Iterator[Gap]:
    """Give the filled gaps of stored candles that every recorder had missed."""
    taken: list[Span] = []
    for one in every:
        filled = [gap for gap in one.gaps if gap.state is State.FILLED]
        others = (span for other in every if other is not one for span in other.received())
        better = joined([*others, *taken])
        for gap in filled:
            for inside in common([gap.span], _reaching(stored, gap.span)):
                for piece in inside.without(_reaching(better, inside)):
                    yield attrs.evolve(gap, span=piece)
        taken += [gap.span for gap in filled]


def _reaching(spans: Sequence[Span], into: Span) -> Sequence[Span]:
    """Return those of the spans, which are in order, that have a candle of another one."""
    first = bisect_right(spans, into.from_ms, key=lambda span: span.to_ms)
    end = bisect_left(spans, into.to_ms, key=lambda span: span.from_ms)
    return spans[first:end]
