"""The sentence that says whether all is well, and the totals that it is made of (pure).

The sentence never says that all is complete while something is pending, unaccounted or unknown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from kline_trio.counting import counted, noun
from kline_trio.duration import duration_text
from kline_trio.interval import time_text
from kline_trio.monitor.health import Code, Reason, Verdict
from kline_trio.storage.calendar import CellState, Counts

_DECIMALS = 1_000
_DAY_MS = 86_400_000


def percent_of(stored: int, due: int) -> float | None:
    """Return a percentage, rounded down, so that 100 means all; None: nothing is due."""
    return math.floor(100 * _DECIMALS * stored / due) / _DECIMALS if due else None


@attrs.frozen(kw_only=True)
class Totals:
    """How complete a store is, over all time."""

    series: int
    complete_series: int
    """Those that lack no due candle."""
    due: int
    refilled: int
    pending: int
    absent: int
    unaccounted: int
    by_reason: Mapping[str, int]
    """Pending and absent candles, by reason."""

    @property
    def stored(self) -> int:
        """How many due candles are stored."""
        return self.due - self.pending - self.absent - self.unaccounted

    @property
    def percent(self) -> float | None:
        """The percentage of due candles that are stored; None if none is due."""
        return percent_of(self.stored, self.due)

    @classmethod
    def of(cls, counts: Sequence[Counts], by_reason: Mapping[str, int]) -> "Totals":
        """Return the sums of the counts of each series."""
        whole = (CellState.NOT_DUE, CellState.COMPLETE, CellState.REFILLED)
        return cls(
            series=len(counts),
            complete_series=sum(one.state in whole for one in counts),
            due=sum(one.due for one in counts),
            refilled=sum(one.refilled for one in counts),
            pending=sum(one.pending for one in counts),
            absent=sum(one.absent for one in counts),
            unaccounted=sum(one.unaccounted for one in counts),
            by_reason=by_reason,
        )

    def values(self) -> dict[str, object]:
        """Return the totals as values of JSON."""
        return {
            "series": self.series,
            "complete_series": self.complete_series,
            "due": self.due,
            "stored": self.stored,
            "refilled": self.refilled,
            "pending": self.pending,
            "absent": self.absent,
            "unaccounted": self.unaccounted,
            "percent": self.percent,
            "by_reason": dict(self.by_reason),
        }


@attrs.frozen(kw_only=True)
class LastClose:
    """The latest close that the stream brought."""

    end_ms: int
    lag_seconds: float | None
    """How long after it the last of its candles was durable."""

    def sentence(self, now_ms: int | None) -> str:
        """Return a sentence about it."""
        text = f"Last close {_time_of_day(self.end_ms, now_ms)}"
        if self.lag_seconds is None:
            return f"{text}."
        return f"{text}, committed {_lag_text(self.lag_seconds)} later."


def _lag_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else duration_text(seconds)


def _time_of_day(moment_ms: int, now_ms: int | None) -> str:
    """Return a time of today without its date."""
    if now_ms is not None and moment_ms // _DAY_MS == now_ms // _DAY_MS:
        return datetime.fromtimestamp(moment_ms / 1_000, UTC).strftime("%H:%M:%S")
    return time_text(moment_ms).partition("+")[0]


@attrs.frozen(kw_only=True)
class LiveFacts:
    """What the sentence about a running recorder is made of."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    """Why, the worst first."""
    recorded: int
    """How many series are recorded."""
    totals: Totals | None
    """None: the ledger was not read yet."""
    uncounted: int = 0
    """Recorded series of which the ledger has no account yet."""
    problem: str | None = None
    """Why the ledger cannot be read."""
    is_counted: bool = True
    """Whether the recorder has counted its store since its start."""
    pending: int = 0
    """Candles that the recorder's own count found pending."""
    until_ms: int | None = None
    """The exchange time up to which candles were counted in all markets."""
    last_close: LastClose | None = None
    now_ms: int | None = None
    """Exchange time."""


def live_sentence(facts: LiveFacts) -> str:
    """Return what a running recorder does, and whether all is well, in one or two sentences.

    Figures, calendar and list of reasons tell the rest.
    """
    close = None if facts.last_close is None else facts.last_close.sentence(facts.now_ms)
    parts = [_causes(facts), _completeness(facts), close or "No candle has closed yet."]
    return " ".join(part for part in parts if part)


def _causes(facts: LiveFacts) -> str:
    """Return the first cause, if health is not well."""
    if not facts.reasons:
        return ""
    lead = "Trouble" if facts.verdict is Verdict.BAD else "Attention"
    if facts.pending and all(one.code is Code.ABSENT for one in facts.reasons):
        # What is missing stands in the next sentence.
        return f"{lead}:"
    first, *others = facts.reasons
    more = f"; {len(others):,} more {noun(len(others), 'cause')}" if others else ""
    return f"{lead}: {first.text}{more}."


def _completeness(facts: LiveFacts) -> str:
    totals = facts.totals
    if facts.problem is not None:
        return f"What is missing is not known: {facts.problem}."
    if totals is None or not facts.is_counted:
        recorded = counted(facts.recorded, "series is", "series are")
        return f"{recorded} recorded; the missing candles are not counted yet."
    if not totals.series and not facts.recorded:
        return "No series is recorded."
    if facts.uncounted:
        new = counted(facts.uncounted, "series has", "series have")
        if not totals.series:
            return f"{new} no count yet."
        if _is_whole(totals, facts.pending):
            return f"{new} no count yet; the other {totals.series:,} lack nothing."
        return f"{new} no count yet. {_found(totals, facts.pending, '')}"
    # If something is wrong, what closed lately may be missing, and not be named yet.
    then = ""
    if facts.reasons and not facts.pending:
        until_ms = facts.until_ms
        then = "" if until_ms is None else f" up to {_time_of_day(until_ms, facts.now_ms)}"
        if not then:
            return "What is missing is not known."
    return _found(totals, facts.pending, then)


def _is_whole(totals: Totals, pending: int) -> bool:
    return not (pending or totals.pending or totals.absent or totals.unaccounted)


def _found(totals: Totals, pending: int, then: str) -> str:
    """Return how complete the counted series are.

    Args:
      totals: as they were counted.
      pending: how many candles another count found pending.
      then: words that say up to when.
    """
    if _is_whole(totals, pending):
        if not totals.due:
            return f"{counted(totals.series, 'series', 'series')}, no candle is due yet."
        return f"{_all(totals.series)} complete{then}."
    lacks = _lacks(totals, max(pending, totals.pending))
    if lacks:
        return f"{lacks}{f', counted{then}' if then else ''}."
    of = counted(totals.series, "series", "series")
    return f"All that can be had is stored{then}: {totals.percent:.3f} % of {of}."


def _lacks(totals: Totals, pending: int) -> str:
    """Return what is missing and may still come, or should be explained."""
    parts = []
    if pending:
        parts.append(f"{counted(pending, 'candle is', 'candles are')} missing and not fetched yet")
    if totals.unaccounted:
        parts.append(f"{counted(totals.unaccounted, 'candle is', 'candles are')} not accounted for")
    return ", ".join(parts)


def _all(series: int) -> str:
    return "The one series is" if series == 1 else f"All {series:,} series"


@attrs.frozen(kw_only=True)
class StoppedFacts:
    """What the sentence about a store without a recorder in this process is made of."""

    totals: Totals | None
    """None: the store was not read yet."""
    until_ms: int | None
    """The exchange time up to which candles are counted; None: not known."""
    problem: str | None = None
    """Why the ledger cannot be read."""
    pid: int | None = None
    """Of a recorder of another process that writes the store."""
    heard_seconds: float | None = None
    """Since the last heartbeat, by the local clock; None: there was none."""


def stopped_sentence(facts: StoppedFacts) -> str:
    """Return who records, and how complete the store is, in some sentences."""
    if facts.problem is not None:
        return f"What is missing is not known: {facts.problem}."
    if facts.totals is None:
        return "The store is being read."
    return f"{_who(facts)} {_stopped(facts.totals, facts.until_ms)}"


def _who(facts: StoppedFacts) -> str:
    heard = None if facts.heard_seconds is None else duration_text(facts.heard_seconds)
    if facts.pid is not None:
        told = "" if heard is None else f", heard {heard} ago"
        return f"A recorder (pid {facts.pid}) writes here{told}."
    if heard is None:
        return "No recorder runs."
    return f"No recorder runs. The last one was heard {heard} ago."


def _stopped(totals: Totals, until_ms: int | None) -> str:
    if not totals.series:
        return "The store has no series."
    then = "" if until_ms is None else f" up to {_time_of_day(until_ms, None)}"
    return _found(totals, 0, then)


def reason_values(reasons: Iterable[Reason]) -> list[dict[str, str]]:
    """Return reasons as values of JSON."""
    return [
        {
            "code": str(one.code),
            "verdict": str(one.verdict),
            "subject": one.subject,
            "text": one.text,
        }
        for one in reasons
    ]
