"""How late candles are that all close within one second."""

import math
import tempfile
import time
from pathlib import Path

import attrs
import trio

from benchmarks.contestants import OURS, Contestant
from benchmarks.load import Load, Sent, open_load
from benchmarks.peering import PeerError, open_peer
from benchmarks.receiving import Recording, open_recording

__all__ = ["Latencies", "ours", "ours_at_first", "theirs"]

_STREAMS_A_CONNECTION = 1_024
_PATIENCE_SECONDS = 60
_LOOK_SECONDS = 2
_REST_SECONDS = 0.02
"""As the recorder's own configuration has it."""


@attrs.define
class Latencies:
    """What became of some bursts."""

    name: str
    candles: int
    sockets: str = "TLS"
    connections: int = 0
    lost: int = 0
    cpu_seconds: float = 0
    """Of all bursts."""
    wall_seconds: float = 0
    sent_in_seconds: float = 0
    """The longest that the sender needed for a burst. It should be one second."""
    seconds: list[float] = attrs.field(factory=list)
    """For each candle that came, in order."""
    reason: str = ""
    """Why there are none."""

    @property
    def of_a_core(self) -> float:
        """From the first candle sent to the last one there."""
        return self.cpu_seconds / self.wall_seconds

    def quantile(self, share: float) -> float:
        """As late were so many at most; not a number if nothing came."""
        if not self.seconds:
            return math.nan
        return self.seconds[max(0, math.ceil(share * len(self.seconds)) - 1)]

    def summary(self) -> dict[str, object]:
        """All but the single latencies."""
        told = attrs.asdict(self, filter=lambda field, _: field.name != "seconds")
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return told | {f"{key}_seconds": self.quantile(share) for key, share in shares.items()}

    def add(self, sent: Sent, began: dict[str, float], came: list[tuple[str, float]]) -> None:
        """One more burst: when each candle was sent, and when it was there."""
        there: dict[str, float] = {}
        for symbol, moment in came:
            there.setdefault(symbol, moment)
        self.lost += len(began.keys() - there.keys())
        late = [moment - began[symbol] for symbol, moment in there.items()]
        self.seconds = sorted(self.seconds + late)
        self.sent_in_seconds = max(self.sent_in_seconds, sent.wall_seconds)


def theirs(contestant: Contestant, python: Path | None, candles: int, runs: int) -> Latencies:
    """Bursts at a peer; the first one warms it up."""
    sockets = "plain" if "TLS" in contestant.refusals else "TLS"
    result = Latencies(contestant.name, candles, sockets)
    if candles > contestant.most_streams:
        result.reason = f"takes at most {contestant.most_streams:,} streams"
        return result
    connections = -(-candles // _STREAMS_A_CONNECTION)
    with tempfile.TemporaryDirectory() as folder:
        with open_load(Path(folder), streams=candles, secure=sockets == "TLS") as load:
            try:
                with open_peer(
                    contestant, python, load, streams=candles, connections=connections
                ) as peer:
                    peer.take("close")
                    load.moments()
                    for _ in range(runs):
                        served = peer.take("close")
                        result.connections = served.ready.connections
                        result.cpu_seconds += served.counted.cpu_seconds
                        result.wall_seconds += served.counted.wall_seconds
                        result.add(served.sent, load.moments(), served.counted.moments)
            except PeerError as problem:
                result.reason = str(problem)
    return result


def ours_at_first(candles: int, publish_seconds: float | None = None) -> Latencies:
    """The first burst in a new store: the recorder makes a file for each series meanwhile."""
    return _ours(f"{OURS}, new store", candles, 0, 1, publish_seconds)


def ours(candles: int, runs: int, publish_seconds: float | None = None) -> Latencies:
    """Bursts at the recorder; the first one warms it up, and makes the files."""
    return _ours(OURS, candles, 1, runs, publish_seconds)


def _ours(
    name: str, candles: int, warm: int, runs: int, publish_seconds: float | None
) -> Latencies:
    result = Latencies(name, candles)

    async def run(folder: Path) -> None:
        with open_load(folder, streams=candles, secure=True) as load:
            async with open_recording(
                folder,
                load,
                markets=1,
                streams=candles,
                rest_seconds=_REST_SECONDS,
                publish_seconds=publish_seconds,
            ) as recording:
                for _ in range(warm):
                    await _burst(recording, Latencies(name, candles))
                    while _files(folder) < candles:  # noqa: ASYNC110 - files tell nobody
                        await trio.sleep(_LOOK_SECONDS)
                for _ in range(runs):
                    await _burst(recording, result)

    with tempfile.TemporaryDirectory() as folder:
        trio.run(run, Path(folder))
    return result


def _files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.pqt"))


async def _burst(recording: Recording, result: Latencies) -> None:
    load: Load = recording.load
    await recording.idle()
    ready = await trio.to_thread.run_sync(load.ready, "close")
    candles = recording.recorder.candles(waiting=ready.closed)
    came: list[tuple[str, float]] = []
    load.go()
    cpu, wall = time.process_time(), time.perf_counter()
    with trio.move_on_after(_PATIENCE_SECONDS):
        while len(came) < ready.closed:
            received = await anext(candles)
            came.append((received.series.symbol, time.perf_counter()))
    result.cpu_seconds += time.process_time() - cpu
    result.wall_seconds += time.perf_counter() - wall
    result.connections = ready.connections
    sent = await trio.to_thread.run_sync(load.sent)
    result.add(sent, await trio.to_thread.run_sync(load.moments), came)
