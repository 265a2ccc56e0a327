"""The script of a market in which everything may go wrong."""

from array import array
from collections import defaultdict
from collections.abc import Iterable

from kline_trio.simulator.faults import (
    CloseFault,
    Fault,
    OmitClose,
    RowsLie,
    Script,
    Silence,
    Stall,
)
from kline_trio.simulator.prices import continued_hash, mix, started_hash
from kline_trio.simulator.symbols import Listing, SymbolTimeline

from .faults import FAULTS, BadChecksum, ListingEvent, NewListing, ReviseClose, WrongFirst
from .timeline import ScriptedTimeline

__all__ = ["FaultyScript"]

_SHARE = 1 << 20


class FaultyScript(Script):
    """What is to go wrong in one market.

    Args:
        trade_type: The market; faults of the others are left out.
        faults: The faults of all markets.
        omitted_close_share: Share of closing frames that never come, from 0 to 1.
        seed: Decides which they are.
    """

    kinds = FAULTS

    def __init__(
        self,
        trade_type: str,
        faults: Iterable[Fault],
        *,
        omitted_close_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        mine = [fault for fault in faults if fault.trade_type == trade_type]
        super().__init__(trade_type, mine)
        self.bad_checksums = {fault.name for fault in mine if isinstance(fault, BadChecksum)}
        self._omitted = round(omitted_close_share * _SHARE)
        self._seed = seed
        self._events: defaultdict[str, list[ListingEvent]] = defaultdict(list)
        for fault in mine:
            if isinstance(fault, ListingEvent):
                self._events[fault.symbol].append(fault)
        self.new_symbols = tuple(one.symbol for one in mine if isinstance(one, NewListing))
        self._sent_ms: dict[str, array[int]] = {
            fault.stream: array("q") for fault in mine if isinstance(fault, ReviseClose)
        }
        """When events of the streams with revisions were due, of those that a connection got."""

    def check_symbols(self, listings: Iterable[str]) -> None:
        """Raise ValueError if something is scripted for a symbol that the market does not have."""
        for symbol in self._events.keys() - set(listings):
            raise ValueError(f"{self.trade_type} has no {symbol}: {self._events[symbol][0]}")

    def timeline(self, listing: Listing) -> SymbolTimeline:
        events = self._events.get(listing.symbol)
        return ScriptedTimeline(listing, events) if events else super().timeline(listing)

    def close_fault(self, stream: str, open_ms: int) -> CloseFault | None:
        fault = super().close_fault(stream, open_ms)
        if fault is None and self._omitted:
            key = started_hash(self._seed, self.trade_type, stream)
            if mix(continued_hash(key, open_ms, 1)) % _SHARE < self._omitted:
                return OmitClose(trade_type=self.trade_type, stream=stream, open_ms=open_ms)
        return fault

    def muted(
        self, stream: str, at_ms: int, born_ms: int, subscribed_ms: int
    ) -> Stall | Silence | None:
        fault = super().muted(stream, at_ms, born_ms, subscribed_ms)
        if fault is None and stream in self._sent_ms:
            self._sent_ms[stream].append(at_ms)
        return fault

    def was_sent(self, stream: str, due_ms: int) -> bool:
        """Return whether a connection got the event of a stream with revisions."""
        return due_ms in self._sent_ms[stream]

    def rows_lie(self, now_ms: int, *, is_one: bool) -> RowsLie | None:
        wrong = super().rows_lie(now_ms, is_one=is_one)
        if wrong is None and is_one:
            return self.in_force(WrongFirst, now_ms)
        return wrong
