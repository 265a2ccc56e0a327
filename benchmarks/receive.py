"""CPU of the recorder for each frame, saturated: from the socket to accepted candles.

One in 60 frames is closed; all closed candles of a minute come together, as they do in life. Over
TLS each frame is a record of its own. The least of several runs is shown, for whatever else runs
on the machine can only add.
"""

import argparse
import json
import tempfile
from pathlib import Path

import trio

from benchmarks.load import open_load
from benchmarks.receiving import Cost, open_recording

__all__ = ["main"]

_STREAMS = 500
_MOST_US = {"plain": 1.5, "TLS": 3.5}


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks receive", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames, fewer runs")
    parser.add_argument("--rest", type=float, default=0.02, help="read_rest_seconds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    runs, minutes = (2, 4) if options.quick else (5, 12)
    print(f"{'':>6} {'frames':>9} {'µs/frame':>9} {'at most':>8} {'of a core':>10} {'sender':>8}")
    table = []
    good = True
    for name, most_us in _MOST_US.items():
        costs = _costs(secure=name == "TLS", rest=options.rest, runs=runs, minutes=minutes)
        best = min(costs, key=lambda cost: cost.frame_us)
        good = good and best.frame_us <= most_us
        sender = best.sent.cpu_seconds / best.sent.wall_seconds
        print(
            f"{name:>6} {best.sent.frames:>9,} {best.frame_us:>9.2f} {most_us:>8.1f}"
            f" {best.share:>9.0%} {sender:>8.0%}   ("
            + " ".join(f"{cost.frame_us:.2f}" for cost in costs)
            + ")",
            flush=True,
        )
        table.append({"name": name, "frame_us": best.frame_us, "of_a_core": best.share})
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


def _costs(*, secure: bool, rest: float, runs: int, minutes: int) -> list[Cost]:
    async def run(folder: Path) -> list[Cost]:
        with open_load(folder, connections=1, streams=_STREAMS, secure=secure) as load:
            async with open_recording(
                folder, load, markets=1, streams=_STREAMS, rest_seconds=rest
            ) as recording:
                await recording.cost_of("burst 1")
                return [await recording.cost_of(f"burst {minutes}") for _ in range(runs)]

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(run, Path(folder))
