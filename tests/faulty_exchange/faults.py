"""The faults that only tests need, and what can happen to a symbol; see `simulator.faults`.

Refused handshakes were seen as HTTP 451 (github.com/ccxt/ccxt issue 15872). A repeated or revised
close has no documented case on one connection; a recorder must bear both all the same.
"""

from collections.abc import Sequence

import attrs

from kline_trio.simulator import faults
from kline_trio.simulator.faults import (
    ArchiveFault,
    CloseFault,
    Fault,
    Moment,
    RowsLie,
    SpanFault,
)
from kline_trio.simulator.frames import Event, Kline
from kline_trio.simulator.rest import Candles

__all__ = ["FAULTS", "ArchiveHole", "BadChecksum", "Delisting", "Garbage", "Lag", "ListingEvent"]
__all__ += ["NewListing", "Refuse", "RepeatClose", "ReviseClose", "Shutdown", "StatusChange"]
__all__ += ["TickChange", "WrongFirst"]


# -- connections ------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Shutdown(Moment):
    """``serverShutdown`` is announced on every open connection, which is dropped later.

    On spot since 2026-05: Binance spot docs, CHANGELOG.md (2026-05-06) and web-socket-streams.md.
    """

    grace_ms: int = 60_000
    """From notice to drop; no lead time is promised (spot docs, CHANGELOG.md, 2026-06-09)."""

    @property
    def drop_ms(self) -> int:
        return self.at_ms + self.grace_ms

    def events(self, newest: Event | None) -> Sequence[Event]:
        text = f'{{"e":"serverShutdown","E":{self.at_ms}}}'
        return (Event(self.at_ms, "!serverShutdown", text),)


@attrs.frozen(kw_only=True)
class Garbage(Moment):
    """A text that is no frame at all is sent on every open connection."""

    text: str = '{"stream":"btcusdt@kline_1m","data":{"e":"kli'

    def events(self, newest: Event | None) -> Sequence[Event]:
        return (Event(self.at_ms, "", self.text),)


@attrs.frozen(kw_only=True)
class Lag(SpanFault):
    """Each connection opened in the span is a server's that is behind, for all its life.

    All its events come later than they are due, by the same seeded time between 0 and ``most_ms``;
    their event times and their order are as ever, and pings and replies are on time.  Two
    connections behind a load balancer disagree so; events of five to ten seconds ago are in
    github.com/binance/binance-futures-connector-python issue 207.
    """

    most_ms: int = 30_000


@attrs.frozen(kw_only=True)
class Refuse(SpanFault):
    """WebSocket handshakes are answered with an HTTP status instead of 101."""

    status: int = 503


# -- candles ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class RepeatClose(CloseFault):
    """A candle's closing frame comes a second time, ``after_ms`` after the first."""

    after_ms: int = 1_000

    def dues_ms(self, due_ms: int, end_ms: int) -> tuple[int, ...]:
        return due_ms, due_ms + self.after_ms


@attrs.frozen(kw_only=True)
class ReviseClose(CloseFault):
    """A candle closes first with other values, and ``after_ms`` later with the true ones."""

    after_ms: int = 1_000

    def dues_ms(self, due_ms: int, end_ms: int) -> tuple[int, ...]:
        return due_ms, due_ms + self.after_ms

    def sent(self, kline: Kline, nth: int) -> Kline:
        """Return other values first, each lawful in itself."""
        if nth:
            return kline
        return attrs.evolve(kline, close=kline.open, trade_num=kline.trade_num + 1)


# -- HTTP -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class WrongFirst(RowsLie):
    """Who asks for one candle only, as for the first of a symbol, gets none of its earlier ones."""

    first_ms: int
    """Of older candles it says nothing."""

    def answered(self, candles: Candles) -> Candles:
        return attrs.evolve(candles, first_ms=max(candles.first_ms, self.first_ms))


@attrs.frozen(kw_only=True)
class ArchiveHole(ArchiveFault):
    """The archive lacks candles that REST has (SOLUSDT, 2023-02-14 16:39)."""

    def archived(self, kline: Kline, price: str) -> None:
        return None


@attrs.frozen(kw_only=True)
class BadChecksum(Fault):
    """A file of the archive is not what its CHECKSUM says (binance-public-data issue 249)."""

    name: str
    """Of the file, without its ending."""


# -- symbols ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ListingEvent(Fault):
    """Something that happens to a symbol."""

    symbol: str
    at_ms: int


@attrs.frozen(kw_only=True)
class NewListing(ListingEvent):
    """A symbol that the market did not have begins to trade.

    Futures show it before, as ``PENDING_TRADING`` and with its ``onboardDate``; spot does not.
    """

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
class StatusChange(ListingEvent):
    """A symbol's status changes; in any other than ``TRADING`` nothing is traded.

    Candles that lie in such a time whole exist nowhere, as in an `Outage`.
    """

    status: str
    """An open set: CANCEL_ONLY and TRADING_HALT came unannounced in 2026."""


@attrs.frozen(kw_only=True)
class TickChange(ListingEvent):
    """A symbol's tick size changes; a coarser one shows in the prices of later candles."""

    tick_size: str
    """As exchangeInfo shows it: ``"0.01"``."""


@attrs.frozen(kw_only=True)
class Delisting(ListingEvent):
    """A symbol is traded no more: its status changes, no further candle is, the old ones stay."""

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


FAULTS: tuple[type[Fault], ...] = (
    *faults.FAULTS,
    *(ArchiveHole, BadChecksum, Delisting, Garbage, Lag, NewListing, Refuse, RepeatClose),
    *(ReviseClose, Shutdown, StatusChange, TickChange, WrongFirst),
)
"""Everything that can go wrong."""
