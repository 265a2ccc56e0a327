"""Whole programs for end-to-end tests: the recorder, the exchanges, and what should be stored."""

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
from typing import IO, Any, Protocol

import pandas as pd
import tomli

import kline_trio
from tests.stand_in_candles import Row, end_ms, replayed

__all__ = [
    "Exchange",
    "Key",
    "Program",
    "Recorder",
    "Simulated",
    "StandIn",
    "archive_truth",
    "expected_frame",
    "stored_frame",
    "wait_until",
]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0

Key = tuple[str, str, str]
"""Trade type, symbol, interval."""

Truth = Mapping[Key, Sequence[Row]]
"""The closes of each series in the order in which they were sent."""


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
            stdin=subprocess.DEVNULL,
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
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Exchange(Protocol):
    """An exchange in a process of its own."""

    program: Program
    endpoints: Mapping[str, Mapping[str, str]]
    """By trade type: `websocket` and `rest`."""


class StandIn:
    """The second exchange, `tests/stand_in.py`."""

    def __init__(self, folder: Path, *options: str | Path, script: Sequence[object] = ()) -> None:
        self.truth_path = folder / "truth.jsonl"
        program = [ROOT / "tests" / "stand_in.py", "--truth", self.truth_path, *options]
        if script:
            program += ["--script", json.dumps(script)]
        self.program = Program(program, folder, measured=False)
        self.endpoints = json.loads(self.program.wait_for('"spot"'))

    def wait_for_end(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until its clock stands and all is sent."""
        self.program.wait_for('"ended"', seconds)

    def truth(self) -> dict[Key, list[Row]]:
        """The closes that it has handed over so far."""
        written = sum('"truth"' in line for line in self.program.out)
        self.program.process.send_signal(signal.SIGUSR1)
        self.program.wait_for('"truth"', times=written + 1)
        truth: dict[Key, list[Row]] = {}
        for line in self.truth_path.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            row = Row(**{name: told[name] for name in Row.__dataclass_fields__})
            key = (told["trade_type"], told["symbol"], told["interval"])
            truth.setdefault(key, []).append(row)
        return truth


class Simulated:
    """The exchange that is built in, served alone."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        self.program = Program(["-m", "kline_trio", "simulate", *options], folder, measured=True)
        self.program.wait_for("rest = ", times=3)
        self.endpoints = tomli.loads("\n".join(self.program.out))["endpoints"]


class Recorder:
    """A recorder with its folder: recorder.toml, and the store in `data`."""

    def __init__(self, folder: Path, exchange: Exchange, streams: Sequence[Key]) -> None:
        self.folder, self.store, self.streams = folder, folder / "data", list(streams)
        self.program: Program | None = None
        folder.mkdir(exist_ok=True)
        self.configure(exchange)

    def configure(self, exchange: Exchange, connection: str = "") -> None:
        """Write recorder.toml."""
        lines = []
        wanted: dict[str, dict[str, list[str]]] = {}
        for trade_type, symbol, interval in self.streams:
            wanted.setdefault(trade_type, {}).setdefault(interval, []).append(symbol)
        for trade_type, intervals in wanted.items():
            lines.append(f"[streams.{trade_type}]")
            lines += [
                f"{interval} = {json.dumps(symbols, ensure_ascii=False)}"
                for interval, symbols in intervals.items()
            ]
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


def archive_truth(paths: Sequence[Path]) -> dict[Key, list[Row]]:
    """The rows of archive files."""
    return replayed(paths)


def expected_frame(interval: str, rows: Sequence[Row]) -> pd.DataFrame:
    """The frame that a series' file should hold: of candles sent twice, what was sent last."""
    last = {row.t: row for row in rows}
    kept = [last[t] for t in sorted(last)]

    def moments(values: Sequence[int]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(pd.to_datetime(list(values), unit="ms", utc=True)).as_unit("ms")

    columns: dict[str, Any] = {"candle_begin_time": moments([row.t for row in kept])}
    for column, name in (
        ("open", "o"),
        ("high", "h"),
        ("low", "l"),
        ("close", "c"),
        ("volume", "v"),
        ("quote_volume", "q"),
        ("trade_num", "n"),
        ("taker_buy_base_asset_volume", "V"),
        ("taker_buy_quote_asset_volume", "Q"),
    ):
        values = [getattr(row, name) for row in kept]
        columns[column] = (
            pd.array(values).astype("int64") if name == "n" else list(map(float, values))
        )
    index = moments([end_ms(interval, row.t) for row in kept])
    return pd.DataFrame(columns, index=index.rename("candle_end_time"))


def stored_frame(store: Path, key: Key) -> pd.DataFrame:
    """What bare pandas reads out of a series' file."""
    trade_type, symbol, interval = key
    name = "1mo" if interval == "1M" else interval
    return pd.read_parquet(store / f"{trade_type}_{symbol}_{name}.pqt")
