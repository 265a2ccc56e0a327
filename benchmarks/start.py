"""How long it takes from the start of the process to `--help`, and to the first frame received.

The recorder is a process of its own, with a new store, and so is the built-in exchange that it
records from. The least of several runs counts, for whatever else runs on the machine can only add.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import psutil

from benchmarks.machine import conclude, verdict

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_MOST_SECONDS = {"--help": 0.15, "first frame": 1.0}
_IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
_HEARD = "receiving"
"""In the line that says that the first candle of a connection came."""
_LAST_LINE_OF_EXCHANGE = "archive = "
_STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n\n'


@attrs.frozen
class Start:
    """The least of several runs."""

    name: str
    wall_seconds: float
    cpu_seconds: float


def main(arguments: list[str]) -> int:
    """Print the table; 1 if it takes longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    runs = 3 if options.quick else 20
    print(f"{'':<26} {'wall':>8} {'CPU':>8} {'at most':>8}")
    starts = [
        _told("python -c pass", [_command("-c", "pass") for _ in range(runs)]),
        _told("--help", [_command("-m", "kline_trio", "--help") for _ in range(runs)]),
        *(
            _told(f"import {name}", [_import(f"kline_trio.{name}") for _ in range(runs)])
            for name in ("commands.cli", "commands.record")
        ),
        _told("first frame", _first_frames(runs)),
    ]
    # Wall time follows what else runs: three runs seldom find a moment without.
    judged = [] if options.quick else [start for start in starts if start.name in _MOST_SECONDS]
    goals = [start.wall_seconds < _MOST_SECONDS[start.name] for start in judged]
    print(f"least of {runs} runs: {verdict(goals)}")
    return conclude([attrs.asdict(start) for start in starts], options.json, goals)


def _told(name: str, spent: Sequence[tuple[float, float]]) -> Start:
    wall, cpu = (min(each) for each in zip(*spent, strict=True))
    most = f"{_MOST_SECONDS[name]:6.2f} s" if name in _MOST_SECONDS else ""
    print(f"{name:<26} {wall:6.3f} s {cpu:6.3f} s {most}", flush=True)
    return Start(name, wall, cpu)


def _command(*arguments: str) -> tuple[float, float]:
    """Seconds on the wall and of CPU, until the process has ended."""
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return wall, usage.ru_utime + usage.ru_stime


def _import(module: str) -> tuple[float, float]:
    """What the import alone takes, in a process of its own."""
    found = []
    for clock in ("perf_counter", "process_time"):
        code = _IMPORT.format(module).replace("perf_counter", clock)
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, check=True
        )
        found.append(float(done.stdout))
    return found[0], found[1]


def _first_frames(runs: int) -> list[tuple[float, float]]:
    with _exchange() as endpoints:
        found = []
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as folder:
                config = Path(folder) / "recorder.toml"
                config.write_text(_STREAMS + endpoints, encoding="utf-8")
                found.append(_first_frame(config))
    return found


def _first_frame(config: Path) -> tuple[float, float]:
    """Seconds on the wall and of CPU, from the start of the process on."""
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "kline_trio", str(config)],
        cwd=_ROOT,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if _HEARD in line:
                break
        else:
            raise RuntimeError(f"no frame was received:\n{''.join(lines)}")
        wall = time.perf_counter() - began
        used = psutil.Process(process.pid).cpu_times()
        process.kill()
    return wall, used.user + used.system


@contextmanager
def _exchange() -> Iterator[str]:
    """The built-in exchange in a process of its own; gives its endpoints as TOML."""
    with subprocess.Popen(
        [sys.executable, "-m", "kline_trio", "simulate"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith(_LAST_LINE_OF_EXCHANGE):
                    break
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGKILL)
