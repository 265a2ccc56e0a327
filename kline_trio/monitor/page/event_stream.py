"""Server-sent events: the overview, the newest step of the history, and candles as they come.

What all readers get is rendered once. A reader that is slow misses old overviews, and nothing else
waits for it.
"""

from collections import deque
from collections.abc import Callable, Iterable

import attrs
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.monitor.http_message import SendChunk
from kline_trio.monitor.page.answers import json_of
from kline_trio.monitor.page.parameters import key_of
from kline_trio.monitor.page.sources import Source

MOST_SERIES = 50
"""Of one stream."""
_TICK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 5.0
"""The overview is sent so often, even if it is the same."""
_MOST_CANDLES = 1_000
"""That wait for one reader."""
_RETRY_MS = 2_000
"""After so long a browser connects anew."""


def sse_event(name: str, data: bytes) -> bytes:
    """Return an event in the form of the stream. The data are one line of JSON."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def candle_event(received: ReceivedCandle) -> bytes:
    """Return the event of a committed candle."""
    candle = received.candle
    return sse_event(
        "candle",
        json_of(
            {
                "series": key_of(received.series),
                "open_time_ms": candle.open_time_ms,
                "open": candle.open,
                "high": candle.high,
                "low": candle.low,
                "close": candle.close,
                "volume": candle.volume,
                "source": str(received.source),
            }
        ),
    )


@attrs.define(eq=False)
class _Reader:
    """What one reader was not sent yet."""

    series: frozenset[Series]
    overview: bytes | None = None
    others: deque[bytes] = attrs.field(factory=lambda: deque(maxlen=_MOST_CANDLES))
    _news: trio.Event = attrs.field(factory=trio.Event)

    def ring(self) -> None:
        """Wake the reader's task."""
        self._news.set()

    async def take(self) -> bytes:
        """Wait for something to send, and return it."""
        await self._news.wait()
        self._news = trio.Event()
        parts = [*self.others] if self.overview is None else [self.overview, *self.others]
        self.overview = None
        self.others.clear()
        return b"".join(parts)


@attrs.define(eq=False)
class EventStream:
    """All readers of the stream."""

    source: Source
    overview: Callable[[], bytes]
    """Returns the present overview as JSON."""
    _readers: set[_Reader] = attrs.field(init=False, factory=set)
    _has_readers: trio.Event = attrs.field(init=False, factory=trio.Event)
    _by_series: dict[Series, set[_Reader]] = attrs.field(init=False, factory=dict)
    _has_series: trio.Event = attrs.field(init=False, factory=trio.Event)

    @property
    def readers(self) -> int:
        """How many there are."""
        return len(self._readers)

    async def send(self, series: Iterable[Series], send_chunk: SendChunk) -> None:
        """Send the events to a reader until it goes.

        Args:
          series: those of which the reader wants the candles.
          send_chunk: sends a part of the stream.
        """
        reader = _Reader(frozenset(series))
        self._join(reader)
        try:
            await send_chunk(f"retry: {_RETRY_MS}\n\n".encode())
            await send_chunk(sse_event("overview", self.overview()))
            while True:
                await send_chunk(await reader.take())
        finally:
            self._leave(reader)

    def _join(self, reader: _Reader) -> None:
        self._readers.add(reader)
        self._has_readers.set()
        for one in reader.series:
            self._by_series.setdefault(one, set()).add(reader)
            self._has_series.set()

    def _leave(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        for one in reader.series:
            self._by_series[one].discard(reader)
            if not self._by_series[one]:
                del self._by_series[one]
        # An event that is not set stays: a job may wait for it.
        if not self._readers and self._has_readers.is_set():
            self._has_readers = trio.Event()
        if not self._by_series and self._has_series.is_set():
            self._has_series = trio.Event()

    async def tick(self) -> None:
        """Once a second while there are readers, send what has changed, until cancelled."""
        shown, shown_at = b"", 0.0
        step_ms: int | None = None
        while True:
            await self._has_readers.wait()
            now, body = trio.current_time(), self.overview()
            if body != shown or now >= shown_at + _HEARTBEAT_SECONDS:
                shown, shown_at = body, now
                event = sse_event("overview", body)
                for reader in self._readers:
                    reader.overview = event
                    reader.ring()
            newest = self.source.history.newest
            if newest is not None and newest.time_ms != step_ms:
                step_ms = newest.time_ms
                event = sse_event("sample", json_of(attrs.asdict(newest)))
                for reader in self._readers:
                    reader.others.append(event)
                    reader.ring()
            await trio.sleep(_TICK_SECONDS)

    async def follow_candles(self) -> None:
        """While a reader wants candles, pass them on, until cancelled or the recorder stops."""
        is_over = False
        while not is_over:
            await self._has_series.wait()
            is_over = await self._pass_on()

    async def _pass_on(self) -> bool:
        """Pass candles on until no reader wants them; return whether there will be no more.

        On return the recorder copies no candles any more: nothing holds the copies' reader.
        """
        candles = self.source.candles()
        if candles is None:
            return True
        async for received in candles:
            if not self._by_series:
                return False
            readers = self._by_series.get(received.series)
            if readers:
                event = candle_event(received)
                for reader in readers:
                    reader.others.append(event)
                    reader.ring()
        return True
