"""What happens to a symbol while the exchange runs, as values in exchange time."""

import attrs

__all__ = ["Delisting", "ListingEvent", "NewListing", "StatusChange", "TickChange"]


@attrs.frozen(kw_only=True)
class NewListing:
    """A symbol that the market did not have begins to trade.

    Futures show it before, as ``PENDING_TRADING`` and with its ``onboardDate``; spot does not.
    """

    trade_type: str
    symbol: str
    at_ms: int
    """Its first candle is the one that holds this moment, and begins with it."""
    announced_ms: int | None = None
    """From when on futures list it; by default two hours before (ORBSUSDT, 2023-10-17)."""
    dated_late_ms: int = 0
    """By how much its ``onboardDate`` is later than the truth."""

    @property
    def shown_ms(self) -> int:
        """From when on exchangeInfo and ``!contractInfo`` may have it."""
        if self.trade_type == "spot":
            return self.at_ms
        announced_ms = self.at_ms - 7_200_000 if self.announced_ms is None else self.announced_ms
        return min(announced_ms, self.at_ms)


@attrs.frozen(kw_only=True)
class StatusChange:
    """A symbol's status changes; in any other than ``TRADING`` nothing is traded.

    Candles that lie in such a time whole exist nowhere, as in an `Outage`.
    """

    trade_type: str
    symbol: str
    at_ms: int
    status: str
    """An open set: CANCEL_ONLY and TRADING_HALT came unannounced in 2026."""


@attrs.frozen(kw_only=True)
class TickChange:
    """A symbol's tick size changes; a coarser one shows in the prices of later candles."""

    trade_type: str
    symbol: str
    at_ms: int
    tick_size: str
    """As exchangeInfo shows it: ``"0.01"``."""


@attrs.frozen(kw_only=True)
class Delisting:
    """A symbol is traded no more: its status changes, no further candle is, the old ones stay."""

    trade_type: str
    symbol: str
    at_ms: int
    """Its last candle is the one that holds the moment before this one, and ends with it."""
    announced_ms: int | None = None
    """Futures only: from when on ``deliveryDate`` is ``at_ms``; by default from then on."""
    flat: bool = False
    """Whether flat candles without trades go on to close, on the stream (github.com/sammchardy/
    python-binance issue 1539), over REST and in archives (binance-public-data issue 201)."""

    @property
    def shown_ms(self) -> int:
        """From when on exchangeInfo and ``!contractInfo`` may show the day."""
        return self.at_ms if self.announced_ms is None else min(self.announced_ms, self.at_ms)


ListingEvent = NewListing | StatusChange | TickChange | Delisting
