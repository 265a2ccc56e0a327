"""What share of a core 3,500 frames a second take, spread evenly over three TLS connections.

So many frames have all symbols of the three markets at 1m. Each is a TLS record of its own and is
sent at its own moment; all series close within the last second of each minute, and it counts until
the last candle is accepted. Memory is that of the whole process.
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

__all__ = ["main"]

_FRAMES_A_SECOND = 3_500
_MARKETS = 3
_MOST_SHARE = 0.05
_MOST_MB = 250
_MOST_GROWTH_MB = 10
"""Over all minutes but the first, in which there is much that is made once."""


@attrs.frozen
class _Paced:
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
    def growth_mb(self) -> float:
        """From the end of the first minute to that of the last."""
        return self.memory_mb[-1] - self.memory_mb[1]

    @property
    def good(self) -> bool:
        return (
            self.of_a_core <= _MOST_SHARE
            and self.memory_mb[-1] <= _MOST_MB
            and self.growth_mb <= _MOST_GROWTH_MB
        )


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paced", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 s with half the series")
    parser.add_argument("--minutes", type=int, default=1, help="at each rest")
    parser.add_argument("--rest", type=float, metavar="SECONDS", action="append")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    # So that one frame in 60 is closed, or nearly: no connection has more than 1,024 streams.
    seconds, streams = (30, 583) if options.quick else (60, 1_000)
    print(
        f"{'rest':>8} {'frames':>10} {'closed':>8} {'of a core':>10} {'at most':>8} {'sender':>7}"
        f" {'memory':>8} {'at most':>8} {'growth':>9}"
    )
    table = []
    for rest in options.rest or [0.0, 0.02]:
        paced = _measured(streams, seconds, rest, options.minutes)
        table.append(paced)
        print(
            f"{rest * 1e3:>5.0f} ms {paced.frames:>10,} {paced.closed:>8,}"
            f" {paced.of_a_core:>10.1%} {_MOST_SHARE:>8.0%} {paced.sender_of_a_core:>7.0%}"
            f" {paced.memory_mb[-1]:>5.0f} MB {_MOST_MB:>5} MB {paced.growth_mb:>+6.1f} MB",
            flush=True,
        )
    conclude([attrs.asdict(paced) for paced in table], options.json)
    # The last rest is the recorder's own; the other shows what resting is worth.
    return 0 if table[-1].good else 1


def _measured(streams: int, seconds: int, rest: float, minutes: int) -> _Paced:
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
    return _Paced(
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
