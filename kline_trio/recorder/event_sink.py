"""Closed candles of all connections of a market, sent on to the writer once each."""

from collections.abc import Callable, Iterable, Set
from datetime import datetime

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.protocol import CandleClosed
from kline_trio.recorder.series_set import SeriesSet

_SLOWEST_MS = 60_000
"""A connection that is further behind counts as stalled."""


@attrs.define(eq=False)
class _SentCandles:
    """The candles that were sent on lately, whichever connection brought them (pure)."""

    _by_series: dict[Series, dict[int, CandleClosed]] = attrs.field(init=False, factory=dict)
    """What was sent on last, by series and open time; of a minute at least."""

    def add(self, event: CandleClosed) -> bool:
        """Note a candle that is to be sent on now; return False if it must not be.

        It must not if it was sent on before, or a later state of it. The exchange may revise a
        candle after its close. A slower connection brings the first state after a faster one has
        brought the second, and may end between the two.
        """
        open_ms = event.candle.open_time_ms
        sent = self._by_series.setdefault(event.series, {})
        last = sent.get(open_ms)
        if last is not None and (
            event.candle == last.candle or event.event_time_ms < last.event_time_ms
        ):
            return False
        sent[open_ms] = event
        while (oldest_ms := next(iter(sent))) < open_ms - _SLOWEST_MS:
            del sent[oldest_ms]
        return True

    def discard(self, event: CandleClosed) -> None:
        """Forget a candle that could not be sent on."""
        self._by_series[event.series].pop(event.candle.open_time_ms, None)

    def keep_only(self, series: Set[Series]) -> None:
        """Forget all other series."""
        self._by_series = {one: sent for one, sent in self._by_series.items() if one in series}


@attrs.define(eq=False)
class EventSink:
    """Takes the events of all connections of a market; sends each closed candle on once."""

    send: trio.MemorySendChannel[ReceivedCandle]
    """The listener's own end; closed when the listener ends."""
    clock: ExchangeClock
    """Takes the event time of each valid candle, and judges those of closed candles."""
    series_set: SeriesSet
    """Takes note of each candle that is sent on, or dropped."""
    contract_changed: Callable[[str], None]
    """Called with the trade type of a market one of whose contracts has changed."""
    now: Callable[[], datetime]
    """The wall clock, for labels."""
    wanted: frozenset[Series] = attrs.field(init=False, default=frozenset())
    _sent: _SentCandles = attrs.field(init=False, factory=_SentCandles)

    def set_series(self, series: Iterable[Series]) -> None:
        """Send the candles of these series on, and of no others."""
        self.wanted = frozenset(series)
        self._sent.keep_only(self.wanted)

    async def deliver(self, event: CandleClosed) -> None:
        """Send a closed candle on, unless another connection has done so.

        While the channel is full, wait. If cancelled, the candle counts as dropped: another
        connection may deliver it again.
        """
        if event.series not in self.wanted:
            return  # on its way when its stream was ended
        if not self._sent.add(event):
            return  # another connection was faster
        received = ReceivedCandle(event.series, event.candle, self.now())
        self.series_set.received(event.series, event.candle.open_time_ms)
        is_sent = False
        try:
            # send() lets all other tasks go first, each time; a minute's candles come together.
            try:
                self.send.send_nowait(received)
            except trio.WouldBlock:
                await self.send.send(received)
            is_sent = True
        except trio.BrokenResourceError:
            # The receiver died: its own error is on its way up, and will cancel us.
            await trio.sleep_forever()
        finally:
            if not is_sent:
                # The channel was full until the connection ended.
                self._sent.discard(event)
                self.series_set.dropped(event.series, event.candle.open_time_ms)
