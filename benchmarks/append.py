"""What one more minute costs in CPU and bytes written, against the history that a series has.

The store accepts and merges as the recorder does, by `kline_trio.recorder.merger`; the
original design reads the file, appends, drops duplicates, and writes it anew for every candle.
Peers do what their users have them do for each new candle: freqtrade's `download-data`, and a
write into nautilus_trader's catalog, with and without a consolidation each hour.
"""

import argparse
import tempfile
from pathlib import Path

import attrs
import pyarrow.parquet as pq

from benchmarks.appending import Cost, Layouts, original_cost, store_cost
from benchmarks.machine import conclude, verdict
from benchmarks.made_up import made_table
from benchmarks.neighbours import add_stores_python, ask

__all__ = ["goals_met", "main"]

_DAY = 1_440
_MONTH = 29 * _DAY
_HISTORIES = {"a day": _DAY, "a month": _MONTH, "a year": 365 * _DAY, "5 years": 1_826 * _DAY}
_PEERS = ("append_freqtrade", "append_nautilus")
_LEAST_RATIO = 300.0
"""To the original's CPU, at a year."""
_MOST_GROWTH = 1.5
"""Of CPU, from a month to five years."""


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it is dearer than it may be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks append", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a day and a month, few candles")
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_stores_python(parser)
    options = parser.parse_args(arguments)
    names = ("a day", "a month") if options.quick else tuple(_HISTORIES)
    print(
        f"{'history':>8}  {'':<24} {'merges':>12} {'CPU/candle':>11} {'written':>10}"
        f" {'6 series, a day':>24} {'2,500 series, a day':>26}"
    )
    table: dict[tuple[str, str], Cost] = {}
    for name in names:
        rows = _HISTORIES[name]
        _tell(table, name, "original", original_cost(rows, 2 if options.quick else 5))
        for layout in Layouts:
            _tell(table, name, layout.value, store_cost(layout, rows, quick=options.quick))
        for peer in _PEERS:
            _tell_peer(table, name, options.stores_python, peer, quick=options.quick)
    rows_told = [
        {"history": history, "layout": layout, **attrs.asdict(cost)}
        for (history, layout), cost in table.items()
    ]
    goals = [] if options.quick else goals_met(table)
    return conclude(rows_told, options.json, goals)


def _tell(table: dict[tuple[str, str], Cost], history: str, who: str, cost: Cost) -> None:
    table[history, who] = cost
    print(
        f"{history:>8}  {who:<24} every {cost.merge_minutes:2.0f} min {cost.cpu_ms:8.2f} ms"
        f" {cost.written_kb:7,.0f} kB {_daily(cost, 6)} {_daily(cost, 2_500)}",
        flush=True,
    )


def _daily(cost: Cost, series: int) -> str:
    candles = series * _DAY
    return f"{cost.cpu_ms * candles / 1e3:11,.1f} s {cost.written_kb * candles / 1e6:9,.1f} GB"


def _tell_peer(
    table: dict[tuple[str, str], Cost], history: str, python: Path, peer: str, *, quick: bool
) -> None:
    rows = _HISTORIES[history]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.parquet"
        if python.exists():
            pq.write_table(made_table(-rows, rows), path)
        answer = ask(python, peer, path, "2" if quick else "5")
    for row in answer.rows:
        name = row.pop("name")
        _tell(table, history, name, Cost(**row))
    if not answer.rows:
        print(f"{history:>8}  {peer.removeprefix('append_'):<24} {answer.reason}", flush=True)


def goals_met(table: dict[tuple[str, str], Cost]) -> list[bool]:
    """Say of each goal whether it is met."""
    goals = []
    for layout in Layouts:
        ratio = table["a year", "original"].cpu_ms / table["a year", layout.value].cpu_ms
        growth = table["5 years", layout.value].cpu_ms / table["a month", layout.value].cpu_ms
        judged, at_most = [ratio >= _LEAST_RATIO], "not judged"
        if layout is not Layouts.ONE_FILE:
            # A file that is replaced as a whole is copied as a whole, if not read.
            judged.append(growth <= _MOST_GROWTH)
            at_most = f"at most {_MOST_GROWTH}"
        goals += judged
        print(
            f"{layout.value}: {ratio:,.0f} times cheaper than the original at a year (at least"
            f" {_LEAST_RATIO:,.0f}); from a month to 5 years {growth:.2f} times ({at_most}):"
            f" {verdict(judged)}"
        )
    return goals
