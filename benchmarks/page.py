"""What the page costs: a browser that opens it, the recorder that serves it, and a day of both.

A real Chromium opens the page of 2,500 series over two years, 5 % of whose days lack candles. Ten
browsers watch a recorder of 2,500 series, whose CPU is compared with its own without them. Then one
page watches a simulated day, at hours 2 and 24 of which all garbage is collected.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.machine import conclude, verdict
from benchmarks.page_load import measure_load
from benchmarks.page_watched import measure_day, measure_watching
from tests.browser.browsing import chromium_path

__all__ = ["Figure", "goals_met", "main"]


@attrs.frozen
class Figure:
    """One number, and what it has to stay below."""

    what: str
    measured: float
    limit: float | None
    """None: it is only shown."""
    unit: str

    @property
    def is_met(self) -> bool:
        """Whether it is below its limit; a limit of 0 allows for 0."""
        return self.limit is None or self.measured < self.limit or self.measured == self.limit == 0


def main(arguments: list[str]) -> int:
    """Print the table; 1 if the page costs more than it may, 2 if there is no Chromium."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer series, and shorter runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    chromium = chromium_path()
    if chromium is None:
        print("CHROMIUM ABSENT: apt-get install chromium")
        return conclude([], options.json, [])
    table: list[Figure] = []
    for measure in (measure_load, measure_watching, measure_day):
        for one in measure(chromium, quick=options.quick):
            table.append(Figure(*one))
            _print(table[-1])
    goals = goals_met(table)
    print(f"page: {verdict(goals)}")
    return conclude([attrs.asdict(one) for one in table], options.json, goals)


def _print(one: Figure) -> None:
    bound = f"under {one.limit:g}" if one.limit else "none"
    limit = "" if one.limit is None else f"{bound}: {verdict([one.is_met])}"
    print(f"{one.what:<58} {one.measured:>9,.2f} {one.unit:<10} {limit}", flush=True)


def goals_met(table: Sequence[Figure]) -> list[bool]:
    """Return of each number with a limit whether it stays below it."""
    return [one.is_met for one in table if one.limit is not None]
