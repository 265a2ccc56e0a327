"""Where a page's data come from: a running recorder, or a store without one in this process."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import psutil
import trio

from kline_trio import __version__
from kline_trio.monitor.page.chronicle import Chronicle
from kline_trio.monitor.page.history import History
from kline_trio.monitor.page.look import Look, Present
from kline_trio.monitor.page.moment import LiveMoment, StoredMoment
from kline_trio.monitor.watch import Observation
from kline_trio.recorder.broadcast import Candles
from kline_trio.recorder.statistics import MarketStatistics
from kline_trio.recorder.supervisor import Recorder
from kline_trio.storage.calendar import Due
from kline_trio.storage.simulated import is_simulated
from kline_trio.storage.status import Heartbeat

_LATE_MS = 60_000
"""A candle that closed so long ago, beyond the grace, is stored or in the ledger: the recorder
names a missing candle at most 45 s later, and writes that at once."""
_MINUTE_MS = 60_000
_SETTLE_LOOKS = 3
"""A recorder of a fast exchange needs some seconds of the local clock, too."""
_STUCK_SECONDS = 10.0
_SCAN_SECONDS = 300.0
"""A recorder looks at the stored candles of all series at its start; that takes less."""
_WAITING_CANDLES = 10_000


class Source(Protocol):
    """What the interface needs to know of a recorder or a store."""

    @property
    def store_path(self) -> Path:
        """The store's folder."""

    @property
    def history(self) -> History:
        """The last hour; empty without a recorder."""

    @property
    def chronicle(self) -> Chronicle:
        """What the recorder went through; empty without one."""

    @property
    def has_census(self) -> bool:
        """Whether the source knows what the disk holds without a count for the page."""

    def present(self) -> Callable[[Heartbeat], Present]:
        """Return what finds the present, for a thread."""

    def moment(self, look: Look | None) -> LiveMoment | StoredMoment:
        """Return what there is to show now, without I/O.

        Args:
          look: the store as it was read last.
        """

    def candles(self) -> Candles | None:
        """Return the candles that are committed from now on; None: nothing records here."""


@attrs.define(eq=False)
class LiveSource:
    """A running recorder of this process. The watch feeds it."""

    recorder: Recorder
    store_path: Path
    grace_ms: int
    """How long after its close a candle may take to come, in exchange time."""
    latest: Observation
    history: History = attrs.field(init=False, factory=History)
    chronicle: Chronicle = attrs.field(init=False, factory=Chronicle)
    _lately: deque[Observation] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_SETTLE_LOOKS)
    )

    has_census = True

    def __attrs_post_init__(self) -> None:
        self.look(self.latest)

    def look(self, found: Observation) -> None:
        """Take a new observation. Nothing else is done here: it is called once a second."""
        now = trio.current_time()
        self.latest = found
        self._lately.append(found)
        self.history.look(found.statistics, now)
        self.chronicle.look(found.statistics, found.health, now)

    def present(self) -> Callable[[Heartbeat], Present]:
        """Return the present of the recorder, whatever the journal says."""
        return partial(_present_of, tuple(self._lately), self.grace_ms)

    def moment(self, look: Look | None) -> LiveMoment:
        """Return what there is to show now."""
        return LiveMoment(
            found=self.latest.statistics,
            health=self.latest.health,
            is_simulated=self.latest.is_simulated,
            recorded=self.recorder.series,
        )

    def candles(self) -> Candles:
        """Return the candles that are committed from now on."""
        return self.recorder.candles(_WAITING_CANDLES)


def _present_of(lately: tuple[Observation, ...], grace_ms: int, _: Heartbeat) -> Present:
    oldest, newest = lately[0].statistics, lately[-1].statistics
    before = {one.trade_type: one for one in oldest.markets}
    store = newest.store
    # A recorder that cannot write names no gaps.
    can_write = store.full_why is None and store.committing_seconds < _STUCK_SECONDS
    due = {
        one.trade_type: Due(until_ms, can_write, one.began_ms)
        for one in newest.markets
        if (until_ms := _until_ms(before.get(one.trade_type), grace_ms)) is not None
    }
    times = {one.trade_type: one.exchange_ms for one in newest.markets if one.exchange_ms}
    return Present(times, due)


def _until_ms(market: MarketStatistics | None, grace_ms: int) -> int | None:
    if market is None or market.exchange_ms is None:
        return None
    return _whole_minute(market.exchange_ms - grace_ms - _LATE_MS)


def _whole_minute(moment_ms: int) -> int:
    # So a page has nothing new to fetch but once a minute.
    return max(0, moment_ms // _MINUTE_MS * _MINUTE_MS)


@attrs.define(eq=False)
class StoredSource:
    """A store without a recorder in this process. A recorder of another one may write it."""

    store_path: Path
    wall_clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    history: History = attrs.field(init=False, factory=History)
    chronicle: Chronicle = attrs.field(init=False, factory=Chronicle)
    _is_simulated: bool = attrs.field(init=False)

    has_census = False

    def __attrs_post_init__(self) -> None:
        self._is_simulated = is_simulated(self.store_path)

    def present(self) -> Callable[[Heartbeat], Present]:
        """Return the present by the last heartbeat in the journal."""
        return partial(_present_by, self.wall_clock)

    def moment(self, look: Look | None) -> StoredMoment:
        """Return what there is to show now."""
        return StoredMoment(
            version=__version__,
            store=str(self.store_path),
            is_simulated=self._is_simulated,
            wall_ms=round(self.wall_clock() * 1_000),
            heartbeat=None if look is None else look.heartbeat,
        )

    def candles(self) -> None:
        """Return None: what another process records is seen in the store."""


def _present_by(wall_clock: Callable[[], float], heartbeat: Heartbeat) -> Present:
    """Return the present as the last heartbeat tells it. Later candles do not count as due."""
    times: Mapping[str, int] = {name: ms for name, (ms, _) in heartbeat.times.items()}
    # A recorder of another process that has just begun has not looked at the time before.
    heard = heartbeat.pid is None or _runs_for(heartbeat.pid, wall_clock()) > _SCAN_SECONDS
    due = {
        name: Due(
            _whole_minute(ms - _LATE_MS),
            is_live=False,
            heard_ms=_whole_minute(ms) if heard else None,
        )
        for name, ms in times.items()
    }
    return Present(times, due)


def _runs_for(pid: int, now: float) -> float:
    """Return for how many seconds a process runs, by the local clock; 0 if it has ended."""
    try:
        return now - psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0
