"""What the exchange can be made to say that is not so, as values in exchange time.

A recorder must not believe any of it for what one witness alone has said. Hosts whose time is
wrong, rows that stand off the grid (February 2018 has 1,201 of them on spot) and frames of another
time are rare, and each has been met.
"""

from typing import Literal

import attrs
import msgspec

from kline_trio.simulator.frames import Kline
from kline_trio.simulator.rest_klines import Candles

__all__ = ["Lie", "WrongFirst", "WrongFrame", "WrongRows", "WrongTime"]


@attrs.frozen(kw_only=True)
class WrongTime:
    """The time endpoint tells a time that is not the exchange's; so does exchangeInfo."""

    trade_type: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    ahead_ms: int
    """How much later the time is that it tells; negative: earlier."""


@attrs.frozen(kw_only=True)
class WrongRows:
    """The rows of klines answers bear times of their own, and no others come."""

    trade_type: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    ahead_ms: int
    """A few milliseconds are off the grid, and years are of another time."""

    def told(self, candles: Candles) -> Candles:
        """Return the candles as the answers have them."""

        def at(interval: str, open_ms: int) -> Kline | None:
            kline = candles.at(interval, open_ms)
            return kline and attrs.evolve(
                kline,
                open_time_ms=kline.open_time_ms + self.ahead_ms,
                close_time_ms=kline.close_time_ms + self.ahead_ms,
            )

        return attrs.evolve(candles, at=at)


@attrs.frozen(kw_only=True)
class WrongFirst:
    """Who asks for one candle only, as for the first of a symbol, gets none of its earlier ones."""

    trade_type: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    first_ms: int
    """Of older candles it says nothing."""

    def told(self, candles: Candles) -> Candles:
        """Return the candles as such an answer has them."""
        return attrs.evolve(candles, first_ms=max(candles.first_ms, self.first_ms))


@attrs.frozen(kw_only=True)
class WrongFrame:
    """Every open connection gets its newest candle once more, with another time."""

    trade_type: str
    at_ms: int
    ahead_ms: int
    """Negative: the time is earlier."""
    moves: Literal["event", "candle"] = "event"
    """What bears the other time: the event alone, or the whole candle, which is closed then."""

    def told(self, text: str) -> str:
        """Return the kline event as it is told."""
        event = msgspec.json.decode(text)
        event["E"] += self.ahead_ms
        if self.moves == "candle":
            for key in ("t", "T"):
                event["k"][key] += self.ahead_ms
            event["k"]["x"] = True
        return msgspec.json.encode(event).decode()


Lie = WrongTime | WrongRows | WrongFirst | WrongFrame
