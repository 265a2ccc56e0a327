"""The command `status`: print how a recorder does, and how complete its store is.

The running recorder is asked by its control socket for what it does now; what is stored, and how
complete it is, is always read from the store. Without a recorder the store alone speaks, and the
output says so. `live.py` has the exit statuses.
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.commands.control import ask
from kline_trio.commands.live import (
    MOST_SERIES,
    SIMULATED,
    Answer,
    Report,
    existing_store,
    is_healthy,
    json_text,
    live_lines,
    show,
)
from kline_trio.commands.store import store_of
from kline_trio.counting import counted, noun
from kline_trio.duration import duration_text
from kline_trio.errors import DamagedError, KlineTrioError, NotAllowedError, NotRunningError
from kline_trio.interval import time_text
from kline_trio.program import program_name
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.simulated import is_simulated
from kline_trio.storage.status import DEFAULT_GRACE_MS, SeriesStatus, StoreStatus
from kline_trio.storage.status import status as store_status
from kline_trio.storage.universe import unlisted as unlisted_series

_RETRY_SECONDS = 3.0
_Unlisted = Mapping[Series, str | None]
"""The series whose symbols no list of the exchange has, each with the symbol most like it."""
_NOT_RUNNING = 3


def status(options: argparse.Namespace) -> int:
    """Print how a store and its recorder are. Return an exit status of `live.py`."""
    return show(options, lambda: _report(options))


@attrs.frozen
class _Asked:
    """What a store's recorder said of itself."""

    answer: Answer | None
    """None: it said nothing."""
    problem: str | None = None
    """Why a recorder that listens gave no answer; None if none listens."""
    is_allowed: bool = True
    """False if the recorder is another user's: then its silence is no fault."""

    @classmethod
    def of(cls, store: Path) -> "_Asked":
        """Ask the recorder of a store, if one runs."""
        try:
            return cls(ask(store, request="statistics"))
        except NotRunningError:
            return cls(None)
        except NotAllowedError as error:
            return cls(None, str(error), is_allowed=False)
        except KlineTrioError as error:
            return cls(None, str(error))


def _report(options: argparse.Namespace) -> Report:
    store, config = store_of(options.store)
    lines = []
    if config is not None and (there := existing_store(store, options.store)) != store:
        lines = [f"{store} is not there; this is {there}, of --simulate"]
        store = there
    asked = _Asked.of(store)
    grace_ms = DEFAULT_GRACE_MS
    if config is not None:
        grace_ms = round(config.completeness.grace_seconds * 1_000)
    found = store_status(store, round(time.time() * 1_000), grace_ms)
    if found.pid is not None and any(one.unexplained for one in found.series):
        # The recorder may be writing these gaps to the ledger now.
        time.sleep(_RETRY_SECONDS)
        found = store_status(store, round(time.time() * 1_000), grace_ms, found.clocks)
    configured = () if config is None else config.streams
    known = {one.series for one in found.series}
    empty = [SeriesStatus(one, (), 0, 0, {}) for one in configured if one not in known]
    every = sorted([*found.series, *empty], key=_badness)
    found, unlisted = attrs.evolve(found, series=tuple(every)), dict[Series, str | None]()
    with suppress(DamagedError):
        # A stored candle proves that its symbol exists. `check` names a damaged list.
        unlisted = unlisted_series(store, [one.series for one in every if not one.held])
    problems = [*found.damaged, *_failures(found, options.max_age, options.min_complete)]
    if asked.problem is not None and asked.is_allowed:
        problems.append(asked.problem)
    is_bad = bool(problems) or any(one.unexplained for one in every)
    is_bad = is_bad or not (asked.answer is None or is_healthy(asked.answer))
    is_running = asked.answer is not None or found.pid is not None
    exit_status = 1 if is_bad else _NOT_RUNNING if config is not None and not is_running else 0
    if options.json:
        return Report([json_text(_json(store, asked, found, unlisted))], problems, exit_status)
    if asked.answer is not None:
        lines += live_lines(asked.answer)
    elif is_simulated(store):
        lines.append(SIMULATED)
    if every:
        lines += _lines(found, unlisted, asked, has_all=options.all)
    else:
        lines.append(f"{store}: nothing is stored there")
    return Report(lines, problems, exit_status)


def _badness(one: SeriesStatus) -> tuple[object, ...]:
    """Order series by what is wrong with them, the worst first."""
    is_empty = not one.held and not one.is_retired
    percent = 100.0 if one.complete_percent is None else one.complete_percent
    return (-one.unexplained, not is_empty, -one.absent.get("pending", 0), percent, one.series)


def _lines(
    found: StoreStatus, unlisted: _Unlisted, asked: _Asked, *, has_all: bool
) -> Iterator[str]:
    """Give a summary, the clocks, and a line for each series."""
    yield _summary(found, asked)
    for name, clock in sorted(found.clocks.items()):
        yield f"{name} is measured at {_short(clock.now_ms)}: {clock.source}"
    for name in sorted({one.series.trade_type for one in found.series} - found.clocks.keys()):
        yield f"{name} is measured at each series' watermark: no exchange time is known"
    if found.in_lake.months:
        yield _in_lake_line(found.in_lake)
    shown = found.series if has_all else found.series[:MOST_SERIES]
    width = max(len(str(one.series)) for one in shown)
    for one in shown:
        line = _line(one)
        if one.series in unlisted:
            meant = unlisted[one.series]
            line += f"  the exchange lists no {one.series.symbol}"
            line += f"; did you mean {meant}?" if meant else ""
        yield f"{one.series!s:<{width}}  {line}"
    if more := len(found.series) - len(shown):
        yield f"and {more:,} more series, none of them worse (--all shows them)"


def _in_lake_line(in_lake: InLake) -> str:
    months = in_lake.months
    series = len({one.series for one in months})
    candles = counted(sum(one.rows for one in months), "candle")
    what = f"{counted(len(months), 'month')} of {series:,} series, {candles}"
    return f"in the lake alone: {what}, {' and '.join(in_lake.urls())}"


def _summary(found: StoreStatus, asked: _Asked) -> str:
    words = [f"{len(found.series):,} series"]
    if found.complete_percent is not None:
        words.append(f"{_percent(found.complete_percent)} complete")
    stored = [one for one in found.series if one.to_ms is not None]
    if stored:
        newest = max(stored, key=lambda one: one.to_ms or 0)
        words.append(f"last candle {_short(newest.to_ms or 0)}{_behind(newest)}")
    return f"{', '.join(words)}; {_recorder(found, asked)}"


def _recorder(found: StoreStatus, asked: _Asked) -> str:
    if asked.answer is not None:
        return "of the store, with what the recorder wrote last"
    if found.pid is not None:
        why = "did not answer" if asked.problem else "has no control socket"
        why = why if asked.is_allowed else "answers its own user alone"
        return f"a recorder runs (pid {found.pid}), and {why}: this is read from the store alone"
    since = "" if found.heard_ms is None else f" since {_short(found.heard_ms)} local time, UTC"
    return f"no recorder runs{since}: this is read from the store alone"


def _line(one: SeriesStatus) -> str:
    line = "nothing stored"
    if one.from_ms is not None and one.to_ms is not None:
        rows = f"{one.rows:>12,} {noun(one.rows, 'row'):<4}"
        line = f"{_short(one.from_ms)} to {_short(one.to_ms)}  {rows}"
    if one.complete_percent is not None:
        line += f"  {_percent(one.complete_percent):>9}"
    line += ", not recorded any more" if one.is_retired else _behind(one)
    if one.absent:
        reasons = [f"{count:,} {reason}" for reason, count in sorted(one.absent.items())]
        line += f"  absent: {', '.join(reasons)}"
    if one.unexplained:
        line += f"  {one.unexplained:,} unexplained: {', '.join(_unexplained(one))}"
    return line


def _unexplained(one: SeriesStatus) -> Iterator[str]:
    if one.holes:
        yield f"{one.holes:,} neither stored nor in the ledger (see {program_name()} check)"
    if one.unaccounted and one.watermark_ms is not None:
        since = _short(one.watermark_ms)
        yield f"{one.unaccounted:,} that no recorder has accounted for since {since}"


def _behind(one: SeriesStatus) -> str:
    return "" if one.behind_ms is None else f", {duration_text(one.behind_ms / 1_000)} behind"


def _percent(value: float) -> str:
    # Rounded down: 100 % means that no candle is absent.
    return f"{math.floor(value * 1_000) / 1_000:.3f} %"


def _short(time_ms: int) -> str:
    return time_text(time_ms).removesuffix("+00:00")


def _json(store: Path, asked: _Asked, found: StoreStatus, unlisted: _Unlisted) -> dict[str, object]:
    """Return the status for programs."""
    answer = asked.answer or {}
    return {
        "source": "store" if asked.answer is None else "recorder",
        "verdict": answer.get("verdict"),
        "simulated": answer.get("simulated", is_simulated(store)),
        "reasons": answer.get("reasons", []),
        "problem": asked.problem,
        "store": str(store),
        "recorder": {
            "pid": answer.get("pid", found.pid),
            "last_heartbeat": _time(found.heard_ms),
        },
        "complete_percent": found.complete_percent,
        "damaged": list(found.damaged),
        "statistics": answer.get("statistics"),
        "series": [_series_json(one, unlisted, found) for one in found.series],
        "in_lake": [_month_json(one, found.in_lake) for one in found.in_lake.months],
    }


def _month_json(one: Pruned, in_lake: InLake) -> dict[str, object]:
    """Return a month that the lake alone has for programs."""
    return {
        "trade_type": one.series.trade_type,
        "symbol": one.series.symbol,
        "time_interval": one.series.time_interval,
        "from": time_text(one.span.from_ms),
        "to": time_text(one.span.to_ms),
        "lake": in_lake.url(one.lake),
        "version": one.version,
        "rows": one.rows,
        "checksum": one.checksum,
        "pruned": time_text(one.pruned_ms),
    }


def _series_json(one: SeriesStatus, unlisted: _Unlisted, found: StoreStatus) -> dict[str, object]:
    """Return the status of a series for programs."""
    return {
        "trade_type": one.series.trade_type,
        "symbol": one.series.symbol,
        "time_interval": one.series.time_interval,
        "from": _time(one.from_ms),
        "to": _time(one.to_ms),
        "rows": one.rows,
        "due": one.due,
        "complete_percent": one.complete_percent,
        "absent": one.absent,
        "last_close": _time(one.to_ms),
        "behind_seconds": None if one.behind_ms is None else one.behind_ms / 1_000,
        "unexplained": one.unexplained,
        "unaccounted": one.unaccounted,
        "watermark": _time(one.watermark_ms),
        "retired": one.is_retired,
        "unlisted": one.series in unlisted,
        "did_you_mean": unlisted.get(one.series),
        "measured_at": None if one.clock is None else time_text(one.clock.now_ms),
        "clock": "the watermark" if one.clock is None else one.clock.source,
        "recorder": {"pid": found.pid, "last_heartbeat": _time(found.heard_ms)},
    }


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else time_text(time_ms)


def _failures(
    found: StoreStatus, max_age_seconds: float | None, min_complete: float | None
) -> Iterator[str]:
    """Give a line for each limit that is exceeded.

    Args:
      found: the status of the store.
      max_age_seconds: how far behind a series' last candle may be, besides its interval.
      min_complete: the percentage of due candles that must be stored, of each series and of all.
    """
    for one in found.series:
        if max_age_seconds is not None and not one.is_retired:
            yield from _too_old(one, max_age_seconds)
        yield from _too_incomplete(str(one.series), one.complete_percent, min_complete)
    yield from _too_incomplete("all series", found.complete_percent, min_complete)


def _too_incomplete(name: str, percent: float | None, least: float | None) -> Iterator[str]:
    if percent is not None and least is not None and percent < least:
        yield f"{name}: {_percent(percent)} complete, less than {least:g} %"


def _too_old(one: SeriesStatus, max_age_seconds: float) -> Iterator[str]:
    if one.to_ms is None:
        # Before the first candle of a series has closed, none is due.
        is_young = one.watermark_ms is not None and not one.due
        if not is_young:
            yield f"{one.series}: nothing is stored"
    elif one.behind_ms is None:
        yield f"{one.series}: no exchange time is known, so that the age of its last candle is not"
    else:
        interval_ms = one.series.interval.end_time_ms(one.to_ms) - one.to_ms
        if one.behind_ms > max_age_seconds * 1_000 + interval_ms:
            limit = f"{max_age_seconds:g} s and its interval"
            behind = f"{duration_text(one.behind_ms / 1_000)} behind"
            yield f"{one.series}: its last candle is {behind}, more than {limit}"
