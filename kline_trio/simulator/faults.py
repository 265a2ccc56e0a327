"""What can be made to go wrong, as values in exchange time.

Each behaviour is one that real connections have shown: silent stalls
(github.com/binance/binance-connector-java issue 139), close events late or absent
(github.com/JKorf/Binance.Net issue 1267, github.com/nautechsystems/nautilus_trader issue 1705),
refused handshakes (HTTP 451, github.com/ccxt/ccxt issue 15872).  A repeated or revised close has
no documented case on one connection; a recorder must bear both all the same.
"""

from typing import Literal

import attrs

from kline_trio.simulator.lies import Lie, WrongFrame
from kline_trio.simulator.listing_events import Delisting, ListingEvent

__all__ = [
    "ArchiveHole",
    "BadChecksum",
    "CloseFault",
    "Delisting",
    "Drop",
    "Fault",
    "Garbage",
    "Lag",
    "LateClose",
    "Moment",
    "OmitClose",
    "Outage",
    "QuietStretch",
    "Refuse",
    "RepeatClose",
    "RestFault",
    "ReviseClose",
    "Shutdown",
    "Silence",
    "Stall",
]


@attrs.frozen(kw_only=True)
class Drop:
    """Every open connection of the market ends without a close frame."""

    trade_type: str
    at_ms: int


@attrs.frozen(kw_only=True)
class Shutdown:
    """``serverShutdown`` is announced on every open connection, which is dropped later."""

    trade_type: str
    at_ms: int
    grace_ms: int = 60_000
    """From notice to drop; no lead time is promised (spot docs, CHANGELOG.md, 2026-06-09)."""


@attrs.frozen(kw_only=True)
class Garbage:
    """A text that is no frame at all is sent on every open connection."""

    trade_type: str
    at_ms: int
    text: str = '{"stream":"btcusdt@kline_1m","data":{"e":"kli'


@attrs.frozen(kw_only=True)
class Stall:
    """Connections stay open, pings and replies go on, no event is sent; nothing is caught up."""

    trade_type: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    new_connections_too: bool = False
    """Without it only connections that were open at ``from_ms`` are hit."""


@attrs.frozen(kw_only=True)
class Silence:
    """One stream gives nothing while its connection and the other streams on it go on.

    Streams have died so on one connection while another had them (github.com/binance/
    binance-connector-java issue 139).
    """

    trade_type: str
    stream: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    cure: Literal["subscription", "connection"] | None = None
    """What gets the stream back before ``until_ms``, if made at ``from_ms`` or later: a new
    SUBSCRIBE, on whichever connection (who is subscribed still must UNSUBSCRIBE first), or another
    connection only; None for nothing."""


@attrs.frozen(kw_only=True)
class Lag:
    """Each connection opened in the span is a server's that is behind, for all its life.

    All its events come later than they are due, by the same seeded time between 0 and ``most_ms``;
    their event times and their order are as ever, and pings and replies are on time.  Two
    connections behind a load balancer disagree so; events of five to ten seconds ago are in
    github.com/binance/binance-futures-connector-python issue 207.
    """

    trade_type: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""
    most_ms: int = 30_000


@attrs.frozen(kw_only=True)
class Refuse:
    """WebSocket handshakes are answered with an HTTP status instead of 101."""

    trade_type: str
    from_ms: int
    until_ms: int
    status: int = 503


@attrs.frozen(kw_only=True)
class Outage:
    """Nothing is traded: candles that lie in it whole exist nowhere, as in a full maintenance.

    Such hours are absent rows of REST answers and archives alike (github.com/ccxt/ccxt issue 8068,
    github.com/binance/binance-public-data issue 84).
    """

    trade_type: str
    from_ms: int
    until_ms: int
    symbol: str | None = None
    """None for the whole market."""


@attrs.frozen(kw_only=True)
class RestFault:
    """REST requests are answered with a status other than 200, or with half of a body."""

    trade_type: str
    from_ms: int
    until_ms: int
    status: int = 500
    """200 for an answer that breaks off in the middle."""


@attrs.frozen(kw_only=True)
class ArchiveHole:
    """The archive lacks candles that REST has (SOLUSDT, 2023-02-14 16:39)."""

    trade_type: str
    symbol: str
    from_ms: int
    until_ms: int


@attrs.frozen(kw_only=True)
class QuietStretch:
    """The archive's candles in it are flat and without trades; REST and stream have the trades.

    Each candle that lies in it whole is hit (USD-M, 2025-01-29, binance-public-data issue 395).
    """

    trade_type: str
    symbol: str
    from_ms: int
    """Inclusive."""
    until_ms: int
    """Exclusive."""


@attrs.frozen(kw_only=True)
class BadChecksum:
    """A file of the archive is not what its CHECKSUM says (binance-public-data issue 249)."""

    trade_type: str
    name: str
    """Of the file, without its ending."""


@attrs.frozen(kw_only=True)
class OmitClose:
    """A candle's closing frame never comes."""

    trade_type: str
    stream: str
    open_ms: int


@attrs.frozen(kw_only=True)
class LateClose:
    """A candle's closing frame comes ``late_ms`` after the candle's end."""

    trade_type: str
    stream: str
    open_ms: int
    late_ms: int


@attrs.frozen(kw_only=True)
class RepeatClose:
    """A candle's closing frame comes a second time, ``after_ms`` after the first."""

    trade_type: str
    stream: str
    open_ms: int
    after_ms: int = 1_000


@attrs.frozen(kw_only=True)
class ReviseClose:
    """A candle closes first with other values, and ``after_ms`` later with the true ones."""

    trade_type: str
    stream: str
    open_ms: int
    after_ms: int = 1_000


Fault = (
    ArchiveHole
    | BadChecksum
    | Drop
    | Shutdown
    | Garbage
    | Lag
    | Lie
    | ListingEvent
    | Stall
    | Silence
    | Refuse
    | OmitClose
    | LateClose
    | Outage
    | QuietStretch
    | RepeatClose
    | RestFault
    | ReviseClose
)
CloseFault = OmitClose | LateClose | RepeatClose | ReviseClose
Moment = Drop | Shutdown | Garbage | WrongFrame
