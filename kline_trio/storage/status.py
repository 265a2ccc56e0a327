"""Measure how complete a store is, series by series, by the exchange's present time."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.spans import common
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holdings import Holdings, holdings
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.ledger import SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import lock_path

DEFAULT_GRACE_MS = 5_000
_LATE_MS = 45_000
"""How far behind a connection may be before the recorder names its missing candles."""
_SILENT_MS = 150_000
"""Two heartbeats and a half: an exchange time that was not renewed for so long stands still."""
_LOCKS = Path("/proc/locks")
"""Linux lists all locks here."""


@attrs.frozen
class Clock:
    """The time of a market, and its source."""

    now_ms: int
    source: str
    grace_ms: int
    """A candle that closed no longer ago than this may not have come yet."""


@attrs.frozen
class SeriesStatus:
    """What a store has of one series."""

    series: Series
    held: tuple[Span, ...]
    """The stored candles, each once; in order, and no two spans touch."""
    due: int
    """How many candles there should be by now, from the first that counts; not in pruned months."""
    stored: int
    """How many due candles are stored."""
    absent: dict[str, int]
    """How many due candles the ledger has as absent, by reason; `pending` if still asked for."""
    unaccounted: int = 0
    """How many due candles after the watermark are neither stored nor in the ledger: no recorder
    has accounted for them yet."""
    holes: int = 0
    """The same before the watermark: these were lost in silence."""
    account: SeriesAccount | None = None
    """Up to where a recorder has accounted for the series."""
    clock: Clock | None = None
    """None: no exchange time is known, and due is counted up to the watermark."""

    @property
    def rows(self) -> int:
        """How many candles are stored."""
        return sum(map(self.series.interval.count, self.held))

    @property
    def from_ms(self) -> int | None:
        """The begin of the first stored candle; None if none is."""
        return self.held[0].from_ms if self.held else None

    @property
    def to_ms(self) -> int | None:
        """The end of the last stored candle, exclusive; None if none is."""
        return self.held[-1].to_ms if self.held else None

    @property
    def watermark_ms(self) -> int | None:
        """Each due candle that opens before is stored or in the ledger; None without an account."""
        return None if self.account is None else self.account.watermark_ms

    @property
    def is_retired(self) -> bool:
        """Whether the series is not recorded any more, and due up to its watermark only."""
        return self.account is not None and self.account.retired_ms is not None

    @property
    def unexplained(self) -> int:
        """How many due candles are neither stored nor in the ledger."""
        return self.unaccounted + self.holes

    @property
    def complete_percent(self) -> float | None:
        """The percentage of due candles that are stored; None if nothing is due yet."""
        return 100.0 * self.stored / self.due if self.due else None

    @property
    def behind_ms(self) -> int | None:
        """How long ago the last candle ended; None if there is none, or no clock."""
        if self.to_ms is None or self.clock is None:
            return None
        return max(0, self.clock.now_ms - self.to_ms)


@attrs.frozen
class StoreStatus:
    """How complete a store is."""

    pid: int | None
    """Of the recorder that holds the store; None: no recorder runs."""
    heard_ms: int | None
    """The local time of the last heartbeat; None: there was none."""
    clocks: dict[str, Clock]
    """By trade type."""
    series: tuple[SeriesStatus, ...]
    damaged: tuple[str, ...] = ()
    """What is wrong with each file that cannot be read; its rows do not count."""
    in_lake: InLake = attrs.field(factory=InLake)
    """The months that a lake alone has. They are neither due nor stored nor absent."""

    @property
    def complete_percent(self) -> float | None:
        """The percentage of due candles that are stored, of all series; None if none is due."""
        due = sum(one.due for one in self.series)
        return 100.0 * sum(one.stored for one in self.series) / due if due else None


@attrs.frozen
class Heartbeat:
    """What the journal says of the recorder that wrote it last."""

    pid: int | None
    """Of the recorder that holds the store; None: no recorder runs."""
    heard_ms: int | None
    """The local time of the last heartbeat; None: there was none."""
    times: Mapping[str, tuple[int, int]]
    """By market, the exchange's last time, and the local time when it was new."""

    @classmethod
    def read(cls, store_path: Path) -> "Heartbeat":
        """Read the last heartbeat of a store.

        Raises:
          KlineTrioError: the journal cannot be read, or the disk refuses.
        """
        with disk_errors(store_path), journal_view(store_path) as journal:
            times, pid = journal.exchange_times(), journal.pid()
        _, heard_ms = times.pop("", (0, None))
        return cls(pid if _runs(store_path, pid) else None, heard_ms, times)


def status(
    store_path: Path,
    local_ms: int = 0,
    grace_ms: int = DEFAULT_GRACE_MS,
    clocks: Mapping[str, Clock] | None = None,
) -> StoreStatus:
    """Return how complete each series of the store is. A recorder may run meanwhile.

    While a recorder runs, the exchange's time is the one that the recorder wrote last: it is never
    older than a minute. If no recorder runs, or the recorder gets no time from the exchange, add
    the local time that has passed since. Without any time, count due up to the watermark.

    Args:
      store_path: the store's folder.
      local_ms: the time of the local clock.
      grace_ms: how long after its close a candle may take to come.
      clocks: the times of the markets, from an earlier status; None: from the journal.

    Raises:
      KlineTrioError: the journal cannot be read, or the disk refuses.
    """
    damaged: list[str] = []

    with disk_errors(store_path):
        heard = Heartbeat.read(store_path)
        if clocks is None:
            clocks = {
                name: _clock(*time, local_ms, grace_ms, is_running=heard.pid is not None)
                for name, time in heard.times.items()
            }
        found = holdings(store_path, lambda _, error: damaged.append(str(error)))
        with journal_view(store_path) as journal:
            in_lake = InLake.of(journal)
    return StoreStatus(
        heard.pid,
        heard.heard_ms,
        dict(clocks),
        tuple(_status_of(one, clocks.get(one.series.trade_type)) for one in found),
        tuple(damaged),
        in_lake,
    )


def _clock(
    exchange_ms: int, kept_ms: int, local_ms: int, grace_ms: int, *, is_running: bool
) -> Clock:
    passed_ms = max(0, local_ms - kept_ms)
    if is_running and passed_ms <= _SILENT_MS:
        source = "the exchange's time, kept by the recorder less than a minute ago"
        return Clock(exchange_ms, source, max(grace_ms, _LATE_MS))
    if is_running:
        source = "the exchange's last time, and the local time since: it tells no later one"
    else:
        source = "the exchange's time of the last recorder, and the local time since"
    return Clock(exchange_ms + passed_ms, source, grace_ms)


def _status_of(one: Holdings, clock: Clock | None) -> SeriesStatus:
    account, until_ms = one.account, None
    if account is not None and clock is not None and account.retired_ms is None:
        # A recorder that was killed may have written more than its last heartbeat tells.
        until_ms = max(account.watermark_ms, clock.now_ms - clock.grace_ms)
    due = one.due(until_ms)
    reasons: dict[str, list[Span]] = {}
    for gap in one.absences:
        reason = str(gap.state if gap.state is State.PENDING else gap.reason)
        reasons.setdefault(reason, []).append(gap.span)
    absent = {}
    for reason, spans in reasons.items():
        named = list(common(spans, due))
        # A candle that came since the ledger was read is stored.
        if count := one.count(named) - one.count(common(named, one.rows)):
            absent[reason] = count
    holes, stored = one.count(one.missing()), one.count(common(one.rows, due))
    unaccounted = one.count(one.missing(until_ms)) - holes
    return SeriesStatus(
        one.series, one.rows, one.count(due), stored, absent, unaccounted, holes, account, clock
    )


def _runs(store_path: Path, pid: int | None) -> bool:
    """Whether the recorder with this pid is alive, and holds the store.

    Do not take the lock: that would keep out a recorder that starts just now. If the system lists
    its locks, look for the store's: after a crash another process may have the pid.
    """
    lock = lock_path(store_path)
    try:
        if pid is None or int(lock.read_text(encoding="utf-8")) != pid:
            return False
        with contextlib.suppress(PermissionError):  # of another user, and alive
            os.kill(pid, 0)
        inode = lock.stat().st_ino
    except (OSError, ValueError, OverflowError):
        return False
    try:
        locks = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return True
    return any("FLOCK" in line and f":{inode} " in line for line in locks)
