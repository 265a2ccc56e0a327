"""The command `status`: how complete a store is, for people and for programs."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.commands.output import show_problems, time_text
from kline_trio.commands.store import store_of
from kline_trio.errors import DamagedError
from kline_trio.storage.status import DEFAULT_GRACE_MS, RecorderState, SeriesStatus, StoreStatus
from kline_trio.storage.status import status as store_status
from kline_trio.storage.universe import unlisted as unlisted_series

__all__ = ["status"]

_SECOND_LOOK_SECONDS = 3.0
_Unlisted = Mapping[Series, str | None]
"""The series whose symbols are in no list of the exchange, each with the symbol most like it."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def status(options: argparse.Namespace) -> int:
    """Print how complete each series of a store is, those that are only configured too.

    Returns:
      1 if a candle is absent and nothing tells why, a file cannot be read, or a limit of the
      options is not kept.
    """
    store, config = store_of(options.store)
    grace_ms = DEFAULT_GRACE_MS
    if config is not None:
        grace_ms = round(config.completeness.grace_seconds * 1_000)
    found = store_status(store, round(time.time() * 1_000), grace_ms)
    if found.recorder.pid is not None and any(one.unexplained for one in found.series):
        # The recorder may be naming those in this moment.
        time.sleep(_SECOND_LOOK_SECONDS)
        found = store_status(store, round(time.time() * 1_000), grace_ms, found.clocks)
    configured = () if config is None else config.streams
    known = {one.series for one in found.series}
    empty = [SeriesStatus(one, (), 0, 0, {}) for one in configured if one not in known]
    every = sorted([*found.series, *empty], key=lambda one: one.series)
    found, unlisted = attrs.evolve(found, series=tuple(every)), _unlisted(store, every)
    if options.json:
        recorder = _recorder_json(found.recorder)
        told = [{**_series_json(one, unlisted), "recorder": recorder} for one in every]
        # JSON is UTF-8, or ASCII (RFC 8259, section 8.1).
        print(json.dumps(told, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
    elif every:
        print("\n".join(_lines(found, unlisted)))
    else:
        print(f"{store}: nothing is stored there")
    failed = [*found.damaged, *_failures(found, options.max_age, options.min_complete)]
    is_failed = show_problems(failed) or any(one.unexplained for one in every)
    return 1 if is_failed else 0


def _unlisted(store: Path, every: Sequence[SeriesStatus]) -> _Unlisted:
    # A stored candle proves that its symbol is right. A damaged list is for `check` to name.
    with suppress(DamagedError):
        return unlisted_series(store, [one.series for one in every if not one.held])
    return {}


def _lines(found: StoreStatus, unlisted: _Unlisted) -> Iterator[str]:
    """Give a summary, the clocks, and a line for each series."""
    yield _summary(found)
    for name, clock in sorted(found.clocks.items()):
        yield f"{name} is measured at {_short(clock.now_ms)}: {clock.source}"
    for name in sorted({one.series.trade_type for one in found.series} - found.clocks.keys()):
        yield f"{name} is measured at each series' watermark: no exchange time is known"
    width = max(len(str(one.series)) for one in found.series)
    for one in found.series:
        line = _line(one)
        if one.series in unlisted:
            meant = unlisted[one.series]
            line += f"  the exchange lists no {one.series.symbol}"
            line += f"; did you mean {meant}?" if meant else ""
        yield f"{one.series!s:<{width}}  {line}"


def _summary(found: StoreStatus) -> str:
    words = [f"{len(found.series):,} series"]
    if found.complete_percent is not None:
        words.append(f"{_percent(found.complete_percent)} complete")
    stored = [one for one in found.series if one.to_ms is not None]
    if stored:
        newest = max(stored, key=lambda one: one.to_ms or 0)
        words.append(f"last candle {_short(newest.to_ms or 0)}{_behind(newest)}")
    return f"{', '.join(words)}; {_recorder(found.recorder)}"


def _recorder(state: RecorderState) -> str:
    if state.pid is not None:
        return f"a recorder runs (pid {state.pid})"
    since = "" if state.heard_ms is None else f" since {_short(state.heard_ms)} local time, UTC"
    return f"no recorder runs{since}"


def _line(one: SeriesStatus) -> str:
    if one.from_ms is None or one.to_ms is None:
        line = "nothing stored"
    else:
        line = f"{_short(one.from_ms)} to {_short(one.to_ms)}  {one.rows:>12,} rows"
    if one.complete_percent is not None:
        # Rounded down: 100 % means that nothing is absent.
        line += f"  {_percent(one.complete_percent):>9}"
    line += ", not recorded any more" if one.is_retired else _behind(one)
    told = [f"{count:,} {reason}" for reason, count in sorted(one.absent.items())]
    if told:
        line += f"  absent: {', '.join(told)}"
    if one.unexplained:
        line += f"  {one.unexplained:,} unexplained: {_why(one)}"
    return line


def _why(one: SeriesStatus) -> str:
    told = []
    if one.holes:
        told.append(f"{one.holes:,} neither stored nor in the ledger (see check)")
    if one.unaccounted and one.watermark_ms is not None:
        told.append(
            f"{one.unaccounted:,} that no recorder has accounted for"
            f" since {_short(one.watermark_ms)}"
        )
    return ", ".join(told)


def _behind(one: SeriesStatus) -> str:
    return "" if one.behind_ms is None else f", {_duration(one.behind_ms)} behind"


def _percent(value: float) -> str:
    return f"{math.floor(value * 1_000) / 1_000:.3f} %"


def _duration(duration_ms: int) -> str:
    for unit_ms, name in _UNITS:
        if duration_ms >= 2 * unit_ms:
            return f"{duration_ms // unit_ms:,} {name}"
    return f"{duration_ms // 1_000} s"


def _short(time_ms: int) -> str:
    return time_text(time_ms).removesuffix("+00:00")


def _series_json(one: SeriesStatus, unlisted: _Unlisted) -> dict[str, object]:
    """Return what is known of a series, for programs."""
    to = None if one.to_ms is None else time_text(one.to_ms)
    return {
        "trade_type": one.series.trade_type,
        "symbol": one.series.symbol,
        "time_interval": one.series.time_interval,
        "from": None if one.from_ms is None else time_text(one.from_ms),
        "to": to,
        "rows": one.rows,
        "due": one.due,
        "complete_percent": one.complete_percent,
        "absent": one.absent,
        "last_close": to,
        "behind_seconds": None if one.behind_ms is None else one.behind_ms / 1_000,
        "unexplained": one.unexplained,
        "unaccounted": one.unaccounted,
        "watermark": None if one.watermark_ms is None else time_text(one.watermark_ms),
        "retired": one.is_retired,
        "unlisted": one.series in unlisted,
        "did_you_mean": unlisted.get(one.series),
        "measured_at": None if one.clock is None else time_text(one.clock.now_ms),
        "clock": "the watermark" if one.clock is None else one.clock.source,
    }


def _recorder_json(state: RecorderState) -> dict[str, object]:
    """Return whether a recorder runs, for programs."""
    heard = None if state.heard_ms is None else time_text(state.heard_ms)
    return {"pid": state.pid, "last_heartbeat": heard}


def _failures(
    found: StoreStatus, max_age_seconds: float | None, min_complete: float | None
) -> list[str]:
    """Return a line for each limit that is not kept.

    Args:
      found: what the store has.
      max_age_seconds: how far behind a series' last candle may be, besides its interval.
      min_complete: the percentage of due candles that must be stored, of each series and of all.
    """
    lines = []
    for one in found.series:
        if max_age_seconds is not None and not one.is_retired:
            lines += _too_old(one, max_age_seconds)
        lines += _too_incomplete(str(one.series), one.complete_percent, min_complete)
    return lines + _too_incomplete("all series", found.complete_percent, min_complete)


def _too_incomplete(name: str, percent: float | None, least: float | None) -> list[str]:
    if percent is None or least is None or percent >= least:
        return []
    return [f"{name}: {_percent(percent)} complete, less than {least:g} %"]


def _too_old(one: SeriesStatus, max_age_seconds: float) -> list[str]:
    if one.to_ms is None:
        # Before the first candle of a series has closed, none is due.
        is_young = one.watermark_ms is not None and not one.due
        return [] if is_young else [f"{one.series}: nothing is stored"]
    if one.behind_ms is None:
        return [
            f"{one.series}: no exchange time is known, so that the age of its last candle is not"
        ]
    interval_ms = one.series.interval.end_time_ms(one.to_ms) - one.to_ms
    if one.behind_ms <= max_age_seconds * 1_000 + interval_ms:
        return []
    age = _duration(one.behind_ms)
    limit = f"{max_age_seconds:g} s and its interval"
    return [f"{one.series}: its last candle is {age} behind, more than {limit}"]
