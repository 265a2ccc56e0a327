"""The part of the benchmarks that peers share, tried with the two that need nothing installed."""

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.load import open_load
from benchmarks.peering import PeerError, open_peer

FOLDER = Path(peers.__file__).parent
SHARED = {
    "benchmarks.spent",
    "benchmarks.peers.counting",
    "benchmarks.peers.nautilus_bars",
    "benchmarks.peers.telling",
}
"""What peers have in common; of no package of ours either."""
OWN = [contestant for contestant in CONTESTANTS if contestant.own]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("contestant", OWN, ids=lambda contestant: contestant.module)
def test_a_peer_counts_what_is_sent(
    tmp_path: Path, contestant: Contestant, *, secure: bool
) -> None:
    """Each closed candle once, in bursts at any number of ticks; and again after that."""
    with open_load(tmp_path, streams=5, secure=secure) as load:
        with open_peer(contestant, None, load, streams=5) as peer:
            first, second = peer.take("burst 2 60"), peer.take("burst 1 240")
    assert (first.ready.frames, first.ready.closed, first.lost) == (600, 10, 0)
    assert (second.ready.frames, second.ready.closed, second.lost) == (1_200, 5, 0)
    assert first.counted.cpu_seconds > 0


def test_a_burst_of_closes_is_timed(tmp_path: Path) -> None:
    """The sender tells when it sent each candle, the peer when it had it; on one clock."""
    with open_load(tmp_path, streams=5, secure=False) as load:
        with open_peer(OWN[0], None, load, streams=5, connections=2) as peer:
            served = peer.take("close")
            sent = load.moments()
    came = dict(served.counted.moments)
    assert came.keys() == sent.keys()
    assert served.ready.connections == 2
    assert all(0 < came[symbol] - sent[symbol] < 10 for symbol in sent)


def test_a_peer_that_cannot_run_says_why(tmp_path: Path) -> None:
    """An import that fails is its last word."""
    absent = Contestant("absent", "absent", own=True)
    refusing = Contestant("refusing", "refusing", refusals={"plain": "not over plain sockets"})
    with open_load(tmp_path, streams=1, secure=False) as load:
        with pytest.raises(PeerError, match=r"ends at once: .*No module named benchmarks.peers"):
            with open_peer(absent, None, load, streams=1):
                pass
        with pytest.raises(PeerError, match="not installed"):
            with open_peer(Contestant("other", "other"), None, load, streams=1):
                pass
        with pytest.raises(PeerError, match="not over plain sockets"):
            with open_peer(refusing, Path(sys.executable), load, streams=1):
                pass


def test_peers_import_nothing_of_ours() -> None:
    """Their environment has it not."""
    for module in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert not node.module.startswith("kline_trio"), module
                ours = node.module.startswith("benchmarks")
                assert not ours or node.module in SHARED, module
    for contestant in CONTESTANTS:
        assert (FOLDER / f"{contestant.module}.py").exists(), contestant
