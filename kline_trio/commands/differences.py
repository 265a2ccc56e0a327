"""What `check --against` has found: the values, and the lines that it prints."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.errors import DiskError
from kline_trio.interval import INTERVALS, Span
from kline_trio.quoting import one_line
from kline_trio.storage.comparison import Comparison, summed_mismatches
from kline_trio.storage.stored import stored_table

__all__ = [
    "Checked",
    "NotCompared",
    "Verified",
    "print_across_intervals",
    "print_checked",
    "print_not_compared",
]

_MOST_LINES = 20
"""For each series."""


@attrs.frozen
class Verified:
    """A stretch of a series that was compared."""

    series: Series
    span: Span
    comparison: Comparison


@attrs.frozen
class NotCompared:
    """What could not be compared, and why."""

    subject: str
    """A series or a market."""
    span: Span | None
    """Which of its candles; None: all that were asked for."""
    problem: str


@attrs.frozen
class Checked:
    """The result for one series."""

    series: Series
    compared: tuple[Verified, ...]
    failures: tuple[NotCompared, ...]
    is_unread: bool = False
    """Whether the stored candles cannot be read."""


def print_checked(checked: Checked) -> int:
    """Print the first differences, what failed, and the totals; return how many differ."""
    series = checked.series
    lines = [text for one in checked.compared for text in _differences(one.comparison)]
    for text in lines[:_MOST_LINES]:
        print(f"{series} {text}")
    if len(lines) > _MOST_LINES:
        print(f"{series}: and {len(lines) - _MOST_LINES:,} more")
    print_not_compared(checked.failures)
    found = [one.comparison for one in checked.compared]
    failed = f", {len(checked.failures):,} failures" if checked.failures else ""
    print(
        f"{series}: {sum(one.compared for one in found):,} compared,"
        f" {sum(one.equal for one in found):,} equal,"
        f" {sum(len(one.differing) for one in found):,} differing,"
        f" {sum(len(one.absent_here) for one in found):,} absent here,"
        f" {sum(len(one.absent_there) for one in found):,} absent there{failed}",
        flush=True,
    )
    return len(lines)


def print_not_compared(failures: Sequence[NotCompared]) -> None:
    """Print what could not be compared, each on a line: every file is named."""
    for one in failures:
        span = "" if one.span is None else f" {_time(one.span.from_ms)} to {_time(one.span.to_ms)}"
        print(f"{one.subject}{span}: not compared: {one_line(one.problem)}", flush=True)


def _differences(comparison: Comparison) -> list[str]:
    lines = []
    for ours, theirs in comparison.differing:
        values = ", ".join(
            f"{name} {getattr(ours, name)!r} here, {getattr(theirs, name)!r} there"
            for name in attrs.fields_dict(Candle)
            if getattr(ours, name) != getattr(theirs, name)
        )
        lines.append(f"{_time(ours.open_time_ms)}: {values}")
    lines += [f"{_time(one.open_time_ms)}: absent here" for one in comparison.absent_here]
    lines += [f"{_time(one.open_time_ms)}: absent there" for one in comparison.absent_there]
    return lines


def print_across_intervals(
    store_path: Path, every: Iterable[Series], unread: Collection[Series]
) -> int:
    """Print where longer candles disagree with the stored shorter ones.

    Args:
      store_path: the store's folder.
      every: the series to add up and to compare.
      unread: those of them that cannot be read, as is said already.

    Returns:
      how many candles disagree, and how many series cannot be read.
    """
    found = 0
    order = list(INTERVALS)
    by_symbol: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for series in every:
        if series not in unread:
            by_symbol[series.trade_type, series.symbol].append(series)
    for several in by_symbol.values():
        shortest, *longer = sorted(several, key=lambda one: order.index(one.time_interval))
        for series in longer:
            try:
                found += _print_sums(store_path, shortest, series)
            except DiskError as error:
                print_not_compared([NotCompared(str(series), None, str(error))])
                found += 1
    return found


def _print_sums(store_path: Path, shortest: Series, series: Series) -> int:
    short = stored_table(store_path, shortest)
    table = stored_table(store_path, series)
    if short is None or table is None:
        return 0
    wrong = list(summed_mismatches(short, shortest.interval, table, series))
    for one in wrong[:_MOST_LINES]:
        print(
            f"{series} {_time(one.open_time_ms)}: {one.column} {one.stored!r}, but"
            f" {one.shorter.name} candles make {one.summed!r}"
        )
    print(
        f"{series}: against {shortest.time_interval}, {table.num_rows:,} candles,"
        f" {len(wrong):,} disagreements"
    )
    return len(wrong)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
