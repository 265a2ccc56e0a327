"""How peers that store candles say what they measured: as JSON, on their last line."""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.spent import Spent, spending

__all__ = ["costs_told", "told", "unpacking_told"]


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


def unpacking_told(name: str, work: Callable[[Path, Path], None], zips: str, runs: str) -> None:
    """Measure a peer that goes no further than CSV files, and print its best run.

    Args:
      name: of the peer.
      work: unpacks what is in the first folder into the second.
      zips: the first folder.
      runs: how often.
    """
    found = []
    for _ in range(int(runs)):
        with tempfile.TemporaryDirectory() as folder:
            with spending() as spent:
                work(Path(zips), Path(folder))
            rows = sum(path.read_bytes().count(b"\n") for path in Path(folder).rglob("*.csv"))
        found.append((name, rows, spent, "unpacks only: CSV files, unread"))
    told(found)


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
