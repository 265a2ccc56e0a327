"""How peers that store candles say what they measured: as JSON, on their last line."""

import json
from collections.abc import Iterable

from benchmarks.spent import Spent

__all__ = ["costs_told", "told"]


def told(runs: Iterable[tuple[str, int, Spent, str]]) -> None:
    """Print the best run of each name, as JSON: rows, seconds and what is left out."""
    best: dict[str, dict[str, object]] = {}
    for name, rows, spent, note in sorted(runs, key=lambda run: -run[2].cpu_seconds):
        best[name] = {
            "name": name,
            "rows": rows,
            "cpu_seconds": spent.cpu_seconds,
            "wall_seconds": spent.wall_seconds,
            "note": note,
        }
    print(json.dumps(list(best.values())))


def costs_told(found: Iterable[tuple[str, int, Spent, float]]) -> None:
    """Print what each of so many candles cost, as JSON."""
    rows = [
        {
            "name": name,
            "cpu_ms": spent.cpu_seconds * 1e3 / candles,
            "written_kb": spent.written_bytes / 1e3 / candles,
            "merge_minutes": apart,
        }
        for name, candles, spent, apart in found
    ]
    print(json.dumps(rows))
