"""What a running recorder does, as plain values: one snapshot for health, metrics and pages."""

from bisect import bisect_left
from collections.abc import Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.exchange.connection_events import Disconnected
from kline_trio.exchange.rate_limiter import RateLimiterUsage

LAG_BOUNDS_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 300, 3_600)
"""The upper bounds of the buckets of lags; one more bucket has no bound."""
LAG_STEP_SECONDS = 10.0
"""The lags of a market are counted by steps of so long, too."""


@attrs.frozen
class Traffic:
    """What was received, over one connection or over several."""

    frames: int = 0
    """Data frames, those of forming candles included."""
    received_bytes: int = 0
    """WebSocket bytes, decrypted."""
    forming_dropped: int = 0
    """Frames of forming candles that the sieve left out."""
    closed_taken: int = 0
    """Frames of closed candles."""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            *(mine + theirs for mine, theirs in zip(_counts(self), _counts(other), strict=True))
        )


def _counts(traffic: Traffic) -> tuple[int, ...]:
    return attrs.astuple(traffic)


@attrs.frozen(kw_only=True)
class ConnectionStatistics:
    """One connection that is being made or lives."""

    name: str
    """As in the log: the market, with a number or a letter if it has several connections."""
    url: str
    address: str | None
    """The peer's IP address, of the proxy if there is one; None while it is being made."""
    age_seconds: float
    is_delivering: bool
    """Whether a valid candle came, and no other connection has taken its place."""
    streams: int
    traffic: Traffic
    silent_seconds: float | None
    """Since the last data frame, or since the connection was made; None before."""
    reconnects: int
    """How many connections of this place have ended before, by themselves."""
    last_end: str | None
    """Why the last of those ended."""


@attrs.frozen(kw_only=True)
class ListenerStatistics:
    """The connections of one market."""

    connections: tuple[ConnectionStatistics, ...]
    traffic: Traffic
    """Of all connections since the start."""
    reconnects: int
    """How many connections have ended by themselves."""
    last_end: Disconnected | None
    """How the last of those ended; None if none has."""
    bad_frames: int
    """Frames that could not be taken."""


@attrs.frozen
class Lags:
    """How long after their close candles were durable, by the exchange's time."""

    counts: tuple[int, ...]
    """How many candles, by `LAG_BOUNDS_SECONDS`; the last is for longer lags."""
    sum_seconds: float
    max_seconds: float

    @property
    def count(self) -> int:
        """How many candles."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the bound of the bucket in which a share of the lags ends; None without lags.

        A lag beyond the last bound counts as the longest.
        """
        wanted, seen = share * self.count, 0
        for count, bound in zip(self.counts, (*LAG_BOUNDS_SECONDS, self.max_seconds), strict=True):
            seen += count
            if count and seen >= wanted:
                return min(bound, self.max_seconds)
        return None


def lag_bucket(lag_seconds: float) -> int:
    """Return the index of the bucket of a lag."""
    return bisect_left(LAG_BOUNDS_SECONDS, lag_seconds)


@attrs.frozen(kw_only=True)
class SeriesStatistics:
    """One series that is recorded now."""

    series: Series
    state: str
    """Of its state machine: `live` once its stored candles were looked up."""
    last_open_ms: int | None
    """Open time of the newest candle that this recorder made durable."""
    received: int
    """Candles of the stream that are durable, revisions included."""
    refilled: Mapping[str, int]
    """Candles that were absent and came later, by source."""
    absent: Mapping[str, int]
    """Candles that the ledger has closed as absent, by reason."""
    pending: int
    """Candles that are absent and still asked for."""
    pending_seconds: float
    """Local seconds since a count found a candle absent that opened after the start; 0 if none is
    absent."""
    last_hour: Lags
    """Of the candles of the last hour, by the local clock."""


@attrs.frozen(kw_only=True)
class RestStatistics:
    """The REST budget of the markets that share one."""

    pool: str
    usage: RateLimiterUsage


@attrs.frozen(kw_only=True)
class MarketStatistics:
    """One market of which series are recorded."""

    trade_type: str
    series: int
    exchange_ms: int | None
    """The exchange's time, as far as two witnesses confirm it; None if it is not known yet."""
    clock_stands_seconds: float
    """Local seconds since that time last moved, or since the start."""
    silent_seconds: float
    """Local seconds since the last valid candle, closed or forming, or since the start."""
    listener: ListenerStatistics
    is_refused: bool
    """Whether no connection delivers, and the exchange refused the last attempt."""
    rest_silent_seconds: float
    """Local seconds since requests have failed; 0 if the last was answered."""
    rest_problem: str | None
    """Why REST does not answer; None if it does."""
    is_halted: bool
    """Whether no symbol of the market trades."""
    received: int
    """Candles of the stream that are durable."""
    refilled: Mapping[str, int]
    absent: Mapping[str, int]
    pending: int
    lags: Mapping[str, Lags]
    """Since the start, by interval."""
    recent_lags: tuple[tuple[int, Lags], ...]
    """Of the last two steps of `LAG_STEP_SECONDS` with candles, each with its number: Trio's clock
    divided by the length of a step."""
    began_ms: int | None
    """The exchange's time when it was first known in this run; None: it is not known yet."""
    last_close_ms: int | None
    """The latest end of a durable candle of the stream, in exchange time; None before the first."""
    last_lag_seconds: float | None
    """How long after that end the last of its candles was durable; None: the exchange's time was
    not known."""


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """The store on its disk."""

    path: str
    counted_seconds: float | None
    """Since the store was last counted. None before the first count: then the figures of gaps,
    journal, files and free space are 0, and mean nothing."""
    journal_rows: int
    """Candles that wait in the journal for their merge."""
    candles_in_memory: int
    """Received candles that are not durable yet."""
    commits: int
    commit_seconds: float
    """How long the last commit took."""
    committing_seconds: float
    """How long the commit at hand takes already; 0 if there is none."""
    merges: int
    merge_seconds: float
    merging_seconds: float
    files: int
    file_bytes: int
    free_bytes: int
    days_left: float | None
    """How long the free space lasts; None if nothing is recorded."""
    full_seconds: float
    """Since when the disk is full, or takes nothing for another reason; 0 if it is not."""
    full_why: str | None
    dropped: int
    """Candles that did not fit into memory while the disk was full."""


@attrs.frozen(kw_only=True)
class LakeStatistics:
    """What was published to the lake."""

    url: str
    publications: int
    """How many have brought everything to the lake, since the start."""
    behind_seconds: float
    """Local seconds since the last of these began, or since the start."""
    late_seconds: float
    """From when on that is too long, by the configuration."""
    took_seconds: float
    """How long that one took."""
    is_publishing: bool
    left: int | None
    """Candles that the publication at hand has still to send; None: none runs, or not known yet."""
    rows: int
    """Candles that were sent, since the start."""
    inserted: int
    """Candles of these that the lake did not have."""
    updated: int
    """Candles of these that replaced a row of lower rank."""
    copies: int | None
    """Recorders of this shard that were there lately, this one included; None: not known yet."""
    copies_expected: int
    problem: str | None
    """Why the last publication failed; None if it did not."""
    upkeep_problem: str | None
    """Why the lake could not be looked after the last time; None if it could."""
    upkeep_fails_seconds: float
    """Since when; 0 if it could."""
    pruned: int
    """Candles that were removed here, since the lake has them; since the start."""
    lacking: tuple[str, ...]
    """What the lake lacks of what was removed here."""


@attrs.frozen(kw_only=True)
class ProcessStatistics:
    """The process."""

    pid: int
    began_at: float
    """When the recorder began, in seconds since 1970 by the local clock; a label only."""
    uptime_seconds: float
    memory_bytes: int
    """Resident set."""
    tasks: int
    """Living Trio tasks."""
    loop_lag_seconds: float
    """How late the event loop woke a sleeping task at most, in the last minute."""


@attrs.frozen(kw_only=True)
class Statistics:
    """One moment of a recorder."""

    version: str
    wall_time: float
    """Seconds since 1970 by the local clock; a label only."""
    markets: tuple[MarketStatistics, ...]
    rest: tuple[RestStatistics, ...]
    store: StoreStatistics
    process: ProcessStatistics
    lake: LakeStatistics | None
    """None: nothing is published."""
    late: tuple[SeriesStatistics, ...]
    """The series that miss a candle of this run, the longest first."""
    series: tuple[SeriesStatistics, ...]
    """All series, if they were asked for."""
