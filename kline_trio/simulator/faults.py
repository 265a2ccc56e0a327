"""The faults that the exchange can play, as values in exchange time.

Each fault is one that real connections have shown: silent stalls
(github.com/binance/binance-connector-java issue 139), close events late or absent
(github.com/JKorf/Binance.Net issue 1267, github.com/nautechsystems/nautilus_trader issue 1705).
Some are lies, which a recorder must not believe while one witness alone tells them: hosts whose
time is wrong, rows off the grid (February 2018 has 1,201 of them on spot), frames of another time.

`tests/faulty_exchange` has more faults, which only tests need. They are of the same kinds.
"""

from collections.abc import Sequence
from typing import Literal

import attrs
import msgspec

from kline_trio.simulator.frames import Event, Kline, without_trades
from kline_trio.simulator.rest_klines import Candles

__all__ = ["FAULTS", "ArchiveFault", "CloseFault", "Drop", "Fault", "LateClose"]
__all__ += ["Moment", "OmitClose", "Outage", "QuietStretch", "RestFault", "RowsLie", "Silence"]
__all__ += ["SpanFault", "Stall", "WrongFrame", "WrongRows", "WrongTime"]


@attrs.frozen(kw_only=True)
class Fault:
    """Something that goes wrong in one market."""

    trade_type: str


@attrs.frozen(kw_only=True)
class SpanFault(Fault):
    """A fault that lasts."""

    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""


@attrs.frozen(kw_only=True)
class Moment(Fault):
    """A fault that strikes every open connection of the market at one moment."""

    at_ms: int

    @property
    def drop_ms(self) -> int | None:
        """When the connections end; None if they stay open."""
        return None

    def events(self, newest: Event | None) -> Sequence[Event] | None:
        """Return what a connection is sent; None if the fault cannot strike it.

        Args:
            newest: The newest candle that the connection was sent.
        """
        return ()


@attrs.frozen(kw_only=True)
class CloseFault(Fault):
    """A fault of the closing frame of one candle."""

    stream: str
    open_ms: int

    def dues_ms(self, due_ms: int, end_ms: int) -> tuple[int, ...]:
        """Return when closing frames are sent.

        Args:
            due_ms: When the frame would be sent without the fault.
            end_ms: The end of the candle.
        """
        raise NotImplementedError

    def sent(self, kline: Kline, nth: int) -> Kline:
        """Return the candle as the nth closing frame has it, counted from 0."""
        return kline


@attrs.frozen(kw_only=True)
class RowsLie(SpanFault):
    """A lie in the answers of the klines endpoint."""

    def told(self, candles: Candles) -> Candles:
        """Return the candles as the answers have them."""
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class ArchiveFault(SpanFault):
    """A fault of the archive files of one symbol; it hits candles that open in the span."""

    symbol: str

    def archived(self, kline: Kline, price: str) -> Kline | None:
        """Return the candle as the archive has it; None if the archive lacks it.

        Args:
            kline: The candle that REST and stream have.
            price: The close of the archive's candle before it.
        """
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class Drop(Moment):
    """Every open connection of the market ends without a close frame."""

    @property
    def drop_ms(self) -> int:
        """See `Moment`."""
        return self.at_ms


@attrs.frozen(kw_only=True)
class Stall(SpanFault):
    """Connections stay open, pings and replies go on, no event is sent; nothing is caught up."""

    new_connections_too: bool = False
    """Without it only connections that were open at ``from_ms`` are hit."""


@attrs.frozen(kw_only=True)
class Silence(SpanFault):
    """One stream gives nothing while its connection and the other streams on it go on.

    Streams have died so on one connection while another had them (github.com/binance/
    binance-connector-java issue 139).
    """

    stream: str
    cure: Literal["subscription", "connection"] | None = None
    """What gets the stream back before ``until_ms``, if made at ``from_ms`` or later: a new
    SUBSCRIBE, on whichever connection (who is subscribed still must UNSUBSCRIBE first), or another
    connection only; None for nothing."""


@attrs.frozen(kw_only=True)
class WrongFrame(Moment):
    """Every open connection gets its newest candle once more, with another time."""

    ahead_ms: int
    """Negative: the time is earlier."""
    moves: Literal["event", "candle"] = "event"
    """What has the other time: the event alone, or the whole candle, which is closed then."""

    def events(self, newest: Event | None) -> Sequence[Event] | None:
        """See `Moment`."""
        if newest is None:
            return None
        event = msgspec.json.decode(newest.text)
        event["E"] += self.ahead_ms
        if self.moves == "candle":
            for key in ("t", "T"):
                event["k"][key] += self.ahead_ms
            event["k"]["x"] = True
        return (newest._replace(text=msgspec.json.encode(event).decode()),)


@attrs.frozen(kw_only=True)
class OmitClose(CloseFault):
    """A candle's closing frame never comes."""

    def dues_ms(self, due_ms: int, end_ms: int) -> tuple[int, ...]:
        """See `CloseFault`."""
        return ()


@attrs.frozen(kw_only=True)
class LateClose(CloseFault):
    """A candle's closing frame comes ``late_ms`` after the candle's end."""

    late_ms: int

    def dues_ms(self, due_ms: int, end_ms: int) -> tuple[int, ...]:
        """See `CloseFault`."""
        return (end_ms + self.late_ms,)


@attrs.frozen(kw_only=True)
class Outage(SpanFault):
    """Nothing is traded: candles that lie in it whole exist nowhere, as in a full maintenance.

    Such hours are absent rows of REST answers and archives alike (github.com/ccxt/ccxt issue 8068,
    github.com/binance/binance-public-data issue 84).
    """

    symbol: str | None = None
    """None for the whole market."""


@attrs.frozen(kw_only=True)
class RestFault(SpanFault):
    """REST requests are answered with a status other than 200, or with half of a body."""

    status: int = 500
    """200 for an answer that breaks off in the middle."""


@attrs.frozen(kw_only=True)
class WrongTime(SpanFault):
    """The time endpoint tells a time that is not the exchange's; so does exchangeInfo."""

    ahead_ms: int
    """By how much the answer is later than the truth; negative: earlier."""


@attrs.frozen(kw_only=True)
class WrongRows(RowsLie):
    """All rows of klines answers have shifted times."""

    ahead_ms: int
    """A few milliseconds move rows off the grid, years to another time."""

    def told(self, candles: Candles) -> Candles:
        """See `RowsLie`."""

        def at(interval: str, open_ms: int) -> Kline | None:
            kline = candles.at(interval, open_ms)
            return kline and attrs.evolve(
                kline,
                open_time_ms=kline.open_time_ms + self.ahead_ms,
                close_time_ms=kline.close_time_ms + self.ahead_ms,
            )

        return attrs.evolve(candles, at=at)


@attrs.frozen(kw_only=True)
class QuietStretch(ArchiveFault):
    """The archive's candles in it are flat and without trades; REST and stream have the trades.

    Each candle that lies in it whole is hit (USD-M, 2025-01-29, binance-public-data issue 395).
    """

    def archived(self, kline: Kline, price: str) -> Kline:
        """See `ArchiveFault`."""
        if kline.close_time_ms >= self.until_ms:
            return kline
        return without_trades(kline, price or kline.open, lambda _: "0")


FAULTS: tuple[type[Fault], ...] = (
    *(Drop, LateClose, OmitClose, Outage, QuietStretch, RestFault, Silence, Stall),
    *(WrongFrame, WrongRows, WrongTime),
)
"""Every fault that the built-in exchange can play."""
