"""The playback of a replay: what connections and REST get of it, and the clock that it has."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec

from kline_trio.simulator.calendar import next_open_ms
from kline_trio.simulator.clock import Clock
from kline_trio.simulator.frames import Event, Kline, kline_event, kline_of
from kline_trio.simulator.replay import Frame, Replay
from kline_trio.simulator.rest_klines import Candles

__all__ = ["Playback", "ReplayFeed", "ReplayedCandles"]


class ReplayFeed:
    """One connection's place in the timeline of its market; see `Feed`.

    Args:
        playback: What is played.
        trade_type: The market.
        now_ms: Exchange time of the connection; what lies before it is never sent.
    """

    def __init__(self, playback: "Playback", trade_type: str, now_ms: int) -> None:
        self._awaited = playback.awaited
        self._trade_type = trade_type
        self._frames = playback.frames[trade_type]
        self._place = bisect_left(self._frames, now_ms, key=lambda frame: frame.due_ms)
        self._streams: dict[str, int] = {}

    def subscribe(self, stream: str, now_ms: int) -> None:
        """See `Feed`."""
        self._streams[stream] = now_ms
        self._awaited.discard((self._trade_type, stream))

    def unsubscribe(self, stream: str) -> None:
        """See `Feed`."""
        self._streams.pop(stream, None)

    def next_due_ms(self) -> int | None:
        """See `Feed`; every frame of the market counts, subscribed or not."""
        return self._frames[self._place].due_ms if self._place < len(self._frames) else None

    def take(self, now_ms: int, limit: int) -> list[Event]:
        """See `Feed`; frames are never left out, however late the connection is."""
        events: list[Event] = []
        while self._place < len(self._frames) and len(events) < limit:
            frame = self._frames[self._place]
            if frame.due_ms > now_ms:
                break
            self._place += 1
            # A connection that lags asks for what was due before it subscribed.
            if self._streams.get(frame.stream, frame.due_ms + 1) <= frame.due_ms:
                events.append(Event(frame.due_ms, frame.stream, _text(frame), frame.closes_ms))
        return events


class Playback:
    """A replay that an exchange plays.

    Args:
        frames: What is played, by trade type and time.
        replay: Where it comes from.
        longest_lag_ms: How far behind a connection may be.
    """

    def __init__(
        self, frames: Mapping[str, Sequence[Frame]], replay: Replay, longest_lag_ms: int = 0
    ) -> None:
        self.frames = frames
        self.start_ms = replay.frames[0].due_ms - 1000
        dues_ms = [some[-1].due_ms for some in frames.values() if some]
        # The clock stands still when the last frame has come to the connection that lags most.
        self._end_ms = max(dues_ms) + longest_lag_ms
        self._leaps = replay.leaps
        self.awaited = {
            (name, stream) for name, streams in replay.expected.items() for stream in streams
        }
        """The streams, by market, that must be subscribed before the clock starts."""

    def clock(self, speed: float) -> Clock:
        """Return the clock of the replay."""
        return Clock(self.start_ms, speed, self._end_ms, self._leaps)


@attrs.frozen
class ReplayedCandles:
    """What REST has of a replay: every candle that a file closes, and the one that is forming."""

    first_ms: int
    """No candle opens before it."""
    _by_symbol: Mapping[tuple[str, str], Mapping[tuple[str, int], Kline]]

    @classmethod
    def of_frames(cls, frames: Iterable[Frame]) -> "ReplayedCandles":
        """Collect the closed candles of the frames; the last close of a candle counts."""
        found: dict[tuple[str, str], dict[tuple[str, int], Kline]] = {}
        for frame in frames:
            if frame.closes_ms is not None:
                kline = frame.kline or kline_of(msgspec.json.decode(frame.text)["k"])
                symbol = found.setdefault((frame.trade_type, kline.symbol), {})
                symbol[kline.interval, kline.open_time_ms] = kline
        times = [open_ms for candles in found.values() for _, open_ms in candles]
        return cls(min(times, default=0), found)

    def of(self, trade_type: str, symbol: str, now_ms: int) -> Candles | None:
        """Return the candles of a symbol that the files hold; None if they hold none."""
        candles = self._by_symbol.get((trade_type, symbol))
        if candles is None:
            return None

        def candle(interval: str, open_ms: int) -> Kline | None:
            kline = candles.get((interval, open_ms))
            if kline is None or next_open_ms(interval, open_ms) <= now_ms:
                return kline
            return attrs.evolve(kline, close=kline.open, high=kline.open, low=kline.open)

        return Candles(candle, self.first_ms)


def _text(frame: Frame) -> str:
    if frame.kline is None:
        return frame.text
    closed, blanks = frame.closes_ms is not None, frame.trade_type == "usdt_futures"
    return kline_event(frame.kline, frame.due_ms, closed=closed, blanks=blanks)
