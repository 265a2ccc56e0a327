"""What a symbol is at each moment: listed or not, its status, dates and tick, traded or not.

Sources: USD-M and COIN-M docs, "Exchange Information" and "Contract Info Stream"; spot docs,
rest-api.md and enums.md; events of ``!contractInfo`` logged in 2023-10 (github.com/nvcuong123/
monitorMarket, doc/binance/contractInfo.js); an exchangeInfo answer recorded on 2021-07-22.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import attrs

from kline_trio.simulator.frames import contract_info, decimal_text
from kline_trio.simulator.listing_events import (
    Delisting,
    ListingEvent,
    NewListing,
    StatusChange,
    TickChange,
)
from kline_trio.simulator.spans import Spans
from kline_trio.simulator.symbols import NEVER_MS, Listing

__all__ = ["ONBOARD_MS", "Career", "Notice", "State", "contract_type", "plain_state"]

ONBOARD_MS = 1_569_398_400_000
"""2019-09-25 08:00 UTC; no symbol of the first hour has a candle before it."""
_FAR_MS = 1 << 52
_TRADED = "TRADING"
_TRADES_AFTER_MS = 294
"""From ``onboardDate`` to the event with TRADING (ORBSUSDT; BONDUSDT had 367)."""
_AGAIN_AFTER_MS = 5_018
_BRACKETS_AFTER_MS = 25_256
"""The announcement came three times, the third with the brackets (ORBSUSDT)."""


@attrs.frozen(kw_only=True)
class State:
    """A symbol as it is shown from a moment on."""

    from_ms: int
    status: str | None
    """None while it is not listed."""
    onboard_ms: int
    delivery_ms: int
    tick_size: str


@attrs.frozen(kw_only=True)
class Notice:
    """One event of ``!contractInfo``."""

    due_ms: int
    listing: Listing
    state: State
    has_brackets: bool = False

    @property
    def text(self) -> str:
        """The event."""
        # st and both products on both hosts: derivatives change log, 2026-06-30
        contract = {
            "s": self.listing.symbol,
            "ps": self.listing.pair,
            "ct": contract_type(self.listing, self.state, self.due_ms),
            "dt": self.state.delivery_ms,
            "ot": self.state.onboard_ms,
            "cs": self.state.status,
            "st": 2 if self.listing.contract_usd else 1,
        }
        return contract_info(self.due_ms, contract, has_brackets=self.has_brackets)


@attrs.frozen
class _Halt:
    from_ms: int
    until_ms: int
    event: StatusChange


def plain_state(listing: Listing) -> State:
    """Return how a symbol is shown to which nothing happens."""
    return State(
        from_ms=0,
        status=_TRADED,
        onboard_ms=ONBOARD_MS,
        delivery_ms=listing.delivery_ms,
        tick_size=decimal_text(1, listing.price_decimals),
    )


def contract_type(listing: Listing, state: State, now_ms: int) -> str:
    """Return a future's ``contractType``."""
    if listing.delivery_ms == NEVER_MS:
        return "PERPETUAL"
    quarter_ms = 92 * 24 * 3600 * 1000
    if state.status == "DELIVERING" and listing.contract_usd:
        # COIN-M docs, "Contract type": used only for DELIVERING status
        return "CURRENT_QUARTER_DELIVERING"
    return "CURRENT_QUARTER" if listing.delivery_ms - now_ms < quarter_ms else "NEXT_QUARTER"


class Career:
    """All that happens to one symbol.

    Args:
        listing: The symbol.
        events: What is scripted for it.  A contract with a delivery date ends with it in any case.
    """

    def __init__(self, listing: Listing, events: Iterable[ListingEvent] = ()) -> None:
        self.listing = listing
        self.begins_ms, self.ends_ms, self.goes_on_flat = -_FAR_MS, _FAR_MS, False
        self._beginning: NewListing | None = None
        self._end: Delisting | None = None
        known = sorted(events, key=lambda event: event.at_ms)
        if listing.delivery_ms != NEVER_MS and not any(isinstance(e, Delisting) for e in known):
            known.append(_delivery(listing))
        for event in known:
            if isinstance(event, NewListing):
                self._beginning, self.begins_ms = event, event.at_ms
            elif isinstance(event, Delisting):
                self._end, self.ends_ms, self.goes_on_flat = event, event.at_ms, event.flat
        self._states = _states(listing, known, self._beginning)
        self._begins = [state.from_ms for state in self._states]
        self._halts = Spans(_halts(self._states, known))
        unit = Decimal(1).scaleb(-listing.price_decimals)
        self._ticks = [max(1, int(Decimal(state.tick_size) / unit)) for state in self._states]
        self.notices = tuple(_notices(listing, known, self))

    def at(self, now_ms: int) -> State:
        """Return what the symbol is at a moment."""
        return self._states[max(0, bisect_right(self._begins, now_ms) - 1)]

    def tick(self, now_ms: int) -> int:
        """Return the tick at a moment, in units of the listing's last price decimal."""
        return self._ticks[max(0, bisect_right(self._begins, now_ms) - 1)]

    def absence(self, open_ms: int, end_ms: int) -> ListingEvent | None:
        """Return why there is no such candle; None if it is there."""
        if end_ms <= self.begins_ms:
            return self._beginning
        if open_ms >= self.ends_ms:
            return None if self.goes_on_flat else self._end
        # what lies before the beginning or after the end is no trading either
        first_ms, last_ms = max(open_ms, self.begins_ms), min(end_ms, self.ends_ms)
        for halt in self._halts.at(first_ms):
            if last_ms <= halt.until_ms:
                return halt.event
        return None

    def is_over(self, open_ms: int) -> bool:
        """Tell whether there is no candle from ``open_ms`` on, ever."""
        return open_ms >= self.ends_ms and not self.goes_on_flat


def _delivery(listing: Listing) -> Delisting:
    return Delisting(
        trade_type=listing.trade_type, symbol=listing.symbol, at_ms=listing.delivery_ms
    )


def _states(
    listing: Listing, events: Iterable[ListingEvent], beginning: NewListing | None
) -> list[State]:
    spot = listing.trade_type == "spot"
    first = plain_state(listing)
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


def _notices(listing: Listing, events: Iterable[ListingEvent], career: Career) -> Iterator[Notice]:
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
                state=career.at(at_ms),
                has_brackets=late_ms == _BRACKETS_AFTER_MS,
            )
