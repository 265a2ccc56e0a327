"""The log lines about connections: one when something changes, none while it stays."""

import logging
import math
from collections import Counter
from collections.abc import Iterable

import attrs

from kline_trio.counting import counted
from kline_trio.exchange.connection_events import BadFrame, CloseReason, Disconnected, SilentStreams

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200
_SHOWN_NAMES = 10
_SHUTDOWN_SECONDS = 60.0

_ADVICE = {
    403: "a firewall in between refuses us",
    404: "there is nothing at this path, see [endpoints]",
    418: "this address is banned for a while, for too many requests",
    429: "too many attempts from this address",
    451: "not for this location: name another host under [endpoints], or use a proxy",
}
"""What a refused handshake means (Binance docs, rest-api.md "HTTP Return Codes"; ccxt#15872)."""


@attrs.define(eq=False)
class ConnectionLog:
    """Logs the connections of one slot, one after the other."""

    name: str
    """The market, with a number or a letter if it has several slots."""

    _down_since: float | None = None
    _had_candle: bool = False
    _shutdown_said_at: float = -math.inf
    _state: tuple[CloseReason, int | None] | None = None
    _named: set[str] = attrs.field(factory=set)

    def receiving(self, streams: int, now_seconds: float) -> None:
        """Log the first candle of a connection with so many streams."""
        again = ""
        if self._down_since is not None:
            again = f" again after {now_seconds - self._down_since:.1f} s"
        elif self._had_candle:
            again = " on another connection too"
        logger.info("%s: receiving %s%s", self.name, counted(streams, "stream"), again)
        self._down_since = self._state = None
        self._had_candle = True

    def shutting_down(self, now_seconds: float) -> None:
        """Log that the exchange will end a connection soon; at most once a minute."""
        if now_seconds < self._shutdown_said_at + _SHUTDOWN_SECONDS:
            return
        self._shutdown_said_at = now_seconds
        logger.info("%s: the exchange is about to close this connection", self.name)

    def retired(self, age_seconds: float) -> None:
        """Log that another connection took the place of one with this age."""
        hours = age_seconds / 3_600
        age = f"{hours:.1f} h" if hours >= 1 else f"{age_seconds:.0f} s"
        logger.info("%s: replaced a connection of %s", self.name, age)

    def revived(self, streams: list[str], how: str) -> None:
        """Log streams that gave nothing though their connection and their symbols were alive."""
        dead = f"{streams[0]} is" if len(streams) == 1 else f"{counted(len(streams), 'stream')} are"
        names = "" if len(streams) == 1 else f": {_some(streams)}"
        logger.warning("%s: %s dead on a living connection: %s%s", self.name, dead, how, names)

    def lost(self, ended: Disconnected, now_seconds: float, *, down: bool, goes_on: bool) -> None:
        """Log the end of a connection; once until the reason changes or data come again.

        Args:
          ended: why it ended.
          now_seconds: by Trio's clock.
          down: whether the slot has no other connection.
          goes_on: whether another connection, of any slot, carries the same streams.
        """
        if down and self._down_since is None:
            self._down_since = now_seconds
        if ended.why is CloseReason.REFUSED:
            advice = _ADVICE.get(ended.status or 0, "the exchange, or something before it, said no")
            text = f"refused with {ended.detail}: {advice}"
        elif ended.why is CloseReason.STALLED and ended.had_candle:
            text = ended.detail
        else:
            text = str(ended)
        state = (ended.why, ended.status)
        if state != self._state:
            effect = "another connection goes on" if goes_on else "trying again"
            logger.warning("%s: %s; %s", self.name, text, effect)
            self._state = state

    def bad_frame(self, bad: BadFrame, counts: Counter[str]) -> None:
        """Log a refused frame, at the 1st, 10th, 100th ... time of its reason."""
        counts[bad.reason] += 1
        count = counts[bad.reason]
        if str(count).strip("0") == "1":
            shown = ascii(bad.text[:_SHOWN_CHARACTERS])
            more = "..." if len(bad.text) > _SHOWN_CHARACTERS else ""
            times = "" if count == 1 else f" ({counted(count, 'time')})"
            logger.warning("%s: passed over %s%s: %s%s", self.name, bad.reason, times, shown, more)

    def silent(self, streams: Iterable[str], silent: SilentStreams) -> None:
        """Log streams that give nothing; each once."""
        names = [name for name in streams if name not in self._named]
        self._named.update(names)
        if names:
            logger.warning(
                "%s: acknowledged, but silent for %g s: %s (no such symbol, or no trades)",
                self.name,
                silent.seconds,
                _some(names),
            )

    def refused(self, streams: list[str], message: str) -> None:
        """Log streams that the exchange refused."""
        shown = ascii(message[:_SHOWN_CHARACTERS])
        logger.warning("%s: the exchange refuses %s: %s", self.name, _some(streams), shown)


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return " ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
