"""What a symbol is at each moment: its status, dates and tick, whether it is traded.

Sources: USD-M and COIN-M docs, "Exchange Information" and "Contract Info Stream"; spot docs,
rest-api.md and enums.md.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import attrs
import msgspec

from kline_trio.simulator.frames import Kline, decimal_text
from kline_trio.simulator.symbols import NEVER_MS, Listing

__all__ = ["ONBOARD_MS", "Notice", "State", "SymbolTimeline", "contract_type"]

ONBOARD_MS = 1_569_398_400_000
"""2019-09-25 08:00 UTC; no symbol of the first hour has a candle before it."""
_FAR_MS = 1 << 52
_QUARTER_MS = 92 * 24 * 3600 * 1000


@attrs.frozen
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
    brackets: Sequence[Mapping[str, float]] = ()
    """Leverage brackets. The docs have ``bks`` only "when bracket gets updated"; logged events have
    it empty otherwise (github.com/nvcuong123/monitorMarket, doc/binance/contractInfo.js)."""

    @property
    def text(self) -> str:
        """The event."""
        event = {
            "e": "contractInfo",
            "E": self.due_ms,
            "s": self.listing.symbol,
            "ps": self.listing.pair,
            "ct": contract_type(self.listing, self.state, self.due_ms),
            "dt": self.state.delivery_ms,
            "ot": self.state.onboard_ms,
            "cs": self.state.status,
            "bks": self.brackets,
            # since 2026-06-30 (derivatives change log); last as in a test of ccxt/go-binance
            "st": 2 if self.listing.contract_usd else 1,
        }
        return msgspec.json.encode(event).decode()


def contract_type(listing: Listing, state: State, now_ms: int) -> str:
    """Return a future's ``contractType``."""
    if listing.delivery_ms == NEVER_MS:
        return "PERPETUAL"
    if state.status == "DELIVERING" and listing.contract_usd:
        # COIN-M docs, "Contract type": used only for DELIVERING status
        return "CURRENT_QUARTER_DELIVERING"
    return "CURRENT_QUARTER" if listing.delivery_ms - now_ms < _QUARTER_MS else "NEXT_QUARTER"


class SymbolTimeline:
    """All that happens to one symbol: a contract with a delivery date ends with it."""

    begins_ms = -_FAR_MS
    ends_ms = _FAR_MS
    goes_on_flat = False
    """Whether flat candles without trades go on to close after the end."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        ends_ms, tick_size = listing.delivery_ms, decimal_text(1, listing.price_decimals)
        listed = State(0, "TRADING", ONBOARD_MS, ends_ms, tick_size)
        self._states = [listed]
        if ends_ms != NEVER_MS:
            self.ends_ms = ends_ms
            self._states.append(attrs.evolve(listed, from_ms=ends_ms, status="DELIVERING"))

    @property
    def notices(self) -> Sequence[Notice]:
        """The events of ``!contractInfo`` about the symbol."""
        return [
            Notice(due_ms=state.from_ms, listing=self.listing, state=state)
            for state in self._states[1:]
        ]

    def at(self, now_ms: int) -> State:
        """Return what the symbol is at a moment."""
        return self._states[max(0, bisect_right(self._states, now_ms, key=_begin_of) - 1)]

    def rounded(self, kline: Kline) -> Kline:
        """Return a candle with prices that fit the tick of its time."""
        return kline

    def absence(self, open_ms: int, end_ms: int) -> tuple[str, int] | None:
        """Return why there is no such candle, as an event's name and time; None if it is there."""
        return ("Delisting", self.ends_ms) if self.is_over(open_ms) else None

    def is_over(self, open_ms: int) -> bool:
        """Return whether there is no candle from ``open_ms`` on, ever."""
        return open_ms >= self.ends_ms and not self.goes_on_flat


def _begin_of(state: State) -> int:
    return state.from_ms
