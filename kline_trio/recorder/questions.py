"""Which absent candles are to be asked for, how often they were, and when again (pure).

Times without a unit in their names are seconds on our own clock.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.ledger import Absence, Reason

__all__ = ["Question", "Questions"]

_LONGER = 6
"""Each wait between two questions for the same candle is so many times the one before."""


@attrs.frozen
class Question:
    """Something to ask for."""

    span: Span
    reason: Reason
    asked: int
    since: float
    """When it was found."""
    not_before: float = -math.inf
    is_forming: bool = False
    """Whether its candles had not closed when it was to be asked for."""


@attrs.define(eq=False)
class Questions:
    """What is asked for: of each series in order of time, and without overlap."""

    wait_seconds: float
    """Between the first two questions for the same candle."""
    _open: dict[Series, list[Question]] = attrs.field(init=False, factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is left but what is still forming."""
        return any(not one.is_forming for mine in self._open.values() for one in mine)

    def __iter__(self) -> Iterator[tuple[Series, Sequence[Question]]]:
        """Give what is left, series by series."""
        return iter(self._open.items())

    def of(self, series: Series) -> Sequence[Question]:
        """What is left of a series."""
        return self._open.get(series, ())

    def due(self, series: Series, now: float) -> list[Question]:
        """What is left of a series, and was not asked for right before."""
        return [one for one in self.of(series) if one.not_before <= now]

    def add(self, absence: Absence, spans: Iterable[Span], now: float) -> None:
        """These pieces of an absence are to be asked for."""
        new = [Question(span, absence.reason, absence.asked, now) for span in spans]
        self._put(absence.series, new)

    def forget(self, series: Series) -> None:
        """Nothing of this series is asked for any more."""
        self._open.pop(series, None)

    def inside(self, series: Series, span: Span) -> list[Question]:
        """What is left of a span."""
        return [
            attrs.evolve(one, span=piece)
            for one in self.of(series)
            for piece in one.span.common_with(span)
        ]

    def came(self, series: Series, open_times_ms: Sequence[int]) -> None:
        """These candles are there by now."""
        self._open[series] = [
            attrs.evolve(one, span=gap)
            for one in self.of(series)
            for gap in series.interval.gaps(one.span, open_times_ms)
        ]

    def drop(self, series: Series, span: Span) -> None:
        """What is left of the span is asked for no more."""
        self._open[series] = [
            attrs.evolve(one, span=piece)
            for one in self.of(series)
            for piece in one.span.without([span])
        ]

    def asked(self, series: Series, span: Span, now: float) -> None:
        """The exchange did not have these: they are asked for again, each time after longer."""
        self._put_off(
            series,
            [
                attrs.evolve(
                    one,
                    asked=one.asked + 1,
                    is_forming=False,
                    not_before=now + self.wait_seconds * float(_LONGER) ** min(one.asked, 6),
                )
                for one in self.inside(series, span)
            ],
        )

    def closed(self, series: Series, now_ms: int | None, now: float) -> list[Question]:
        """What is due of a series, and has closed; what has not waits for a while.

        That is so of what trades again. No question proves that a candle which is still forming
        does not come to be.

        Args:
          series: which.
          now_ms: the exchange's time, if it is known.
          now: ours.
        """
        due = self.due(series, now)
        end_ms = 0 if now_ms is None else series.interval.open_time_ms(now_ms)
        forming = [
            attrs.evolve(one, span=piece, not_before=now + self.wait_seconds, is_forming=True)
            for one in due
            for piece in one.span.without([Span(0, end_ms)])
        ]
        self._put_off(series, forming)
        return [one for one in self.due(series, now) if one.span.to_ms <= end_ms]

    def _put_off(self, series: Series, later: Sequence[Question]) -> None:
        for one in later:
            self.drop(series, one.span)
        self._put(series, later)

    def _put(self, series: Series, new: Sequence[Question]) -> None:
        self._open[series] = _joined([*self.of(series), *new])


def _joined(pieces: Sequence[Question]) -> list[Question]:
    """In order, and of those that overlap the earlier one whole."""
    found: list[Question] = []
    for one in sorted(pieces, key=lambda one: one.span):
        at_ms = found[-1].span.to_ms if found else one.span.from_ms
        if one.span.to_ms > at_ms:
            found.append(attrs.evolve(one, span=Span(max(at_ms, one.span.from_ms), one.span.to_ms)))
    return found
