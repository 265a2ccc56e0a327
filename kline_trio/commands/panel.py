"""The panel at the bottom of a terminal: what a recorder does now, market by market (pure)."""

from collections import deque
from collections.abc import Iterable, Sequence

import attrs
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.monitor.health import Verdict
from kline_trio.monitor.watch import Observation
from kline_trio.recorder.statistics import Lags, MarketStatistics, Statistics

_RATE_SECONDS = 60.0
_FEW_PENDING = 100
"""Fewer absent candles are filled in before a bar could be read."""
_MOST_REASONS = 4
_STYLES = {Verdict.OK: "green", Verdict.DEGRADED: "yellow", Verdict.BAD: "bold red"}
_BAR_CELLS = 20


@attrs.frozen
class _Sample:
    """Counts at one moment of the process."""

    at: float
    received: dict[str, int]
    """By market."""
    refilled: int


@attrs.define(eq=False)
class Panel:
    """Draws one observation after the other; rates come from those of the last minute."""

    _samples: deque[_Sample] = attrs.field(init=False, factory=deque)
    _most_pending: int = attrs.field(init=False, default=0)
    """The most absent candles since none was absent; the bar is full when all have come."""

    def draw(self, found: Observation) -> RenderableType:
        """Return the panel for an observation."""
        statistics = found.statistics
        self._add(statistics)
        parts: list[RenderableType] = [self._headline(found), self._markets(statistics)]
        if (bar := self._backfill(statistics)) is not None:
            parts.append(bar)
        for reason in found.health.reasons[:_MOST_REASONS]:
            text = Text(reason.text, _STYLES[reason.verdict], no_wrap=True, overflow="ellipsis")
            parts.append(text)
        if (more := len(found.health.reasons) - _MOST_REASONS) > 0:
            parts.append(Text(f"and {more:,} more", "dim"))
        return Group(*parts)

    def _add(self, found: Statistics) -> None:
        at = found.process.uptime_seconds
        received = {one.trade_type: one.received for one in found.markets}
        if not self._samples or at > self._samples[-1].at:
            self._samples.append(_Sample(at, received, _refilled(found.markets)))
        while at - self._samples[0].at > _RATE_SECONDS:
            self._samples.popleft()
        pending = sum(one.pending for one in found.markets)
        self._most_pending = max(self._most_pending, pending) if pending else 0

    def _headline(self, found: Observation) -> Table:
        verdict, statistics = found.health.verdict, found.statistics
        left = Text.assemble(
            (f" {verdict} ", f"reverse {_STYLES[verdict]}"),
            f" up {duration_text(statistics.process.uptime_seconds)}",
            (" SIMULATED" if found.is_simulated else "", "bold magenta"),
        )
        store = statistics.store
        space = f"{store.free_bytes / 1e9:,.0f} GB free" if store.free_bytes else ""
        if store.days_left is not None and store.days_left < 3_650:
            space += f", {counted(round(store.days_left), 'day')}"
        line = Table.grid(expand=True)
        line.add_column(no_wrap=True)
        line.add_column(justify="right", no_wrap=True, style="dim")
        line.add_row(left, space)
        return line

    def _markets(self, found: Statistics) -> Table:
        table = Table(box=None, expand=False, pad_edge=False, header_style="dim")
        table.add_column("market", no_wrap=True)
        for name in ("series", "conn", "candles/min", "lag", "absent", "pending", "refilled"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in found.markets:
            connections = one.listener.connections
            delivering = sum(each.is_delivering for each in connections)
            table.add_row(
                one.trade_type,
                f"{one.series:,}",
                Text(f"{delivering}/{len(connections)}", "" if delivering else "red"),
                self._rate(one.trade_type),
                _lag(one.lags.values()),
                f"{sum(one.absent.values()):,}",
                Text(f"{one.pending:,}", "yellow" if one.pending else ""),
                f"{sum(one.refilled.values()):,}",
            )
        return table

    def _rate(self, trade_type: str) -> str:
        """Return how many candles came in a minute."""
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        if seconds < 1:
            return "-"
        count = last.received[trade_type] - first.received.get(trade_type, 0)
        return f"{60 * count / seconds:,.0f}"

    def _backfill(self, found: Statistics) -> Table | None:
        """Return the bar of absent candles that come; None if there are few."""
        pending = sum(one.pending for one in found.markets)
        if self._most_pending < _FEW_PENDING or not pending:
            return None
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        rate = (last.refilled - first.refilled) / seconds if seconds >= 1 else 0.0
        done = self._most_pending - pending
        left = f"{rate:,.0f} a second, {duration_text(pending / rate)} left" if rate >= 1 else ""
        line = Table.grid(padding=(0, 1))
        line.add_row(
            "filling in",
            ProgressBar(self._most_pending, done, width=_BAR_CELLS),
            f"{100 * done // self._most_pending} %",
            Text(f"{pending:,} absent{', ' if left else ''}{left}", no_wrap=True),
        )
        return line


def _refilled(markets: Sequence[MarketStatistics]) -> int:
    return sum(sum(one.refilled.values()) for one in markets)


def _lag(lags: Iterable[Lags]) -> str:
    quantiles = [one.quantile(0.99) for one in lags]
    known = [one for one in quantiles if one is not None]
    return f"{max(known):.1f} s" if known else "-"
