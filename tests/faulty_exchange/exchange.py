"""The built-in exchange with everything that only tests need: more faults, counters, a past."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, Unpack

import attrs
import trio

from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.faults import Fault, Incident, Script
from kline_trio.simulator.feed import Feed
from kline_trio.simulator.frames import Event, Kline
from kline_trio.simulator.http_side import HttpSide
from kline_trio.simulator.prices import hash_key
from kline_trio.simulator.replay import Playback, Replay, ReplayedCandles
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.session import Session
from kline_trio.simulator.symbols import TRADE_TYPES

from .counters import Connection, Counters, MarketStatistics
from .faults import Lag, Refuse, ReviseClose
from .playback import FaultyReplayFeed, Marks, with_faults
from .script import FaultyScript

__all__ = ["FaultyExchange", "wait_finished"]


class _Options(TypedDict, total=False):
    """What `Exchange` takes besides the faults."""

    start_ms: int
    speed: float
    listed: Mapping[str, Iterable[str]] | None
    replay: Replay | None


class LaggingFeed:
    """A feed whose events come late, by the same time each."""

    def __init__(self, feed: Feed, lag_ms: int) -> None:
        self.feed = feed
        self.lag_ms = lag_ms

    def subscribe(self, stream: str, now_ms: int) -> None:
        self.feed.subscribe(stream, now_ms)

    def unsubscribe(self, stream: str) -> None:
        self.feed.unsubscribe(stream)

    def next_due_ms(self) -> int | None:
        due_ms = self.feed.next_due_ms()
        return None if due_ms is None else due_ms + self.lag_ms

    def take(self, now_ms: int, limit: int) -> list[Event]:
        return self.feed.take(now_ms - self.lag_ms, limit)


class FaultyExchange(Exchange):
    """An exchange in which everything may go wrong, and which counts.

    Args:
        seed: See `Exchange`.
        faults: What is to go wrong, in exchange time: any of `faulty_exchange.faults`, too.
        omitted_close_share: Share of closing frames that never come, from 0 to 1.
        archive_files: Real zip files that the archive has; the folder above each is its trade
            type. Others are made of the candles.
        past: Real data of which REST and archive have the symbols' candles, and no others.
        forming: See `Exchange`.
        gather_s: See `Exchange`.
        options: What else `Exchange` takes.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        faults: Iterable[Fault] = (),
        omitted_close_share: float = 0.0,
        archive_files: Iterable[Path] = (),
        past: Replay | None = None,
        forming: bool = True,
        gather_s: float = 0.0,
        **options: Unpack[_Options],
    ) -> None:
        self.forming, self.gather_s = forming, gather_s
        self._seed, self._omitted_close_share = seed, omitted_close_share
        self._scripts: dict[str, FaultyScript] = {}
        self._counters = {name: Counters() for name in TRADE_TYPES}
        self._drained: set[Session] = set()
        self._on_finished: list[Callable[[], None]] = []
        self._files = {(path.parent.name, path.name): path.read_bytes() for path in archive_files}
        faults = tuple(faults)
        lags_ms = [fault.most_ms for fault in faults if isinstance(fault, Lag)]
        self._longest_lag_ms = max(lags_ms, default=0)
        self._marks: dict[str, Marks] = {name: {} for name in TRADE_TYPES}
        super().__init__(seed=seed, faults=faults, **options)
        for name, market in self.markets.items():
            self._scripts[name].check_symbols(market.listings)
        if past is not None:
            replay = options.get("replay")
            frames = [*(replay.frames if replay else ()), *past.frames]
            start_ms = options.get("start_ms", DEFAULT_START_MS)
            truth = ReplayedCandles.of_frames(frames)
            self._http = HttpSide(self.markets, start_ms, truth, is_replay=replay is not None)

    def _script(self, trade_type: str, faults: Iterable[Fault]) -> FaultyScript:
        script = FaultyScript(
            trade_type,
            faults,
            omitted_close_share=self._omitted_close_share,
            seed=self._seed,
        )
        self._scripts[trade_type] = script
        return script

    def _played(self, replay: Replay, scripts: Mapping[str, Script]) -> Playback:
        frames = {
            name: with_faults(replay.of(name), script, self._marks[name])
            for name, script in scripts.items()
        }
        return Playback(frames, replay, self._longest_lag_ms)

    # -- counts -----------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, MarketStatistics]:
        """What each market's servers have counted so far, by trade type."""
        return {name: counters.statistics for name, counters in self._counters.items()}

    def connections(self, trade_type: str) -> tuple[Connection, ...]:
        """Return a market's open connections and what they are subscribed to, oldest first."""
        return self._counters[trade_type].connections

    def connection(self, session: Session) -> Connection:
        """Return what is known of an open connection."""
        return self._counters[session.market.trade_type].connection(session)

    # -- truth ------------------------------------------------------------------------------

    def closed_candle(self, trade_type: str, symbol: str, interval: str, open_ms: int) -> Kline:
        """Return a made-up candle as it closes, whether or not its closing frame is ever sent.

        Raises:
            KeyError: The symbol is not listed, or the interval is unknown.
        """
        return self.markets[trade_type].kline(symbol, interval, open_ms)

    def last_sent(self, trade_type: str, stream: str, open_ms: int) -> Kline:
        """Return the last closed state of a candle that any connection can have got.

        A connection that is behind can end between a candle's close and its revision.
        """
        market = self.markets[trade_type]
        series = market.series_of(stream)
        assert series is not None
        nth, dues_ms = 0, market.closes_ms(series, open_ms)
        if isinstance(market.script.close_fault(series.stream, open_ms), ReviseClose):
            nth = int(self._scripts[trade_type].was_sent(series.stream, dues_ms[-1]))
        return market.closed(series, open_ms, nth)

    # -- HTTP -------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        path = request.target.partition("?")[0]
        answer = super().answer(request)
        if path.startswith("/data/"):
            return self._archived(path, answer)
        if answer.status == 200 and path.endswith("/klines"):
            self._counters[request.trade_type].klines_answered += 1
        return answer

    def _archived(self, path: str, answer: Response) -> Response:
        name = Path(path).name
        trade_type = "spot" if path.startswith("/data/spot/") else "usdt_futures"
        if path.startswith("/data/futures/cm/"):
            trade_type = "coin_futures"
        zipped = name.removesuffix(".CHECKSUM")
        is_checksum = zipped != name
        file = self._files.get((trade_type, zipped))
        if file is not None:
            line = f"{hashlib.sha256(file).hexdigest()}  {zipped}\n".encode()
            answer = Response(status=200, body=line if is_checksum else file)
        is_bad = zipped.removesuffix(".zip") in self._scripts[trade_type].bad_checksums
        if answer.status == 200 and is_checksum and is_bad:
            return attrs.evolve(answer, body=answer.body[:64][::-1] + answer.body[64:])
        return answer

    # -- WebSocket --------------------------------------------------------------------------

    def connect(
        self, trade_type: str, target: str, now_s: float, wake: Callable[[], None] = lambda: None
    ) -> Session | Response:
        session = super().connect(trade_type, target, now_s, wake)
        if isinstance(session, Session):
            lag_ms = session.feed.lag_ms if isinstance(session.feed, LaggingFeed) else 0
            self._counters[trade_type].enter(session, lag_ms)
        return session

    def disconnect(self, session: Session, now_s: float) -> None:
        super().disconnect(session, now_s)
        self._counters[session.market.trade_type].leave(session)
        self._drained.discard(session)
        self._finish(now_s)

    def handed_over(self, session: Session, now_s: float) -> None:
        if self._playback is not None and session.feed.next_due_ms() is None:
            self._drained.add(session)
            self._finish(now_s)

    def _refused_status(self, trade_type: str, now_s: float) -> int | None:
        counters = self._counters[trade_type]
        counters.attempts += 1
        status = super()._refused_status(trade_type, now_s)
        if status is not None:
            counters.refused += 1
            return status
        refuse = self._scripts[trade_type].in_force(Refuse, self.now_ms(now_s))
        if refuse is None:
            return None
        self._log.add(Incident.of(refuse))
        return refuse.status

    def _feed(self, trade_type: str, now_ms: int) -> Feed:
        feed = super()._feed(trade_type, now_ms)
        if self._playback is not None:
            feed = FaultyReplayFeed(feed, trade_type, self._marks[trade_type], self._log)
        lag = self._scripts[trade_type].in_force(Lag, now_ms)
        if lag is None:
            return feed
        number = self._counters[trade_type].opened + 1
        lag_ms = hash_key(self._seed, Lag.__name__, trade_type, number) % (lag.most_ms + 1)
        if lag_ms:
            until_ms = now_ms + lag_ms
            self._log.add(Incident(Lag.__name__, trade_type, now_ms, until_ms, connection=number))
        return LaggingFeed(feed, lag_ms)

    # -- the end of a replay ----------------------------------------------------------------

    def finished(self, now_s: float) -> bool:
        """Return whether a replay is at its end and every frame of it is in the sockets."""
        if self._playback is None or not self.clock.started:
            return False
        return self.now_ms(now_s) == self.clock.end_ms and self._drained >= self._sessions.keys()

    def on_finished(self, callback: Callable[[], None], now_s: float) -> None:
        """Have ``callback`` called once when the replay is finished; at once if it is."""
        self._on_finished.append(callback)
        self._finish(now_s)

    def _finish(self, now_s: float) -> None:
        if self._on_finished and self.finished(now_s):
            callbacks, self._on_finished = self._on_finished, []
            for callback in callbacks:
                callback()


async def wait_finished(exchange: FaultyExchange) -> None:
    """Wait until the exchange's replay is over and every frame has been handed to the sockets."""
    over = trio.Event()
    exchange.on_finished(over.set, trio.current_time())
    await over.wait()
