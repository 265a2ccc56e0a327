"""Thousands of candles that close within one second: how late each is, and whether any is lost.

From the moment before the sender writes a candle, on the clock that all processes share, to the
accepted candle; for peers, to the decoded one. Over TLS with one record a frame, except for peers
that cannot. No connection has more than 1,024 streams; peers with a smaller limit of their own
use more connections.
"""

import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.contestants import CONTESTANTS, INSTALL, OURS, peers_python
from benchmarks.latency import Latencies, ours, ours_at_first, theirs
from benchmarks.machine import conclude, verdict

__all__ = ["main"]

_CANDLES = (2_500, 10_000, 50_000)


def main(arguments: list[str]) -> int:
    """Print the table; 1 if ours loses a candle."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks burst", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,500 candles, once, in a new store")
    parser.add_argument("--candles", type=int, action="append", help="in the second")
    parser.add_argument(
        "--publish", type=float, metavar="SECONDS", help="ours publishes to a lake so often"
    )
    parser.add_argument("--only", metavar="WORD", default="", help="contestants with it in a name")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="their interpreter")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    python = peers_python(options.peers_python)
    runs = 1 if options.quick else 3
    table: list[Latencies] = []
    for candles in options.candles or (_CANDLES[:1] if options.quick else _CANDLES):
        print(
            f"{candles:,} candles close in a second:\n"
            f"  {'':<30} {'connections':>11} {'p50':>9} {'p99':>9} {'max':>9} {'lost':>9}"
            f" {'of a core':>10} {'sent in':>8}"
        )
        for name, measure in _work(candles, runs, python, options.publish).items():
            if options.only in name:
                table.append(measure())
                print(_line(table[-1]), flush=True)
    if python is None:
        print(f"what is not installed comes by\n  {INSTALL}")
    lost = [row.lost for row in table if row.name.startswith(OURS)]
    goals = [not each for each in lost]
    print(f"{OURS} has lost {sum(lost):,} candles: {verdict(goals)}")
    return conclude([row.summary() for row in table], options.json, goals, python)


def _work(
    candles: int, runs: int, python: Path | None, publish_seconds: float | None
) -> dict[str, Callable[[], Latencies]]:
    work: dict[str, Callable[[], Latencies]] = {
        f"{OURS}, new store": functools.partial(ours_at_first, candles, publish_seconds)
    }
    if runs > 1:
        # Until thousands of files are made, minutes go by.
        work[OURS] = functools.partial(ours, candles, runs, publish_seconds)
    for contestant in CONTESTANTS:
        if contestant.decodes:
            work[contestant.name] = functools.partial(theirs, contestant, python, candles, runs)
    return work


def _line(row: Latencies) -> str:
    if row.reason:
        return f"  {row.name:<30} {row.reason}"
    late = "".join(f" {_milliseconds(row.quantile(share)):>9}" for share in (0.5, 0.99, 1))
    note = "" if row.sockets == "TLS" else f"  over {row.sockets} sockets"
    return (
        f"  {row.name:<30} {row.connections:>11}{late} {row.lost:>9,} {row.of_a_core:>10.0%}"
        f" {row.sent_in_seconds:>6.2f} s{note}"
    )


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:,.0f} ms"
