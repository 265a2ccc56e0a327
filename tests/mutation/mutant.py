"""A mutant, and how to run the test that must kill it against a mutated copy of the package."""

import enum
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

__all__ = ["Mutant", "Verdict", "copied", "mutated", "run", "tests_pass"]

ROOT = Path(__file__).parents[2]
_COPIED = ("kline_trio", "tests", "pyproject.toml", "recorder.toml")
_TEST_SECONDS = 180.0
"""A mutant may hang its test: that kills it too."""
_FAILED = 1
"""Pytest's exit status where tests ran, and some failed; others are usage or import errors."""


class Verdict(enum.Enum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN: its test did not run"


@attrs.frozen
class Mutant:
    """One change of the package, mostly of one line, and the test that must fail because of it."""

    name: str
    """Unique; says what goes wrong."""
    file: str
    """Relative to the package."""
    old: str
    """The line, or lines that follow each other, without indentation; the file has them once."""
    new: str
    """What stands in its place; its first line is indented as the old one's."""
    test: str
    """The pytest node that must fail, relative to `tests`."""
    is_slow: bool = False
    """Whether its test takes too long for the sample in CI."""


def line_number(mutant: Mutant, root: Path = ROOT) -> int:
    """Return the index of the first of the lines that the mutant replaces.

    Raises:
      ValueError: the file has the old lines not at all, or several times.
    """
    lines = [line.strip() for line in _lines(mutant, root)]
    old = mutant.old.split("\n")
    found = [n for n in range(len(lines)) if lines[n : n + len(old)] == old]
    if len(found) != 1:
        raise ValueError(
            f"{mutant.name}: kline_trio/{mutant.file} has {mutant.old!r} {len(found)} times,"
            " not once: adapt the mutant"
        )
    return found[0]


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """Return the file's text with the new lines in the place of the old ones."""
    number, lines = line_number(mutant, root), _lines(mutant, root)
    line = lines[number]
    indentation = line[: len(line) - len(line.lstrip())]
    new = [f"{indentation}{one}\n" for one in mutant.new.split("\n")]
    lines[number : number + len(mutant.old.split("\n"))] = new
    return "".join(lines)


def _lines(mutant: Mutant, root: Path) -> list[str]:
    path = root / "kline_trio" / mutant.file
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


@contextmanager
def copied() -> Iterator[Path]:
    """Copy the package and the tests to a temporary folder. Pytest imports both from there.

    To mutate a copy of the package only is not enough: pytest puts the folder above the tests
    before `PYTHONPATH`, and the package of the worktree stands there too.
    """
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in _COPIED:
            source = ROOT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / part, ignore=ignored)
            else:
                shutil.copy(source, folder / part)
        yield folder


def run(mutant: Mutant, folder: Path) -> Verdict:
    """Mutate the copy, run the test, and undo the change."""
    path = folder / "kline_trio" / mutant.file
    whole = path.read_bytes()
    path.write_text(mutated(mutant, folder), encoding="utf-8")
    try:
        status = _pytest(folder, [mutant.test])
    finally:
        path.write_bytes(whole)
    if status in (None, _FAILED):
        return Verdict.KILLED
    return Verdict.BROKEN if status else Verdict.SURVIVED


def tests_pass(mutants: Iterable[Mutant], folder: Path) -> bool:
    """Run the named tests against the package as it is: all must pass."""
    return _pytest(folder, sorted({mutant.test for mutant in mutants}), quiet=False) == 0


def _pytest(folder: Path, tests: list[str], *, quiet: bool = True) -> int | None:
    """Return pytest's exit status; None if it did not end in time."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        # Two mutants of a file within a second, and of one length, would share a compiled file.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.DEVNULL if quiet else None,
            timeout=_TEST_SECONDS if quiet else None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode
