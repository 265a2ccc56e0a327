"""What share of a core 3,500 frames a second take, spread evenly over three TLS connections.

So many frames have all symbols of the three markets at 1m. Each is a TLS record of its own and is
sent at its own moment; all series close within the last second of each minute, and it counts until
the last candle is accepted. Memory is that of the whole process; what it grows by is told from the
end of the first minute on, so it takes two minutes or more to tell it.
"""

import argparse
import tempfile
from pathlib import Path

import attrs
import psutil
import trio

from benchmarks.load import open_load
from benchmarks.machine import conclude
from benchmarks.receiving import Cost, open_recording

__all__ = ["Paced", "main"]

_FRAMES_A_SECOND = 3_500
_MARKETS = 3
_MOST_SHARE = 0.05
_MOST_MB = 250
_MOST_GROWTH_MB = 10
"""Over all minutes but the first, in which there is much that is made once."""
_MINUTES = 5


@attrs.frozen
class Paced:
    """Some minutes at one rest."""

    rest_seconds: float
    frames: int
    closed: int
    of_a_core: float
    """Of all minutes together."""
    sender_of_a_core: float
    memory_mb: list[float]
    """Before the first minute, and after each."""

    @property
    def growth_mb(self) -> float | None:
        """From the end of the first minute to that of the last; None: these are the same."""
        _, *after = self.memory_mb
        return after[-1] - after[0] if len(after) > 1 else None

    @property
    def goals(self) -> list[bool]:
        """Whether it takes no more than it may; growth is judged where it can be told."""
        goals = [self.of_a_core <= _MOST_SHARE, self.memory_mb[-1] <= _MOST_MB]
        if self.growth_mb is not None:
            goals.append(self.growth_mb <= _MOST_GROWTH_MB)
        return goals


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paced", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 s with half the series")
    parser.add_argument(
        "--minutes", type=int, metavar="N", help=f"at each rest; default: {_MINUTES}, quick: 1"
    )
    parser.add_argument("--rest", type=float, metavar="SECONDS", action="append")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    minutes = options.minutes or (1 if options.quick else _MINUTES)
    # So that one frame in 60 is closed, or nearly: no connection has more than 1,024 streams.
    seconds, streams = (30, 583) if options.quick else (60, 1_000)
    print(
        f"{'rest':>8} {'frames':>10} {'closed':>8} {'of a core':>10} {'at most':>8} {'sender':>7}"
        f" {'memory':>8} {'at most':>8} {'growth':>9} {'at most':>8}"
    )
    table = []
    for rest in options.rest or [0.0, 0.02]:
        paced = _measured(streams, seconds, rest, minutes)
        table.append(paced)
        growth = "-" if paced.growth_mb is None else f"{paced.growth_mb:+.1f} MB"
        print(
            f"{rest * 1e3:>5.0f} ms {paced.frames:>10,} {paced.closed:>8,}"
            f" {paced.of_a_core:>10.1%} {_MOST_SHARE:>8.0%} {paced.sender_of_a_core:>7.0%}"
            f" {paced.memory_mb[-1]:>5.0f} MB {_MOST_MB:>5} MB {growth:>9} {_MOST_GROWTH_MB:>5} MB",
            flush=True,
        )
    # The last rest is the recorder's own; the other shows what resting is worth.
    return conclude([attrs.asdict(paced) for paced in table], options.json, table[-1].goals)


def _measured(streams: int, seconds: int, rest: float, minutes: int) -> Paced:
    memory: list[float] = []

    async def run(folder: Path) -> list[Cost]:
        with open_load(folder, streams=_MARKETS * streams, secure=True) as load:
            async with open_recording(
                folder, load, markets=_MARKETS, streams=streams, rest_seconds=rest
            ) as recording:
                await recording.cost_of("burst 1 60")
                memory.append(_memory_mb())
                costs = []
                for _ in range(minutes):
                    costs.append(await recording.cost_of(f"pace {_FRAMES_A_SECOND} {seconds}"))
                    memory.append(_memory_mb())
                return costs

    with tempfile.TemporaryDirectory() as folder:
        costs = trio.run(run, Path(folder))
    return Paced(
        rest,
        sum(cost.ready.frames for cost in costs),
        sum(cost.ready.closed for cost in costs),
        sum(cost.cpu_seconds for cost in costs) / sum(cost.wall_seconds for cost in costs),
        sum(cost.sent.cpu_seconds for cost in costs)
        / sum(cost.sent.wall_seconds for cost in costs),
        memory,
    )


def _memory_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6
