"""A symbol as the exchange lists it, in the same form for the three markets."""

from collections.abc import Mapping

import attrs

from kline_trio.candle import check_symbol

__all__ = ["GONE", "PENDING", "TRADING", "Listing", "begun_ms"]

TRADING = "TRADING"
"""The one status with candles. No other word, known or new, means the same."""

PENDING = "PENDING_TRADING"
"""That of a contract that is announced, and trades later."""

GONE = "GONE"
"""Our own status of a symbol that was in the list and is not any more."""


@attrs.frozen(kw_only=True)
class Listing:
    """A symbol in a market's list. None stands for a property that the market does not publish.

    All words are the exchange's own, and none is from a closed set: CANCEL_ONLY, TRADING_HALT and
    TRADIFI_PERPETUAL all came unannounced (spot CHANGELOG 2026-07-01; nautilus_trader#4320).

    Raises:
      ValueError: the symbol can be none of a series.
    """

    symbol: str = attrs.field(validator=lambda _, __, symbol: check_symbol(symbol))
    status: str = ""
    contract_type: str | None = None
    """Of futures; empty as long as a contract is only announced."""
    base: str | None = None
    """The asset that is traded."""
    quote: str | None = None
    """The asset that it is paid with."""
    margin: str | None = None
    """The asset that a contract is secured with; of futures."""
    tick_size: str | None = None
    """The smallest step of its price, as decimal text."""
    onboard_ms: int | None = None
    """When a contract was or will be listed; spot does not tell."""
    delivery_ms: int | None = None
    """When a contract ends; a perpetual one's is in the year 2100 until its end is announced."""

    @property
    def has_ended(self) -> bool:
        """Whether the symbol was traded and is not now; False if the list has no statuses."""
        return self.status not in ("", PENDING, TRADING)

    @property
    def is_to_come(self) -> bool:
        """Whether the symbol is announced and not traded yet."""
        return self.status == PENDING

    @property
    def is_trading(self) -> bool:
        """Whether the symbol trades at the moment of the list."""
        return self.status == TRADING


def begun_ms(
    known: Mapping[str, Listing],
    seen: Mapping[str, Listing],
    before_ms: int | None,
    entered_ms: Mapping[str, int],
) -> dict[str, int]:
    """Return since when each symbol may trade that trades now and did not in the list before.

    The list's own dates are no bound: they have been half an hour and a day late, and a symbol may
    trade while it is listed as still to come. What the exchange's first candle shows to be too
    early costs one row of the ledger.

    Args:
      known: the list as it was last seen, by symbol.
      seen: as it is now.
      before_ms: when it was last seen, perhaps by an earlier recorder; None: never.
      entered_ms: since when each symbol is in the list, trading or not.
    """
    begun = {}
    for symbol, listing in seen.items():
        was = known.get(symbol)
        if before_ms is None or not listing.is_trading or (was is not None and was.is_trading):
            continue
        is_announced = was is not None and was.is_to_come
        begun[symbol] = entered_ms.get(symbol, before_ms) if is_announced else before_ms
    return begun
