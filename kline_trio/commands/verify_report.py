"""The results of `check --against`, and the lines that it prints."""

from collections import defaultdict

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.commands.progress import Progress
from kline_trio.counting import counted
from kline_trio.errors import KlineTrioError
from kline_trio.interval import INTERVALS, Span, time_text
from kline_trio.quoting import one_line
from kline_trio.reading.readable import Readable
from kline_trio.storage.catalog import EARLIEST_MS, LATEST_MS
from kline_trio.storage.comparison import Comparison, summed_mismatches
from kline_trio.storage.step import Step

_MOST_LINES = 20
"""For each series."""


@attrs.frozen
class NotCompared:
    """Candles that could not be compared, and why."""

    subject: str
    """A series, a market or the store."""
    span: Span | None
    """None: all candles of the subject."""
    problem: str


@attrs.frozen
class Checked:
    """The result for one series."""

    series: Series
    compared: tuple[Comparison, ...]
    """Of each stretch; newest first, or in random order."""
    failures: tuple[NotCompared, ...]
    is_unread: bool = False
    """Whether the stored candles cannot be read."""
    in_lake: int = 0
    """How many candles are passed over, since they are in months that a lake alone has."""


@attrs.define
class Report:
    """Prints each result at once, so that it is shown even if the comparison is interrupted."""

    place: Readable
    progress: Progress
    """Hidden while a result is printed."""
    series: list[Series] = attrs.field(factory=list)
    """The series whose stored candles can be read."""
    differing: int = 0
    not_compared: int = 0

    def add(self, result: Checked | NotCompared) -> None:
        """Print the result of a series, or a failure of no single series."""
        with self.progress.hidden():
            if isinstance(result, Checked):
                self.series += [] if result.is_unread else [result.series]
                self.differing += _print_checked(result)
                self.not_compared += len(result.failures)
            else:
                _print_not_compared(result)
                self.not_compared += 1

    def add_sums(self) -> None:
        """Print where stored longer candles disagree with the shortest of the same symbol."""
        order = list(INTERVALS)
        by_symbol: dict[tuple[str, str], list[Series]] = defaultdict(list)
        for series in self.series:
            by_symbol[series.trade_type, series.symbol].append(series)
        for several in by_symbol.values():
            shortest, *longer = sorted(several, key=lambda one: order.index(one.time_interval))
            for series in longer:
                self.progress.show(Step(f"comparing {series} with {shortest.time_interval}"))
                try:
                    self.differing += self._add_sums_of(series, shortest)
                except KlineTrioError as error:
                    self.add(NotCompared(str(series), None, str(error)))

    def _add_sums_of(self, series: Series, shortest: Series) -> int:
        """Print where candles of a series disagree with shorter ones. Return how many do."""
        short, table = (
            self.place.tables([one], EARLIEST_MS, LATEST_MS)[one] for one in (shortest, series)
        )
        if short is None or table is None:
            return 0
        wrong = list(summed_mismatches(short, shortest.interval, table, series))
        with self.progress.hidden():
            for one in wrong[:_MOST_LINES]:
                print(
                    f"{series} {time_text(one.open_time_ms)}: {one.column} {one.stored!r}, but"
                    f" {shortest.time_interval} candles make {one.summed!r}"
                )
            print(
                f"{series}: against {shortest.time_interval}, {counted(table.num_rows, 'candle')},"
                f" {counted(len(wrong), 'disagreement')}"
            )
        return len(wrong)


def _print_checked(checked: Checked) -> int:
    """Print the first differences, the failures and the totals. Return how many differ."""
    series = checked.series
    lines = [text for one in checked.compared for text in _differences(one)]
    for text in lines[:_MOST_LINES]:
        print(f"{series} {text}")
    if len(lines) > _MOST_LINES:
        print(f"{series}: and {len(lines) - _MOST_LINES:,} more")
    for failure in checked.failures:
        _print_not_compared(failure)
    found = checked.compared
    failed = f", {counted(len(checked.failures), 'failure')}" if checked.failures else ""
    failed += f", {checked.in_lake:,} in the lake alone" if checked.in_lake else ""
    print(
        f"{series}: {sum(one.compared for one in found):,} compared,"
        f" {sum(one.equal for one in found):,} equal,"
        f" {sum(len(one.differing) for one in found):,} differing,"
        f" {sum(len(one.absent_here) for one in found):,} absent here,"
        f" {sum(len(one.absent_there) for one in found):,} absent there{failed}",
        flush=True,
    )
    return len(lines)


def _print_not_compared(one: NotCompared) -> None:
    span = ""
    if one.span is not None:
        span = f" {time_text(one.span.from_ms)} to {time_text(one.span.to_ms)}"
    print(f"{one.subject}{span}: not compared: {one_line(one.problem)}", flush=True)


def _differences(comparison: Comparison) -> list[str]:
    lines = []
    for ours, theirs in comparison.differing:
        values = ", ".join(
            f"{name} {getattr(ours, name)!r} here, {getattr(theirs, name)!r} there"
            for name in attrs.fields_dict(Candle)
            if getattr(ours, name) != getattr(theirs, name)
        )
        lines.append(f"{time_text(ours.open_time_ms)}: {values}")
    lines += [f"{time_text(one.open_time_ms)}: absent here" for one in comparison.absent_here]
    lines += [f"{time_text(one.open_time_ms)}: absent there" for one in comparison.absent_there]
    return lines
