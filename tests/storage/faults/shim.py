"""Building the shim, and starting programs behind it."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.support import child_environment

__all__ = ["Shim", "built", "run_behind", "working_folder"]

KILL_BEFORE, KILL_AMID, FAIL_ONCE, FAIL_ON, SHORT = 1, 2, 3, 4, 5
"""What happens at the n-th call; the numbers are io_shim.c's."""


def built(folder: Path) -> Path:
    """The shim as a library in this folder; the test is skipped where it cannot be built."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("NO FAULTS ARE INJECTED: this needs Linux and a C compiler")
    library = folder / "io_shim.so"
    source = Path(__file__).with_name("io_shim.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"],
        check=True,
        timeout=60,
    )
    return library


def working_folder(fallback: Path) -> Path:
    """A folder in memory, if there is one: what is tested here is not the speed of a disk."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        return memory / f"kline_trio-{os.getpid()}"
    return fallback / "work"


def run_behind(
    library: Path, root: Path, *arguments: str, trace: Path | None = None, seconds: float = 900
) -> str:
    """Runs `python -m arguments...` behind the shim, and gives back what it printed."""
    environment = {
        name: value for name, value in child_environment().items() if not name.startswith("COV")
    }
    environment |= {"LD_PRELOAD": str(library), "KT_SHIM_ROOT": str(root)}
    if trace is not None:
        environment["KT_SHIM_TRACE"] = str(trace)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-8_000:]
    return done.stdout


class Shim:
    """The shim from within a program behind it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int]
        self._library.shim_count.restype = ctypes.c_long
        self._library.shim_is_write.argtypes = [ctypes.c_long]
        self._library.shim_is_write.restype = ctypes.c_long

    def arm(self, what: int, call: int, error: int = 0) -> None:
        """Lets it happen at the n-th call from now on."""
        self._library.shim_arm(what, call, error)

    def disarm(self) -> None:
        """Lets nothing happen, and counts anew."""
        self._library.shim_arm(0, 0, 0)

    def writes(self) -> list[int]:
        """Which of the calls counted so far write, and can be cut short."""
        return [n for n in range(1, self.count() + 1) if self._library.shim_is_write(n)]

    def count(self) -> int:
        """How many calls there were since it was armed or disarmed."""
        return int(self._library.shim_count())
