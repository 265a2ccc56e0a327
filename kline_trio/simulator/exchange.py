"""The built-in exchange: three markets behind one clock, told the local time by whoever runs it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from kline_trio.simulator import rest
from kline_trio.simulator.careers import ONBOARD_MS
from kline_trio.simulator.clock import Clock
from kline_trio.simulator.control import parse_target
from kline_trio.simulator.door import Connection, Door, MarketStatistics
from kline_trio.simulator.faults import Fault, Refuse
from kline_trio.simulator.feed import Feed, MadeUpFeed
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.http_side import HttpSide
from kline_trio.simulator.market import Market
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.replay import Frame, Replay
from kline_trio.simulator.replay_feed import ReplayFeed, with_faults
from kline_trio.simulator.replayed_candles import ReplayedCandles
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.script import Script
from kline_trio.simulator.session import Session
from kline_trio.simulator.symbols import TRADE_TYPES, listed_symbols

__all__ = ["DEFAULT_START_MS", "Exchange"]

DEFAULT_START_MS = 1_790_000_000_000
"""2026-09-21 14:13:20 UTC, a time like any other."""


class Exchange:
    """Spot, USD-M and COIN-M as one machine that knows neither clock nor socket.

    Args:
        seed: Decides prices, volumes and the lateness of closes.
        start_ms: Exchange time at the start; a replay brings its own.
        speed: Exchange seconds in one local second.
        listed: For each trade type the symbols listed, as of `listed_symbols`; trade types left
            out list the built-in ones.
        faults: What is to go wrong, in exchange time.
        replay: Real data to play instead of made-up candles.
        omitted_close_share: Share of closing frames that never come, from 0 to 1.
        archive_files: Real zip files that the archive has; others are made of the candles.
        forming: Whether made-up candles are pushed while they form; without it months of time
            take minutes.
        gather_s: Local seconds for which events may wait for each other after some were sent, as
            they do in a kernel; without it each of a thousand closes wakes both sides up.
        past: Real data of which REST and archive have the symbols' candles, and no others.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start_ms: int = DEFAULT_START_MS,
        speed: float = 60.0,
        listed: Mapping[str, Iterable[str]] | None = None,
        faults: Iterable[Fault] = (),
        replay: Replay | None = None,
        omitted_close_share: float = 0.0,
        archive_files: Iterable[Path] = (),
        past: Replay | None = None,
        forming: bool = True,
        gather_s: float = 0.0,
    ) -> None:
        script = tuple(faults)
        self._seed = seed
        self._record = Record()
        self._doors = {name: Door(name) for name in TRADE_TYPES}
        self._forming = forming
        self.gather_s = gather_s
        self._replay = replay
        self._timelines: dict[str, Sequence[Frame]] = {}
        self._scripts = {name: Script(name, script) for name in TRADE_TYPES}
        if replay is not None:
            start_ms = self._load(replay)
            self.clock = Clock(start_ms, speed, self._last_due_ms(), replay.leaps)
        else:
            self.clock = Clock(start_ms, speed)
        self._awaited = {
            (name, stream)
            for name, streams in (replay.expected if replay else {}).items()
            for stream in streams
        }
        chosen = dict(listed or {})
        replayed = replay.symbols if replay else {}
        self.markets: dict[str, Market] = {}
        for name in TRADE_TYPES:
            symbols = chosen.get(name, listed_symbols(name, at_ms=start_ms))
            self.markets[name] = Market(
                name,
                seed,
                (*symbols, *replayed.get(name, ())),
                self._scripts[name],
                self._record,
                omitted_close_share,
            )
        truth: ReplayedCandles | None = None
        if replay is not None or past is not None:
            frames = [*(replay.frames if replay else ()), *(past.frames if past else ())]
            truth = ReplayedCandles.of_frames(frames)
        self._http = HttpSide(
            markets=self.markets,
            record=self._record,
            first_ms=min(ONBOARD_MS, start_ms) if truth is None else truth.first_ms,
            truth=truth,
            is_replay=replay is not None,
            archive_files=archive_files,
        )
        futures = [one.notices for name, one in self.markets.items() if name != "spot"]
        self._notices = sorted(chain(*futures), key=lambda notice: notice.due_ms)
        self._sessions: dict[Session, Callable[[], None]] = {}
        self._drained: set[Session] = set()
        self._on_finished: list[Callable[[], None]] = []

    # -- time -------------------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """Say that the exchange runs from this local moment; a replay waits for subscribers."""
        if not self._awaited and not self.clock.started:
            self.clock.start(now_s)
            for wake in self._sessions.values():
                wake()

    def now_ms(self, now_s: float) -> int:
        """Return the exchange time at a local moment."""
        return self.clock.now_ms(now_s)

    def local_s(self, at_ms: int | None) -> float:
        """Return the local moment of an exchange time; infinite for None and for never."""
        return inf if at_ms is None else self.clock.local_s(at_ms)

    # -- counts -----------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, MarketStatistics]:
        """What each market's servers have counted so far, by trade type."""
        return {name: door.statistics for name, door in self._doors.items()}

    def connections(self, trade_type: str) -> tuple[Connection, ...]:
        """Return a market's open connections and what they are subscribed to, oldest first."""
        return self._doors[trade_type].connections

    # -- truth ------------------------------------------------------------------------------

    @property
    def happened(self) -> tuple[Happened, ...]:
        """What really went wrong so far, in the order in which it did."""
        return self._record.happened

    def closed_candle(self, trade_type: str, symbol: str, interval: str, open_ms: int) -> Kline:
        """Return a made-up candle as it closes, whether or not its closing frame is ever sent.

        Raises:
            KeyError: The symbol is not listed, or the interval is unknown.
        """
        return self.markets[trade_type].kline(symbol, interval, open_ms)

    # -- HTTP -------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; see `HttpSide`."""
        answer = self._http.answer(request)
        if answer.status == 200 and urlsplit(request.target).path.endswith("/klines"):
            self._doors[request.trade_type].klines_answered += 1
        return answer

    # -- WebSocket --------------------------------------------------------------------------

    def connect(
        self, trade_type: str, target: str, now_s: float, wake: Callable[[], None] = lambda: None
    ) -> Session | Response:
        """Open a WebSocket connection, or say how its handshake is refused.

        Args:
            trade_type: The market whose server is asked.
            target: Path and query of the handshake.
            now_s: Local time.
            wake: Called when the connection's next `poll` must be sooner than it was told.
        """
        now_ms, script = self.now_ms(now_s), self._scripts[trade_type]
        door = self._doors[trade_type]
        if not door.knock(now_s):
            # Which status the real one has is not documented; over REST it would be this one.
            return rest.refusal(429, now_ms)
        refused = script.refusal(now_ms)
        if refused is not None:
            self._record.add(
                Happened(
                    fault=Refuse.__name__,
                    trade_type=trade_type,
                    from_ms=refused.from_ms,
                    until_ms=refused.until_ms,
                )
            )
            return rest.refusal(refused.status, now_ms)
        route = parse_target(trade_type, target)
        if isinstance(route, int):
            return rest.refusal(route, now_ms)
        number = door.opened + 1
        session = Session(
            trade_type=trade_type,
            is_combined=route.is_combined,
            carries_klines=route.carries_klines,
            feed=self._feed(trade_type, now_ms),
            script=script,
            record=self._record,
            now_s=now_s,
            now_ms=now_ms,
            number=number,
            lag_ms=script.lag_ms(now_ms, self._seed, number),
        )
        self._sessions[session] = wake
        door.enter(session)
        session.begin(route.streams, now_ms)
        self.start(now_s)
        return session

    def disconnect(self, session: Session, now_s: float) -> None:
        """Forget a connection that has ended, for whatever reason."""
        self._sessions.pop(session, None)
        self._doors[session.trade_type].leave(session)
        self._drained.discard(session)
        self._finish(now_s)

    def handed_over(self, session: Session, now_s: float) -> None:
        """Learn that everything `Session.poll` gave so far is in the socket."""
        if self._replay is not None and session.is_drained:
            self._drained.add(session)
            self._finish(now_s)

    # -- replay -----------------------------------------------------------------------------

    def finished(self, now_s: float) -> bool:
        """Tell whether a replay is at its end and every frame of it is in the sockets."""
        if self._replay is None or not self.clock.started:
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

    def _load(self, replay: Replay) -> int:
        for name, script in self._scripts.items():
            mine = [frame for frame in replay.frames if frame.trade_type == name]
            self._timelines[name] = with_faults(mine, script)
        return min(frame.due_ms for frame in replay.frames) - 1000

    def _last_due_ms(self) -> int:
        # The clock stands still when the last frame has come to the connection that lags most.
        return max(
            frames[-1].due_ms + self._scripts[name].longest_lag_ms
            for name, frames in self._timelines.items()
            if frames
        )

    def _feed(self, trade_type: str, now_ms: int) -> Feed:
        if self._replay is None:
            # both products on both hosts since 2026-06-30; spot has no such stream
            notices = self._notices if trade_type != "spot" else ()
            return MadeUpFeed(self.markets[trade_type], forming=self._forming, notices=notices)

        def on_subscribed(stream: str) -> None:
            self._awaited.discard((trade_type, stream))

        return ReplayFeed(self._timelines[trade_type], now_ms, on_subscribed, self._record)
