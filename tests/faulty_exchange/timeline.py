"""Symbols that are listed, halted, delisted, or get another tick size.

Sources: events of ``!contractInfo`` logged in 2023-10 (github.com/nvcuong123/monitorMarket,
doc/binance/contractInfo.js); an exchangeInfo answer recorded on 2021-07-22.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import attrs

from kline_trio.simulator.faults import Spans
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.symbols import NEVER_MS, Listing, Notice, State, SymbolTimeline

from .faults import Delisting, ListingEvent, NewListing, StatusChange, TickChange

__all__ = ["ScriptedTimeline"]

_FAR_MS = 1 << 52
_TRADED = "TRADING"
_TRADES_AFTER_MS = 294
"""From ``onboardDate`` to the event with TRADING (ORBSUSDT; BONDUSDT had 367)."""
_AGAIN_AFTER_MS = 5_018
_BRACKETS_AFTER_MS = 25_256
"""The announcement came three times, the third with the brackets (ORBSUSDT)."""

_BRACKETS = (
    {"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50},
    {"bs": 2, "bnf": 5000, "bnc": 25000, "mmr": 0.025, "cf": 75, "mi": 11, "ma": 20},
)
"""Those of the docs' example, "Contract Info Stream"."""


@attrs.frozen
class _Halt:
    from_ms: int
    until_ms: int
    event: StatusChange


class ScriptedTimeline(SymbolTimeline):
    """All that happens to one symbol.

    Args:
        listing: The symbol.
        events: What is scripted for it.  A contract with a delivery date ends with it in any case.
    """

    def __init__(self, listing: Listing, events: Iterable[ListingEvent] = ()) -> None:
        super().__init__(listing)
        self._beginning: NewListing | None = None
        self._events = sorted(events, key=lambda event: event.at_ms)
        if listing.delivery_ms != NEVER_MS and not any(
            isinstance(event, Delisting) for event in self._events
        ):
            self._events.append(_delivery(listing))
        for event in self._events:
            if isinstance(event, NewListing):
                self._beginning, self.begins_ms = event, event.at_ms
            elif isinstance(event, Delisting):
                self.ends_ms, self.goes_on_flat = event.at_ms, event.flat
        self._states = _states(listing, self._states[0], self._events, self._beginning)
        self._halts = Spans(_halts(self._states, self._events))

    @property
    def notices(self) -> Sequence[Notice]:
        return tuple(_notices(self.listing, self._events, self))

    def rounded(self, kline: Kline) -> Kline:
        tick = self._tick(self.at(kline.open_time_ms))
        return kline if tick <= self._tick(self._states[0]) else _coarser(kline, tick)

    def _tick(self, state: State) -> Decimal:
        # no price is finer than the listing's last decimal
        return max(Decimal(state.tick_size), Decimal(1).scaleb(-self.listing.price_decimals))

    def absence(self, open_ms: int, end_ms: int) -> tuple[str, int] | None:
        if end_ms <= self.begins_ms:
            return NewListing.__name__, self.begins_ms
        if open_ms >= self.ends_ms:
            return super().absence(open_ms, end_ms)
        # what lies before the beginning or after the end is no trading either
        first_ms, last_ms = max(open_ms, self.begins_ms), min(end_ms, self.ends_ms)
        for halt in self._halts.at(first_ms):
            if last_ms <= halt.until_ms:
                return StatusChange.__name__, halt.event.at_ms
        return None


def _coarser(kline: Kline, tick: Decimal) -> Kline:
    """Return a candle with its prices rounded down to the tick."""

    def price(text: str) -> str:
        rounded = max(tick, Decimal(text) // tick * tick)
        return str(rounded.quantize(Decimal(text)))

    return attrs.evolve(
        kline,
        open=price(kline.open),
        close=price(kline.close),
        high=price(kline.high),
        low=price(kline.low),
    )


def _delivery(listing: Listing) -> Delisting:
    return Delisting(
        trade_type=listing.trade_type, symbol=listing.symbol, at_ms=listing.delivery_ms
    )


def _states(
    listing: Listing, first: State, events: Iterable[ListingEvent], beginning: NewListing | None
) -> list[State]:
    spot = listing.trade_type == "spot"
    if beginning is not None:
        first = attrs.evolve(
            first, status=None, onboard_ms=beginning.at_ms + beginning.dated_late_ms
        )
    changes: list[tuple[int, dict[str, Any]]] = []
    for event in events:
        match event:
            case NewListing():
                changes.append((event.shown_ms, {"status": "PENDING_TRADING"}))
                changes.append((event.at_ms, {"status": _TRADED}))
            case StatusChange():
                changes.append((event.at_ms, {"status": event.status}))
            case TickChange():
                changes.append((event.at_ms, {"tick_size": event.tick_size}))
            case Delisting():
                # seen live: the date is set beforehand, and SETTLING stays for months
                if not spot:
                    changes.append((event.shown_ms, {"delivery_ms": event.at_ms}))
                dated = listing.delivery_ms != NEVER_MS
                status = "BREAK" if spot else "DELIVERING" if dated else "SETTLING"
                changes.append((event.at_ms, {"status": status}))
    states = [first]
    for at_ms, change in sorted(changes, key=lambda pair: pair[0]):
        states.append(attrs.evolve(states[-1], from_ms=at_ms, **change))
    return states


def _halts(states: Sequence[State], events: Iterable[ListingEvent]) -> Iterator[_Halt]:
    """Give the times without trading that changes of the status make."""
    changes = [event for event in events if isinstance(event, StatusChange)]
    ends_ms = [*(state.from_ms for state in states[1:]), _FAR_MS]
    since_ms: int | None = None
    for state, until_ms in zip(states, ends_ms, strict=True):
        if state.status == _TRADED:
            since_ms = None
            continue
        since_ms = state.from_ms if since_ms is None else since_ms
        before = [change for change in changes if change.at_ms <= state.from_ms]
        if before and until_ms > state.from_ms:
            yield _Halt(since_ms, until_ms, before[-1])


def _notices(
    listing: Listing, events: Iterable[ListingEvent], timeline: ScriptedTimeline
) -> Iterator[Notice]:
    """Give the events of ``!contractInfo``; none tells of a tick (docs: "listing/settlement")."""
    for event in events:
        dues: list[tuple[int, int]] = []
        match event:
            case NewListing():
                shown_ms = event.shown_ms
                dues = [(shown_ms, 0), (shown_ms, _AGAIN_AFTER_MS)]
                dues += [(shown_ms, _BRACKETS_AFTER_MS), (event.at_ms, _TRADES_AFTER_MS)]
            case StatusChange():
                dues = [(event.at_ms, 0)]
            case Delisting():
                dues = [(at_ms, 0) for at_ms in sorted({event.shown_ms, event.at_ms})]
        for at_ms, late_ms in dues:
            yield Notice(
                due_ms=at_ms + late_ms,
                listing=listing,
                state=timeline.at(at_ms),
                brackets=_BRACKETS if late_ms == _BRACKETS_AFTER_MS else (),
            )
