"""The built-in exchange: three markets behind one clock; callers pass the local time in."""

from collections.abc import Callable, Iterable, Mapping
from math import inf

from kline_trio.simulator.clock import Clock
from kline_trio.simulator.faults import Fault, Incident, IncidentLog, Script
from kline_trio.simulator.feed import Feed, MadeUpFeed
from kline_trio.simulator.http_side import HttpSide
from kline_trio.simulator.market import Market
from kline_trio.simulator.replay import Playback, Replay, ReplayedCandles, ReplayFeed
from kline_trio.simulator.rest import Request, Response, refusal
from kline_trio.simulator.session import RateLimit, Route, Session, parse_target
from kline_trio.simulator.symbols import TRADE_TYPES, listed_symbols

DEFAULT_START_MS = 1_790_000_000_000
"""2026-09-21 14:13:20 UTC, a time like any other."""


class Exchange:
    """Spot, USD-M and COIN-M as one state machine, without a clock or socket of its own.

    The class attributes and the methods that are for subclasses are where the exchange of the
    tests (`tests/faulty_exchange`) plugs in.

    Args:
        seed: Decides prices, volumes and the lateness of closes.
        start_ms: Exchange time at the start; a replay brings its own.
        speed: Exchange seconds in one local second.
        listed: For each trade type the symbols listed, as of `listed_symbols`; trade types left
            out list the built-in ones.
        faults: What is to go wrong, in exchange time.
        replay: Real data to play instead of made-up candles.
    """

    forming = True
    """Whether made-up candles are pushed while they form; without it months take minutes."""
    gather_s = 0.0
    """Local seconds for which events may wait for each other after some were sent, as they do in a
    kernel; without it each of a thousand closes wakes both sides up."""

    def __init__(
        self,
        *,
        seed: int = 0,
        start_ms: int = DEFAULT_START_MS,
        speed: float = 60.0,
        listed: Mapping[str, Iterable[str]] | None = None,
        faults: Iterable[Fault] = (),
        replay: Replay | None = None,
    ) -> None:
        self._log = IncidentLog()
        faults = tuple(faults)
        scripts = {name: self._script(name, faults) for name in TRADE_TYPES}
        self._playback: Playback | None = None
        self.clock = Clock(start_ms, speed)
        if replay is not None:
            self._playback = self._played(replay, scripts)
            self.clock, start_ms = self._playback.clock(speed), self._playback.start_ms
        self.markets: dict[str, Market] = {}
        for name in TRADE_TYPES:
            symbols = (listed or {}).get(name, listed_symbols(name, at_ms=start_ms))
            if replay is not None:
                symbols = (*symbols, *replay.symbols(name))
            self.markets[name] = Market(scripts[name], seed, symbols, self._log)
        truth = None if replay is None else ReplayedCandles.of_frames(replay.frames)
        self._http = HttpSide(self.markets, start_ms, truth, is_replay=replay is not None)
        futures = (one for name in TRADE_TYPES[1:] for one in self.markets[name].notices)
        self._notices = sorted(futures, key=lambda notice: notice.due_ms)
        # Of one address, since 2023-02; the futures docs name no limit (Binance spot docs,
        # web-socket-streams.md, "WebSocket Limits").
        most = {name: 300 if name == "spot" else inf for name in TRADE_TYPES}
        self._attempts = {name: RateLimit(most[name], within_s=300.0) for name in TRADE_TYPES}
        self._sessions: dict[Session, Callable[[], None]] = {}

    # -- for subclasses ---------------------------------------------------------------------

    def _script(self, trade_type: str, faults: Iterable[Fault]) -> Script:
        """Return the script of a market."""
        return Script(trade_type, faults)

    def _played(self, replay: Replay, scripts: Mapping[str, Script]) -> Playback:
        """Return the playback of a replay; faults of single closes do not strike it here."""
        return Playback({name: replay.of(name) for name in scripts}, replay)

    def _refused_status(self, trade_type: str, now_s: float) -> int | None:
        """Count a handshake; return the HTTP status that refuses it, None if it is taken."""
        # Which status the real one has is not documented; over REST it would be this one.
        return None if self._attempts[trade_type].count(now_s) else 429

    def _feed(self, trade_type: str, now_ms: int) -> Feed:
        """Return the feed of a new connection."""
        if self._playback is not None:
            return ReplayFeed(self._playback, trade_type, now_ms)
        # both products on both hosts since 2026-06-30; spot has no such stream
        notices = self._notices if trade_type != "spot" else ()
        return MadeUpFeed(self.markets[trade_type], forming=self.forming, notices=notices)

    def handed_over(self, session: Session, now_s: float) -> None:
        """Note that everything `Session.poll` has returned so far is in the socket."""

    # -- time -------------------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """Start the clock at this local moment; a replay waits for its subscribers first."""
        awaited = self._playback is not None and self._playback.awaited
        if not awaited and not self.clock.started:
            self.clock.start(now_s)
            for wake in self._sessions.values():
                wake()

    def now_ms(self, now_s: float) -> int:
        """Return the exchange time at a local moment."""
        return self.clock.now_ms(now_s)

    def local_s(self, at_ms: int | None) -> float:
        """Return the local moment of an exchange time; infinite for None and for never."""
        return inf if at_ms is None else self.clock.local_s(at_ms)

    # -- truth ------------------------------------------------------------------------------

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The newest incidents, in the order in which they happened."""
        return self._log.incidents

    # -- HTTP and WebSocket -----------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; see `HttpSide`."""
        return self._http.answer(request)

    def connect(
        self, trade_type: str, target: str, now_s: float, wake: Callable[[], None] = lambda: None
    ) -> Session | Response:
        """Open a WebSocket connection, or return the answer that refuses its handshake.

        Args:
            trade_type: The market whose server is asked.
            target: Path and query of the handshake.
            now_s: Local time.
            wake: Called when the session must be polled earlier than its last `Step` says.
        """
        now_ms = self.now_ms(now_s)
        status = self._refused_status(trade_type, now_s)
        route: Route | int = parse_target(trade_type, target) if status is None else status
        if isinstance(route, int):
            return refusal(route, now_ms)
        feed = self._feed(trade_type, now_ms)
        session = Session(self.markets[trade_type], route, feed, now_s, now_ms)
        self._sessions[session] = wake
        session.begin(route.streams, now_ms)
        self.start(now_s)
        return session

    def disconnect(self, session: Session, now_s: float) -> None:
        """Forget a connection that has ended, for whatever reason."""
        self._sessions.pop(session, None)
