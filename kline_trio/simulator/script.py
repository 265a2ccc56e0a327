"""The script of one market: its faults, looked up by what they hit."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from kline_trio.simulator.faults import (
    FAULTS,
    ArchiveFault,
    CloseFault,
    Fault,
    LateClose,
    Moment,
    Outage,
    RowsLie,
    Silence,
    SpanFault,
    Stall,
    WrongRows,
)
from kline_trio.simulator.symbols import Listing
from kline_trio.simulator.timeline import SymbolTimeline

__all__ = ["Script", "Spans"]


class _Span(Protocol):
    @property
    def from_ms(self) -> int: ...
    @property
    def until_ms(self) -> int: ...


_S = TypeVar("_S", bound=_Span)
_F = TypeVar("_F", bound=SpanFault)


class Spans(Generic[_S]):
    """Values with a ``from_ms``, inclusive, and an ``until_ms``, exclusive, found by a moment.

    A year's script has thousands of faults, and each event of each stream is held against them.
    """

    def __init__(self, spans: Iterable[_S]) -> None:
        self._spans = sorted(spans, key=lambda span: span.from_ms)
        self._begins = [span.from_ms for span in self._spans]
        # The latest end among a span and all before it: from there back, none can hold a moment.
        self._ends = list(accumulate((span.until_ms for span in self._spans), max))

    def at(self, moment_ms: int) -> Iterator[_S]:
        """Give the spans that hold a moment, the one that began last first."""
        place = bisect_right(self._begins, moment_ms) - 1
        while place >= 0 and self._ends[place] > moment_ms:
            if self._spans[place].until_ms > moment_ms:
                yield self._spans[place]
            place -= 1


class Script:
    """The faults of one market.

    Args:
        trade_type: The market; faults of the others are left out.
        faults: The faults of all markets.

    Raises:
        ValueError: A fault is of a kind that only the exchange of the tests can play.
    """

    kinds = FAULTS
    """The faults that can be played."""
    new_symbols: tuple[str, ...] = ()
    """Symbols that the market lists later."""

    def __init__(self, trade_type: str, faults: Iterable[Fault]) -> None:
        mine = [fault for fault in faults if fault.trade_type == trade_type]
        for fault in mine:
            if not isinstance(fault, self.kinds):
                raise ValueError(f"the built-in exchange cannot play {fault}")
        self.trade_type = trade_type
        self.archive_faults = [fault for fault in mine if isinstance(fault, ArchiveFault)]
        spans: defaultdict[tuple[type, str | None], list[SpanFault]] = defaultdict(list)
        for fault in mine:
            if isinstance(fault, SpanFault):
                hit = fault.stream if isinstance(fault, Silence) else None
                hit = fault.symbol if isinstance(fault, Outage) else hit
                spans[type(fault), hit].append(fault)
        self._spans = {key: Spans(some) for key, some in spans.items()}
        self._closes = {
            (fault.stream, fault.open_ms): fault for fault in mine if isinstance(fault, CloseFault)
        }
        self._moments = sorted(
            (fault for fault in mine if isinstance(fault, Moment)),
            key=lambda moment: moment.at_ms,
        )
        self.longest_late_ms = max(
            (fault.late_ms for fault in mine if isinstance(fault, LateClose)), default=0
        )

    def timeline(self, listing: Listing) -> SymbolTimeline:
        """Return what happens to a symbol."""
        return SymbolTimeline(listing)

    def moments(self, born_ms: int) -> list[Moment]:
        """Return by time what strikes a connection made at ``born_ms``."""
        return [moment for moment in self._moments if moment.at_ms > born_ms]

    def close_fault(self, stream: str, open_ms: int) -> CloseFault | None:
        """Return the fault of the close of one candle."""
        return self._closes.get((stream, open_ms))

    def in_force(self, kind: type[_F], now_ms: int) -> _F | None:
        """Return the fault of a kind that hits the whole market now."""
        return next(self._at(kind, None, now_ms), None)

    def rows_lie(self, now_ms: int, *, is_one: bool) -> RowsLie | None:
        """Return the lie that is in klines answers now.

        Args:
            now_ms: Exchange time.
            is_one: Whether one candle at most is asked for.
        """
        return self.in_force(WrongRows, now_ms)

    def outage(self, symbol: str, open_ms: int, end_ms: int) -> Outage | None:
        """Return the outage in which a candle lies whole."""
        for whose in (None, symbol):
            for outage in self._at(Outage, whose, open_ms):
                if end_ms <= outage.until_ms:
                    return outage
        return None

    def muted(
        self, stream: str, at_ms: int, born_ms: int, subscribed_ms: int
    ) -> Stall | Silence | None:
        """Return the fault that keeps an event from a connection.

        Args:
            stream: The event's.
            at_ms: When the event is due.
            born_ms: When the connection was made.
            subscribed_ms: When the connection subscribed the stream.
        """
        for stall in self._at(Stall, None, at_ms):
            if born_ms <= stall.from_ms or stall.new_connections_too:
                return stall
        for silence in self._at(Silence, stream, at_ms):
            since_ms = {"subscription": subscribed_ms, "connection": born_ms}
            if silence.cure is None or since_ms[silence.cure] < silence.from_ms:
                return silence
        return None

    def _at(self, kind: type[_F], hit: str | None, now_ms: int) -> Iterator[_F]:
        spans = self._spans.get((kind, hit))
        return iter(()) if spans is None else spans.at(now_ms)  # type: ignore[return-value]
