"""Peers that store candles too, each run in an interpreter that has its packages.

A peer is a module `benchmarks.peers.NAME`: it gets a folder with its input, and prints what it
measured as JSON on its last line. Nothing of kline_trio is imported there.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Answer", "add_stores_python", "ask"]

_ROOT = Path(__file__).parents[1]
_PYTHON = _ROOT / ".venv-stores/bin/python"
_INSTALL = (
    "python3.12 -m venv .venv-stores &&"
    " .venv-stores/bin/pip install -r benchmarks/requirements-stores.txt"
)
_MOST_SECONDS = 3_600


@attrs.frozen
class Answer:
    """What a peer said."""

    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    """Why there are none."""


def add_stores_python(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the peers' interpreter."""
    parser.add_argument(
        "--stores-python", type=Path, metavar="PATH", default=_PYTHON, help="default: .venv-stores"
    )


def ask(python: Path, name: str, *arguments: str | Path, cores: set[int] | None = None) -> Answer:
    """Run a peer, and wait for what it measured.

    Args:
      python: the interpreter.
      name: the module in `benchmarks/peers`.
      arguments: what the module wants to know.
      cores: which it may use; None: all.
    """
    if not python.exists():
        return Answer(reason=f"not installed: {_INSTALL}")
    try:
        done = subprocess.run(  # noqa: S603 - named by the user
            [python, "-m", f"benchmarks.peers.{name}", *arguments],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            capture_output=True,
            encoding="utf-8",
            timeout=_MOST_SECONDS,
            check=False,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        )
    except subprocess.TimeoutExpired:
        return Answer(reason=f"not done after {_MOST_SECONDS} s")
    if done.returncode:
        complaint = (done.stderr.strip() or "no word").splitlines()[-1]
        if complaint.startswith("ModuleNotFoundError"):
            complaint = f"not installed ({complaint}): {_INSTALL}"
        return Answer(reason=complaint)
    return Answer(rows=tuple(json.loads(done.stdout.splitlines()[-1])))
