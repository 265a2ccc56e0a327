"""What share of a core 3,500 frames a second take, spread evenly over three TLS connections.

So many frames have all symbols of the three markets at 1m. Each is a TLS record of its own and is
sent at its own moment; all series close within the last second, and it counts until the last
candle is accepted.
"""

import argparse
import json
import tempfile
from pathlib import Path

import trio

from benchmarks.load import open_load
from benchmarks.receiving import Cost, open_recording

__all__ = ["main"]

_FRAMES_A_SECOND = 3_500
_MARKETS = 3
_MOST_SHARE = 0.05


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paced", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 s with half the series")
    parser.add_argument("--rest", type=float, metavar="SECONDS", action="append")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    # So that one frame in 60 is closed, or nearly: no connection has more than 1,024 streams.
    seconds, streams = (30, 583) if options.quick else (60, 1_000)
    print(f"{'rest':>8} {'frames':>9} {'closed':>7} {'of a core':>10} {'at most':>8} {'sender':>7}")
    table = []
    for rest in options.rest or [0.0, 0.02]:
        cost = _cost(streams, seconds, rest)
        sender = cost.sent.cpu_seconds / cost.sent.wall_seconds
        print(
            f"{rest * 1e3:>5.0f} ms {cost.sent.frames:>9,} {cost.sent.closed:>7,}"
            f" {cost.share:>10.1%} {_MOST_SHARE:>8.0%} {sender:>7.0%}",
            flush=True,
        )
        table.append({"rest_seconds": rest, "of_a_core": cost.share})
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0 if cost.share <= _MOST_SHARE else 1


def _cost(streams: int, seconds: int, rest: float) -> Cost:
    async def run(folder: Path) -> Cost:
        with open_load(folder, connections=_MARKETS, streams=streams, secure=True) as load:
            async with open_recording(
                folder, load, markets=_MARKETS, streams=streams, rest_seconds=rest
            ) as recording:
                await recording.cost_of("burst 1")
                return await recording.cost_of(f"pace {_FRAMES_A_SECOND} {seconds}")

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(run, Path(folder))
