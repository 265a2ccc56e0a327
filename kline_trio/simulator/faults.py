"""What can be made to go wrong, as values in exchange time, and the record of what did.

Each behaviour is one that real connections have shown: silent stalls
(github.com/binance/binance-connector-java issue 139), close events late or absent
(github.com/JKorf/Binance.Net issue 1267, github.com/nautechsystems/nautilus_trader issue 1705),
refused handshakes (HTTP 451, github.com/ccxt/ccxt issue 15872).  A repeated or revised close has
no documented case on one connection; a recorder must bear both all the same.
"""

from collections.abc import Iterable

import attrs

__all__ = [
    "ArchiveHole",
    "BadChecksum",
    "Delisting",
    "Drop",
    "Fault",
    "Garbage",
    "Happened",
    "LateClose",
    "Moment",
    "OmitClose",
    "Outage",
    "Refuse",
    "RepeatClose",
    "RestFault",
    "ReviseClose",
    "Script",
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
    """One stream gives nothing on any connection; the others go on."""

    trade_type: str
    stream: str
    from_ms: int
    until_ms: int


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
class Delisting:
    """A symbol is traded no more: its status changes, no further candle is, the old ones stay."""

    trade_type: str
    symbol: str
    at_ms: int


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
    | Delisting
    | Drop
    | Shutdown
    | Garbage
    | Stall
    | Silence
    | Refuse
    | OmitClose
    | LateClose
    | Outage
    | RepeatClose
    | RestFault
    | ReviseClose
)
_CloseFault = OmitClose | LateClose | RepeatClose | ReviseClose
Moment = Drop | Shutdown | Garbage


@attrs.frozen(kw_only=True)
class Happened:
    """One thing that went wrong in fact, to compare a recorder's own account with."""

    fault: str
    """Name of the fault's class."""
    trade_type: str
    stream: str | None = None
    """The stream hit, None where the whole connection or market was."""
    open_ms: int | None = None
    """Open time of the candle whose closing frame was hit or lost."""
    from_ms: int
    until_ms: int
    """Exclusive end of a span; equal to ``from_ms`` for a moment."""


class Script:
    """The faults of one market, looked up by what they hit."""

    def __init__(self, trade_type: str, faults: Iterable[Fault]) -> None:
        mine = [fault for fault in faults if fault.trade_type == trade_type]
        self.trade_type = trade_type
        self.stalls = [fault for fault in mine if isinstance(fault, Stall)]
        self.silences = [fault for fault in mine if isinstance(fault, Silence)]
        self.refusals = [fault for fault in mine if isinstance(fault, Refuse)]
        self.rest_faults = [fault for fault in mine if isinstance(fault, RestFault)]
        self.archive_faults = [
            fault for fault in mine if isinstance(fault, ArchiveHole | BadChecksum)
        ]
        self.outages = [fault for fault in mine if isinstance(fault, Outage)]
        self.delistings = [fault for fault in mine if isinstance(fault, Delisting)]
        self._closes: dict[tuple[str, int], _CloseFault] = {
            (fault.stream, fault.open_ms): fault for fault in mine if isinstance(fault, _CloseFault)
        }
        self._moments: list[Moment] = [fault for fault in mine if isinstance(fault, Moment)]
        self.longest_late_ms = max(
            (fault.late_ms for fault in mine if isinstance(fault, LateClose)), default=0
        )

    def moments(self, born_ms: int) -> list[Moment]:
        """Return by time what strikes a connection made at ``born_ms``."""
        return sorted(
            (moment for moment in self._moments if moment.at_ms > born_ms),
            key=lambda moment: moment.at_ms,
        )

    def close_fault(self, stream: str, open_ms: int) -> _CloseFault | None:
        """Return what is scripted for the close of one candle."""
        return self._closes.get((stream, open_ms))

    def refusal(self, now_ms: int) -> Refuse | None:
        """Return the refusal in force."""
        return next((f for f in self.refusals if f.from_ms <= now_ms < f.until_ms), None)

    def rest_fault(self, now_ms: int) -> RestFault | None:
        """Return what strikes REST requests."""
        return next((f for f in self.rest_faults if f.from_ms <= now_ms < f.until_ms), None)

    def delisted(self, now_ms: int) -> set[str]:
        """Return the symbols that are traded no more."""
        return {fault.symbol for fault in self.delistings if fault.at_ms <= now_ms}

    def outage(self, symbol: str, open_ms: int, end_ms: int) -> Outage | Delisting | None:
        """Return why there is no such candle at all."""
        for delisting in self.delistings:
            if delisting.symbol == symbol and open_ms >= delisting.at_ms:
                return delisting
        for outage in self.outages:
            if outage.symbol in (None, symbol) and (
                outage.from_ms <= open_ms and end_ms <= outage.until_ms
            ):
                return outage
        return None

    def muted(self, stream: str, at_ms: int, born_ms: int) -> Stall | Silence | None:
        """Return what keeps an event of ``at_ms`` from a connection made at ``born_ms``."""
        for stall in self.stalls:
            if stall.from_ms <= at_ms < stall.until_ms and (
                born_ms <= stall.from_ms or stall.new_connections_too
            ):
                return stall
        for silence in self.silences:
            if silence.stream == stream and silence.from_ms <= at_ms < silence.until_ms:
                return silence
        return None


@attrs.define
class Record:
    """The list of what really happened, each thing once however many connections it hit."""

    happened: list[Happened] = attrs.field(factory=list)
    _seen: set[Happened] = attrs.field(factory=set)

    def add(self, happened: Happened) -> None:
        """Note a thing unless it is noted already."""
        if happened not in self._seen:
            self._seen.add(happened)
            self.happened.append(happened)
