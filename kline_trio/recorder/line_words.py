"""What a listener says of its connections: a line when something changes, not when it stays."""

import logging
from collections import Counter

import attrs

from kline_trio.exchange.connection import BadFrame, Ended, RefusedStream, SilentStreams, Why

__all__ = ["LineWords"]

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200
_SHOWN_NAMES = 10

_ADVICE = {
    403: "a firewall in between refuses us",
    404: "there is nothing at this path, see [endpoints]",
    418: "this address is banned for a while, for too many requests",
    429: "too many attempts from this address",
    451: "not for this location: name another host under [endpoints], or use a proxy",
}
"""What a refused handshake means (Binance docs, rest-api.md "HTTP Return Codes"; ccxt#15872)."""


@attrs.define(eq=False)
class LineWords:
    """The voice of one line to the exchange, over all of its connections."""

    name: str
    """What the line is called: its market, and a number where it has several."""
    streams: int
    """How many streams it carries."""

    _down_since: float | None = None
    _state: tuple[Why, int | None] | None = None
    _named: set[str] = attrs.field(factory=set)

    def heard(self, now_seconds: float) -> None:
        """The first candle of a connection came."""
        again = ""
        if self._down_since is not None:
            again = f" again after {now_seconds - self._down_since:.1f} s"
        logger.info("%s: receiving %s%s", self.name, _count(self.streams, "stream"), again)
        self._down_since = self._state = None

    def lost(self, ended: Ended, now_seconds: float) -> None:
        """A connection ended; said once until another reason, or until data come again."""
        if self._down_since is None:
            self._down_since = now_seconds
        if ended.why is Why.REFUSED:
            advice = _ADVICE.get(ended.status or 0, "the exchange, or something before it, said no")
            text = f"refused with {ended.detail}: {advice}"
        elif ended.why is Why.STALLED and ended.heard:
            text = ended.detail
        else:
            text = f"{ended.why.value}: {ended.detail}"
        state = (ended.why, ended.status)
        if state != self._state:
            logger.warning("%s: %s; trying again", self.name, text)
            self._state = state

    def bad_frame(self, bad: BadFrame, counts: Counter[str]) -> None:
        """A frame could not be taken; each reason is said once."""
        counts[bad.reason] += 1
        if counts[bad.reason] == 1:
            shown = ascii(bad.text[:_SHOWN_CHARACTERS])
            more = "..." if len(bad.text) > _SHOWN_CHARACTERS else ""
            logger.warning("%s: passed over %s: %s%s", self.name, bad.reason, shown, more)

    def silent(self, silent: SilentStreams) -> None:
        """Streams give nothing; each is named once."""
        names = [name for name in silent.names if name not in self._named]
        self._named.update(names)
        if names:
            logger.warning(
                "%s: acknowledged, but silent for %g s: %s (no such symbol, or no trades)",
                self.name,
                silent.seconds,
                _some(names),
            )

    def refused(self, refused: RefusedStream) -> None:
        """The exchange would not subscribe a stream."""
        if refused.name not in self._named:
            self._named.add(refused.name)
            logger.warning(
                "%s: the exchange refuses %s: %s",
                self.name,
                refused.name,
                ascii(refused.message[:_SHOWN_CHARACTERS]),
            )


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return " ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
