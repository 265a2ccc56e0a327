"""Other programs that receive candles, each in a process of its own, and what it costs them."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.load import Load, Ready
from benchmarks.peers.exchange_info import open_exchange_info

__all__ = ["CONTESTANTS", "Contestant", "Counted", "Peer", "PeerError", "open_peer", "peers_python"]

_ROOT = Path(__file__).parents[1]
_PYTHON = _ROOT / ".venv-peers/bin/python"
INSTALL = (
    "python3 -m venv .venv-peers"
    " && .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt"
)
"""What gives the peers their environment."""


class PeerError(Exception):
    """A peer that could not be run, and why."""


@attrs.frozen
class Contestant:
    """A module of `benchmarks.peers`."""

    name: str
    module: str
    decodes: bool = True
    """Whether it looks into frames; otherwise it is a limit."""
    own: bool = False
    """Whether it runs in the project's environment."""
    refusals: Mapping[str, str] = attrs.field(factory=dict)
    """Why it cannot be run over plain sockets, or over TLS."""


CONTESTANTS = (
    Contestant("trio-websocket + json", "trio_json", own=True),
    Contestant("the original design", "article"),
    Contestant("python-binance", "python_binance"),
    Contestant("unicorn-binance-websocket-api", "unicorn"),
    Contestant("ccxt pro", "ccxt_pro"),
    Contestant("cryptofeed", "crypto_feed", refusals={"plain": "takes only wss:// addresses"}),
    Contestant("nautilus_trader", "nautilus"),
    Contestant("picows alone", "picows_reader", decodes=False),
    Contestant("recv_into alone", "socket_reader", decodes=False, own=True),
)


@attrs.frozen
class Counted:
    """What a peer used until its last closed candle, or until it was told to stop."""

    cpu_seconds: float
    wall_seconds: float
    moments: list[tuple[str, float]]
    """Of closed candles: the symbol, and when it was decoded, by `time.perf_counter`."""


@attrs.define(eq=False)
class Peer:
    """A peer at work."""

    process: subprocess.Popen[str]
    _errors: Path
    _lines: "queue.Queue[str]" = attrs.field(init=False, factory=queue.Queue)

    def __attrs_post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, ready: Ready) -> None:
        """It counts from now on."""
        self._say(f"begin {ready.frames} {ready.closed} {ready.size}")
        self._hear(10)

    def end(self, patience_seconds: float) -> Counted:
        """When it has all closed candles, or has had so long for them."""
        try:
            line = self._hear(patience_seconds)
        except queue.Empty:
            self._say("stop")
            try:
                line = self._hear(30)
            except queue.Empty:
                raise self.failed("does not answer") from None
        told = json.loads(line)
        told["moments"] = [(symbol, moment) for symbol, moment in told["moments"]]
        return Counted(**told)

    def failed(self, what: str) -> PeerError:
        """Why, by its last words."""
        text = self._errors.read_text(encoding="utf-8", errors="replace").strip()
        return PeerError(f"{what}: {text.splitlines()[-1][:200]}" if text else what)

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


def peers_python(asked: Path | None) -> Path | None:
    """The interpreter of the peers' environment, if there is one."""
    python = asked or _PYTHON
    return python if python.exists() else None


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
                peer = Peer(process, errors)
                _await_subscribed(peer, load)
                yield peer
            finally:
                process.kill()


def _await_subscribed(peer: Peer, load: Load) -> None:
    waiting = threading.Thread(target=load.subscribed, daemon=True)
    waiting.start()
    for _ in range(120):
        waiting.join(0.5)
        if not waiting.is_alive():
            return
        if peer.process.poll() is not None:
            raise peer.failed("ends at once")
    raise peer.failed("has not subscribed within a minute")
