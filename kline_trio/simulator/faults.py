"""The faults that the exchange can play, in exchange time, their script, and what struck.

Each fault is one that real connections have shown: silent stalls
(github.com/binance/binance-connector-java issue 139), close events late or absent
(github.com/JKorf/Binance.Net issue 1267, github.com/nautechsystems/nautilus_trader issue 1705).
Some are lies, of which a recorder must not accept one without a second witness: hosts whose time
is wrong, rows off the grid (February 2018 has 1,201 of them on spot), frames of another time.

`tests/faulty_exchange` has more faults, which only tests need. They are of the same kinds.
"""

from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, Literal, Protocol, TypeVar

import attrs
import msgspec

from kline_trio.simulator.frames import Event, Kline, without_trades
from kline_trio.simulator.rest import Candles
from kline_trio.simulator.symbols import Listing, SymbolTimeline


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
    """Wrong candles in the answers of the klines endpoint."""

    def answered(self, candles: Candles) -> Candles:
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
    """What ends the silence before ``until_ms``: a SUBSCRIBE at ``from_ms`` or later on any
    connection (after an UNSUBSCRIBE if the stream is still subscribed), or only a connection that
    is opened then; None for nothing."""


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
    """The time endpoint and exchangeInfo answer with a wrong time."""

    ahead_ms: int
    """By how much the answer is later than the truth; negative: earlier."""


@attrs.frozen(kw_only=True)
class WrongRows(RowsLie):
    """All rows of klines answers have shifted times."""

    ahead_ms: int
    """A few milliseconds move rows off the grid, years to another time."""

    def answered(self, candles: Candles) -> Candles:
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


_MOST_INCIDENTS = 100_000
"""So that months of faults take no more memory."""
FAULTS: tuple[type[Fault], ...] = (
    *(Drop, LateClose, OmitClose, Outage, QuietStretch, RestFault, Silence, Stall),
    *(WrongFrame, WrongRows, WrongTime),
)
"""Every fault that the built-in exchange can play."""


class _Span(Protocol):
    @property
    def from_ms(self) -> int: ...
    @property
    def until_ms(self) -> int: ...


_S = TypeVar("_S", bound=_Span)
_F = TypeVar("_F", bound=SpanFault)


class Spans(Generic[_S]):
    """Values with a ``from_ms``, inclusive, and an ``until_ms``, exclusive, found by a moment.

    A year's script has thousands of faults, and each event of each stream is held against them.
    """

    def __init__(self, spans: Iterable[_S]) -> None:
        self._spans = sorted(spans, key=lambda span: span.from_ms)
        self._begins = [span.from_ms for span in self._spans]
        # The latest end among a span and all before it: from there back, none can hold a moment.
        self._ends = list(accumulate((span.until_ms for span in self._spans), max))

    def at(self, moment_ms: int) -> Iterator[_S]:
        """Give the spans that hold a moment, the one that began last first."""
        place = bisect_right(self._begins, moment_ms) - 1
        while place >= 0 and self._ends[place] > moment_ms:
            if self._spans[place].until_ms > moment_ms:
                yield self._spans[place]
            place -= 1


class Script:
    """The faults of one market.

    Args:
        trade_type: The market; faults of the others are left out.
        faults: The faults of all markets.

    Raises:
        ValueError: A fault is of a kind that only the exchange of the tests can play.
    """

    kinds = FAULTS
    """The faults that can be played."""
    new_symbols: tuple[str, ...] = ()
    """Symbols that the market lists later."""

    def __init__(self, trade_type: str, faults: Iterable[Fault]) -> None:
        mine = [fault for fault in faults if fault.trade_type == trade_type]
        for fault in mine:
            if not isinstance(fault, self.kinds):
                raise ValueError(f"the built-in exchange cannot play {fault}")
        self.trade_type = trade_type
        self.archive_faults = [fault for fault in mine if isinstance(fault, ArchiveFault)]
        spans: defaultdict[tuple[type, str | None], list[SpanFault]] = defaultdict(list)
        for fault in mine:
            if isinstance(fault, SpanFault):
                hit = fault.stream if isinstance(fault, Silence) else None
                hit = fault.symbol if isinstance(fault, Outage) else hit
                spans[type(fault), hit].append(fault)
        self._spans = {key: Spans(some) for key, some in spans.items()}
        self._closes = {
            (fault.stream, fault.open_ms): fault for fault in mine if isinstance(fault, CloseFault)
        }
        self._moments = sorted(
            (fault for fault in mine if isinstance(fault, Moment)),
            key=lambda moment: moment.at_ms,
        )
        self.longest_late_ms = max(
            (fault.late_ms for fault in mine if isinstance(fault, LateClose)), default=0
        )

    def timeline(self, listing: Listing) -> SymbolTimeline:
        """Return what happens to a symbol."""
        return SymbolTimeline(listing)

    def moments(self, born_ms: int) -> list[Moment]:
        """Return by time what strikes a connection made at ``born_ms``."""
        return [moment for moment in self._moments if moment.at_ms > born_ms]

    def close_fault(self, stream: str, open_ms: int) -> CloseFault | None:
        """Return the fault of the close of one candle."""
        return self._closes.get((stream, open_ms))

    def in_force(self, kind: type[_F], now_ms: int) -> _F | None:
        """Return the fault of a kind that hits the whole market now."""
        return next(self._at(kind, None, now_ms), None)

    def rows_lie(self, now_ms: int, *, is_one: bool) -> RowsLie | None:
        """Return the fault of klines answers now.

        Args:
            now_ms: Exchange time.
            is_one: Whether one candle at most is asked for.
        """
        return self.in_force(WrongRows, now_ms)

    def outage(self, symbol: str, open_ms: int, end_ms: int) -> Outage | None:
        """Return the outage in which a candle lies whole."""
        for whose in (None, symbol):
            for outage in self._at(Outage, whose, open_ms):
                if end_ms <= outage.until_ms:
                    return outage
        return None

    def muted(
        self, stream: str, at_ms: int, born_ms: int, subscribed_ms: int
    ) -> Stall | Silence | None:
        """Return the fault that keeps an event from a connection.

        Args:
            stream: The event's.
            at_ms: When the event is due.
            born_ms: When the connection was made.
            subscribed_ms: When the connection subscribed the stream.
        """
        for stall in self._at(Stall, None, at_ms):
            if born_ms <= stall.from_ms or stall.new_connections_too:
                return stall
        for silence in self._at(Silence, stream, at_ms):
            since_ms = {"subscription": subscribed_ms, "connection": born_ms}
            if silence.cure is None or since_ms[silence.cure] < silence.from_ms:
                return silence
        return None

    def _at(self, kind: type[_F], hit: str | None, now_ms: int) -> Iterator[_F]:
        spans = self._spans.get((kind, hit))
        return iter(()) if spans is None else spans.at(now_ms)  # type: ignore[return-value]


@attrs.frozen
class Incident:
    """One fault that really struck, to compare a recorder's ledger with."""

    fault: str
    """Name of the fault's class."""
    trade_type: str
    from_ms: int
    until_ms: int
    """Exclusive end of a span; equal to ``from_ms`` for a moment."""
    stream: str | None = None
    """The stream hit, None where the whole connection or market was."""
    open_ms: int | None = None
    """Open time of the candle whose closing frame was hit or lost."""
    connection: int | None = None
    """Number of the connection hit, where it is one alone."""

    @classmethod
    def of(cls, fault: SpanFault) -> "Incident":
        """Return the incident of a fault with a span."""
        name, stream = type(fault).__name__, getattr(fault, "stream", None)
        return cls(name, fault.trade_type, fault.from_ms, fault.until_ms, stream)


class IncidentLog:
    """The newest incidents, each once however many connections it hit."""

    def __init__(self) -> None:
        self._incidents: OrderedDict[Incident, None] = OrderedDict()

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The newest incidents, in the order in which they happened."""
        return tuple(self._incidents)

    def add(self, incident: Incident) -> None:
        """Add an incident unless the log has it already."""
        self._incidents.setdefault(incident)
        if len(self._incidents) > _MOST_INCIDENTS:
            self._incidents.popitem(last=False)
