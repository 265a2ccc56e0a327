"""CPU for each frame, saturated, from the socket to the accepted candle: ours, peers and limits.

One frame in 60, or in 240, is closed; all closed candles of a minute come together, as they do in
life. Over TLS each frame is a record of its own. The sender has a process of its own; each peer
has one too, uses its own public interface, and is done when it holds the last closed candle
decoded, ours when it is accepted: committed to disk. The least of several runs is shown, for
whatever else runs on the machine can only add. How many times cheaper ours is than the best peer
that decodes is judged on plain sockets: over TLS everybody pays OpenSSL for each record, too.
"""

import argparse
import functools
from pathlib import Path

import attrs

from benchmarks.contestants import CONTESTANTS, INSTALL, OURS, peers_python
from benchmarks.machine import conclude, verdict
from benchmarks.saturated import Row, Way, ours, theirs

__all__ = ["goals_met", "main"]

_MOST_US = {"plain": 1.5, "TLS": 3.5}
_TIMES_CHEAPER = {"plain": 5}
"""Than the best peer that decodes. Over TLS, OpenSSL's own 1.4 µs for a record are in both, so that
the ratio says less of either: picows alone, which looks at nothing, is but twice as cheap there."""


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks receive", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames, fewer runs")
    parser.add_argument("--rest", type=float, default=0.02, help="read_pause_seconds")
    parser.add_argument(
        "--publish", type=float, metavar="SECONDS", help="ours publishes to a lake so often"
    )
    parser.add_argument("--only", metavar="WORD", help="contestants with this in their name")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="their interpreter")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    python = peers_python(options.peers_python)
    runs, minutes = (1, 4) if options.quick else (5, 12)
    table = []
    for sockets in _MOST_US:
        for ticks in (60,) if options.quick else (60, 240):
            way = Way(sockets, ticks, runs, minutes, options.rest, options.publish)
            print(f"{sockets}, one frame in {ticks} closed:", flush=True)
            table += _rows(way, python, options.only or "")
    if python is None:
        print(f"what is not installed comes by\n  {INSTALL}")
    goals = [good for sockets in _MOST_US for good in goals_met(table, sockets)]
    return conclude([attrs.asdict(row) for row in table], options.json, goals, python)


def _rows(way: Way, python: Path | None, only: str) -> list[Row]:
    print(
        f"  {'':<30} {'µs/frame':>9} {'frames/s':>10} {'of a core':>10} {'sender':>7}"
        f" {'times ours':>11}"
    )
    work = {OURS: functools.partial(ours, way)}
    work |= {
        contestant.name: functools.partial(theirs, way, contestant, python)
        for contestant in CONTESTANTS
    }
    rows: list[Row] = []
    for name, measure in work.items():
        if only in name:
            rows.append(measure())
            first = rows[0].best.frame_us if rows[0].name == OURS else None
            print(_line(rows[-1], first), flush=True)
    return rows


def _line(row: Row, ours: float | None) -> str:
    if not row.runs:
        return f"  {row.name:<30} {row.reason}"
    run = row.best
    times = f"{run.frame_us / ours:>11.1f}" if ours else f"{'':>11}"
    lost = f"  lost {run.lost:,}" if run.lost else ""
    return (
        f"  {row.name:<30} {run.frame_us:>9.2f} {run.frames_a_second:>10,.0f}"
        f" {run.of_a_core:>10.0%} {run.sender_of_a_core:>7.1%} {times}{lost}   ("
        + " ".join(f"{each.frame_us:.2f}" for each in row.runs)
        + ")"
    )


def goals_met(table: list[Row], sockets: str) -> list[bool]:
    """Say of each goal whether it is met; of what is not judged, only how it is."""
    rows = [row for row in table if row.sockets == sockets and row.runs]
    ours = max((row.best.frame_us for row in rows if row.name == OURS), default=None)
    if ours is None:
        return []
    goals = [ours <= _MOST_US[sockets]]
    most = f"at most {_MOST_US[sockets]}: {verdict(goals)}"
    print(f"{sockets}: {ours:.2f} µs a frame, {most}")
    peers = [row for row in rows if row.name != OURS and row.decodes]
    if peers:
        best = min(peers, key=lambda row: row.best.frame_us)
        times = best.best.frame_us / ours
        told = f"{sockets}: {times:.1f} times cheaper than {best.name}"
        if sockets in _TIMES_CHEAPER:
            goals.append(times >= _TIMES_CHEAPER[sockets])
            print(f"{told}, at least {_TIMES_CHEAPER[sockets]}: {verdict(goals[1:])}")
        else:
            print(f"{told}: not judged, for what OpenSSL takes is in both")
    return goals
