"""The programs behind the page: an exchange that obeys, a recorder, and `serve`."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.end_to_end.expected import Key, streams_toml
from tests.end_to_end.harness import Program

__all__ = [
    "ETH",
    "QUICK",
    "STREAMS",
    "OrderedExchange",
    "Recording",
    "open_exchange",
    "open_recording",
    "open_server",
]

ETH: Key = ("spot", "ETHUSDT", "1m")
"""The series that the outages strike."""
STREAMS: list[Key] = [
    ("spot", "BTCUSDT", "1m"),
    ETH,
    ("spot", "BNBUSDT", "1m"),
    ("spot", "BTCUSDT", "5m"),
    ("usdt_futures", "ETHUSDT", "1m"),
    ("coin_futures", "BTCUSD_PERP", "3m"),
]
QUICK = """
[connection]
stall_seconds = 5

[completeness]
attempts = 2
attempt_seconds = 1

[monitor]
silent_seconds = 6
absent_seconds = 2
recover_seconds = 2
"""
"""At 60 times real speed an outage of ten minutes takes ten seconds: whoever waits 15 misses it."""


@attrs.frozen
class OrderedExchange:
    """`tests.browser.exchange` as its parent sees it."""

    program: Program
    endpoints: str
    """The tables for recorder.toml."""

    def begin(self, fault: str, trade_type: str = "spot", **more: object) -> int:
        """Begin a fault; return when that was, in exchange time."""
        return self._order(begin=fault, trade_type=trade_type, **more)

    def end(self, fault: str) -> int:
        """End all faults of a kind; return when that was, in exchange time."""
        return self._order(end=fault)

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._order(end="")

    def _order(self, **order: object) -> int:
        done = self.program.count("obeyed_ms")
        self.program.write(json.dumps(order))
        line = self.program.wait_for("obeyed_ms", times=done + 1)
        moment_ms: int = json.loads(line)["obeyed_ms"]
        return moment_ms


@attrs.frozen
class Recording:
    """A program that serves the page."""

    program: Program
    url: str
    """Of the page."""
    store: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2].strip("/"))

    def through(self, port: int) -> "Recording":
        """Return the same program, as a proxy at a port shows it."""
        return Recording(self.program, f"http://127.0.0.1:{port}/", self.store)

    def stop(self) -> None:
        """End it as a service manager does."""
        assert self.program.end(signal.SIGTERM) == 0, self.program.story()


@contextmanager
def open_exchange(folder: Path, *options: str) -> Iterator[OrderedExchange]:
    """Serve the exchange while the body runs."""
    program = Program(["-m", "tests.browser.exchange", *options], folder, measured=False)
    try:
        program.wait_for("archive = ")
        yield OrderedExchange(program, "\n".join(program.out))
    finally:
        program.close()


@contextmanager
def open_recording(
    folder: Path,
    exchange: OrderedExchange,
    streams: Sequence[Key] = STREAMS,
    *,
    port: int = 0,
    tables: str = QUICK,
) -> Iterator[Recording]:
    """Record from the exchange while the body runs; what is left of the program is killed.

    Args:
      folder: gets recorder.toml, and the store in `data`.
      exchange: what to record from.
      streams: the series.
      port: of the monitor; 0: any that is free.
      tables: more of recorder.toml; by default, short deadlines.
    """
    folder.mkdir(exist_ok=True)
    text = "\n".join([streams_toml(streams), exchange.endpoints, tables])
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    command = ["-m", "kline_trio", "record", "recorder.toml"]
    with _serving([*command, "--monitor", f"127.0.0.1:{port}"], folder) as recording:
        yield recording


@contextmanager
def open_server(store: Path) -> Iterator[Recording]:
    """Serve a store that no recorder writes to while the body runs."""
    command = ["-m", "kline_trio", "serve", store.name, "--address", "127.0.0.1:0"]
    with _serving(command, store.parent, store.name) as recording:
        yield recording


@contextmanager
def _serving(command: Sequence[str], folder: Path, store: str = "data") -> Iterator[Recording]:
    program = Program(command, folder, measured=True)
    try:
        line = program.wait_for("http://127.0.0.1:")
        port = line.rpartition("127.0.0.1:")[2].partition("/")[0].strip()
        yield Recording(program, f"http://127.0.0.1:{port}/", folder / store)
    finally:
        program.close()
