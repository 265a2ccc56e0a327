"""What a frame costs a contestant that is sent as many as it can take."""

import tempfile
from pathlib import Path

import attrs
import trio

from benchmarks.contestants import OURS, Contestant
from benchmarks.load import open_load
from benchmarks.peering import PeerError, Served, open_peer
from benchmarks.receiving import open_recording

__all__ = ["Row", "Run", "Way", "ours", "theirs"]

_STREAMS = 500
_RUNS_OF_PEERS = 3


@attrs.frozen
class Run:
    """One measurement."""

    frame_us: float
    frames_a_second: float
    of_a_core: float
    sender_of_a_core: float
    lost: int


@attrs.frozen
class Row:
    """What one contestant can do in one way of sending."""

    name: str
    sockets: str
    ticks: int
    decodes: bool
    runs: list[Run]
    reason: str = ""
    """Why there are no runs."""

    @property
    def best(self) -> Run:
        """The cheapest run."""
        return min(self.runs, key=lambda run: run.frame_us)


@attrs.frozen
class Way:
    """How frames are sent."""

    sockets: str
    """`plain` or `TLS`."""
    ticks: int
    """Frames of each candle, of which the last one is closed."""
    runs: int
    minutes: int
    """Of a run at 60 ticks."""
    rest: float
    """Our `read_pause_seconds`."""
    publish_seconds: float | None = None
    """Ours publishes to a lake so often; None: not at all."""

    @property
    def ours(self) -> str:
        """As many frames, however many of them are closed."""
        return f"burst {max(1, self.minutes * 60 // self.ticks)} {self.ticks}"

    def theirs(self, contestant: Contestant) -> str:
        """The same for a limit; a peer that decodes takes so long for a frame that fewer will do,
        and an hour would not.
        """
        is_limit = self.runs > 1 and not contestant.decodes
        return self.ours if is_limit else f"burst 1 {self.ticks}"


def ours(way: Way) -> Row:
    """Measure the recorder, in this process."""

    async def run(folder: Path) -> list[Run]:
        secure = way.sockets == "TLS"
        with open_load(folder, streams=_STREAMS, secure=secure) as load:
            async with open_recording(
                folder,
                load,
                markets=1,
                streams=_STREAMS,
                rest_seconds=way.rest,
                publish_seconds=way.publish_seconds,
            ) as recording:
                await recording.cost_of("burst 1 60")
                costs = [await recording.cost_of(way.ours) for _ in range(way.runs)]
        return [
            Run(
                cost.frame_us,
                cost.ready.frames / cost.wall_seconds,
                cost.share,
                cost.sent.cpu_seconds / cost.wall_seconds,
                lost=0,
            )
            for cost in costs
        ]

    with tempfile.TemporaryDirectory() as folder:
        return Row(OURS, way.sockets, way.ticks, decodes=True, runs=trio.run(run, Path(folder)))


def theirs(way: Way, contestant: Contestant, python: Path | None) -> Row:
    """Measure a peer, or say why it cannot be."""
    row = Row(contestant.name, way.sockets, way.ticks, contestant.decodes, runs=[])
    with tempfile.TemporaryDirectory() as folder:
        secure = way.sockets == "TLS"
        with open_load(Path(folder), streams=_STREAMS, secure=secure) as load:
            try:
                with open_peer(contestant, python, load, streams=_STREAMS) as peer:
                    peer.take("burst 1 60")
                    command, runs = way.theirs(contestant), min(way.runs, _RUNS_OF_PEERS)
                    served = [peer.take(command) for _ in range(runs)]
            except PeerError as problem:
                return attrs.evolve(row, reason=str(problem))
    return attrs.evolve(row, runs=list(map(_run, served)))


def _run(served: Served) -> Run:
    frames, counted = served.ready.frames, served.counted
    return Run(
        counted.cpu_seconds * 1e6 / frames,
        frames / counted.wall_seconds,
        counted.cpu_seconds / counted.wall_seconds,
        served.sent.cpu_seconds / counted.wall_seconds,
        served.lost,
    )
