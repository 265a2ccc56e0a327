"""From statistics to a verdict with reasons in words (pure).

A reason worsens the verdict at once, and counts until it has been away for a quiet time. So a
fault that comes and goes is one fault, and health recovers by itself.
"""

import enum
from collections.abc import Iterable, Iterator

import attrs

from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.recorder.statistics import (
    LakeStatistics,
    MarketStatistics,
    SeriesStatistics,
    Statistics,
    StoreStatistics,
)

_FEW_SECONDS = 60.0
"""How long a place may be without a delivering connection, and REST without an answer."""
_SLOW_LOOP_SECONDS = 1.0
_MOST_SERIES = 10
"""More late series are named in one reason."""


class Verdict(enum.IntEnum):
    """How a recorder does; the greater the worse."""

    OK = 0
    DEGRADED = 1
    """Data are complete so far, and something needs attention."""
    BAD = 2
    """Data are missing, or will be."""

    def __str__(self) -> str:
        return self.name.lower()


class Code(enum.StrEnum):
    """What a reason is about: causes before what follows from them.

    Alerts and programs may rely on these words.
    """

    UNOBSERVED = "unobserved"
    DISK_FULL = "disk_full"
    STUCK = "stuck"
    STARTING = "starting"
    MAINTENANCE = "maintenance"
    HALTED = "halted"
    NO_DATA = "no_data"
    CONNECTION_DOWN = "connection_down"
    REST_BLOCKED = "rest_blocked"
    REST_DOWN = "rest_down"
    CLOCK_LOST = "clock_lost"
    ABSENT = "absent"
    DISK_SPACE = "disk_space"
    PRUNED = "pruned"
    LAKE = "lake"
    COPIES = "copies"
    SLOW = "slow"


_RANK = {code: number for number, code in enumerate(Code)}


@attrs.frozen(kw_only=True)
class Reason:
    """One thing that is wrong."""

    code: Code
    verdict: Verdict
    subject: str
    """A market, a connection, a series, a rate limit, or `store`, `process` or `monitor`."""
    text: str
    """A sentence for people; it begins with the subject."""


@attrs.frozen(kw_only=True)
class Thresholds:
    """From when on something is wrong."""

    silent_seconds: float = 45.0
    """A market without any candle for so long."""
    absent_seconds: float = 15.0
    """A candle that was found absent so long ago."""
    stuck_seconds: float = 60.0
    """A transaction that takes so long. Merges may take ten times as long."""
    free_days: float = 7.0
    """Less free space than for so many days."""
    recover_seconds: float = 15.0
    """A reason counts until it has been away for so long."""


def reasons(found: Statistics, limits: Thresholds) -> Iterator[Reason]:
    """Give what is wrong in a snapshot, the worst of each part first."""
    for market in found.markets:
        yield from _of_market(market, found.process.uptime_seconds, limits)
    yield from _of_late(found.late, limits)
    for rest in found.rest:
        if rest.usage.blocked_seconds:
            seconds = duration_text(rest.usage.blocked_seconds)
            text = f"{rest.pool}: REST is blocked for {seconds} more: {rest.usage.blocked_why}"
            yield _reason(Code.REST_BLOCKED, Verdict.DEGRADED, rest.pool, text)
    yield from _of_store(found.store, limits)
    if found.lake is not None:
        yield from _of_lake(found.lake)
    lag = found.process.loop_lag_seconds
    if lag >= _SLOW_LOOP_SECONDS:
        text = f"process: the event loop was held up for {lag:.1f} s in the last minute"
        yield _reason(Code.SLOW, Verdict.DEGRADED, "process", text)


def _of_market(
    market: MarketStatistics, uptime_seconds: float, limits: Thresholds
) -> Iterator[Reason]:
    name, silent = market.trade_type, market.silent_seconds
    has_data = any(one.is_delivering for one in market.listener.connections)
    is_silent = silent >= limits.silent_seconds
    if is_silent and market.is_halted:
        text = f"{name}: nothing is traded, by the exchange's list"
        yield _reason(Code.HALTED, Verdict.DEGRADED, name, text)
    elif is_silent and market.is_refused and market.rest_problem is not None:
        text = f"{name}: the exchange refuses streams and REST alike for {duration_text(silent)}"
        yield _reason(Code.MAINTENANCE, Verdict.BAD, name, f"{text}; it may be a maintenance")
    elif is_silent:
        end = "" if market.listener.last_end is None else _last_end(market)
        text = f"{name}: no data for {duration_text(silent)}{end}"
        yield _reason(Code.NO_DATA, Verdict.BAD, name, text)
    elif not has_data and silent >= uptime_seconds:
        text = f"{name}: no data yet, {duration_text(uptime_seconds)} after the start"
        yield _reason(Code.STARTING, Verdict.DEGRADED, name, text)
    stands = market.clock_stands_seconds
    if stands >= limits.silent_seconds:
        known = "is not known" if market.exchange_ms is None else "does not go on"
        text = f"{name}: the exchange's time {known} for {duration_text(stands)}"
        yield _reason(Code.CLOCK_LOST, Verdict.BAD, name, text)
    if market.rest_silent_seconds >= _FEW_SECONDS:
        seconds = duration_text(market.rest_silent_seconds)
        text = f"{name}: REST gives no answer for {seconds}: {market.rest_problem}"
        yield _reason(Code.REST_DOWN, Verdict.DEGRADED, name, text)
    if not is_silent and uptime_seconds >= _FEW_SECONDS:
        yield from _of_connections(market)


def _last_end(market: MarketStatistics) -> str:
    end = market.listener.last_end
    assert end is not None
    attempts = market.listener.reconnects
    return f" ({end}; {counted(attempts, 'connection')} lost)"


def _of_connections(market: MarketStatistics) -> Iterator[Reason]:
    names = dict.fromkeys(one.name for one in market.listener.connections)
    for name in names:
        places = [one for one in market.listener.connections if one.name == name]
        if not any(one.is_delivering for one in places):
            why = places[-1].last_end or "none was made yet"
            streams = counted(places[-1].streams, "stream")
            text = f"{name}: no connection delivers its {streams}: {why}"
            yield _reason(Code.CONNECTION_DOWN, Verdict.DEGRADED, name, text)


def _of_late(late: tuple[SeriesStatistics, ...], limits: Thresholds) -> Iterator[Reason]:
    found = [one for one in late if one.pending_seconds >= limits.absent_seconds]
    if len(found) <= _MOST_SERIES:
        for one in found:
            candles = counted(one.pending, "candle")
            text = f"{one.series}: {candles} absent for {duration_text(one.pending_seconds)}"
            yield _reason(Code.ABSENT, Verdict.BAD, str(one.series), text)
        return
    for name in sorted({one.series.trade_type for one in found}):
        of_market = [one for one in found if one.series.trade_type == name]
        longest = duration_text(max(one.pending_seconds for one in of_market))
        candles = counted(sum(one.pending for one in of_market), "candle")
        text = f"{name}: {candles} of {len(of_market):,} series absent for up to {longest}"
        yield _reason(Code.ABSENT, Verdict.BAD, name, text)


def _of_store(store: StoreStatistics, limits: Thresholds) -> Iterator[Reason]:
    if store.full_why is not None:
        waiting = counted(store.candles_in_memory, "candle waits", "candles wait")
        waiting += f", {counted(store.dropped, 'was dropped', 'were dropped')}"
        seconds = duration_text(store.full_seconds)
        text = f"store: nothing can be written for {seconds}: {store.full_why}; {waiting}"
        yield _reason(Code.DISK_FULL, Verdict.BAD, "store", text)
    elif store.days_left is not None and store.days_left < limits.free_days:
        text = f"store: {store.free_bytes / 1e9:.1f} GB free, for {store.days_left:.1f} days"
        yield _reason(Code.DISK_SPACE, Verdict.DEGRADED, "store", text)
    limits_by_job = (
        ("a transaction", store.committing_seconds, limits.stuck_seconds),
        ("a merge", store.merging_seconds, 10 * limits.stuck_seconds),
    )
    for job, job_seconds, most_seconds in limits_by_job:
        if job_seconds >= most_seconds:
            text = f"store: {job} takes {duration_text(job_seconds)} already"
            yield _reason(Code.STUCK, Verdict.BAD, "store", text)


def _of_lake(lake: LakeStatistics) -> Iterator[Reason]:
    if lake.upkeep_fails_seconds >= lake.late_seconds:
        text = f"lake: not looked after for {duration_text(lake.upkeep_fails_seconds)}"
        yield _reason(Code.LAKE, Verdict.DEGRADED, "lake", f"{text}: {lake.upkeep_problem}")
    if lake.behind_seconds >= lake.late_seconds:
        why = f": {lake.problem}" if lake.problem is not None else ""
        text = f"lake: not published for {duration_text(lake.behind_seconds)}{why}"
        yield _reason(Code.LAKE, Verdict.DEGRADED, "lake", text)
    if lake.lacking:
        more = f", and {len(lake.lacking) - 1} more" if len(lake.lacking) > 1 else ""
        yield _reason(Code.PRUNED, Verdict.BAD, "lake", f"lake: {lake.lacking[0]}{more}")
    if lake.copies is not None and lake.copies < lake.copies_expected:
        found = f"{lake.copies} of {counted(lake.copies_expected, 'copy', 'copies')}"
        text = f"lake: {found} of this shard were there lately"
        yield _reason(Code.COPIES, Verdict.DEGRADED, "lake", text)


def _reason(code: Code, verdict: Verdict, subject: str, text: str) -> Reason:
    return Reason(code=code, verdict=verdict, subject=subject, text=text)


@attrs.frozen(kw_only=True)
class Health:
    """The verdict on a recorder, and why."""

    verdict: Verdict = Verdict.OK
    reasons: tuple[Reason, ...] = ()
    """Those that count now, the worst first."""
    since: float | None = None
    """Since when the verdict is the same, by the clock of `after`; None before the first."""
    _seen: dict[tuple[Code, str], tuple[Reason, float]] = attrs.field(factory=dict, repr=False)
    """The reasons that count, each with the time when it was last there."""

    def after(self, found: Statistics, limits: Thresholds, now: float) -> "Health":
        """Return the health after another snapshot, at `now` seconds."""
        return self._with(reasons(found, limits), limits, now)

    def unobserved(self, limits: Thresholds, now: float) -> "Health":
        """Return the health after a snapshot that could not be made, at `now` seconds."""
        text = "process: the recorder cannot be observed, by a bug: see the log"
        return self._with([_reason(Code.UNOBSERVED, Verdict.BAD, "process", text)], limits, now)

    def _with(self, found: Iterable[Reason], limits: Thresholds, now: float) -> "Health":
        seen = {
            key: (reason, moment)
            for key, (reason, moment) in self._seen.items()
            if now < moment + limits.recover_seconds
        }
        seen |= {(one.code, one.subject): (one, now) for one in found}
        counting = sorted(
            (reason for reason, _ in seen.values()),
            key=lambda one: (-one.verdict, _RANK[one.code], one.subject),
        )
        verdict = max((one.verdict for one in counting), default=Verdict.OK)
        since = now if self.since is None or verdict is not self.verdict else self.since
        return Health(verdict=verdict, reasons=tuple(counting), since=since, seen=seen)

    @property
    def is_ready(self) -> bool:
        """Whether data come, and are complete."""
        starting = any(one.code is Code.STARTING for one in self.reasons)
        return self.verdict is not Verdict.BAD and not starting

    @property
    def is_stuck(self) -> bool:
        """Whether a job of the disk does not end. The process cannot help itself then."""
        return any(one.code is Code.STUCK for one in self.reasons)
