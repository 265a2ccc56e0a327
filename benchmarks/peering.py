"""Other programs that receive candles, each in a process of its own, and what it costs them."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.contestants import Contestant
from benchmarks.load import Load, Ready, Sent
from benchmarks.peers.exchange_info import open_exchange_info

__all__ = ["PeerError", "Served", "open_peer"]

_PATIENCE_SECONDS = 30
"""From when all is sent until all must be there."""

_PATIENT_SECONDS = 120
"""Until it is subscribed."""

_ROOT = Path(__file__).parents[1]


class PeerError(Exception):
    """A peer that could not be run, and why."""


@attrs.frozen
class Counted:
    """What a peer used until its last closed candle, or until it was told to stop."""

    cpu_seconds: float
    wall_seconds: float
    moments: list[tuple[str, float]]
    """Of closed candles: the symbol, and when it was decoded, by `time.perf_counter`."""


@attrs.frozen
class Served:
    """A command of the sender, and what came of it."""

    ready: Ready
    sent: Sent
    counted: Counted

    @property
    def lost(self) -> int:
        """Closed candles that never came."""
        return self.ready.closed - len(self.counted.moments)


@attrs.define(eq=False)
class Peer:
    """A peer at work."""

    process: subprocess.Popen[str]
    load: Load
    _errors: Path
    _lines: "queue.Queue[str]" = attrs.field(init=False, factory=queue.Queue)

    def __attrs_post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def take(self, command: str) -> Served:
        """Have frames sent, and wait until the peer has all closed candles, or gives up."""
        ready = self.load.ready(command)
        self._say(f"begin {ready.frames} {ready.closed} {ready.size}")
        self._hear(10)
        self.load.go()
        sent = self.load.sent()
        return Served(ready, sent, self._counted())

    def _counted(self) -> Counted:
        try:
            line = self._hear(_PATIENCE_SECONDS)
        except queue.Empty:
            self._say("stop")
            try:
                line = self._hear(30)
            except queue.Empty:
                raise self.failed("does not answer any more") from None
        told = json.loads(line)
        told["moments"] = [(symbol, moment) for symbol, moment in told["moments"]]
        return Counted(**told)

    def failed(self, what: str) -> PeerError:
        """Why, by its last words."""
        lines = self._errors.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if any(map(str.isalpha, line))), "")
        return PeerError(f"{what}: {last[:200]}" if last else what)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self.failed("has ended") from None

    def _hear(self, seconds: float) -> str:
        line = self._lines.get(timeout=seconds)
        if not line:
            raise self.failed("has ended")
        return line


@contextmanager
def open_peer(
    contestant: Contestant, python: Path | None, load: Load, *, streams: int, connections: int = 1
) -> Iterator[Peer]:
    """Run it against the sender, until all its streams are subscribed.

    Raises:
      PeerError: it cannot be run.
    """
    secure = load.url.startswith("wss")
    if refusal := contestant.refusals.get("TLS" if secure else "plain"):
        raise PeerError(refusal)
    if python is None and not contestant.own:
        raise PeerError("not installed")
    errors = load.ca_file.with_name("errors.txt")
    with open_exchange_info(streams) as rest, errors.open("w") as noise:
        command = [sys.executable if contestant.own else str(python), "-m"]
        command += [f"benchmarks.peers.{contestant.module}", load.url, rest, str(streams)]
        command += ["--connections", str(connections)]
        command += ["--ca", str(load.ca_file)] if secure else []
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True,
            cwd=_ROOT, env={**os.environ, "SSL_CERT_FILE": str(load.ca_file)},
        )  # fmt: skip
        with process:
            try:
                peer = Peer(process, load, errors)
                _await_subscribed(peer, load)
                yield peer
            finally:
                process.kill()


def _await_subscribed(peer: Peer, load: Load) -> None:
    waiting = threading.Thread(target=load.subscribed, daemon=True)
    waiting.start()
    for _ in range(2 * _PATIENT_SECONDS):
        waiting.join(0.5)
        if not waiting.is_alive():
            return
        if peer.process.poll() is not None:
            raise peer.failed("ends at once")
    raise peer.failed(f"has not subscribed within {_PATIENT_SECONDS} s")
