"""Runs every benchmark, one after the other, each in a process of its own.

With `--folder`, what each prints goes into NAME.txt there, and its figures into NAME.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import footer, machine

__all__ = ["NAMES", "main", "verdict_in"]

NAMES = (
    "receive",
    "paced",
    "burst",
    "append",
    "size",
    "history",
    "read",
    "start",
    "memory",
    "monitor",
    "calendar",
    "publish",
    "page",
)


def main(arguments: list[str]) -> int:
    """Print all tables and then a line for each; 1 if a goal is missed, 2 if one did not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks all", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes in all")
    parser.add_argument("--folder", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        lines, worst = [], 0
        for name in NAMES:
            began = time.monotonic()
            print(f"\n# {name}\n", flush=True)
            status = _run(name, folder, quick=options.quick)
            told = verdict_in(folder / f"{name}.json")
            worst = max(worst, status if told else 2)
            told = told or f"did not run to its end: status {status}"
            lines.append(f"{name:<9} {time.monotonic() - began:>6.0f} s  {told}")
    print("\n# all\n", *lines, footer(machine()), sep="\n")
    return worst


def verdict_in(file: Path) -> str:
    """What a benchmark says of its goals; nothing, if it did not run to its end.

    Its exit status does not tell: it is 0 where no goal was judged, and 1 after any exception.
    """
    if not file.exists():
        return ""
    told: str = json.loads(file.read_bytes())["verdict"]
    return told


def _run(name: str, folder: Path, *, quick: bool) -> int:
    file = folder / f"{name}.json"
    # What an earlier run has left is no answer of this one.
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks", name, "--json", str(file)]
    command += ["--quick"] if quick else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603
        assert running.stdout is not None
        printed = []
        for line in running.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    (folder / f"{name}.txt").write_text("".join(printed), encoding="utf-8")
    return running.returncode
