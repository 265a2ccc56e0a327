"""One market: its connections, each kept alive for ever."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import ConnectionConfig
from kline_trio.exchange.connection import (
    BadFrame,
    Connection,
    Ended,
    Happening,
    Heard,
    RefusedStream,
    SilentStreams,
    Why,
)
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import CandleClosed, stream_name
from kline_trio.recorder.line_words import LineWords
from kline_trio.recorder.seams import Seams

__all__ = ["Listener", "backoff_seconds"]

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 60.0
_MAX_RETRY_AFTER_SECONDS = 3 * 86_400.0
"""The longest ban there is (Binance docs, rest-api.md, "IP Limits")."""
_MAX_STALL_SECONDS = 15 * 60.0
_START_SPACING_SECONDS = 0.5

_DIAL_SPACING_SECONDS = 3.0
"""From one dial of a line to its next at least, however it went: 300 connections in five minutes
are allowed to an address (Binance docs, "WebSocket Limits"), and several lines share it."""

_LEAST_WAIT_SECONDS = {418: 30.0, 429: 2.0}
"""Asking on during a ban makes it longer."""


def backoff_seconds(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row.

    Doubles from half a second to a minute; `chance`, from 0 to 1, takes up to half of it away, so
    that connections lost together do not come back together.
    """
    whole = min(_MAX_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
    return whole * (1 - chance / 2)


@attrs.define(eq=False)
class Listener:
    """Receives the closed candles of one market's series, on as many connections as they need."""

    market: Market
    series: tuple[Series, ...]
    urls: tuple[str, ...]
    """The market's WebSocket hosts, tried in order."""
    patience: ConnectionConfig
    seams: Seams
    send: trio.MemorySendChannel[ReceivedCandle]
    """This listener's own end; closed when it ends."""
    hear_time: Callable[[int], None]
    """Takes the exchange's time, in milliseconds, with each valid candle."""
    received: Callable[[Series, int], None]
    """Told the series and the open time of each closed candle, before it is sent on."""

    bad_frames: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many frames could not be taken, by reason."""

    async def run(self) -> None:
        """Listen until cancelled."""
        size = self.market.streams_per_connection
        parts = [self.series[start : start + size] for start in range(0, len(self.series), size)]
        with self.send:
            async with trio.open_nursery() as connections:
                for number, part in enumerate(parts, 1):
                    name = self.market.trade_type + (f"/{number}" if len(parts) > 1 else "")
                    streams = {stream_name(series): series for series in part}
                    connections.start_soon(self._keep_connected, name, streams)
                    await trio.sleep(_START_SPACING_SECONDS)

    async def _keep_connected(self, name: str, streams: Mapping[str, Series]) -> None:
        words = LineWords(name, len(streams))
        failures = stalls = host = 0
        while True:
            connection = Connection(
                self.market,
                streams,
                deliver=self._deliver,
                tell=partial(self._report, words),
                hear_time=self.hear_time,
                connect_seconds=self.patience.connect_seconds,
                stall_seconds=_stall_seconds(self.patience.stall_seconds, stalls),
            )
            began = trio.current_time()
            ended = await connection.live(self.seams.dial, self.urls[host % len(self.urls)])
            if ended.heard:
                failures = stalls = 0
            else:
                failures += 1
                stalls += ended.why is Why.STALLED
                host += 1
            words.lost(ended, trio.current_time())
            wait = self._wait_seconds(ended, failures)
            await trio.sleep(max(wait, began + _DIAL_SPACING_SECONDS - trio.current_time()))

    def _wait_seconds(self, ended: Ended, failures: int) -> float:
        if ended.why is Why.SHUTDOWN and ended.heard:
            return 0.0
        wait = backoff_seconds(failures, self.seams.random.random())
        asked = min(ended.retry_after_seconds or 0.0, _MAX_RETRY_AFTER_SECONDS)
        return max(wait, asked, _LEAST_WAIT_SECONDS.get(ended.status or 0, 0.0))

    async def _deliver(self, event: CandleClosed) -> None:
        received = ReceivedCandle(event.series, event.candle, self.seams.now())
        self.received(event.series, event.candle.open_time_ms)
        try:
            await self.send.send(received)
        except trio.BrokenResourceError:
            # The receiver died: its own error is on its way up, and will cancel us.
            await trio.sleep_forever()

    def _report(self, words: LineWords, happening: Happening) -> None:
        match happening:
            case Heard():
                words.heard(trio.current_time())
            case BadFrame():
                words.bad_frame(happening, self.bad_frames)
            case SilentStreams():
                words.silent(happening)
            case RefusedStream():
                words.refused(happening)


def _stall_seconds(patience_seconds: float, stalls: int) -> float:
    # Quiet contracts and maintenance: each stall without a data frame doubles the patience.
    most = max(_MAX_STALL_SECONDS, patience_seconds)
    return min(most, patience_seconds * 2.0 ** min(stalls, 16))
