"""How far a job is, as two lines of a terminal: what it does now, and a bar (pure)."""

import attrs
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.quoting import escaped
from kline_trio.storage.step import Step

_BAR_CELLS = 20
_LONG_SECONDS = 10.0
"""The duration of a step is shown from here on."""
_RATE_SECONDS = 1.0
"""Rates are shown after this time."""
_SCALES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))


@attrs.frozen
class _Middle:
    """A text of one line. If it is too long, its middle is left out: names differ at the end."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the text in the width of the terminal."""
        text, width = self.text, options.max_width
        if len(text) > width:
            head = width // 3
            text = f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"
        yield Text(text, no_wrap=True, overflow="ellipsis")


@attrs.define(eq=False)
class Bar:
    """Draws steps. The rate is the average since the first step that counts in the same unit."""

    _first: tuple[Step, float] | None = attrs.field(init=False, default=None)
    """The step that the rate is counted from, and its moment."""
    _last: Step | None = attrs.field(init=False, default=None)

    def draw(self, step: Step, begun_at: float, now: float) -> RenderableType:
        """Return the lines for a step.

        Args:
          step: the present one.
          begun_at: when the step began, in seconds.
          now: by the same clock.
        """
        seconds = now - begun_at
        what = escaped(step.what)
        if seconds >= _LONG_SECONDS:
            what += f" ({duration_text(seconds)})"
        lines: list[RenderableType] = [_Middle(what)]
        if step.total:
            lines.append(self._counts(step, begun_at, now))
        return Group(*lines)

    def _counts(self, step: Step, begun_at: float, now: float) -> Table:
        assert step.total
        if self._first is None or not _is_later(step, self._last):
            self._first = (step, begun_at)
        self._last = step
        first, first_at = self._first
        seconds = now - first_at
        rate = (step.done - first.done) / seconds if seconds >= _RATE_SECONDS else 0.0
        done = step.done
        if step.unit == "second":
            # Time passes by itself.
            done, rate = min(step.total, done + int(now - begun_at)), 1.0
        parts = [_amount(done, step.total, step.unit)]
        if rate > 0:
            parts += [f"{duration_text((step.total - done) / rate)} left"]
            parts += _rate(rate, step.unit)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(step.total, done, width=_BAR_CELLS),
            f"{100 * done // step.total:3} %",
            Text(", ".join(parts), no_wrap=True, overflow="ellipsis"),
        )
        return line


def _is_later(step: Step, last: Step | None) -> bool:
    return last is not None and step.unit == last.unit and step.done >= last.done


def _amount(done: int, total: int, unit: str) -> str:
    if unit == "byte":
        scale, name = _scale(total)
        digits = 1 if scale > 1 else 0
        return f"{done / scale:,.{digits}f} of {total / scale:,.{digits}f} {name}"
    return f"{done:,} of {counted(total, unit, unit if unit.endswith('s') else None)}"


def _rate(rate: float, unit: str) -> list[str]:
    if unit == "second":
        return []
    if unit == "byte":
        scale, name = _scale(rate)
        return [f"{rate / scale:,.0f} {name} a second"]
    return [f"{rate:,.0f} a second"] if rate >= 1 else []


def _scale(size_bytes: float) -> tuple[float, str]:
    return next((one for one in _SCALES if size_bytes >= one[0]), _SCALES[-1])
