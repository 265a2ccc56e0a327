"""A symbol in the exchange's list, in the same form for all three markets."""

from collections.abc import Mapping

import attrs

from kline_trio.candle import check_symbol

TRADING = "TRADING"
"""The only status with candles. No other word, known or new, means the same."""

PENDING = "PENDING_TRADING"
"""The status of a contract that is announced and will trade later."""

GONE = "GONE"
"""Our own status of a symbol that is not in the list any more."""


@attrs.frozen(kw_only=True)
class Listing:
    """A symbol in a market's list. A property that the market does not publish is None.

    All words are the exchange's, and there may be new ones: CANCEL_ONLY, TRADING_HALT and
    TRADIFI_PERPETUAL all came unannounced (spot CHANGELOG 2026-07-01; nautilus_trader#4320).

    Raises:
      ValueError: the symbol cannot be that of a series.
    """

    symbol: str = attrs.field(validator=lambda _, __, symbol: check_symbol(symbol))
    status: str = ""
    contract_type: str | None = None
    """Of futures; empty while a contract is only announced."""
    base: str | None = None
    """The asset that is traded."""
    quote: str | None = None
    """The asset in which prices are given."""
    margin: str | None = None
    """The asset that is the collateral of a contract; of futures."""
    tick_size: str | None = None
    """The smallest step of the price, as decimal text."""
    onboard_ms: int | None = None
    """When a contract was or will be listed; of futures."""
    delivery_ms: int | None = None
    """When a contract ends. A perpetual contract has the year 2100 until its end is announced."""

    @property
    def has_ended(self) -> bool:
        """Whether the symbol traded and does not now; False if the list has no statuses."""
        return self.status not in ("", PENDING, TRADING)

    @property
    def is_to_come(self) -> bool:
        """Whether the symbol is announced and does not trade yet."""
        return self.status == PENDING

    @property
    def is_trading(self) -> bool:
        """Whether the symbol trades at the time of the list."""
        return self.status == TRADING


def begun_ms(
    known: Mapping[str, Listing],
    seen: Mapping[str, Listing],
    before_ms: int | None,
    entered_ms: Mapping[str, int],
) -> dict[str, int]:
    """Return the symbols that began to trade since the list before, each with its earliest begin.

    The dates of the list are no bound: they have been half an hour and a day late, and a symbol may
    trade while its status is still PENDING_TRADING. A begin that is too early costs one row of the
    ledger, until the exchange's first candle is known.

    Args:
      known: the list before, by symbol.
      seen: the list of now, by symbol.
      before_ms: the time of the list before, perhaps of an earlier recorder; None: there was none.
      entered_ms: by symbol, the time since which it is in the list, trading or not.

    Returns:
      by symbol, a time in ms before which it did not trade.
    """
    begun = {}
    for symbol, listing in seen.items():
        was = known.get(symbol)
        if before_ms is None or not listing.is_trading or (was is not None and was.is_trading):
            continue
        is_announced = was is not None and was.is_to_come
        begun[symbol] = entered_ms.get(symbol, before_ms) if is_announced else before_ms
    return begun
