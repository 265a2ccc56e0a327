"""An exchange that only sends: a process of its own, so that its CPU is not the recorder's."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trustme

__all__ = ["Load", "Ready", "Sent", "open_load"]


@attrs.frozen
class Ready:
    """What waits to be sent."""

    frames: int
    closed: int
    size: int
    """In bytes, before encryption."""
    connections: int


@attrs.frozen
class Sent:
    """What sending it cost the sender."""

    cpu_seconds: float
    wall_seconds: float

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.wall_seconds


@attrs.frozen
class Load:
    """The sending process, as its parent sees it."""

    process: subprocess.Popen[str]
    url: str
    ca_file: Path

    def ready(self, command: str) -> Ready:
        """Wait until the frames of a `burst`, a `pace` or a `close` are made."""
        self._say(command)
        return Ready(*map(int, self._hear()))

    def go(self) -> None:
        """Send them."""
        self._say("go")

    def sent(self) -> Sent:
        """Wait until all is sent."""
        return Sent(*map(float, self._hear()))

    def moments(self) -> dict[str, float]:
        """After a `close`: when the candle of each symbol was sent, by `time.perf_counter`."""
        words = iter(self._hear())
        return {name: float(moment) for name, moment in zip(words, words, strict=True)}

    def subscribed(self) -> None:
        """Wait until all streams are subscribed, and a frame of each is sent; or until it ends."""
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the sender has ended"
        return line.split()


@contextmanager
def open_load(folder: Path, *, streams: int, secure: bool) -> Iterator[Load]:
    """A sender for so many streams, on however many connections; its `ca.pem` is in the folder."""
    authority, name = trustme.CA(), "localhost"
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    command = [sys.executable, "-m", "benchmarks.sending", str(streams)]
    command += ["--pem", str(folder / "server.pem")] if secure else []
    process = subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            scheme = "wss" if secure else "ws"
            yield Load(process, f"{scheme}://{name}:{port}", folder / "ca.pem")
        finally:
            process.kill()
