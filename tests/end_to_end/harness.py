"""Whole programs for end-to-end tests: the recorder, and the exchanges."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import pandas as pd
import tomli

import kline_trio
from tests.end_to_end.expected import Key, Truth, streams_toml
from tests.end_to_end.raw_client import RawClient
from tests.stand_in_candles import Row

__all__ = [
    "THREE_MARKETS",
    "Exchange",
    "Program",
    "Recorder",
    "Simulated",
    "StandIn",
    "wait_until",
]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0

THREE_MARKETS: list[Key] = [
    ("spot", "BTCUSDT", "1m"),
    ("spot", "BNBUSDT", "1m"),
    ("usdt_futures", "ETHUSDT", "1m"),
    ("coin_futures", "BTCUSD_PERP", "3m"),
]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Look at a condition until it holds.

    Raises:
      AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)  # between two looks; no proof of anything


class Program:
    """A child process whose lines, on stdout and stderr, can be waited for."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, *, measured: bool) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if measured or not name.startswith("COV")
        }
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, lines))
            for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        for line in pipe:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def write(self, line: str) -> None:
        """Write a line to the program's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def count(self, text: str) -> int:
        """How many lines that hold this text have come so far."""
        return sum(text in line for line in (*self.out, *self.err))

    def wait_for(self, text: str, seconds: float = DEADLINE_SECONDS, *, times: int = 1) -> str:
        """The line, the last of so many, that holds this text.

        Raises:
          AssertionError: it did not come in time, or the program ended without it.
        """
        with self._news:
            found: list[str] = []

            def come() -> bool:
                found[:] = [line for line in (*self.out, *self.err) if text in line]
                return len(found) >= times or not any(r.is_alive() for r in self._readers)

            self._news.wait_for(come, seconds)
            assert len(found) >= times, f"{text!r} was awaited:\n{self.story()}"
            return found[times - 1]

    def end(self, number: signal.Signals | None = None, seconds: float = DEADLINE_SECONDS) -> int:
        """Send a signal, if any, and give the exit status.

        Raises:
          AssertionError: the program did not end in time.
        """
        if number is not None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds} s:\n{self.story()}") from None
        for reader in self._readers:
            reader.join()
        return status

    def story(self) -> str:
        """What the program said, to show when a test fails."""
        return "\n".join([*self.out[-10:], "--- stderr", *self.err[-60:]])

    def close(self) -> None:
        """Make an end of it, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def _ended_on_failure(program: Program) -> Iterator[None]:
    try:
        yield
    except BaseException:
        program.close()
        raise


class Exchange(Protocol):
    """An exchange in a process of its own."""

    program: Program
    endpoints: Mapping[str, Mapping[str, str]]
    """By trade type: `websocket` and `rest`."""
    archive: str
    """Where the archive is."""

    def truth(self) -> dict[Key, list[Row]]:
        """The closes that it has sent so far."""


class StandIn:
    """The second exchange, `tests/stand_in.py`."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        self.truth_path = folder / "truth.jsonl"
        program = [ROOT / "tests" / "stand_in.py", "--obey", "--truth", self.truth_path, *options]
        self.program = Program(program, folder, measured=False)
        with _ended_on_failure(self.program):
            told = json.loads(self.program.wait_for('"spot"'))
            self.archive: str = told.pop("archive")
            self.endpoints = told

    def do(self, what: str, market: str = "spot", **more: object) -> None:
        """Let it do something to a market, see `tests/stand_in.py --help`; it is done on return."""
        event = json.dumps({"event": what})[:-1]
        before = self.program.count(event)
        self.program.write(json.dumps({"do": what, "market": market, **more}))
        self.program.wait_for(event, times=before + 1)

    def wait_for_end(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until its clock stands and all is sent."""
        self.program.wait_for('"ended"', seconds)

    def truth(self) -> dict[Key, list[Row]]:
        """The closes that it has handed over so far."""
        written = self.program.count('"truth"')
        self.program.process.send_signal(signal.SIGUSR1)
        self.program.wait_for('"truth"', times=written + 1)
        truth: dict[Key, list[Row]] = {}
        for line in self.truth_path.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            row = Row(**{name: told[name] for name in Row.__dataclass_fields__})
            key = (told["trade_type"], told["symbol"], told["interval"])
            truth.setdefault(key, []).append(row)
        return truth

    def close(self) -> None:
        """Make an end of it."""
        self.program.close()


class Simulated:
    """The exchange that is built in, served alone; a bare client knows what it sends."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        self.program = Program(["-m", "kline_trio", "simulate", *options], folder, measured=True)
        with _ended_on_failure(self.program):
            self.program.wait_for("rest = ", times=3)
            self.program.wait_for("archive = ")
            told = tomli.loads("\n".join(self.program.out))["endpoints"]
            self.archive: str = told.pop("archive")
            self.endpoints: Mapping[str, Mapping[str, str]] = told
            self._client = RawClient(self.endpoints, THREE_MARKETS)

    def truth(self) -> dict[Key, list[Row]]:
        """The closes of three markets that it has sent so far."""
        return self._client.closes()

    def close(self) -> None:
        """Make an end of it."""
        self._client.close()
        self.program.close()


class Recorder:
    """A recorder with its folder: recorder.toml, and the store in `data`."""

    def __init__(self, folder: Path, exchange: Exchange, streams: Sequence[Key]) -> None:
        self.folder, self.store, self.streams = folder, folder / "data", list(streams)
        self.program: Program | None = None
        folder.mkdir(exist_ok=True)
        self.configure(exchange)

    def configure(self, exchange: Exchange, connection: str = "") -> None:
        """Write recorder.toml."""
        lines = [streams_toml(self.streams), f'[endpoints]\narchive = "{exchange.archive}"']
        for trade_type, urls in exchange.endpoints.items():
            lines.append(f"[endpoints.{trade_type}]")
            lines += [f'{name} = "{url}"' for name, url in urls.items()]
        text = "\n".join([*lines, "[connection]", connection, ""])
        (self.folder / "recorder.toml").write_text(text, encoding="utf-8")

    @contextmanager
    def running(self, *options: str, command: str = "record") -> Iterator[Program]:
        """The program while the body runs; what is left of it is killed."""
        arguments = ["-m", "kline_trio", command, "recorder.toml", "--debug", *options]
        program = Program(arguments, self.folder, measured=True)
        try:
            yield program
        finally:
            program.close()

    def readable(self, key: Key) -> pd.DataFrame | None:
        """What can be read of a series now; None if there is nothing."""
        try:
            return kline_trio.read(self.store, *key)
        except kline_trio.KlineTrioError:
            return None

    def wait_for_all(self, truth: Truth, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until every series has all its candles, or the time is over: then compare."""
        missing = {key: len({row.t for row in rows}) for key, rows in truth.items()}

        def all_there() -> bool:
            for key, count in tuple(missing.items()):
                frame = self.readable(key)
                if frame is not None and len(frame) >= count:
                    del missing[key]
            return not missing

        wait_until(all_there, f"candles of {missing} should become readable", seconds)
