"""The faults of one market, looked up by what they hit."""

from collections import defaultdict
from collections.abc import Iterable

from kline_trio.simulator.faults import (
    ArchiveHole,
    BadChecksum,
    CloseFault,
    Fault,
    Lag,
    LateClose,
    Moment,
    Outage,
    QuietStretch,
    Refuse,
    RestFault,
    Silence,
    Stall,
)
from kline_trio.simulator.lies import WrongFirst, WrongRows, WrongTime
from kline_trio.simulator.listing_events import ListingEvent
from kline_trio.simulator.prices import hash_key
from kline_trio.simulator.spans import Spans

__all__ = ["Script"]


class Script:
    """What is to go wrong in one market.

    Args:
        trade_type: The market; faults of the others are left out.
        faults: Those of all markets.
    """

    def __init__(self, trade_type: str, faults: Iterable[Fault]) -> None:
        mine = [fault for fault in faults if fault.trade_type == trade_type]
        self.trade_type = trade_type
        self.archive_faults = [
            fault for fault in mine if isinstance(fault, ArchiveHole | BadChecksum | QuietStretch)
        ]
        self.listing_events = [fault for fault in mine if isinstance(fault, ListingEvent)]
        self._stalls = Spans(fault for fault in mine if isinstance(fault, Stall))
        self._refusals = Spans(fault for fault in mine if isinstance(fault, Refuse))
        self._rest_faults = Spans(fault for fault in mine if isinstance(fault, RestFault))
        self._wrong_times = Spans(fault for fault in mine if isinstance(fault, WrongTime))
        self._wrong_rows = Spans(fault for fault in mine if isinstance(fault, WrongRows))
        self._wrong_firsts = Spans(fault for fault in mine if isinstance(fault, WrongFirst))
        self._lags = Spans(fault for fault in mine if isinstance(fault, Lag))
        outages: defaultdict[str | None, list[Outage]] = defaultdict(list)
        silences: defaultdict[str, list[Silence]] = defaultdict(list)
        for fault in mine:
            if isinstance(fault, Outage):
                outages[fault.symbol].append(fault)
            elif isinstance(fault, Silence):
                silences[fault.stream].append(fault)
        self._outages = {symbol: Spans(some) for symbol, some in outages.items()}
        self._silences = {stream: Spans(some) for stream, some in silences.items()}
        self._closes: dict[tuple[str, int], CloseFault] = {
            (fault.stream, fault.open_ms): fault for fault in mine if isinstance(fault, CloseFault)
        }
        self._moments: list[Moment] = sorted(
            (fault for fault in mine if isinstance(fault, Moment)),
            key=lambda moment: moment.at_ms,
        )
        self.longest_late_ms = max(
            (fault.late_ms for fault in mine if isinstance(fault, LateClose)), default=0
        )
        self.longest_lag_ms = max(
            (fault.most_ms for fault in mine if isinstance(fault, Lag)), default=0
        )

    def moments(self, born_ms: int) -> list[Moment]:
        """Return by time what strikes a connection made at ``born_ms``."""
        return [moment for moment in self._moments if moment.at_ms > born_ms]

    def close_fault(self, stream: str, open_ms: int) -> CloseFault | None:
        """Return what is scripted for the close of one candle."""
        return self._closes.get((stream, open_ms))

    def refusal(self, now_ms: int) -> Refuse | None:
        """Return the refusal in force."""
        return self._refusals.first_at(now_ms)

    def rest_fault(self, now_ms: int) -> RestFault | None:
        """Return what strikes REST requests."""
        return self._rest_faults.first_at(now_ms)

    def wrong_time(self, now_ms: int) -> WrongTime | None:
        """Return the lie about the time that is told now."""
        return self._wrong_times.first_at(now_ms)

    def wrong_rows(self, now_ms: int, limit: str) -> WrongRows | WrongFirst | None:
        """Return the lie that answers about candles tell now.

        Args:
            now_ms: Exchange time.
            limit: For how many candles at most somebody asks.
        """
        wrong = self._wrong_rows.first_at(now_ms)
        if wrong is None and limit == "1":
            return self._wrong_firsts.first_at(now_ms)
        return wrong

    def lag_ms(self, now_ms: int, seed: int, number: int) -> int:
        """Return how far behind a connection is that is opened now, as the market's ``number``."""
        lag = self._lags.first_at(now_ms)
        if lag is None:
            return 0
        return hash_key(seed, Lag.__name__, self.trade_type, number) % (lag.most_ms + 1)

    def outage(self, symbol: str, open_ms: int, end_ms: int) -> Outage | None:
        """Return the outage in which a candle lies whole."""
        if not self._outages:
            return None
        for whose in (None, symbol):
            if whose in self._outages:
                for outage in self._outages[whose].at(open_ms):
                    if end_ms <= outage.until_ms:
                        return outage
        return None

    def muted(
        self, stream: str, at_ms: int, born_ms: int, subscribed_ms: int
    ) -> Stall | Silence | None:
        """Return what keeps an event of ``at_ms`` from a connection.

        Args:
            stream: The event's.
            at_ms: When it is due.
            born_ms: When the connection was made.
            subscribed_ms: When it subscribed the stream.
        """
        for stall in self._stalls.at(at_ms):
            if born_ms <= stall.from_ms or stall.new_connections_too:
                return stall
        if stream in self._silences:
            for silence in self._silences[stream].at(at_ms):
                since_ms = {"subscription": subscribed_ms, "connection": born_ms}
                if silence.cure is None or since_ms[silence.cure] < silence.from_ms:
                    return silence
        return None
