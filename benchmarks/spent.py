"""What a stretch of work used: CPU of all threads, time on the wall, bytes handed to the disk.

Peers measure themselves with it in an interpreter of their own: nothing of kline_trio is in it.
"""

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Spent", "spending"]

_IO = Path("/proc/self/io")


class Spent:
    """What was used; whole when the work has ended."""

    cpu_seconds = math.nan
    """Child processes included."""
    wall_seconds = math.nan
    written_bytes = math.nan
    """By write calls; only Linux tells."""


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure the body."""
    spent = Spent()
    written, cpu, wall = _written_bytes(), _cpu_seconds(), time.perf_counter()
    yield spent
    spent.wall_seconds = time.perf_counter() - wall
    spent.cpu_seconds = _cpu_seconds() - cpu
    spent.written_bytes = _written_bytes() - written


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _written_bytes() -> float:
    try:
        lines = _IO.read_text().splitlines()
    except OSError:
        return math.nan
    return float(next(line.split()[1] for line in lines if line.startswith("wchar:")))
