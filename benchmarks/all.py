"""Runs every benchmark, one after the other, each in a process of its own.

With `--folder`, what each prints goes into NAME.txt there, and its figures into NAME.json.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import footer, machine

__all__ = ["NAMES", "main"]

NAMES = ("receive", "paced", "burst", "append", "size", "history", "read", "start")
_VERDICTS = {0: "as wanted", 1: "short of its goal"}


def main(arguments: list[str]) -> int:
    """Print all tables and then a line for each; 1 if a goal is missed, 2 if one did not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks all", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes in all")
    parser.add_argument("--folder", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    lines, worst = [], 0
    for name in NAMES:
        began = time.monotonic()
        print(f"\n# {name}\n", flush=True)
        status = _run(name, options.folder, quick=options.quick)
        worst = max(worst, status if status in _VERDICTS else 2)
        verdict = _VERDICTS.get(status, f"did not run: status {status}")
        lines.append(f"{name:<9} {time.monotonic() - began:>6.0f} s  {verdict}")
    print("\n# all\n", *lines, footer(machine()), sep="\n")
    return worst


def _run(name: str, folder: Path | None, *, quick: bool) -> int:
    command = [sys.executable, "-m", "benchmarks", name]
    command += ["--quick"] if quick else []
    command += ["--json", str(folder / f"{name}.json")] if folder else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603
        assert running.stdout is not None
        printed = []
        for line in running.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    if folder:
        (folder / f"{name}.txt").write_text("".join(printed), encoding="utf-8")
    return running.returncode
