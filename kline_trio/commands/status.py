"""The command `status`: print how complete a store is, as text or as JSON."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

import attrs

from kline_trio.candle import Series
from kline_trio.commands.output import show_problems
from kline_trio.commands.store import store_of
from kline_trio.errors import DamagedError
from kline_trio.interval import time_text
from kline_trio.storage.status import DEFAULT_GRACE_MS, SeriesStatus, StoreStatus
from kline_trio.storage.status import status as store_status
from kline_trio.storage.universe import unlisted as unlisted_series

_RETRY_SECONDS = 3.0
_Unlisted = Mapping[Series, str | None]
"""The series whose symbols no list of the exchange has, each with the symbol most like it."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def status(options: argparse.Namespace) -> int:
    """Print how complete each series of a store is, configured ones without candles included.

    Returns:
      1 if a candle is absent without a reason in the ledger, a file cannot be read, or a limit of
      the options is exceeded; else 0.
    """
    store, config = store_of(options.store)
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
    every = sorted([*found.series, *empty], key=lambda one: one.series)
    found, unlisted = attrs.evolve(found, series=tuple(every)), dict[Series, str | None]()
    with suppress(DamagedError):
        # A stored candle proves that its symbol exists. `check` names a damaged list.
        unlisted = unlisted_series(store, [one.series for one in every if not one.held])
    if options.json:
        lines = [_series_json(one, unlisted, found) for one in every]
        # JSON is UTF-8, or ASCII (RFC 8259, section 8.1).
        print(json.dumps(lines, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
    elif every:
        print("\n".join(_lines(found, unlisted)))
    else:
        print(f"{store}: nothing is stored there")
    failed = [*found.damaged, *_failures(found, options.max_age, options.min_complete)]
    is_failed = show_problems(failed) or any(one.unexplained for one in every)
    return 1 if is_failed else 0


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
    since = "" if found.heard_ms is None else f" since {_short(found.heard_ms)} local time, UTC"
    is_running = found.pid is not None
    recorder = f"a recorder runs (pid {found.pid})" if is_running else f"no recorder runs{since}"
    return f"{', '.join(words)}; {recorder}"


def _line(one: SeriesStatus) -> str:
    line = "nothing stored"
    if one.from_ms is not None and one.to_ms is not None:
        line = f"{_short(one.from_ms)} to {_short(one.to_ms)}  {one.rows:>12,} rows"
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
        yield f"{one.holes:,} neither stored nor in the ledger (see check)"
    if one.unaccounted and one.watermark_ms is not None:
        since = _short(one.watermark_ms)
        yield f"{one.unaccounted:,} that no recorder has accounted for since {since}"


def _behind(one: SeriesStatus) -> str:
    return "" if one.behind_ms is None else f", {_duration(one.behind_ms)} behind"


def _percent(value: float) -> str:
    # Rounded down: 100 % means that no candle is absent.
    return f"{math.floor(value * 1_000) / 1_000:.3f} %"


def _duration(duration_ms: int) -> str:
    for unit_ms, name in _UNITS:
        if duration_ms >= 2 * unit_ms:
            return f"{duration_ms // unit_ms:,} {name}"
    return f"{duration_ms // 1_000} s"


def _short(time_ms: int) -> str:
    return time_text(time_ms).removesuffix("+00:00")


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
            behind = f"{_duration(one.behind_ms)} behind"
            yield f"{one.series}: its last candle is {behind}, more than {limit}"
